# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNetPlusPlus

from monai_kd.networks import FeatureTap, UNetPlusPlus

FEATURES = (4, 4, 8, 8, 16, 6)


def tiny(spatial_dims: int = 2, **kwargs: object) -> UNetPlusPlus:
    torch.manual_seed(0)
    return UNetPlusPlus(spatial_dims, features=FEATURES, **kwargs)


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


either_supervision = pytest.mark.parametrize("deep_supervision", [False, True])


@either_supervision
@pytest.mark.parametrize("size", [(32, 48), (50, 37), (32, 16, 16), (33, 18, 20)], ids=str)
def test_one_tensor_of_the_images_size_in_both_modes(size: tuple[int, ...], deep_supervision: bool) -> None:
    network = tiny(len(size), in_channels=2, out_channels=3, deep_supervision=deep_supervision)
    for mode in (True, False):
        assert network.train(mode)(image(2, 2, *size)).shape == (2, 3, *size)


@either_supervision
@pytest.mark.parametrize("size", [(32, 66), (64, 32, 34)], ids=str)
def test_blocks_of_positions(size: tuple[int, ...], deep_supervision: bool) -> None:
    network = tiny(len(size), in_channels=2, out_channels=3, shuffle=2, deep_supervision=deep_supervision)
    assert network(image(1, 2, *size)).shape == (1, 3, *size)


def test_a_block_is_one_position_of_the_network() -> None:
    network, x = tiny(in_channels=2, out_channels=2, shuffle=3), image(1, 2, 12, 9)
    network.unet.forward = lambda x: [x * torch.eye(4, 3)]  # on a grid of 4 x 3 positions with 18 channels
    assert torch.equal(network(x), x * torch.eye(4, 3).kron(torch.ones(3, 3)))


def test_sizes_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of shuffle=2, got .*33.*; pad the image"):
        tiny(shuffle=2)(image(1, 1, 64, 33))
    with pytest.raises(ValueError, match="shuffle must be 1 or more, got 0"):
        tiny(shuffle=0)


def test_parameters_of_the_defaults() -> None:
    with torch.device("meta"):
        network, theirs = UNetPlusPlus(), BasicUNetPlusPlus(3, 1, 1, bias=False)
    three_heads = 3 * (32 + 1)
    assert sum(p.numel() for p in network.parameters()) == 6_977_761
    assert sum(p.numel() for p in theirs.parameters()) == 6_977_761 + three_heads


@either_supervision
def test_output_is_the_last_head_or_the_mean_of_the_four(deep_supervision: bool) -> None:
    network, x = tiny(deep_supervision=deep_supervision).eval(), image(2, 1, 32, 48)
    theirs = BasicUNetPlusPlus(2, 1, 1, FEATURES, deep_supervision=deep_supervision, bias=False).eval()
    theirs.load_state_dict(network.unet.state_dict(), strict=False)
    with torch.no_grad():
        heads = theirs(x)
        assert len(heads) == (4 if deep_supervision else 1)
        torch.testing.assert_close(network(x), sum(heads) / len(heads))


@either_supervision
def test_every_parameter_gets_a_gradient(deep_supervision: bool) -> None:
    network = tiny(deep_supervision=deep_supervision)
    network(image(2, 1, 32, 32)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_convolutions_before_a_normalisation_have_no_bias() -> None:
    convolutions = [name for name, _ in tiny().named_parameters() if name.endswith("convs.conv_0.conv.bias")]
    assert convolutions == []
    assert any(name.endswith("convs.conv_0.conv.bias") for name, _ in tiny(bias=True).named_parameters())


def test_layers_to_tap() -> None:
    network = tiny()
    tap = FeatureTap(network, ["unet.conv_4_0", "unet.upcat_2_1", "unet.upcat_0_4"])
    network(image(1, 1, 32, 48))
    shapes = {name: tuple(feature.shape[1:]) for name, feature in tap.pop().items()}
    assert shapes == {"unet.conv_4_0": (16, 2, 3), "unet.upcat_2_1": (8, 8, 12), "unet.upcat_0_4": (6, 32, 48)}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes are checked in Python
@pytest.mark.parametrize("deep_supervision, shuffle", [(False, 1), (True, 2)])
def test_scripted_and_traced_networks_agree(deep_supervision: bool, shuffle: int) -> None:
    network = tiny(deep_supervision=deep_supervision, shuffle=shuffle).eval()
    x = image(1, 1, 32 * shuffle, 17 * shuffle)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(torch.jit.script(network)(x), expected)
        torch.testing.assert_close(torch.jit.trace(network, x)(x), expected)
