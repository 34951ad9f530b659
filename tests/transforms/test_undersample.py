# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_kd.transforms import (
    CartesianMask,
    LowerResolution,
    LowerResolutiond,
    Magnitude,
    Magnituded,
    Undersample,
    Undersampled,
)

RULE = CartesianMask(acceleration=2, centre_lines=2)


def _image(*shape: int, seed: int = 0) -> MetaTensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 3, 4, 1])), meta={"filename_or_obj": "a.nii"})


def _complex(image: torch.Tensor) -> np.ndarray:
    values = image.numpy()
    return values[0] + 1j * values[1] if len(values) > 1 else values[0] + 0j


def _fft(image: np.ndarray) -> np.ndarray:
    """By NumPy, over the first two axes, with the centre in the middle."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))


def _ifft(kspace: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))


every_shape = pytest.mark.parametrize(
    "shape", [(1, 12, 16), (2, 12, 16), (1, 11, 15), (2, 11, 15, 3), (1, 12, 16, 1)], ids=str
)


@every_shape
def test_undersampling_agrees_with_numpy(shape: tuple[int, ...]) -> None:
    image = _image(*shape)
    mask = RULE(shape[2]).numpy()
    expected = _ifft(_fft(_complex(image)) * mask.reshape(1, -1, *(1,) * (len(shape) - 3)))
    filled = Undersample(RULE)(image)
    assert filled.shape == (2, *shape[1:]) and filled.dtype == torch.float64
    np.testing.assert_allclose(_complex(filled), expected, atol=1e-14)


def test_metadata_are_kept_and_the_image_is_left_alone() -> None:
    image = _image(1, 12, 16)
    before = image.clone()
    filled = Undersample(RULE)(image)
    assert filled.meta["filename_or_obj"] == "a.nii" and torch.equal(filled.affine, image.affine)
    assert torch.equal(image, before)


def test_all_lines_give_the_image_back() -> None:
    image = _image(2, 12, 15, 2)
    torch.testing.assert_close(Undersample(CartesianMask(1))(image).as_tensor(), image.as_tensor())


def test_undersampling_is_its_own_adjoint() -> None:
    """<A x, y> = <x, A y>: F is unitary and M a projection."""
    undersample, x, y = Undersample(RULE), _image(2, 12, 15), _image(2, 12, 15, seed=1)
    left = np.vdot(_complex(undersample(x)), _complex(y))
    right = np.vdot(_complex(x), _complex(undersample(y)))
    assert left == pytest.approx(right, rel=1e-12)


def test_lines_that_lack_are_those_side_by_side_along_the_second_axis() -> None:
    spectrum = np.abs(_fft(_complex(Undersample(RULE)(_image(1, 12, 16)))))
    assert np.array_equal((spectrum > 1e-9).all(0), RULE(16).numpy())


def test_integers_and_plain_tensors_are_taken() -> None:
    filled = Undersample(CartesianMask(1))(torch.arange(48, dtype=torch.uint8).reshape(1, 6, 8))
    assert filled.dtype == torch.float32 and type(filled) is torch.Tensor
    torch.testing.assert_close(filled[0], torch.arange(48.0).reshape(6, 8))
    assert Undersample(RULE, magnitude=True)(torch.ones(2, 6, 8, dtype=torch.int64)).dtype == torch.float32


def test_noise_is_measured_relative_to_the_largest_magnitude() -> None:
    image = 500 * _image(1, 64, 64)
    noise = _complex(Undersample(CartesianMask(1), noise_std=0.1)(image)) - _complex(image)
    expected = 0.1 * float(image.max())
    assert noise.real.std() == pytest.approx(expected, rel=0.05)
    assert noise.imag.std() == pytest.approx(expected, rel=0.05)


def test_noise_is_on_measured_lines_only() -> None:
    spectrum = np.abs(_fft(_complex(Undersample(RULE, noise_std=0.1)(_image(1, 12, 16)))))
    assert np.array_equal((spectrum > 1e-9).all(0), RULE(16).numpy())


def test_noise_depends_on_image_and_seed_and_not_on_what_came_before() -> None:
    undersample, first, second = Undersample(RULE, noise_std=0.1), _image(1, 12, 16), _image(1, 12, 16, seed=1)
    noisy = undersample(first)
    residual = [undersample(image) - Undersample(RULE)(image) for image in (first, second)]
    assert not torch.allclose(*residual)
    assert torch.equal(undersample(first), noisy)
    assert not torch.equal(Undersample(RULE, noise_std=0.1, seed=1)(first), noisy)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="noise_std must be 0 .no noise. or more, got -1"):
        Undersample(RULE, noise_std=-1)


@every_shape
def test_complex_types_are_taken(shape: tuple[int, ...]) -> None:
    parts = _image(2, *shape[1:])
    image = torch.complex(*parts.as_tensor().split(1))
    for transform in (Undersample(RULE), Undersample(RULE, noise_std=0.1), LowerResolution(2), Magnitude()):
        torch.testing.assert_close(transform(image), transform(parts.as_tensor()), atol=1e-15, rtol=0)


@every_shape
def test_the_phase_can_be_left_out(shape: tuple[int, ...]) -> None:
    image = _image(*shape) - 0.5
    of_magnitude = Undersample(RULE)(Magnitude()(image))
    for filled in (
        Undersample(RULE, magnitude=True)(image),
        Undersampled("a", RULE, magnitude=True)({"a": image})["a"],
    ):
        torch.testing.assert_close(filled, of_magnitude, atol=1e-14, rtol=0)
    assert of_magnitude.meta["filename_or_obj"] == "a.nii"
    if len(image) == 1:  # a real image stays as it is, signs included
        assert torch.equal(of_magnitude, Undersample(RULE)(image))


@pytest.mark.parametrize("angle, warnings", [(0.2, 0), (1.5, 1)])
def test_a_phase_that_was_measured_stays_and_is_warned_of(angle: float, warnings: int, caplog) -> None:
    values = _image(1, 6, 8)
    image = torch.cat((values * np.cos(angle), values * np.sin(angle)))
    image.meta["mask"] = np.ones((6, 8), np.float32)
    filled = Undersample(RULE, magnitude=True)(image)
    torch.testing.assert_close(filled[:2].as_tensor(), image.as_tensor())
    assert len(caplog.records) == warnings
    assert all("a.nii: 99 % of its energy is imaginary" in text and "in_channels=2" in text for text in caplog.messages)
    Undersample(RULE)(image)  # for a network of both parts
    assert len(caplog.records) == warnings


@pytest.mark.parametrize("shape", [(2, 6, 8), (2, 6, 8, 3)], ids=str)
def test_what_was_measured_in_part_gets_its_own_mask_as_a_channel(shape: tuple[int, ...]) -> None:
    image, mask = _image(*shape), np.zeros((6, 8), np.float32)
    mask[:, ::3] = 1
    image.meta["mask"] = mask
    filled = Undersample(RULE)(image)
    assert filled.shape == (3, *shape[1:])
    assert torch.equal(filled[:2].as_tensor(), image.as_tensor())
    for plane in filled[2].reshape(6, 8, -1).unbind(-1):
        np.testing.assert_array_equal(plane.numpy(), mask)


@pytest.mark.parametrize(
    "image", [torch.rand(3, 6, 8), torch.rand(6, 8), torch.rand(1, 6, 8, 2, 2), torch.rand(2, 6, 8) + 1j]
)
@pytest.mark.parametrize("transform", [Undersample(RULE), Undersample(RULE, magnitude=True), LowerResolution()])
def test_other_shapes_are_refused(transform: Undersample | LowerResolution, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected a magnitude or complex image \(1, X, Y.*pick one coil and one"):
        transform(image)


@every_shape
@pytest.mark.parametrize("factor", [2, 4, (1, 3), 2.5], ids=str)
def test_lower_resolution_agrees_with_numpy(shape: tuple[int, ...], factor: float | tuple[float, float]) -> None:
    image, factors = _image(*shape), np.broadcast_to(factor, 2)
    widths = [round(size / along) for size, along in zip(shape[1:3], factors)]
    first = [size // 2 - width // 2 for size, width in zip(shape[1:3], widths)]
    centre = tuple(slice(start, start + width) for start, width in zip(first, widths))
    kspace = _fft(_complex(image))
    cropped = np.zeros_like(kspace)
    cropped[centre] = kspace[centre]
    lower = LowerResolution(factor)(image)
    assert lower.shape == (1, *shape[1:]) and lower.dtype == torch.float64
    np.testing.assert_allclose(lower[0].numpy(), np.abs(_ifft(cropped)), atol=1e-14)


def test_lower_resolution_keeps_metadata_and_grey_scale() -> None:
    image = MetaTensor(torch.full((1, 12, 16), 7.0), meta={"filename_or_obj": "a.nii"})
    lower = LowerResolution(4)(image)
    torch.testing.assert_close(lower.as_tensor(), image.as_tensor())
    assert lower.meta["filename_or_obj"] == "a.nii"


def test_full_resolution_is_the_magnitude() -> None:
    image = _image(2, 12, 15)
    torch.testing.assert_close(LowerResolution(1)(image).as_tensor(), Magnitude()(image).as_tensor())


def test_lower_resolution_leaves_measured_images_at_theirs() -> None:
    image = _image(2, 6, 8)
    image.meta["mask"] = np.ones((6, 8))
    torch.testing.assert_close(LowerResolution(4)(image).as_tensor(), Magnitude()(image).as_tensor())


def test_factors_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"factor must be 1 .* or more, got \(2, 0\)"):
        LowerResolution((2, 0))


def test_a_factor_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"slices of \(6, 8\) are too small for a factor of \(7, 7\): nothing is left"):
        LowerResolution(7)(_image(1, 6, 8))


def test_magnitude_drops_the_mask_and_keeps_real_images() -> None:
    image = MetaTensor(torch.tensor([3.0, -4.0, 1.0]).reshape(3, 1, 1), meta={"filename_or_obj": "a.nii"})
    magnitude = Magnitude()(image)
    assert magnitude.tolist() == [[[5.0]]] and magnitude.meta["filename_or_obj"] == "a.nii"
    assert Magnitude()(image[1:2]).tolist() == [[[-4.0]]]


def test_dictionary_forms() -> None:
    image = _image(1, 12, 16)
    sample = {"image": image, "label": image, "id": 7}
    filled = Undersampled("image", RULE, noise_std=0.1, seed=3)(sample)
    assert torch.equal(filled["image"], Undersample(RULE, 0.1, 3)(image))
    assert filled["label"] is image and filled["id"] == 7 and sample["image"] is image
    assert torch.equal(LowerResolutiond("image", (2, 4))(sample)["image"], LowerResolution((2, 4))(image))
    assert torch.equal(Magnituded("image")(filled)["image"], Magnitude()(filled["image"]))


def test_keys_may_be_missing_where_that_is_allowed() -> None:
    assert Undersampled(["image", "x"], RULE, allow_missing_keys=True)({"image": _image(1, 12, 16)}).keys() == {"image"}
    with pytest.raises(KeyError, match="Key `x`"):
        LowerResolutiond(["x"])({"image": _image(1, 12, 16)})
