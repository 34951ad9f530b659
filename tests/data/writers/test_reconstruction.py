# SPDX-License-Identifier: Apache-2.0
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image

from monai_kd.data import MRIReader, ReconstructionWriter

MEASURES = {"mae": lambda y_pred, y: (y_pred - y).abs().mean(dim=(2, 3)).reshape(1, -1).mean(1, keepdim=True)}
ENDINGS = ("_error.nii.gz", "_overlay.png", "_pred.nii.gz", "_zerofilled.nii.gz")


def sample_of(path, truth=True):
    """As after the postprocessing: the zero-filled image is half of the truth, the prediction 3 less."""
    load = Compose([LoadImaged("image", reader=MRIReader), EnsureChannelFirstd("image")])
    image = load({"image": str(path)})["image"]
    label = image[:2].norm(dim=0, keepdim=True)
    sample = {"image": torch.cat([0.3 * image, 0.4 * image]) if len(image) == 1 else 0.5 * image, "pred": label - 3}
    return {**sample, "label": label} if truth else sample


def written(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture
def frame(tmp_path):
    """A picture, as a path and as an array (x, y)."""
    array = np.random.default_rng(0).integers(20, 200, (12, 8)).astype(np.uint8)
    Image.fromarray(array.T).save(tmp_path / "frame.png")
    return tmp_path / "frame.png", array.astype(np.float32)


def test_picture_gives_nifti_in_its_grey_scale(frame, tmp_path):
    path, array = frame
    row = ReconstructionWriter(MEASURES)(sample_of(path), tmp_path / "out" / "frame")
    assert row == {
        "output": tmp_path / "out" / "frame_pred.nii.gz",
        "mae": 3.0,
        "mae_zerofilled": pytest.approx(array.mean() / 2, abs=1e-4),
    }
    for ending, expected in (("pred", array - 3), ("zerofilled", array / 2), ("error", np.full_like(array, 3))):
        found = written(tmp_path / "out" / f"frame_{ending}.nii.gz")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[..., 0], expected, rtol=1e-5)
    assert nib.aff2axcodes(nib.load(row["output"]).affine) == ("L", "P", "S")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "frame_error.nii.gz",
        "frame_pred.nii.gz",
        "frame_zerofilled.nii.gz",
    ]


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 2), (5, 4)])
def test_nifti_keeps_the_grid_of_the_input(tmp_path, shape):
    array = np.random.default_rng(0).integers(5, 90, shape).astype(np.int16)
    affine = np.array([[0, 0, 2.0, 7], [-1, 0, 0, 5], [0, 3, 0, 1], [0, 0, 0, 1]])
    source = nib.Nifti1Image(array, affine)
    source.header.set_xyzt_units("mm", "sec")
    source.header.set_slope_inter(2, 1)
    source.set_qform(affine, code=1)
    nib.save(source, tmp_path / "a.nii.gz")
    row = ReconstructionWriter()(sample_of(tmp_path / "a.nii.gz"), tmp_path / "out" / "a")
    image = nib.load(row["output"])
    np.testing.assert_array_equal(written(row["output"]), 2.0 * array + 1 - 3)
    np.testing.assert_allclose(image.affine, affine)
    assert image.header.get_xyzt_units() == ("mm", "sec") and int(image.header["qform_code"]) == 1


def test_complex_image_is_written_as_its_magnitude(tmp_path):
    array = np.random.default_rng(0).random((6, 5, 2)) * 40 * np.exp(0.7j)
    np.save(tmp_path / "a.npy", array)
    sample = sample_of(tmp_path / "a.npy")
    sample["pred"] = torch.cat([0.6 * sample["pred"], -0.8 * sample["pred"]])
    ReconstructionWriter()(sample, tmp_path / "a")
    np.testing.assert_allclose(written(tmp_path / "a_zerofilled.nii.gz"), abs(array) / 2, rtol=1e-5)
    np.testing.assert_allclose(written(tmp_path / "a_pred.nii.gz"), abs(abs(array) - 3), rtol=1e-4)


def test_without_the_truth_there_is_no_error(frame, tmp_path):
    measured = sample_of(frame[0])
    measured["image"].meta["mask"] = np.ones((12, 8))
    measured["image"] = torch.cat([measured["image"], torch.ones_like(measured["image"][:1])])
    for name, sample in (("none", sample_of(frame[0], truth=False)), ("measured", measured)):
        row = ReconstructionWriter(MEASURES, overlay=True)(sample, tmp_path / name / "a")
        assert (row["mae"], row["mae_zerofilled"]) == ("", "")
        assert not (tmp_path / name / "a_error.nii.gz").exists()
        assert np.asarray(Image.open(tmp_path / name / "a_overlay.png")).shape == (8, 2 * 12 + 8, 3)
        np.testing.assert_allclose(written(tmp_path / name / "a_zerofilled.nii.gz")[..., 0], frame[1] / 2, rtol=1e-5)


def test_a_measure_without_a_value_is_an_empty_cell(frame, tmp_path):
    measures = {**MEASURES, "none": lambda y_pred, y: torch.full((1, 1), torch.nan)}
    row = ReconstructionWriter(measures)(sample_of(frame[0]), tmp_path / "a")
    assert (row["mae"], row["none"], row["none_zerofilled"]) == (3.0, "", "")


def test_overlay_shows_all_side_by_side_in_one_window(frame, tmp_path):
    path, array = frame
    ReconstructionWriter(overlay=True)(sample_of(path), tmp_path / "a")
    overlay = np.asarray(Image.open(tmp_path / "a_overlay.png")).astype(float)
    assert overlay.shape == (8, 4 * 12 + 3 * 8, 3)
    truth, zero_filled, pred, error = (overlay[:, start : start + 12, 0] for start in range(0, 80, 20))
    inside = (truth > 0) & (truth < 255)
    scale = np.polyfit(array.T[inside], truth[inside], 1)  # from the grey values to the picture's
    for panel, expected in ((truth, array), (zero_filled, array / 2), (pred, array - 3), (error, 0 * array + 15)):
        np.testing.assert_allclose(panel, np.polyval(scale, expected.T).clip(0, 255), atol=2)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "ALS", "PRI", "RSP"])
def test_overlay_of_a_volume_is_the_middle_slice_in_radiological_convention(tmp_path, axcodes):
    size = {"R": 7, "L": 7, "A": 9, "P": 9, "S": 5, "I": 5}
    directions = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    array = np.full([size[code] for code in axcodes], 10, np.float32)
    towards_left_and_front_or_head = [slice(-2, None) if code in "LAS" else slice(0, 2) for code in axcodes[:2]]
    array[(*towards_left_and_front_or_head, array.shape[2] // 2)] = 100
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([directions[code] for code in axcodes])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii")
    ReconstructionWriter(overlay=True)(sample_of(tmp_path / "a.nii"), tmp_path / "a")
    panel = np.asarray(Image.open(tmp_path / "a_overlay.png"))[:, :7, 0]
    bright = np.zeros(panel.shape, bool)
    bright[:2, -2:] = True
    np.testing.assert_array_equal(panel > 100, bright)


@pytest.mark.parametrize("axcodes", ["RAS", "SAR", "IPL"])
def test_overlay_of_other_slices_has_square_pixels(tmp_path, axcodes):
    """Sagittal ones of 2 x 1 mm (front, head), the front on the left and the head up, however they are stored."""
    array = np.full((5, 4, 6), 10, np.float32)
    array[2, 3:, 4:] = 100  # in the middle, at the front and the top
    image = nib.Nifti1Image(array, np.diag([3.0, 2, 1, 1]))
    change = ornt_transform(nib.io_orientation(image.affine), axcodes2ornt(axcodes))
    nib.save(image.as_reoriented(change), tmp_path / "a.nii")
    ReconstructionWriter(overlay=True, slice_axis="sagittal")(sample_of(tmp_path / "a.nii"), tmp_path / "a")
    panel = np.asarray(Image.open(tmp_path / "a_overlay.png"))[:, :8, 0]
    assert panel.shape == (6, 8)
    assert (panel[:2, 0] > 100).all() and panel.argmax() == 0 and not (panel[:, 3:] > 60).any()
    with pytest.raises(ValueError, match="slice_axis must be one of .*sagittal.*, or none, got 'frontal'"):
        ReconstructionWriter(slice_axis="frontal")


def test_the_input_itself_is_no_truth(frame, tmp_path):
    sample = sample_of(frame[0])
    sample["image"] = sample["label"] * (1 + 1e-6)  # nothing was left out, but for rounding
    row = ReconstructionWriter(MEASURES, overlay=True)(sample, tmp_path / "frame")
    assert [row[name] for name in row if name != "output"] == [""] * (len(row) - 1)
    assert sorted(path.name for path in tmp_path.glob("frame_*")) == [
        "frame_overlay.png",
        "frame_pred.nii.gz",
        "frame_zerofilled.nii.gz",
    ]


@pytest.mark.parametrize("key", ["image", "pred", "label"])
def test_images_on_another_grid_are_refused(frame, tmp_path, key):
    sample = sample_of(frame[0])
    sample[key] = sample[key][:, 1:]
    with pytest.raises(ValueError, match=r"frame.png: expected its shape \(12, 8\), got \(11, 8\)"):
        ReconstructionWriter()(sample, tmp_path / "a")


def test_another_affine_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "a.nii")
    sample = sample_of(tmp_path / "a.nii")
    sample["image"].affine = torch.diag(torch.tensor([2.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="a.nii: expected its affine"):
        ReconstructionWriter()(sample, tmp_path / "a")


def test_name_format_and_numbers_of_the_prediction_are_the_users(frame, tmp_path):
    path, array = frame
    writer = ReconstructionWriter(postfix="recon", ext=".nii", dtype="float64")
    row = writer(sample_of(path), tmp_path / "out" / "frame")
    assert row["output"] == tmp_path / "out" / "frame_recon.nii" and written(row["output"]).dtype == np.float64
    np.testing.assert_allclose(written(row["output"])[..., 0], array - 3, rtol=1e-5)
    others = {path.name for path in (tmp_path / "out").iterdir()} - {"frame_recon.nii"}
    assert others == {"frame_error.nii.gz", "frame_zerofilled.nii.gz"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dtype": "uint8"}, "output_dtype must be floating-point numbers"),  # which would cut off what is between them
        ({"ext": ".png"}, "output_ext must be one of .nii.gz, .nii,"),
        ({"postfix": "zerofilled"}, "none of error, overlay, zerofilled, got 'zerofilled'"),
    ],
)
def test_options_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionWriter(**options)
