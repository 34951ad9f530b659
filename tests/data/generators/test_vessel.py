# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import filecmp
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from monai_kd.data import VesselGenerator, check_no_patient_leaks, vessel_datalist
from monai_kd.transforms import ReduceResolution

SHAPE = (48, 40, 24)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("vessels")
    return {level: VesselGenerator(SHAPE, difficulty=level)(out / level, cases=3, seed=1) for level in ("easy", "hard")}


def load(folder: Path, case: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image, mask = (nib.load(folder / kind / f"SIM{case:04d}.nii.gz") for kind in ("images", "labels"))
    np.testing.assert_array_equal(image.affine, mask.affine)
    return np.asarray(image.dataobj), np.asarray(mask.dataobj)


def test_files_are_laid_out_as_the_data_list_reads_them(folders):
    names = sorted(str(path.relative_to(folders["easy"])) for path in folders["easy"].rglob("*") if path.is_file())
    cases = [f"SIM{number:04d}.nii.gz" for number in (1, 2, 3)]
    assert names == ["generated.json", *(f"images/{c}" for c in cases), "index.csv", *(f"labels/{c}" for c in cases)]
    splits = vessel_datalist(folders["easy"], split="index")
    check_no_patient_leaks(splits)
    assert [len(splits[side]) for side in ("training", "validation", "test")] == [2, 0, 1]
    with open(folders["easy"] / "index.csv", newline="") as file:
        assert [row["patient"] for row in csv.DictReader(file)] == ["SIM0001", "SIM0002", "SIM0003"]


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_grid_types_and_values(folders, level):
    types = set()
    for case in (1, 2, 3):
        image, mask = load(folders[level], case)
        assert image.shape == mask.shape == SHAPE and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1} and 0.005 < mask.mean() < 0.2
        types.add(image.dtype.name)
    assert types <= {"uint8", "int16"}
    np.testing.assert_allclose(
        nib.load(folders[level] / "images" / "SIM0001.nii.gz").header.get_zooms(), [0.5, 0.5, 0.8]
    )


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_vessels_are_bright_but_a_threshold_does_not_find_them(folders, level):
    image, mask = load(folders[level])
    inside = mask > 0
    assert np.median(image[inside]) > 1.5 * np.median(image[~inside])
    dice = [2 * (inside & (image > t)).sum() / (inside.sum() + (image > t).sum()) for t in np.unique(image)[::20]]
    assert max(dice) < (0.95 if level == "easy" else 0.9)


def test_vessels_are_few_connected_trees(folders):
    for case in (1, 2, 3):
        mask = load(folders["easy"], case)[1]
        parts, number = ndimage.label(mask, np.ones((3, 3, 3)))
        assert np.sort(np.bincount(parts[mask > 0]))[-5:].sum() > 0.8 * mask.sum() and number < 20


def test_half_the_resolution_hides_more_of_the_hard_vessels(folders):
    """What of the contrast at the edge of the mask survives halving."""
    kept = {}
    for level, folder in folders.items():
        ratios = []
        for case in (1, 2, 3):
            image, mask = load(folder, case)
            image = image.astype(np.float32)
            low = ReduceResolution(factor=2)(image[None])[0]
            inside, around = mask > 0, (mask == 0) & ndimage.binary_dilation(mask, iterations=2)
            contrasts = [volume[inside].mean() - volume[around].mean() for volume in (np.asarray(low), image)]
            ratios.append(contrasts[0] / contrasts[1])
        kept[level] = np.mean(ratios)
    assert kept["hard"] < kept["easy"] - 0.05


def test_the_same_seed_gives_the_same_files_and_cases_do_not_depend_on_their_number(folders, tmp_path):
    generate = VesselGenerator(SHAPE, difficulty="hard")
    again, fewer, other = (
        generate(tmp_path / name, cases, seed) for name, cases, seed in (("a", 3, 1), ("b", 1, 1), ("c", 1, 2))
    )
    for path in folders["hard"].rglob("*.*"):
        assert filecmp.cmp(path, again / path.relative_to(folders["hard"]), shallow=False)
    np.testing.assert_array_equal(load(fewer), load(again))
    assert not np.array_equal(load(other)[1], load(again)[1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"difficulty": "odd"}, "difficulty must be of easy, hard, got 'odd'"),
        ({"shape": (48, 40)}, "three axes with at least 8 voxels each"),
        ({"shape": (48, 40, 7)}, "three axes with at least 8 voxels each"),
        ({"spacing": (0.5, 0, 1)}, "voxel sizes above 0 mm"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VesselGenerator(**arguments)
