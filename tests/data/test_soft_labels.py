# SPDX-License-Identifier: Apache-2.0
"""A map that is its image must be it still, behind whatever moves them."""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import (
    Compose,
    DivisiblePadd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandSpatialCropd,
    RepeatChanneld,
    ScaleIntensityd,
    Spacingd,
    SpatialPadd,
)
from PIL import Image

from monai_kd.data import (
    FindSoftLabeld,
    ImageFileReader,
    LoadSoftLabeld,
    MRIReader,
    SeededDataset,
    SliceDataset,
    with_soft_labels,
)
from monai_kd.transforms import CropInPlaned, FlatSliced, Magnituded, ResizeInPlaned, ScaleByMaximumd, ToInputGrid

AFFINE = np.array([[0.0, -2, 0, 1], [3, 0, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]])
BOTH = ["image", "label"]


@pytest.fixture
def volume(tmp_path) -> dict:
    """An image that is its own soft label, and a label."""
    values = np.random.default_rng(0).random((12, 10, 8)).astype(np.float32)
    files = {"image": values, "label": (values > 0.5).astype(np.float32), "teacher": values}
    for name, own in files.items():
        nib.save(nib.Nifti1Image(own, AFFINE), tmp_path / f"{name}.nii.gz")
    return {name: str(tmp_path / f"{name}.nii.gz") for name in files}


def _load() -> list:
    return [LoadImaged(BOTH, reader=ImageFileReader), EnsureChannelFirstd(BOTH)]


MOVES = {
    "flip and turn": [
        RandFlipd(BOTH, prob=0.5, spatial_axis=0),
        RandFlipd(BOTH, prob=0.5, spatial_axis=1),
        RandRotate90d(BOTH, prob=1, max_k=3, spatial_axes=(0, 1)),
    ],
    "resample": [Orientationd(BOTH, "RAS", labels=None), Spacingd(BOTH, [2.5, 2.5, 3], mode=["bilinear", "nearest"])],
    "pad": [SpatialPadd(BOTH, 16), DivisiblePadd(BOTH, 5), SpatialPadd(BOTH, [30, 30, 30], mode="edge")],
    "crop": [RandSpatialCropd(BOTH, 5), RandFlipd("image", prob=0.5)],
    "crops": [RandCropByPosNegLabeld(BOTH, "label", [4, 4, 4], num_samples=3)],
    "affine": [RandAffined(BOTH, prob=1, rotate_range=0.5, mode=["bilinear", "nearest"], padding_mode="zeros")],
    "resize": [ResizeInPlaned(BOTH, [9, 7], mode=["bilinear", "nearest"], anti_aliasing=[True, False])],
    "slices": [CropInPlaned("image", 9), ScaleByMaximumd("image")],
}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_a_soft_label_goes_where_its_image_goes(moves, volume):
    transforms = with_soft_labels([*_load(), *moves], "sigmoid")
    assert len(transforms) == len(moves) + 4 and isinstance(transforms[3], LoadSoftLabeld)
    items = SeededDataset(Dataset([volume] * 4, Compose(transforms)))
    for item in (items[i] for i in range(4)):
        for part in item if isinstance(item, list) else [item]:
            assert part["teacher"].shape == part["image"].shape
            torch.testing.assert_close(part["teacher"].as_tensor(), part["image"].as_tensor(), atol=1e-5, rtol=1e-5)
            if "label" in part and len(moves) > 2:
                assert torch.equal(part["label"] > 0.5, part["teacher"] > 0.5)


def test_what_changes_grey_values_leaves_it_alone_and_the_original_transforms_too(volume):
    flip = RandFlipd(BOTH, prob=1, spatial_axis=0)
    grey = [ScaleIntensityd("image", 5, 9), RandGaussianNoised("image", prob=1), RepeatChanneld("image", 3)]
    sample = Compose(with_soft_labels([*_load(), *grey[:1], flip, *grey[1:]], "sigmoid"))(volume)
    expected = np.flip(nib.load(volume["teacher"]).get_fdata(), 0)
    np.testing.assert_allclose(sample["teacher"][0], expected, atol=1e-6)
    assert flip.keys == ("image", "label") and sample["image"].min() > 3


def test_without_soft_labels_nothing_changes():
    transforms = _load()
    assert with_soft_labels(transforms, None) == transforms


def test_slices_take_theirs_along(volume):
    transforms = with_soft_labels([*_load(), CropInPlaned(BOTH, 8), ScaleByMaximumd(BOTH)], "logits")
    for item in SliceDataset([volume], Compose(transforms)):
        torch.testing.assert_close(item["teacher"], item["image"])


def _sample(volume, **settings):
    return Compose(with_soft_labels(_load(), **{"activation": "sigmoid", **settings}))(volume)


def test_several_files_are_channels(volume):
    assert _sample({**volume, "teacher": [volume["teacher"], volume["label"]]})["teacher"].shape == (2, 12, 10, 8)


def test_a_folder_has_them_by_the_images_name(volume, tmp_path):
    item = {key: volume[key] for key in BOTH}
    folder = tmp_path / "out" / tmp_path.name
    folder.mkdir(parents=True)
    for name in ("image_prob.nii.gz", "image_pred.nii.gz", "other_prob.nii.gz"):
        nib.save(nib.load(volume["teacher"]), folder / name)
    sample = _sample(item, folder=tmp_path / "out")
    assert sample["teacher"].meta["filename_or_obj"] == str(folder / "image_prob.nii.gz")
    np.save(tmp_path / "out" / "image.npy", np.zeros((1, 12, 10, 8)))  # which may be anything
    assert _sample(item, folder=tmp_path / "out")["teacher"].any()
    np.save(folder / "image_prob.npy", np.zeros((1, 12, 10, 8)))
    with pytest.raises(RuntimeError) as error:
        _sample(item, folder=tmp_path / "out")
    assert "several soft labels fit it" in str(error.value.__cause__)
    for name in (tmp_path.name, "other"):
        (tmp_path / "sub" / name).mkdir(parents=True)
        nib.save(nib.load(volume["teacher"]), tmp_path / "sub" / name / "image_prob.nii.gz")
    own = _sample(item, folder=tmp_path / "sub")["teacher"].meta["filename_or_obj"]
    assert own == str(tmp_path / "sub" / tmp_path.name / "image_prob.nii.gz")
    with pytest.raises(FileNotFoundError, match="teacher_dir=.*none: there is no such folder"):
        _sample(item, folder=tmp_path / "none")


def _touch(folder, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _found(folder, image: str, ending: str | None = "_prob") -> str:
    [file] = FindSoftLabeld(folder, ending)({"image": image})["teacher"].files
    return str(Path(file).relative_to(folder))


def test_a_map_in_a_sub_folder_is_of_an_image_in_such_a_folder(tmp_path):
    _touch(tmp_path, "p1/frame01_prob.npy")
    assert _found(tmp_path, "/data/p1/frame01.png") == _found(tmp_path, "frame01.png") == "p1/frame01_prob.npy"
    with pytest.raises(FileNotFoundError, match="/data/p2/frame01.png: the soft label of its name is of another"):
        _found(tmp_path, "/data/p2/frame01.png")
    _touch(tmp_path, "p1/frame02_prob.npy", "frame02_prob.npy", "fold_0/validation/anna.npz", "fold_all/ben.npz")
    assert _found(tmp_path, "/data/p1/frame02.png") == "p1/frame02_prob.npy"
    assert _found(tmp_path, "/data/p2/frame02.png") == "frame02_prob.npy"
    assert _found(tmp_path, "/data/imagesTr/anna.nii.gz") == "fold_0/validation/anna.npz"
    assert _found(tmp_path, "/data/imagesTr/ben.nii.gz") == "fold_all/ben.npz"


def test_maps_of_a_data_set_that_was_moved_are_found(tmp_path):
    _touch(tmp_path, *(f"old/p{number}/T1/1_prob.npy" for number in (1, 2)))
    assert _found(tmp_path, "/new/p2/T1/1.png") == "old/p2/T1/1_prob.npy"
    with pytest.raises(FileNotFoundError, match="is of another folder"):
        _found(tmp_path, "/new/p3/T1/1.png")
    _touch(tmp_path, "any/predictions.csv")
    assert _found(tmp_path, "/new/p3/T1/1.png", None) == "any/predictions.csv"


def test_a_map_of_nnunets_case_is_of_its_channels(tmp_path):
    _touch(tmp_path, "case_001.npz", "case_002.npz", "case_002_0000_prob.nii.gz")
    for image in ("imagesTr/case_001_0000.nii.gz", "imagesTr/case_001_0001.nii.gz", "any/case_001_0000.nii.gz"):
        assert _found(tmp_path, image) == "case_001.npz"
    assert _found(tmp_path, "imagesTr/case_002_0000.nii.gz") == "case_002_0000_prob.nii.gz"
    with pytest.raises(FileNotFoundError, match="frames/case_001_0001.png: has no soft label"):
        _found(tmp_path, "frames/case_001_0001.png")


def _refused(volume, **settings) -> str:
    with pytest.raises(RuntimeError) as error:
        _sample(volume, **settings)
    return str(error.value.__cause__)


def test_a_missing_one_is_named(volume, tmp_path):
    item = {key: volume[key] for key in BOTH}
    assert "image.nii.gz: has no soft label: name its file as `teacher`" in _refused(item)
    (tmp_path / "out").mkdir()
    assert f"has no soft label in teacher_dir={tmp_path / 'out'}" in _refused(item, folder=tmp_path / "out")
    message = _refused({**item, "teacher": str(tmp_path / "gone.npy")})
    assert "gone.npy: there is no such soft label, that of" in message


@pytest.mark.parametrize(
    ("values", "affine", "activation", "message"),
    [
        (np.zeros((12, 10, 7)), AFFINE, "sigmoid", "lies on another grid, (12, 10, 7)"),
        (np.zeros((12, 10, 8)), np.eye(4), "sigmoid", "lies on another grid"),
        (np.full((12, 10, 8), np.nan), AFFINE, "logits", "holds NaN or infinite values"),
        (np.full((12, 10, 8), 1.5), AFFINE, "sigmoid", "from 0 to 1, got 1.5 to 1.5: for logits say"),
        (np.full((12, 10, 8, 2), 0.4), AFFINE, "softmax", "of 2 classes must sum to 1, got 0.8 to 0.8"),
    ],
)
def test_a_wrong_one_is_named_with_the_cure(values, affine, activation, message, volume, tmp_path):
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), tmp_path / "wrong.nii.gz")
    found = _refused({**volume, "teacher": str(tmp_path / "wrong.nii.gz")}, activation=activation)
    assert message in found and found.startswith(f"{tmp_path / 'wrong.nii.gz'}: ") and "\n" not in found


def test_files_of_one_training_have_the_same_classes(volume, tmp_path):
    values = np.zeros((12, 10, 8, 3), np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "three.nii.gz")
    transform = Compose(with_soft_labels(_load(), "sigmoid"))
    assert transform(volume)["teacher"].shape[0] == 1 == transform(volume)["teacher"].shape[0]
    with pytest.raises(Exception) as raised:
        transform({**volume, "teacher": str(tmp_path / "three.nii.gz")})
    message = str(raised.value.__cause__ or raised.value)
    assert "three.nii.gz: this soft label has 3 channel(s), one for each class, and " in message
    assert f"{volume['teacher']} has 1: make both for the classes of the student" in message


def test_an_image_has_one_row_of_classes(volume, tmp_path):
    (tmp_path / "predictions.csv").write_text("input,a,b\nimage.nii.gz,0.25,0.75\n")
    item = {key: volume[key] for key in BOTH}
    for settings in ({"folder": tmp_path}, {}):
        own = item if settings else {**item, "teacher": str(tmp_path / "predictions.csv")}
        sample = _sample(own, activation="softmax", class_names=["b", "a"], **settings)
        assert sample["teacher"].tolist() == [0.75, 0.25]
    np.save(tmp_path / "row.npy", np.array([3.0, -1.0]))
    own = {**item, "teacher": str(tmp_path / "row.npy")}
    assert _sample(own, activation="logits", class_names=["b", "a"])["teacher"].tolist() == [3, -1]
    assert "a number for each of a" in _refused(own, activation="logits", class_names=["a"])
    (tmp_path / "predictions.csv").write_text("input,a,b\nimage.nii.gz,0.25,0.25\n")
    message = _refused(item, activation="softmax", class_names=["b", "a"], folder=tmp_path)
    assert "must sum to 1, got 0.5" in message


def test_a_picture_beside_an_array_is_turned_as_the_array_is(tmp_path):
    values = np.arange(6 * 4, dtype=np.uint16).reshape(6, 4) * 1000  # six rows
    np.save(tmp_path / "a.npy", values)
    Image.fromarray(values).save(tmp_path / "a_prob.png")
    load = [LoadImaged("image", reader=ImageFileReader, flat_arrays=True), EnsureChannelFirstd("image")]
    sample = Compose(with_soft_labels(load, "sigmoid", tmp_path))({"image": str(tmp_path / "a.npy")})
    np.testing.assert_allclose(sample["teacher"].numpy() * 65535, sample["image"].numpy(), atol=0.01)


@pytest.mark.parametrize("has_slices_first", [True, False])
def test_what_is_written_of_kspace_is_a_soft_label_of_it(has_slices_first, tmp_path):
    image = np.random.default_rng(0).random((3, 8, 6)).astype(np.float32)  # (slice, row, column)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, (1, 2)), norm="ortho"), (1, 2)).astype(np.complex64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = kspace if has_slices_first else np.moveaxis(kspace, 0, -1)
        if has_slices_first:
            file["reconstruction_rss"] = image
    load = [LoadImaged("image", reader=MRIReader), EnsureChannelFirstd("image"), Magnituded("image")]
    item = {"image": str(tmp_path / "a.h5")}
    sample = Compose(load)(item)
    written = ToInputGrid()(sample["image"], sample["image"])  # as `infer` does
    nib.save(nib.Nifti1Image(written.numpy()[0], np.asarray(written.affine, float)), tmp_path / "a_prob.nii.gz")
    taught = Compose(with_soft_labels(load, "values", tmp_path))(item)
    np.testing.assert_allclose(taught["teacher"].numpy(), taught["image"].numpy(), atol=1e-5)


def test_a_slice_that_is_a_volume_becomes_a_picture_with_its_soft_label(tmp_path):
    values = np.random.default_rng(0).random((6, 5, 1)).astype(np.float32)
    for name in ("image", "teacher"):
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"{name}.nii.gz")
    load = [LoadImaged("image", reader=ImageFileReader), EnsureChannelFirstd("image")]
    load += [ResizeInPlaned("image", [4, 3], mode="bilinear"), FlatSliced("image")]
    flips = [RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    files = {name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "teacher")}
    for item in Dataset([files] * 4, Compose(with_soft_labels([*load, *flips], "sigmoid"))):
        assert item["teacher"].shape == (1, 4, 3)
        assert torch.equal(item["teacher"].as_tensor(), item["image"].as_tensor())


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown teacher_activation 'soft'"):
        with_soft_labels([], "soft")


def test_slices_in_files_of_their_own_have_a_soft_label_each(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (8, 6, 3)).astype(np.uint8)
    for number in range(3):
        Image.fromarray(values[..., number].T).save(tmp_path / f"{number}.png")
        np.save(tmp_path / f"{number}_pred.npy", values[..., number] / 255)
    item = {"image": [str(tmp_path / f"{number}.png") for number in range(3)]}
    load = [LoadImaged("image", reader=MRIReader), EnsureChannelFirstd("image"), CropInPlaned("image", 8)]
    sample = Compose(with_soft_labels(load, "logits", tmp_path, ending="_pred"))(item)
    torch.testing.assert_close(255 * sample["teacher"].as_tensor(), sample["image"].as_tensor().float())
