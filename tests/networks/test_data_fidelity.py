# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_kd.networks.data_fidelity import DataFidelity, data_fidelity

SIZE = (6, 9)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _complex(images: torch.Tensor) -> np.ndarray:
    return images[:, 0].numpy() + 1j * images[:, 1].numpy()


def _fft(images: np.ndarray) -> np.ndarray:
    """By NumPy, over the last two axes, with the centre in the middle."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes), norm="ortho"), axes)


LINES = torch.arange(SIZE[1]) % 3 == 0
MASKS = {
    "lines": LINES.double(),
    "plane": (_random(*SIZE) > 0.5).double(),
    "batch": (_random(2, *SIZE) > 0.5).double(),
}
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def test_a_mask_of_truth_values_keeps_the_precision() -> None:
    image, zero_filled = _random(2, 2, *SIZE), _random(2, 2, *SIZE, seed=1)
    expected = data_fidelity(image, zero_filled, LINES.double(), share=10 / 11)
    torch.testing.assert_close(data_fidelity(image, zero_filled, LINES, share=10 / 11), expected, atol=1e-15, rtol=0)


@every_mask
def test_measured_positions_agree_and_the_others_stay(mask: torch.Tensor) -> None:
    image, zero_filled = _random(2, 2, *SIZE), _random(2, 2, *SIZE, seed=1)
    kspace = _fft(_complex(data_fidelity(image, zero_filled, mask, share=1.0)))
    measured = np.broadcast_to(mask.numpy() > 0, kspace.shape)
    np.testing.assert_allclose(kspace[measured], _fft(_complex(zero_filled))[measured], atol=1e-14)
    np.testing.assert_allclose(kspace[~measured], _fft(_complex(image))[~measured], atol=1e-14)


@every_mask
@pytest.mark.parametrize("weight", [0.0, 0.25, 3.0])
def test_a_finite_weight_mixes_as_in_equation_2(mask: torch.Tensor, weight: float) -> None:
    image, zero_filled = _random(2, 2, *SIZE), _random(2, 2, *SIZE, seed=1)
    kspace = _fft(_complex(DataFidelity(weight)(image, zero_filled, mask)))
    mixed = (_fft(_complex(image)) + weight * _fft(_complex(zero_filled))) / (1 + weight)
    expected = np.where(mask.numpy() > 0, mixed, _fft(_complex(image)))
    np.testing.assert_allclose(kspace, expected, atol=1e-14)


def test_a_full_mask_gives_the_measured_image() -> None:
    zero_filled, everything = _random(2, 2, *SIZE), torch.ones(SIZE[1], dtype=torch.float64)
    for channels in (1, 2):
        result = DataFidelity()(_random(2, channels, *SIZE, seed=1), zero_filled, everything)
        torch.testing.assert_close(result, zero_filled[:, :channels], atol=1e-14, rtol=0)


def test_an_empty_mask_gives_the_image() -> None:
    image = _random(2, 2, *SIZE)
    nothing = torch.zeros(SIZE[1], dtype=torch.float64)
    torch.testing.assert_close(DataFidelity()(image, _random(2, 2, *SIZE, seed=1), nothing), image)


def test_a_real_image_keeps_the_real_part() -> None:
    image, zero_filled = _random(2, 1, *SIZE), _random(2, 2, *SIZE, seed=1)
    whole = data_fidelity(torch.cat((image, torch.zeros_like(image)), 1), zero_filled, MASKS["lines"], 1.0)
    assert whole[:, 1].abs().max() > 0.01
    torch.testing.assert_close(DataFidelity()(image, zero_filled, MASKS["lines"]), whole[:, :1])


def test_fidelity_twice_is_fidelity_once() -> None:
    fidelity, zero_filled = DataFidelity(), _random(2, 2, *SIZE, seed=1)
    once = fidelity(_random(2, 2, *SIZE), zero_filled, MASKS["plane"])
    torch.testing.assert_close(fidelity(once, zero_filled, MASKS["plane"]), once)


@pytest.mark.parametrize("channels", [1, 2])
def test_gradients(channels: int) -> None:
    image, zero_filled = _random(1, channels, 3, 4), _random(1, 2, 3, 4, seed=1)
    mask = torch.tensor([1.0, 0, 0, 1], dtype=torch.float64)
    inputs = image.requires_grad_(), zero_filled.requires_grad_(), mask
    assert torch.autograd.gradcheck(DataFidelity(2.0), inputs)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="fidelity_weight must be 0 or more, or None for exact fidelity, got -1"):
        DataFidelity(-1)
