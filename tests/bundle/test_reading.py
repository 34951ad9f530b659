# SPDX-License-Identifier: Apache-2.0
"""What each bundle's own configuration makes of files whose unit, slices or masks are unusual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

import monai_kd

SEGMENTING = {  # where their train.json has what comes before anything random
    "brain_extraction": "train#loading",
    "brain_tumor_segmentation": "train#deterministic_transforms",
    "vessel_segmentation": "train#loading",
}
CLASSIFYING = ("brain_tumor_classification", "chest_xray_classification")


def config(bundle: str, file: str, **settings: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(Path(monai_kd.bundle_root(bundle)) / "configs" / file))
    parser.update({"device": "cpu", **settings})
    return parser


def parts(content: Any) -> list[dict]:
    """All objects that a configuration makes."""
    if isinstance(content, dict):
        below = [part for value in content.values() for part in parts(value)]
        return [content, *below] if "_target_" in content else below
    return [part for value in content for part in parts(value)] if isinstance(content, list) else []


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
@pytest.mark.parametrize("bundle", monai_kd.bundle_names())
def test_every_reader_has_a_limit_and_classifiers_take_a_volume_of_one_slice(bundle, file):
    content = json.loads((Path(monai_kd.bundle_root(bundle)) / "configs" / file).read_text())
    names = ("LoadImaged", "monai_kd.nnunet.NnunetPreprocessd")
    readers = [part for part in parts(content) if part["_target_"] in names]
    assert readers and content["max_voxels"] is None
    for reader in readers:
        assert reader["max_voxels"] == "@max_voxels" and reader.get("flat", False) is (bundle in CLASSIFYING)


def pair(folder: Path, unit: str = "mm", scale: float = 1.0) -> tuple[dict[str, str], np.ndarray]:
    """A head, and its mask turned, with the affine that says so."""
    inside = np.zeros((40, 44, 36), np.uint8)
    inside[8:30, 10:20, 6:18] = 1
    affine = np.diag([2.0 * scale, 2 * scale, 2 * scale, 1])
    affine[:3, 3] = -30 * scale, -40 * scale, 9 * scale
    image = nib.Nifti1Image(inside * np.int16(900) + np.arange(40, dtype=np.int16)[:, None, None], affine)
    label = nib.Nifti1Image(inside, affine).as_reoriented([[0, -1], [2, 1], [1, -1]])
    for name, volume in (("image", image), ("label", label)):
        volume.header.set_xyzt_units(unit)
        nib.save(volume, folder / f"{name}.nii.gz")
    return {name: str(folder / f"{name}.nii.gz") for name in ("image", "label")}, inside


@pytest.mark.parametrize("bundle", SEGMENTING)
def test_a_turned_mask_lies_where_its_affine_says(tmp_path, bundle):
    files, inside = pair(tmp_path)
    loaded = apply(config(bundle, "train.json").get_parsed_content(SEGMENTING[bundle]), files)
    # The head is bright inside, wherever else the bundle has brought it.
    bright = loaded["image"].numpy() > loaded["image"].numpy().mean()
    assert 2 * (bright & (loaded["label"].numpy() > 0)).sum() / (bright.sum() + inside.sum()) > 0.97


@pytest.mark.parametrize("bundle", SEGMENTING)
def test_a_mask_of_several_values_is_refused_and_one_that_went_through_jpeg_is_not(tmp_path, bundle):
    files, inside = pair(tmp_path)
    label = nib.load(files["label"])
    transforms = config(bundle, "train.json").get_parsed_content(SEGMENTING[bundle])
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj) + np.uint8(1), label.affine), files["label"])
    with pytest.raises((ValueError, RuntimeError)) as error:
        apply(transforms, files)
    assert "label.nii.gz: a label must have one value beside 0, got 2: 1, 2" in str(error.value)
    if bundle == "brain_tumor_segmentation":
        picture = inside[:, :, 10].T * np.uint8(255)
        Image.fromarray(picture // 2 + 40).save(tmp_path / "image.png")
        Image.fromarray(picture).save(tmp_path / "label.jpg", quality=60)
        sample = apply(transforms, {"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.jpg")})
        np.testing.assert_array_equal(sample["label"][0].numpy(), picture.T / 255)


def apply(transforms: list, sample: dict) -> dict:
    for transform in transforms:
        sample = transform(sample)
    return sample


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e-3), ("micron", 1e3)])
def test_a_head_in_another_unit_is_resampled_as_in_mm(tmp_path, unit, scale):
    preprocessing = config("brain_extraction", "inference.json").get_parsed_content("preprocessing")
    (tmp_path / "mm").mkdir()
    expected = preprocessing({"image": pair(tmp_path / "mm")[0]["image"]})["image"]
    found = preprocessing({"image": pair(tmp_path, unit, scale)[0]["image"]})["image"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("bundle", ["brain_extraction", "vessel_segmentation"])
def test_what_resampling_would_make_of_absurd_headers_is_refused_before(tmp_path, bundle):
    preprocessing = config(bundle, "inference.json", spacing=[2.0, 2.0, 2.0]).get_parsed_content("preprocessing")
    for scale in (1e3, 1e-3):
        with pytest.raises((ValueError, RuntimeError)) as error:
            preprocessing({"image": pair(tmp_path, "unknown", scale)[0]["image"]})
        assert "correct voxel size and unit in its header" in str(error.value.__cause__ or error.value)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((9, 8, 7)))
    with pytest.raises((ValueError, RuntimeError)) as error:
        preprocessing({"image": str(tmp_path / "a.npy")})
    assert "a.npy: does not say how large its voxels are" in str(error.value.__cause__ or error.value)


@pytest.mark.parametrize("bundle", CLASSIFYING)
def test_a_volume_of_one_slice_is_classified_as_its_picture(tmp_path, bundle):
    preprocessing = config(bundle, "inference.json", image_size=64).get_parsed_content("preprocessing")
    values = np.random.default_rng(0).integers(0, 255, (40, 30)).astype(np.uint8)
    Image.fromarray(values.T).save(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(values[..., None], np.diag([-1.0, -1, 1, 1])), tmp_path / "a.nii.gz")  # LPS, as pictures
    expected, found = (preprocessing({"image": str(tmp_path / name)})["image"] for name in ("a.png", "a.nii.gz"))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-3)
