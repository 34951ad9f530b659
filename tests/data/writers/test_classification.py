# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from torch.nn import functional as F

from monai_kd.data import ClassificationWriter

NAMES = ["meningioma", "glioma", "pituitary_tumor"]
MAP = np.array([[0.0, 0.0], [0.0, 0.0], [0.2, 1.0]])  # (x, y): hot on the right, most of all low


def sample(source: Path, explanation: np.ndarray = MAP, probabilities: tuple[float, ...] = (0.1, 0.75, 0.15)) -> dict:
    return {
        "image": MetaTensor(torch.zeros(3, 8, 8), meta={"filename_or_obj": str(source)}),
        "pred": MetaTensor(torch.tensor(probabilities)),
        "explanation": torch.tensor(explanation, dtype=torch.float32)[None],
    }


def picture(folder: Path, width: int = 90, height: int = 60) -> Path:
    """A picture whose grey value rises from left to right."""
    path = folder / "scan.png"
    Image.fromarray(np.tile(np.linspace(0, 200, width), (height, 1)).astype(np.uint8)).save(path)
    return path


def overlay(source: Path, explanation: np.ndarray = MAP) -> np.ndarray:
    """Pixels (row, column, channel) of the overlay."""
    stem = source.parent / "out" / "sub" / "scan.1"
    row = ClassificationWriter(NAMES, overlay=True)(sample(source, explanation), stem)
    assert row["output"] == source.parent / "out/sub/scan.1_overlay.png"
    with Image.open(row["output"]) as written:
        assert written.mode == "RGB"
        return np.asarray(written).astype(int)


def test_row_without_an_overlay_needs_only_the_probabilities(tmp_path):
    row = ClassificationWriter(NAMES)({"pred": torch.tensor([0.1, 0.2, 0.7])}, tmp_path / "out" / "scan")
    assert list(row) == ["output", "predicted", *NAMES]
    assert list(row.values()) == ["", "pituitary_tumor", 0.1, 0.2, 0.7]
    assert list(tmp_path.iterdir()) == []


def test_probabilities_are_rounded_to_six_digits():
    row = ClassificationWriter(["a", "b"])({"pred": torch.tensor([1 / 3, 2 / 3])}, "scan")
    assert (row["predicted"], row["a"], row["b"]) == ("b", 0.333333, 0.666667)


def test_overlay_is_upright_and_has_the_inputs_size(tmp_path):
    pixels = overlay(picture(tmp_path))
    assert pixels.shape == (60, 90, 3)
    coloured = pixels[..., 0] != pixels[..., 2]
    assert not coloured[30:, :25].any() and coloured[30:, 65:].all()
    redness = (pixels[..., 0] - pixels[..., 2])[:, 65:].mean(axis=1)
    assert redness[-1] > redness[25] + 10  # hot at the bottom on the right
    grey = pixels[-1, :25, 0]
    assert grey[0] == 0 and (np.diff(grey) >= 0).all()


def test_map_is_brought_to_the_inputs_grid(tmp_path):
    Image.new("L", (90, 60), 90).save(tmp_path / "flat.png")  # black in the overlay
    heat = F.interpolate(torch.tensor(MAP)[None, None], (90, 60), mode="bilinear")[0, 0].numpy().T
    expected = 0.6 * heat[..., None] * 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    np.testing.assert_allclose(overlay(tmp_path / "flat.png")[30:], expected[30:], atol=2)


def test_map_is_stretched(tmp_path):
    path = picture(tmp_path)
    np.testing.assert_array_equal(overlay(path, 3 + 2 * MAP), overlay(path))


def test_map_of_one_value_leaves_the_input_grey(tmp_path):
    pixels = overlay(picture(tmp_path), np.full((4, 4), 0.5))
    assert (pixels[..., 0] == pixels[..., 2]).all() and pixels[-1].max() == 255


def test_class_and_probability_are_written_in_the_corner(tmp_path):
    path, writer = picture(tmp_path, 200, 200), ClassificationWriter(NAMES, overlay=True)
    pixels = []
    for probabilities in ((0.1, 0.75, 0.15), (0.15, 0.75, 0.1), (0.1, 0.74, 0.16), (0.75, 0.15, 0.1)):
        row = writer(sample(path, probabilities=probabilities), tmp_path / "scan")
        with Image.open(row["output"]) as written:
            pixels.append(np.asarray(written))
    first, same, other_number, other_name = pixels
    np.testing.assert_array_equal(first, same)
    for other in (other_number, other_name):
        rows, columns = np.nonzero((first != other).any(axis=-1))
        assert 0 < rows.size and rows.max() < 30 and columns.max() < 80


def test_figshare_slice(tmp_path, write_slice):
    path = Path(write_slice(image=np.tile(np.arange(90, dtype=np.int16)[:, None], (1, 60))))  # (column, row)
    np.testing.assert_array_equal(overlay(path)[30:, :25, 0], np.tile(overlay(path)[-1, :25, 0], (30, 1)))
    assert overlay(path).shape == (60, 90, 3) and overlay(path)[-1, -1, 0] > overlay(path)[-1, -1, 2]


@pytest.mark.parametrize("shape", [(90, 60), (90, 60, 1)])
def test_flat_nifti_is_shown_in_radiological_convention(tmp_path, shape):
    """As the network saw it, which is how the map lies."""
    with Image.open(picture(tmp_path)) as opened:
        image = np.asarray(opened).T[::-1, ::-1].reshape(shape).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "flat.nii.gz")  # RAS: x to the right, y to the front
    np.testing.assert_array_equal(overlay(tmp_path / "flat.nii.gz"), overlay(tmp_path / "scan.png"))


@pytest.mark.parametrize(
    ("shape", "columns", "turned"),
    [
        ((90, 60), [[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.s_[::-1, ::-1]),  # coronal: to the right, up
        ((90, 1, 60), [[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.s_[::-1, ::-1]),
        ((90, 60, 1), [[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.s_[::-1, ::-1]),  # sagittal: to the front, up
        ((1, 90, 60), [[1, 0, 0], [0, -1, 0], [0, 0, -1]], np.s_[:, :]),
    ],
)
def test_a_slice_in_any_plane_is_shown_as_the_network_sees_it(tmp_path, shape, columns, turned):
    with Image.open(picture(tmp_path)) as opened:
        image = np.asarray(opened).T[turned].reshape(shape).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = columns
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "flat.nii.gz")
    np.testing.assert_array_equal(overlay(tmp_path / "flat.nii.gz"), overlay(tmp_path / "scan.png"))


def test_an_array_s_rows_are_shown_as_rows(tmp_path):
    with Image.open(picture(tmp_path)) as opened:
        np.save(tmp_path / "a.npy", np.asarray(opened))
    np.testing.assert_array_equal(overlay(tmp_path / "a.npy"), overlay(tmp_path / "scan.png"))


def test_no_temporary_file_stays_and_an_old_overlay_is_replaced(tmp_path):
    first = overlay(picture(tmp_path))
    assert (overlay(picture(tmp_path), MAP[::-1].copy()) != first).any()
    assert [path.name for path in (tmp_path / "out" / "sub").iterdir()] == ["scan.1_overlay.png"]


@pytest.mark.parametrize("values", [[2.0, -1.0, 0.5], [0.5, 0.5], [[0.2, 0.3, 0.5]]])
def test_what_is_no_probability_is_refused(values):
    with pytest.raises(ValueError, match="expected the probabilities of 3 classes, which sum to 1.*apply softmax"):
        ClassificationWriter(NAMES)({"pred": torch.tensor(values)}, "scan")


def test_overlay_of_a_volume_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((9, 6, 4), np.uint8), np.eye(4)), tmp_path / "v.nii.gz")
    with pytest.raises(ValueError, match=r"v.nii.gz: an overlay is of a flat image, got shape \(9, 6, 4\)"):
        overlay(tmp_path / "v.nii.gz")


def test_several_maps_come_side_by_side(tmp_path):
    path = picture(tmp_path)
    cold = np.zeros_like(MAP)
    several = {**sample(path), "explanation": torch.tensor(np.stack([MAP, cold]), dtype=torch.float32)}
    row = ClassificationWriter(NAMES, overlay=True)(several, tmp_path / "scan")
    with Image.open(row["output"]) as written:
        pixels = np.asarray(written).astype(int)
    assert pixels.shape == (60, 180, 3)
    np.testing.assert_array_equal(pixels[30:, :90], overlay(path)[30:])
    assert (pixels[:, 90:, 0] == pixels[:, 90:, 2]).all()


def test_explanation_without_maps_is_refused(tmp_path):
    for shape in ((7, 7), (0, 7, 7)):
        wrong = {**sample(picture(tmp_path)), "explanation": torch.zeros(shape)}
        with pytest.raises(ValueError, match=r"scan.png: expected an explanation \(M, x, y\), got \("):
            ClassificationWriter(NAMES, overlay=True)(wrong, tmp_path / "scan")


@pytest.mark.parametrize(
    "probabilities, predicted", [((0.9, 0.2, 0.5), "a|abnormal"), ((0.4, 0.2, 0.49), ""), ((0.1, 1.0, 0.0), "b")]
)
def test_classes_that_do_not_exclude_each_other(probabilities, predicted):
    writer = ClassificationWriter(["a", "b", "abnormal"], multi_label=True)
    row = writer({"pred": torch.tensor(probabilities, dtype=torch.float64)}, "scan")
    assert list(row.values()) == ["", predicted, *probabilities]


@pytest.mark.parametrize("probabilities", [(0.5, 1.2), (-0.1, 0.5), (0.1, 0.2, 0.3), (float("nan"), 0.5)])
def test_what_is_no_list_of_probabilities_is_refused(probabilities):
    with pytest.raises(ValueError, match="expected 2 probabilities, each from 0 to 1, got .*apply sigmoid"):
        ClassificationWriter(["a", "b"], multi_label=True)({"pred": torch.tensor(probabilities)}, "scan")


def test_every_likely_class_is_written_in_the_corner(tmp_path):
    writer = ClassificationWriter(NAMES, overlay=True, multi_label=True)
    pixels = []
    for probabilities in ((0.9, 0.8, 0.1), (0.9, 0.1, 0.1)):
        row = writer(sample(picture(tmp_path, 200, 200), probabilities=probabilities), tmp_path / "scan")
        with Image.open(row["output"]) as written:
            pixels.append(np.asarray(written).astype(int))
    rows, _ = np.nonzero((pixels[0] != pixels[1]).any(axis=-1))
    assert rows.size and rows.min() > 5  # the second line
