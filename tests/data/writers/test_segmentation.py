# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirst, LoadImage
from PIL import Image

from monai_kd.data import ImageFileReader
from monai_kd.data.writers.overlay import class_colours
from monai_kd.data.writers.segmentation import SegmentationWriter


def meta_tensor(array: np.ndarray, filename: Path, affine: np.ndarray | None = None) -> MetaTensor:
    """One channel as inference hands it over."""
    affine = np.eye(4) if affine is None else affine
    return MetaTensor(torch.tensor(array.copy())[None], torch.tensor(affine), {"filename_or_obj": str(filename)})


def read_picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def picture(folder: Path, width: int, height: int) -> Path:
    """A picture whose grey value rises from left to right."""
    path = folder / "scan.png"
    Image.fromarray(np.tile(np.linspace(0, 200, width), (height, 1)).astype(np.uint8)).save(path)
    return path


def volume(folder: Path, axcodes: str = "RAS", shape: tuple[int, ...] = (6, 7, 5)) -> nib.Nifti1Image:
    """A volume with oblique axes of 0.5 x 2 x 3 mm, saved as volume.nii.gz."""
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.5, 2, 3])
    affine[:3, 3] = [-12.5, 30.1, 7.7]
    to = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes))
    data = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    image = nib.Nifti1Image(data, affine).as_reoriented(to)
    image.header.set_xyzt_units("mm")
    image.header["cal_max"] = 900
    nib.save(image, folder / "volume.nii.gz")
    return nib.load(folder / "volume.nii.gz")


def test_picture_is_upright_with_the_inputs_width_and_height(tmp_path):
    mask = np.zeros((7, 4), np.float32)  # (x, y): 7 wide, 4 high
    mask[5, 1] = mask[6, 1] = 1
    pred = meta_tensor(mask, picture(tmp_path, 7, 4))
    row = SegmentationWriter()({"pred": pred}, tmp_path / "out" / "sub" / "scan.1")
    assert row.pop("output") == tmp_path / "out/sub/scan.1_pred.png"
    assert row == {"foreground_pixels": 2, "foreground_fraction": 2 / 28, "foreground_ml": ""}
    written = read_picture(tmp_path / "out/sub/scan.1_pred.png")
    assert (written.mode, written.size) == ("L", (7, 4))
    expected = np.zeros((4, 7))
    expected[1, 5:] = 255
    np.testing.assert_array_equal(np.asarray(written), expected)


@pytest.mark.parametrize("ext", [".png", ".nii.gz"])
def test_the_mask_of_an_array_lies_as_that_of_the_same_picture_does(ext, tmp_path):
    # Arrays have their rows first, and pictures their columns.
    path = picture(tmp_path, 90, 60)
    np.save(tmp_path / "array.npy", np.asarray(read_picture(path)))
    load = Compose([LoadImage(ImageFileReader, image_only=True, flat_arrays=True), EnsureChannelFirst()])
    results = []
    for file in (path, tmp_path / "array.npy"):
        image = load(file)
        pred = image > 150
        assert pred.shape == ((1, 90, 60) if file == path else (1, 60, 90))
        folder = tmp_path / file.stem
        sample = {"pred": pred, "prob": image / 255}
        SegmentationWriter(probabilities=True, overlay=True, ext=ext)(sample, folder / "a")
        mask = folder / f"a_pred{ext}"
        written = read_picture(mask) if ext == ".png" else nib.load(mask).get_fdata()
        results.append([written, *(read_picture(folder / f"a_{kind}.png") for kind in ("prob", "overlay"))])
    for of_picture, of_array in zip(*results):
        np.testing.assert_array_equal(np.asarray(of_array), np.asarray(of_picture))


def test_figshare_slice_gives_a_picture(tmp_path):
    path = tmp_path / "3.mat"
    image = np.arange(20).reshape(4, 5)  # (row, column)
    with h5py.File(path, "w") as file:
        file["cjdata/image"] = image.T.astype(np.int16)
    mask = (image >= 12).T.astype(np.float32)
    row = SegmentationWriter(overlay=True)({"pred": meta_tensor(mask, path)}, tmp_path / "3")
    np.testing.assert_array_equal(np.asarray(read_picture(row["output"])) == 255, image >= 12)
    assert read_picture(tmp_path / "3_overlay.png").size == (5, 4)


def test_probabilities_of_a_picture_are_16_bit(tmp_path):
    prob = np.array([[0, 0.25, 1], [0.5, 1e-5, 0.75]], np.float32)  # 2 wide, 3 high
    path = picture(tmp_path, 2, 3)
    sample = {"pred": meta_tensor(prob > 0.4, path), "prob": meta_tensor(prob, path)}
    SegmentationWriter(probabilities=True)(sample, tmp_path / "scan")
    written = read_picture(tmp_path / "scan_prob.png")
    assert written.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(written), [[0, 32768], [16384, 1], [65535, 49151]])


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR"])
def test_nifti_keeps_the_grid_of_the_input(tmp_path, axcodes):
    source = volume(tmp_path, axcodes)
    mask = np.random.default_rng(1).random(source.shape) > 0.6
    prob = np.random.default_rng(2).random(source.shape).astype(np.float32)
    path = tmp_path / "volume.nii.gz"
    sample = {"pred": meta_tensor(mask, path, source.affine), "prob": meta_tensor(prob, path, source.affine)}
    row = SegmentationWriter(probabilities=True, label_name="brain")(sample, tmp_path / "v")

    assert row["output"] == tmp_path / "v_pred.nii.gz"
    for written, expected, dtype in [
        (nib.load(row["output"]), mask, np.uint8),
        (nib.load(tmp_path / "v_prob.nii.gz"), prob, np.float32),
    ]:
        assert written.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
        np.testing.assert_array_equal(written.affine, source.affine)
        for field in ("qform_code", "sform_code", "xyzt_units"):
            assert written.header[field] == source.header[field]
        assert written.header["cal_max"] == 0
    count = int(mask.sum())
    assert row["brain_pixels"] == count and row["brain_fraction"] == count / mask.size
    assert row["brain_ml"] == pytest.approx(count * 0.5 * 2 * 3 / 1000)


@pytest.mark.parametrize("frames", [(), (2,)], ids=["3D", "4D"])
@pytest.mark.parametrize("scaling, zero", [((1, 0), 0), ((0.5, -100), 200), ((0.1, 9000), -32768)], ids=str)
def test_image_inside_the_segmentation_is_stored_as_the_input_is(tmp_path, frames, scaling, zero):
    stored = np.random.default_rng(3).integers(-900, 900, (6, 7, 5, *frames)).astype(np.int16)
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])
    source = nib.Nifti1Image(stored, affine)
    source.header.set_slope_inter(*scaling)
    nib.save(source, tmp_path / "v.nii.gz")
    mask = np.random.default_rng(4).random(stored.shape[:3]) > 0.5
    pred = meta_tensor(mask, tmp_path / "v.nii.gz", affine)
    writer = SegmentationWriter(label_name="brain", image_output=True, overlay=True)
    row = writer({"pred": pred}, tmp_path / "sub" / "v")

    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == [
        "v_brain.nii.gz",
        "v_overlay.png",
        "v_pred.nii.gz",
    ]
    brain = nib.load(tmp_path / "sub" / "v_brain.nii.gz")
    assert brain.get_data_dtype() == np.int16
    assert (brain.dataobj.slope, brain.dataobj.inter) == pytest.approx(scaling)
    first = stored[..., 0] if frames else stored
    np.testing.assert_array_equal(brain.dataobj.get_unscaled(), np.where(mask, first, zero))
    np.testing.assert_array_equal(brain.affine, affine)
    np.testing.assert_array_equal(np.asarray(nib.load(row["output"]).dataobj), mask)


def test_image_inside_the_segmentation_in_floating_point(tmp_path):
    data = np.random.default_rng(5).random((4, 3, 5)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "v.nii")
    pred = meta_tensor(data > 0.5, tmp_path / "v.nii")
    SegmentationWriter(label_name="brain", image_output=True)({"pred": pred}, tmp_path / "v")
    brain = nib.load(tmp_path / "v_brain.nii.gz")
    assert brain.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(brain.dataobj), np.where(data > 0.5, data, 0))


def test_a_picture_has_no_image_inside_the_segmentation(tmp_path):
    pred = meta_tensor(np.ones((6, 4), np.float32), picture(tmp_path, 6, 4))
    SegmentationWriter(image_output=True)({"pred": pred}, tmp_path / "out" / "scan")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["scan_pred.png"]


def test_volume_in_millilitres_minds_the_unit_of_length(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.diag([100.0, 100.0, 100.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "stack.nii")
    pred = meta_tensor(np.ones((3, 3, 3), np.uint8), tmp_path / "stack.nii", np.diag([0.1, 0.1, 0.1, 1.0]))
    row = SegmentationWriter()({"pred": pred}, tmp_path / "stack")
    assert row["foreground_ml"] == pytest.approx(27 * 0.1**3 / 1000)


def test_flat_nifti_has_no_volume(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((6, 4), np.uint8), np.eye(4)), tmp_path / "flat.nii.gz")
    pred = meta_tensor(np.ones((6, 4), np.uint8), tmp_path / "flat.nii.gz", np.eye(4))
    row = SegmentationWriter(overlay=True)({"pred": pred}, tmp_path / "flat")
    assert row["foreground_ml"] == ""
    assert nib.load(row["output"]).shape == (6, 4)
    assert read_picture(tmp_path / "flat_overlay.png").size == (6, 4)


def test_overlay_shows_the_input_and_the_outline(tmp_path):
    mask = np.zeros((40, 20), np.float32)
    mask[10:20, 5:12] = 1
    SegmentationWriter(overlay=True)({"pred": meta_tensor(mask, picture(tmp_path, 40, 20))}, tmp_path / "scan")
    written = read_picture(tmp_path / "scan_overlay.png")
    assert (written.mode, written.size) == ("RGB", (40, 20))
    pixels = np.asarray(written).astype(int)
    coloured = pixels[..., 0] != pixels[..., 2]
    expected = np.zeros((20, 40), bool)
    expected[5:12, 10:20] = True
    expected[6:11, 11:19] = False
    np.testing.assert_array_equal(coloured, expected)
    grey = pixels[0, :, 0]
    assert (grey[0], grey[-1]) == (0, 255) and (np.diff(grey) >= 0).all()


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR"])
def test_overlay_of_a_volume_is_radiological_and_shows_the_largest_section(tmp_path, axcodes):
    data = np.zeros((8, 9, 5), np.int16)  # in RAS: x to the right, y to the front, z up
    data[6, 2, 3] = 100  # a bright spot on the right at the back
    mask = np.zeros(data.shape, np.uint8)
    mask[1:5, 5:8, 3] = 1
    mask[1, 5, 1] = 1
    to = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes))
    image, label = (nib.Nifti1Image(a, np.diag([2.0, 2.0, 3.0, 1.0])).as_reoriented(to) for a in (data, mask))
    nib.save(image, tmp_path / "v.nii.gz")
    pred = meta_tensor(np.asarray(label.dataobj), tmp_path / "v.nii.gz", image.affine)
    SegmentationWriter(overlay=True)({"pred": pred}, tmp_path / "v")
    pixels = np.asarray(read_picture(tmp_path / "v_overlay.png")).astype(int)
    assert pixels.shape == (9, 8, 3)
    grey = np.where(pixels[..., 0] == pixels[..., 2], pixels[..., 0], 0)
    assert np.argwhere(grey > 0).tolist() == [[6, 1]]  # low in the picture and on its left
    expected = np.zeros((9, 8), bool)
    expected[1:4, 3:7] = True
    expected[2, 4:6] = False
    np.testing.assert_array_equal(pixels[..., 0] != pixels[..., 2], expected)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR"])
def test_overlay_in_three_planes_is_radiological_and_has_square_pixels(tmp_path, axcodes):
    data = np.zeros((10, 12, 6), np.int16)  # in RAS: x to the right, y to the front, z up; 20 x 24 x 24 mm
    mask = np.zeros(data.shape, np.uint8)
    mask[2:5, 4, 3] = mask[3, 3:6, 3] = mask[3, 4, 2:5] = 1  # largest in the three planes through its centre
    data[8, 4, 3] = data[3, 10, 3] = data[3, 4, 5] = 100  # on the right, in front and on top of it
    to = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes))
    image, label = (nib.Nifti1Image(a, np.diag([2.0, 2.0, 4.0, 1.0])).as_reoriented(to) for a in (data, mask))
    nib.save(image, tmp_path / "v.nii.gz")
    pred = meta_tensor(np.asarray(label.dataobj), tmp_path / "v.nii.gz", image.affine)
    SegmentationWriter(overlay=True, planes=("axial", "coronal", "sagittal"))({"pred": pred}, tmp_path / "v")

    pixels = np.asarray(read_picture(tmp_path / "v_overlay.png")).astype(int)
    assert pixels.shape == (12, 10 + 8 + 10 + 8 + 12, 3)
    coloured = pixels[..., 0] != pixels[..., 2]
    bright = [tuple(at) for at in np.argwhere(~coloured & (pixels[..., 0] > 127)).tolist()]
    axial = [(1, 6), (7, 1)]  # in front: up; on the right: left in the picture
    coronal = [(0, 24), (1, 24), (4, 19), (5, 19)]  # slices of 4 mm make two rows
    sagittal = [(0, 43), (1, 43), (4, 37), (5, 37)]  # in front: left
    assert bright == sorted(axial + coronal + sagittal)
    assert np.argwhere(coloured[:, :10]).tolist() == [[6, 6], [7, 5], [7, 7], [8, 6]]
    assert coloured[:, 18:28].any() and coloured[:, 36:].any()
    assert not coloured[:, 10:18].any() and not coloured[:, 28:36].any()


def test_overlay_of_projections_shows_all_vessels_grey_and_coloured(tmp_path):
    """Two bright voxels of which no section holds both, one of them segmented; LPS axes, slices of 2 mm."""
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    data, mask = np.zeros((4, 5, 3), np.int16), np.zeros((4, 5, 3))
    data[0, 1, 2] = data[3, 4, 0] = 100
    mask[3, 4, 0] = 1
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "v.nii.gz")
    writer = SegmentationWriter(overlay=True, planes=("axial", "coronal"), view="projection")
    writer({"pred": meta_tensor(mask, tmp_path / "v.nii.gz", affine)}, tmp_path / "v")
    pixels = np.asarray(read_picture(tmp_path / "v_overlay.png")).astype(int)
    assert pixels.shape == (6 + 8 + 6, 4 + 8 + 4, 3)  # three slices of 2 mm are six rows, more than the axial five
    above, gap, below = np.split(pixels, (6, 14))
    assert not gap.any()
    assert (np.ptp(above, axis=-1) == 0).all()
    assert np.argwhere(above[:, :4, 0] > 200).tolist() == [[1, 0], [4, 3]]
    assert (above[0:2, 12, 0] > 0).all() and (above[4:6, 15, 0] > 0).all()  # superior is up
    coloured = np.ptp(below, axis=-1) > 0
    assert np.argwhere(coloured[:, :4]).tolist() == [[4, 3]] and coloured[:, 12:].sum() == 2
    np.testing.assert_array_equal(below[~coloured], above[~coloured])


def test_a_flat_image_has_an_outline_in_any_view(tmp_path):
    path, mask = picture(tmp_path, 7, 5), np.zeros((7, 5), np.float32)
    mask[2:5, 1:4] = 1
    for view in ("section", "projection"):
        SegmentationWriter(overlay=True, view=view)({"pred": meta_tensor(mask, path)}, tmp_path / view)
    first, second = (np.asarray(read_picture(tmp_path / f"{v}_overlay.png")) for v in ("section", "projection"))
    np.testing.assert_array_equal(first, second)


def test_unknown_view_is_refused():
    with pytest.raises(ValueError, match='view must be "section" or "projection", got \'mip\''):
        SegmentationWriter(view="mip")


@pytest.mark.parametrize("planes", [(), "axial", ("axial", "frontal")], ids=str)
def test_unknown_planes_are_refused(planes):
    with pytest.raises(ValueError, match="planes must be a list of sagittal, coronal, axial"):
        SegmentationWriter(planes=planes)


def test_overlay_of_an_empty_segmentation_is_the_middle_slice_without_colour(tmp_path):
    data = np.zeros((4, 4, 5), np.int16)
    data[1, 1, 2] = 7
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "v.nii.gz")
    pred = meta_tensor(np.zeros(data.shape), tmp_path / "v.nii.gz", np.diag([-1.0, -1.0, 1.0, 1.0]))
    row = SegmentationWriter(overlay=True)({"pred": pred}, tmp_path / "v")
    pixels = np.asarray(read_picture(tmp_path / "v_overlay.png"))
    assert (pixels[..., 0] == pixels[..., 2]).all() and np.argwhere(pixels[..., 0]).tolist() == [[1, 1]]
    assert (row["foreground_pixels"], row["foreground_fraction"], row["foreground_ml"]) == (0, 0, 0)


def test_overlay_of_a_uniform_picture(tmp_path):
    Image.new("L", (5, 3), 90).save(tmp_path / "flat.png")
    SegmentationWriter(overlay=True)({"pred": meta_tensor(np.zeros((5, 3)), tmp_path / "flat.png")}, tmp_path / "flat")
    assert not np.asarray(read_picture(tmp_path / "flat_overlay.png")).any()


def test_no_temporary_file_stays_and_old_outputs_are_replaced(tmp_path):
    out = tmp_path / "out"
    path = picture(tmp_path, 6, 4)
    writer = SegmentationWriter(probabilities=True, overlay=True)
    for value in (0.0, 1.0):
        array = np.full((6, 4), value, np.float32)
        row = writer({"pred": meta_tensor(array, path), "prob": meta_tensor(array, path)}, out / "scan")
    assert sorted(p.name for p in out.iterdir()) == ["scan_overlay.png", "scan_pred.png", "scan_prob.png"]
    assert np.asarray(read_picture(row["output"])).min() == 255


def test_failed_write_leaves_no_file_under_its_name(tmp_path, monkeypatch):
    def fail(image, path, *args, **kwargs):
        Path(path).write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    pred = meta_tensor(np.ones((6, 4)), tmp_path / "scan.png")
    with pytest.raises(OSError, match="disk full"):
        SegmentationWriter()({"pred": pred}, tmp_path / "out" / "scan")
    assert list((tmp_path / "out").iterdir()) == []


def test_picture_of_another_size_than_its_segmentation(tmp_path):
    pred = meta_tensor(np.ones((4, 7)), picture(tmp_path, 7, 4))
    with pytest.raises(ValueError, match=r"scan.png: expected its shape \(7, 4\), got \(4, 7\): .*Invertd"):
        SegmentationWriter(overlay=True)({"pred": pred}, tmp_path / "out" / "scan")
    assert not (tmp_path / "out").exists()


def test_volume_with_another_shape_or_affine_than_its_segmentation(tmp_path):
    source = volume(tmp_path)
    path = tmp_path / "volume.nii.gz"
    with pytest.raises(ValueError, match=r"expected its shape \(1, 6, 7, 5\), got \(1, 6, 7, 4\)"):
        SegmentationWriter()({"pred": meta_tensor(np.ones((6, 7, 4)), path, source.affine)}, tmp_path / "v")
    with pytest.raises(ValueError, match="expected its affine"):
        SegmentationWriter()({"pred": meta_tensor(np.ones(source.shape), path, np.eye(4))}, tmp_path / "v")


def test_picture_needs_one_channel(tmp_path):
    pred = MetaTensor(torch.ones(2, 6, 4), meta={"filename_or_obj": "scan.png"})
    with pytest.raises(ValueError, match=r"scan.png: expected one channel \(1, x, y\), got \(2, 6, 4\)"):
        SegmentationWriter()({"pred": pred}, tmp_path / "scan")


NAMES = ["core", "edema"]


def test_classes_of_a_volume_are_numbers_with_a_map_an_image_and_a_count_each(tmp_path):
    source = volume(tmp_path)
    path, classes = tmp_path / "volume.nii.gz", np.random.default_rng(1).integers(0, 3, source.shape).astype(np.float32)
    prob = np.random.default_rng(2).random((3, *source.shape)).astype(np.float32)
    maps = MetaTensor(torch.from_numpy(prob), torch.tensor(source.affine), {"filename_or_obj": str(path)})
    writer = SegmentationWriter(probabilities=True, overlay=True, image_output=True, label_name=NAMES)
    row = writer({"pred": meta_tensor(classes, path, source.affine), "prob": maps}, tmp_path / "v")
    written = nib.load(row.pop("output"))
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), classes)
    for number, name in enumerate(NAMES, start=1):
        np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / f"v_prob_{name}.nii.gz").dataobj), prob[number])
        inside = np.asarray(nib.load(tmp_path / f"v_{name}.nii.gz").dataobj)
        np.testing.assert_array_equal(inside, np.where(classes == number, np.asarray(source.dataobj), 0))
        count = int((classes == number).sum())
        assert row[f"{name}_pixels"] == count and row[f"{name}_fraction"] == count / classes.size
        assert row[f"{name}_ml"] == pytest.approx(count * 3 / 1000)
    writer = SegmentationWriter(probabilities=True, label_name=["a/b", "c d"])
    writer({"pred": meta_tensor(classes, path, source.affine), "prob": maps[1:]}, tmp_path / "sigmoid")
    written = nib.load(tmp_path / "sigmoid_prob_a_b.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), prob[1])


@pytest.mark.parametrize("view", ["section", "projection"])
def test_an_overlay_has_a_colour_and_a_legend_for_each_class(tmp_path, view):
    image = nib.Nifti1Image(np.zeros((120, 120, 30), np.int16), np.eye(4))
    nib.save(image, tmp_path / "v.nii.gz")
    classes = np.zeros(image.shape, np.float32)
    classes[60:80, 60:80, 10] = 1  # most of both classes lies in this slice
    classes[90:100, 60:80, 10] = 2
    classes[90:100, 60:65, 20] = 2
    writer = SegmentationWriter(overlay=True, label_name=NAMES, view=view)
    writer({"pred": meta_tensor(classes, tmp_path / "v.nii.gz", np.eye(4))}, tmp_path / "v")
    whole = np.asarray(read_picture(tmp_path / "v_overlay.png"))
    height = 120 if view == "section" else 248
    shown, legend = whole[height - 120 : height], whole[height:].reshape(-1, 3)
    first, second = (np.array(colour) for colour in class_colours(2))
    share = 1.0 if view == "section" else 0.6
    row, *columns = 120 - 70, 120 - 60 - 1, 120 - 90 - 1  # the patient's left is on the right
    for column, colour in zip(columns, (first, second)):
        np.testing.assert_array_equal(shown[row, column], (share * colour).astype(np.uint8))
    assert all((legend == colour).all(axis=1).any() for colour in (first, second))
    assert not shown[:40, :10].any()  # of the image, which is black, nothing is covered


def test_classes_of_a_picture_are_numbers_that_a_palette_shows_in_colour(tmp_path):
    classes = np.array([[0, 1], [2, 2], [1, 0]], np.float32)  # 3 wide, 2 high
    path = picture(tmp_path, 3, 2)
    row = SegmentationWriter(label_name=NAMES)({"pred": meta_tensor(classes, path)}, tmp_path / "scan")
    written = read_picture(row["output"])
    assert written.mode == "P" and row["edema_pixels"] == 2 and row["edema_ml"] == ""
    np.testing.assert_array_equal(np.asarray(written), classes.T)
    assert written.convert("RGB").getpixel((0, 1)) == class_colours(1)[0]
    labels = ImageFileReader("mask")
    np.testing.assert_array_equal(labels.get_data(labels.read(row["output"]))[0], classes)


def test_numbers_of_no_class_and_names_that_do_not_differ(tmp_path):
    path = picture(tmp_path, 3, 2)
    for value in (3, 0.5, -1):
        with pytest.raises(ValueError, match=f"0 to 2 for core, edema, got .*{value}: apply argmax"):
            SegmentationWriter(label_name=NAMES)({"pred": meta_tensor(np.full((3, 2), value), path)}, tmp_path / "x")
    with pytest.raises(ValueError, match="expected 2 or 3 channels"):
        sample = {"pred": meta_tensor(np.zeros((3, 2)), path), "prob": meta_tensor(np.zeros((3, 2)), path)}
        SegmentationWriter(label_name=NAMES, probabilities=True)(sample, tmp_path / "x")
    for names in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="label_name must be a name, or up to 255 that differ"):
            SegmentationWriter(label_name=names)


def test_name_format_and_numbers_of_a_volumes_mask_are_the_users(tmp_path):
    image = volume(tmp_path)
    mask = np.zeros(image.shape, np.float32)
    mask[1, 2, 3] = 1
    pred = meta_tensor(mask, tmp_path / "volume.nii.gz", image.affine)
    writer = SegmentationWriter(postfix="seg", ext=".nii", dtype="float32")
    row = writer({"pred": pred}, tmp_path / "out" / "volume")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["volume_seg.nii"] == [row["output"].name]
    written = nib.load(row["output"])
    assert written.get_data_dtype() == np.float32 and np.array_equal(written.get_fdata(), mask)
    np.testing.assert_allclose(written.affine, image.affine)
    with pytest.raises(ValueError, match="volume.nii.gz: is a volume, which no .png holds: output_ext=.nii.gz"):
        SegmentationWriter(ext=".png")({"pred": pred}, tmp_path / "none" / "volume")


def test_a_pictures_mask_can_be_nifti(tmp_path):
    mask = np.zeros((7, 4), np.float32)
    mask[5, 1] = 1
    pred = meta_tensor(mask, picture(tmp_path, 7, 4))
    row = SegmentationWriter(ext=".nii.gz", dtype="int16")({"pred": pred}, tmp_path / "out" / "scan")
    written = nib.load(row["output"])
    assert row["output"].name == "scan_pred.nii.gz" and written.get_data_dtype() == np.int16
    assert np.array_equal(written.get_fdata()[..., 0], mask) and nib.aff2axcodes(written.affine) == ("L", "P", "S")
    with pytest.raises(ValueError, match="scan.png: a .png of a mask has 8 bits"):
        SegmentationWriter(dtype="float32")({"pred": pred}, tmp_path / "none" / "scan")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"postfix": "../a"}, "output_postfix must be letters"),
        ({"postfix": "overlay"}, "none of .*overlay"),
        ({"postfix": "prob"}, "none of .*prob"),
        ({"label_name": "brain", "postfix": "brain"}, "none of brain"),
        ({"ext": "nii.gz"}, "output_ext must be one of .nii.gz, .nii, .png, or null for the input's, got 'nii.gz'"),
        ({"dtype": "float16"}, "output_dtype must be .* that NIfTI has, such as float32, got 'float16'"),
        ({"dtype": "text"}, "output_dtype must be .*, got 'text'"),
        ({"format": "dicom_seg", "segment": {}, "ext": ".nii"}, "dicom_seg has a suffix and numbers of its own"),
    ],
)
def test_options_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationWriter(**options)
