# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import filecmp
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_kd.data import KidneyGenerator

SHAPE = (32, 28, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return KidneyGenerator(SHAPE)(tmp_path_factory.mktemp("kidneys") / "Dataset901_Generated", cases=6, seed=1)


def _volumes(folder: Path, case: int, side: str = "Tr") -> tuple[np.ndarray, np.ndarray]:
    files = [folder / f"images{side}" / f"SIM{case:04d}_{channel:04d}.nii.gz" for channel in (0, 1)]
    images = np.stack([np.asarray(nib.load(file).dataobj) for file in files])
    label = nib.load(folder / f"labels{side}" / f"SIM{case:04d}.nii.gz")
    np.testing.assert_allclose(label.header.get_zooms(), [1.2, 1.2, 3.6])
    np.testing.assert_array_equal(label.affine, nib.load(files[0]).affine)
    return images, np.asarray(label.dataobj)


def test_files_are_laid_out_as_nnunet_reads_them(folder):
    description = json.loads((folder / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "T1", "1": "T2"} and description["numTraining"] == 5
    assert description["labels"] == {"background": 0, "kidney": 1, "tumor": 2, "cyst": 3}
    assert len(list((folder / "imagesTr").iterdir())) == 2 * len(list((folder / "labelsTr").iterdir())) == 10
    assert [path.name for path in (folder / "labelsTs").iterdir()] == ["SIM0005.nii.gz"]


def test_every_class_is_there_and_the_image_is_0_outside_of_the_body(folder):
    for case in (1, 2, 3):
        images, label = _volumes(folder, case)
        assert images.shape == (2, *SHAPE) and images.dtype == np.int16 and set(np.unique(label)) == {0, 1, 2, 3}
        assert ((images[0] == 0) == (images[1] == 0)).all() and 0.1 < (images[0] == 0).mean() < 0.7
        assert not label[images[0] == 0].any()


def test_a_tumour_is_seen_in_the_second_contrast_only(folder):
    images, label = _volumes(folder, 1)
    first, second = ([np.median(image[label == number]) for number in (1, 2)] for image in images)
    assert abs(first[1] / first[0] - 1) < 0.15 and second[1] / second[0] > 1.25


def test_the_same_seed_gives_the_same_files_and_regions_change_the_description_alone(folder, tmp_path):
    again = KidneyGenerator(SHAPE, regions=True)(tmp_path / "again", cases=6, seed=1)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz")]
    assert filecmp.cmpfiles(folder, again, names, shallow=False)[0] == names
    description = json.loads((again / "dataset.json").read_text())
    assert description["regions_class_order"] == [1, 2, 3] and description["labels"]["masses"] == [2, 3]
