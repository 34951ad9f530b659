# SPDX-License-Identifier: Apache-2.0
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirst, Invertd, LoadImage
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

from monai_kd.data import ImageFileReader
from monai_kd.transforms import ResizeInPlane, ResizeInPlaned

SIZE = (16, 12)
MODES = ("bilinear", "nearest", "area")


def _smooth(*shape) -> torch.Tensor:
    """Half a cosine along each axis, in other strengths, so that no turn or mirroring leaves it as it is; -1..1."""
    axes = [weight * torch.cos(torch.linspace(0, torch.pi, size)) for weight, size in zip((1.0, 2.0, 4.0), shape)]
    image = sum(torch.meshgrid(*axes, indexing="ij"))
    return torch.stack([image / image.max(), (image / image.max()) ** 2])


def _picture(*shape) -> MetaTensor:
    affine = torch.tensor([[0.0, -0.8, 0, 5], [0.5, 0, 0, -3], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    return MetaTensor(_smooth(*shape), affine=affine)


def _volume(axcodes: str) -> MetaTensor:
    """30 x 20 x 5 voxels of 0.5 x 2 x 3 mm, oblique by 0.2, whose axes run as ``axcodes`` says."""
    cos, sin = np.cos(0.2), np.sin(0.2)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.diag([0.5, 2, 3])
    affine[:3, 3] = 10, -20, 30
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    turned = nib.Nifti1Image(np.zeros((30, 20, 5)), affine).as_reoriented(turn)
    return MetaTensor(_smooth(*turned.shape), affine=torch.from_numpy(turned.affine))


def _axial_slices(volume: MetaTensor) -> np.ndarray:
    """The volume with x to the patient's left, y to the back, by nibabel."""
    turn = ornt_transform(io_orientation(volume.affine.numpy()), axcodes2ornt("LPS"))
    return np.stack([apply_orientation(channel.numpy(), turn) for channel in volume])


every_orientation = pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "SLA"])


def test_a_picture_gets_the_wanted_width_and_height():
    assert ResizeInPlane(SIZE)(_picture(20, 30)).shape == (2, *SIZE)


@every_orientation
def test_a_volume_is_turned_and_keeps_its_slices_and_its_extent(axcodes):
    resized = ResizeInPlane(SIZE)(_volume(axcodes))
    assert resized.shape == (2, *SIZE, 5)
    assert nib.aff2axcodes(resized.affine.numpy()) == ("L", "P", "S")
    assert resized.pixdim.tolist() == pytest.approx([0.5 * 30 / 16, 2 * 20 / 12, 3])


@pytest.mark.parametrize("mode, anti_aliasing", [("bilinear", False), ("bilinear", True), ("nearest", False)])
@every_orientation
def test_the_slices_of_a_volume_come_out_as_pictures_of_them_do(axcodes, mode, anti_aliasing):
    volume, resize = _volume(axcodes), ResizeInPlane(SIZE, mode, anti_aliasing)
    slices, resized = _axial_slices(volume), resize(volume)
    for z in range(5):
        picture = resize(MetaTensor(slices[..., z].copy()))
        torch.testing.assert_close(resized[..., z].as_tensor(), picture.as_tensor())


@pytest.mark.parametrize("size", [32, 30, 60])
@pytest.mark.parametrize("depth", [(), (3,)])
def test_a_shrunk_mask_lies_where_its_image_does(depth, size):
    x, y = torch.meshgrid(*2 * [torch.arange(96.0)], indexing="ij")
    disc = ((x - 40.5) ** 2 + (y - 53.5) ** 2 < 30**2).float()[None]
    disc = MetaTensor(disc.expand(3, 1, 96, 96).permute(1, 2, 3, 0) if depth else disc, affine=torch.eye(4))
    image, mask, cut = (
        ResizeInPlane((size, size), mode)(disc).numpy()[0].reshape(size, size, -1)[..., 0] for mode in MODES
    )
    for label in (mask, cut >= 0.5):
        assert {*np.unique(label)} == {0, 1}
        np.testing.assert_allclose(*(ndimage.center_of_mass(array) for array in (image, label)), atol=0.15)


def test_masks_stay_masks():
    mask = MetaTensor((_smooth(30, 20) > 0.5).float())
    assert set(ResizeInPlane(SIZE, "nearest")(mask).unique().tolist()) == {0.0, 1.0}


def _assert_restored(image: MetaTensor, original: MetaTensor) -> None:
    assert image.shape == original.shape and image.applied_operations == []
    torch.testing.assert_close(image.affine, original.affine)
    torch.testing.assert_close(image.as_tensor(), original.as_tensor(), atol=0.01, rtol=0)


@pytest.mark.parametrize("size", [(40, 28), (30, 20)], ids=["other size", "same size"])
@every_orientation
def test_the_inverse_gives_back_size_place_and_values_of_a_volume(axcodes, size):
    resize, volume = ResizeInPlane(size, anti_aliasing=True), _volume(axcodes)
    _assert_restored(resize.inverse(resize(volume)), volume)


@pytest.mark.parametrize("size", [(40, 28), (30, 20)], ids=["other size", "same size"])
def test_the_inverse_gives_back_size_place_and_values_of_a_picture(size):
    resize, picture = ResizeInPlane(size), _picture(30, 20)
    _assert_restored(resize.inverse(resize(picture)), picture)


@pytest.mark.parametrize("image", [_picture(30, 20), _volume("SLA")], ids=["picture", "volume"])
def test_a_prediction_is_brought_back_to_its_image(image):
    resize = Compose([ResizeInPlaned("image", (40, 28))])
    sample = resize({"image": image})
    sample["pred"] = MetaTensor(sample["image"].as_tensor())  # a network keeps no record of transforms
    pred = Invertd("pred", transform=resize, orig_keys="image", nearest_interp=False)(sample)["pred"]
    _assert_restored(pred, image)


def test_every_key_has_its_own_mode():
    resize = ResizeInPlaned(["image", "label"], SIZE, mode=["bilinear", "nearest"], anti_aliasing=[True, False])
    sample = {"image": _picture(20, 30), "label": _picture(20, 30), "id": 7}
    resized = resize(sample)
    assert torch.equal(resized["image"], ResizeInPlane(SIZE, "bilinear", True)(sample["image"]))
    assert torch.equal(resized["label"], ResizeInPlane(SIZE, "nearest")(sample["label"]))
    assert not torch.equal(resized["image"], resized["label"])
    assert resized["id"] == 7 and sample["image"].shape == (2, 20, 30)
    assert resize.inverse(resized)["label"].shape == (2, 20, 30)


def test_keys_may_be_missing_where_that_is_allowed():
    resize = ResizeInPlaned(["image", "label"], SIZE, allow_missing_keys=True)
    assert resize.inverse(resize({"image": _picture(20, 30)})).keys() == {"image"}
    with pytest.raises(KeyError, match="label"):
        ResizeInPlaned(["image", "label"], SIZE)({"image": _picture(20, 30)})


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "ALS"])
def test_a_flat_nifti_image_comes_out_as_the_volume_of_that_slice(axcodes, tmp_path):
    load = Compose([LoadImage(image_only=True, reader="NibabelReader"), EnsureChannelFirst()])
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    volume = nib.Nifti1Image(_smooth(30, 20, 1)[0].numpy(), np.diag([0.5, 2, 3, 1])).as_reoriented(turn)
    nib.save(volume, tmp_path / "volume.nii")
    nib.save(nib.Nifti1Image(volume.get_fdata()[..., 0], volume.affine), tmp_path / "flat.nii")
    flat, volume, resize = load(tmp_path / "flat.nii"), load(tmp_path / "volume.nii"), ResizeInPlane(SIZE)
    resized = resize(flat)
    torch.testing.assert_close(resized.as_tensor(), resize(volume)[..., 0].as_tensor())
    restored = resize.inverse(resized)
    assert restored.shape == flat.shape and restored.applied_operations == []
    torch.testing.assert_close(restored.affine, flat.affine)
    assert torch.corrcoef(torch.stack([restored.flatten(), flat.flatten()]).as_tensor())[0, 1] > 0.99


def test_a_flat_nifti_image_that_is_not_axial_is_upright_as_a_volume_of_it_is(tmp_path):
    image = _smooth(30, 20)[0].numpy()
    affine = np.array([[0, 0, 4, 0], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])  # sagittal: to the front, up
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "s.nii")
    nib.save(nib.Nifti1Image(image[..., None], affine), tmp_path / "volume.nii")
    load = Compose([LoadImage(image_only=True), EnsureChannelFirst()])
    flat, volume = load(tmp_path / "s.nii"), load(tmp_path / "volume.nii")
    resize, turned = ResizeInPlane((30, 20)), torch.from_numpy(image[::-1, ::-1].copy())
    torch.testing.assert_close(resize(flat)[0].as_tensor(), turned)
    torch.testing.assert_close(resize(volume)[0, ..., 0].as_tensor(), turned)
    torch.testing.assert_close(resize.inverse(resize(flat)).as_tensor(), flat.as_tensor())
    torch.testing.assert_close(resize.inverse(resize(volume)).as_tensor(), volume.as_tensor())


@pytest.mark.parametrize(("plane", "thick"), [("LIP", 1), ("PIL", 0)], ids=["coronal", "sagittal"])
@pytest.mark.parametrize("slices", [1, 5])
@every_orientation
def test_slices_are_cut_as_they_were_acquired(axcodes, plane, thick, slices):
    """Across the axis of the longest voxels, or of the only one; upright as pictures of the plane are."""
    sizes, spacing = [30, 20, 24], [1.0, 1.2, 1.1]
    sizes[thick], spacing[thick] = slices, 1.0 if slices == 1 else 6.0
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    acquired = nib.Nifti1Image(_smooth(*sizes)[0].numpy(), np.diag([*spacing, 1])).as_reoriented(turn)
    volume = MetaTensor(torch.from_numpy(acquired.get_fdata())[None], affine=torch.from_numpy(acquired.affine))
    resize = ResizeInPlane(SIZE)
    resized = resize(volume)
    assert resized.shape == (1, *SIZE, slices) and "".join(nib.aff2axcodes(resized.affine.numpy())) == plane
    turn = ornt_transform(io_orientation(acquired.affine), axcodes2ornt(plane))
    cut = apply_orientation(acquired.get_fdata(), turn)
    for place in range(slices):
        picture = resize(MetaTensor(torch.from_numpy(cut[None, ..., place].copy())))
        torch.testing.assert_close(resized[..., place].as_tensor(), picture.as_tensor())
    restored = resize.inverse(resized)
    assert restored.shape == volume.shape and restored.applied_operations == []
    torch.testing.assert_close(restored.affine, volume.affine)


def test_the_rows_of_an_array_are_those_of_the_picture(tmp_path):
    image = _smooth(30, 20)[0].numpy()
    np.save(tmp_path / "a.npy", image.T)
    array = EnsureChannelFirst()(LoadImage(reader=ImageFileReader, image_only=True)(tmp_path / "a.npy"))
    resize = ResizeInPlane((30, 20))
    torch.testing.assert_close(resize(array)[0].as_tensor(), torch.from_numpy(image))
    torch.testing.assert_close(resize.inverse(resize(array)).as_tensor(), array.as_tensor())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_large_picture_is_shrunk_to_the_values_of_a_small_one(monkeypatch, dtype):
    """By products of matrices, which MONAI's filter and interpolation are."""
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 203, 157)).astype(np.float32)).to(dtype)
    picture = MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 3, 1, 1], dtype=torch.float64)))
    resize = ResizeInPlane((24, 33), anti_aliasing=True)
    expected = resize(picture)
    monkeypatch.setattr("monai_kd.transforms.resize_in_plane._LARGE", 1)
    monkeypatch.setattr("monai_kd.transforms.resize_in_plane._BLOCK", 50)
    shrunk = resize(picture)
    torch.testing.assert_close(shrunk.as_tensor(), expected.as_tensor(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(shrunk.affine, expected.affine)
    assert shrunk.applied_operations[-1]["extra_info"] == expected.applied_operations[-1]["extra_info"]
    back, expected_back = (resize.inverse(each).as_tensor() for each in (shrunk, expected))
    torch.testing.assert_close(back, expected_back, atol=1e-3, rtol=0)
