# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from monai.networks.utils import copy_model_state
from torch import nn

from monai_kd.networks import DCCNN, DCUNet, FeatureTap
from monai_kd.networks.data_fidelity import data_fidelity
from monai_kd.transforms import CartesianMask, Undersample

SIZE = 16


def _dc_cnn(**kwargs: object) -> DCCNN:
    torch.manual_seed(0)
    return DCCNN(**{"n_blocks": 2, "n_convs": 3, "channels": 4, "mask": CartesianMask(2), **kwargs})


def _dc_unet(**kwargs: object) -> DCUNet:
    torch.manual_seed(0)
    return DCUNet(**{"n_blocks": 2, "features": (4, 4, 4, 4, 4, 6), "mask": CartesianMask(2), **kwargs})


def _zero_filled(batch: int = 2, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    images = torch.rand(batch, 1, 16, size, generator=torch.Generator().manual_seed(seed))
    return torch.stack([Undersample(CartesianMask(2))(image) for image in images])


def _kspace(images: torch.Tensor) -> torch.Tensor:
    shifted = torch.fft.ifftshift(torch.complex(*images.unbind(1)), (1, 2))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), (1, 2))


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


either_network = pytest.mark.parametrize("make", [_dc_cnn, _dc_unet])


@pytest.mark.parametrize("n_convs, parameters", [(5, 141_765), (4, 95_525), (3, 49_285), (2, 3_045)])
def test_parameters_of_the_paper(n_convs: int, parameters: int) -> None:
    assert _parameters(DCCNN(n_convs=n_convs)) == parameters


def test_parameters_of_the_u_nets() -> None:
    with torch.device("meta"):
        assert _parameters(DCUNet()) == 9_876_805


@either_network
@pytest.mark.parametrize("in_channels", [1, 2])
def test_one_tensor_in_both_modes(make, in_channels: int) -> None:
    network = make(in_channels=in_channels)
    for mode in (True, False):
        assert network.train(mode)(_zero_filled()).shape == (2, in_channels, 16, SIZE)


def test_the_u_nets_take_the_size_of_the_cardiac_frames() -> None:
    network = DCUNet(1, features=(2, 2, 2, 2, 2, 2), mask=CartesianMask(4))
    assert network(torch.rand(1, 2, 150, 150)).shape == (1, 1, 150, 150)


def test_the_cascade_written_out() -> None:
    network, x = _dc_cnn(), _zero_filled()
    mask, image = CartesianMask(2)(SIZE).float(), x[:, :1]
    for stage in network.stages:
        first, second, third = (layer.conv for layer in stage.cnn)
        image = third(second(first(image).relu()).relu())
        image = data_fidelity(torch.cat((image, torch.zeros_like(image)), 1), x, mask, 1.0)[:, :1]
    torch.testing.assert_close(network(x), image)


def test_the_weight_of_fidelity_reaches_every_block() -> None:
    assert [stage.fidelity.share for stage in _dc_cnn(fidelity_weight=3.0).stages] == [0.75, 0.75]


@either_network
def test_everything_measured_gives_the_image_back(make) -> None:
    x = _zero_filled()
    network = make(mask=CartesianMask(1), in_channels=2)
    torch.testing.assert_close(network(x), x)


@pytest.mark.parametrize("in_channels", [1, 2])
def test_a_complex_reconstruction_agrees_with_the_measurement(in_channels: int) -> None:
    network, x = _dc_cnn(in_channels=in_channels).double(), _zero_filled().double()
    network.stages[-1].register_forward_hook(lambda stage, inputs, output: whole.append((stage.cnn(inputs[0]), output)))
    whole: list[tuple[torch.Tensor, torch.Tensor]] = []
    network(x)
    cnn, output = whole[0]
    if in_channels == 1:  # before the real part is taken
        output = data_fidelity(torch.cat((cnn, torch.zeros_like(cnn)), 1), x, CartesianMask(2)(SIZE), 1.0)
    kspace, measured = (_kspace(y) for y in (output, x))
    lines = CartesianMask(2)(SIZE)
    torch.testing.assert_close(kspace[..., lines], measured[..., lines], atol=1e-12, rtol=0)
    assert kspace[..., ~lines].abs().max() > 1e-3


@either_network
def test_the_mask_comes_from_the_rule_the_call_or_the_image(make) -> None:
    network, x, rows = make(), _zero_filled(), (torch.rand(2, 16, SIZE) > 0.5).float()
    torch.testing.assert_close(network(x, CartesianMask(2)(SIZE)), network(x))
    with_channel = network(torch.cat((x, rows[:, None]), 1))
    torch.testing.assert_close(with_channel, network(x, rows))
    assert not torch.allclose(with_channel, network(x))


def test_every_size_has_its_own_mask() -> None:
    network = _dc_cnn()
    for size in (SIZE, 20):
        network(_zero_filled(size=size))
    assert sorted(key for key in network.state_dict() if key.startswith("mask")) == [
        "mask.2x_seed0_centre10_16",
        "mask.2x_seed0_centre10_20",
    ]


def test_the_checkpoint_carries_the_masks(tmp_path) -> None:
    network, other = _dc_cnn(), _dc_cnn()
    network.mask.masks[SIZE] = torch.arange(SIZE) % 3 == 0
    torch.save(network.state_dict(), tmp_path / "model.pt")
    x = _zero_filled()
    assert not torch.allclose(other(x), network(x))
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert torch.equal(other(x), network(x))


def test_masks_of_listed_sizes_are_exported() -> None:
    network, exported = (_dc_cnn(mask=CartesianMask(2, sizes=[SIZE])) for _ in range(2))
    network.mask.masks[SIZE] = torch.arange(SIZE) % 3 == 0
    copy_model_state(exported, network.state_dict())  # as `monai.bundle ckpt_export` does
    assert torch.equal(exported(_zero_filled()), network(_zero_filled()))


@either_network
@pytest.mark.parametrize("acceleration", [1, 2, 4])
def test_without_any_mask_the_images_say_what_was_measured(make, acceleration: int) -> None:
    rule, with_mask, without = CartesianMask(acceleration, centre_lines=2), make(), make(mask=None)
    images = torch.rand(2, 1, 18, 16, generator=torch.Generator().manual_seed(1))
    x = torch.stack([1000 * Undersample(rule)(image) for image in images])
    assert torch.equal(without(x), with_mask(x, rule(16)))


def test_a_network_without_a_mask_can_be_scripted() -> None:
    network, x = _dc_cnn(mask=None), _zero_filled()
    assert torch.equal(torch.jit.script(network)(x), network(x))


@either_network
def test_wrong_shapes_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"expected real and imaginary part as channels, .*got .*\[1, 1, 16, 16\]"):
        make()(torch.rand(1, 1, 16, 16))
    for wrong in ((2, SIZE), (3, 16, SIZE), (2, 2, 16, SIZE)):
        with pytest.raises(ValueError, match=rf"expected a mask \(W,\), .*got .*{re.escape(str(list(wrong)))}"):
            make()(_zero_filled(), torch.ones(wrong))


def test_a_mask_may_have_an_axis_of_channels() -> None:
    network, x, mask = _dc_cnn(), _zero_filled(), (torch.rand(2, 16, SIZE) > 0.5).float()
    assert torch.equal(network(x, mask[:, None]), network(x, mask))
    assert torch.equal(network(x, mask[0, 0].reshape(1, 1, 1, SIZE)), network(x, mask[0, 0]))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in_channels must be 1 .* or 2 .*, got 3"):
        _dc_cnn(in_channels=3)
    with pytest.raises(ValueError, match="at least one block"):
        _dc_cnn(n_blocks=0)
    with pytest.raises(ValueError, match="n_convs must be 2 or more, got 1"):
        _dc_cnn(n_convs=1)


@either_network
def test_every_parameter_gets_a_gradient(make) -> None:
    network = make()
    network(_zero_filled()).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_gradients_through_two_blocks() -> None:
    network = DCCNN(2, 2, 2, mask=CartesianMask(2, centre_lines=1)).double()
    assert torch.autograd.gradcheck(network, torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True))


def test_layers_to_tap() -> None:
    network = _dc_cnn()
    tap = FeatureTap(network, ["stages.0.cnn.1", "stages.1.cnn", "stages.1"])
    output = network(_zero_filled())
    features = tap.pop()
    assert features["stages.0.cnn.1"].shape == (2, 4, 16, SIZE)
    assert features["stages.0.cnn.1"].min() == 0  # after the ReLU
    assert features["stages.1.cnn"].shape == (2, 1, 16, SIZE) and features["stages.1"] is output
    unets = _dc_unet()
    tap = FeatureTap(unets, ["stages.1.cnn.upcat_1"])
    unets(_zero_filled())
    assert tap.pop()["stages.1.cnn.upcat_1"].shape == (2, 6, 16, SIZE)


@either_network
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes are checked in Python
def test_scripted_and_traced_networks_agree(make) -> None:
    network, x = make(mask=CartesianMask(2, sizes=[SIZE])).eval(), _zero_filled()
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(torch.jit.script(network)(x), expected)
        torch.testing.assert_close(torch.jit.trace(network, x)(x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_data_fidelity_is_in_full_precision_under_autocast(dtype: torch.dtype) -> None:
    network, x = _dc_cnn(in_channels=2), _zero_filled()
    with torch.autocast("cpu", dtype):
        output = network(x)
    assert output.dtype == torch.float32
    mask = CartesianMask(2)(SIZE).float()
    torch.testing.assert_close(data_fidelity(output, x, mask, 1.0), output, atol=1e-6, rtol=0)


def _as_the_authors_compute_it(network: DCCNN, images: torch.Tensor, mask: torch.Tensor, edge: int) -> torch.Tensor:
    """Zero-filled real images (B, 1, H, W) with a mask (H, W) in the order of fft2, block by block."""
    kspace = mask * torch.fft.fft2(images, norm="ortho")
    image = torch.fft.ifft2(kspace, norm="ortho").real
    for stage in network.stages:
        convolutions = [layer for layer in stage.cnn.modules() if isinstance(layer, nn.Conv2d)]
        wide = nn.functional.pad(image, (edge,) * 4)
        for number, layer in enumerate(convolutions):
            wide = nn.functional.conv2d(wide, layer.weight, layer.bias, padding=1)
            wide = wide.relu() if number < len(convolutions) - 1 else wide
        inner = wide[:, :, edge : wide.shape[2] - edge, edge : wide.shape[3] - edge]
        mixed = kspace + (1 - mask) * torch.fft.fft2(inner, norm="ortho")
        image = torch.fft.ifft2(mixed, norm="ortho").real
    return image


@pytest.mark.parametrize("edge", [0, 5])
def test_padding_and_lines_along_the_first_axis_are_the_authors(edge: int, tmp_path) -> None:
    lines = np.isin(np.arange(16), (0, 1, 15, 5)).astype(float)  # the centre of k-space first
    np.save(tmp_path / "mask.npy", np.repeat(lines[:, None], 20, 1))
    rule = CartesianMask(4, file=tmp_path / "mask.npy", order="fft")
    network = _dc_cnn(mask=rule, padding=edge).double()
    images = torch.rand(2, 1, 16, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero_filled = torch.stack([Undersample(rule)(image) for image in images])
    expected = _as_the_authors_compute_it(network, images, torch.from_numpy(lines)[:, None], edge)
    torch.testing.assert_close(network(zero_filled), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.jit.script(network)(zero_filled), expected, rtol=0, atol=1e-10)


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding must be 0 or more pixels, got -1"):
        _dc_cnn(padding=-1)
