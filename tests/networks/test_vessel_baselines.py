# SPDX-License-Identifier: Apache-2.0
"""The networks that the vessels' paper compares with."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_kd.networks import CrossHairConvolution, DeepVesselNet, Slicewise, TransUNet, VCNet


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_cross_hair_is_the_cube_whose_other_weights_are_zero(spatial_dims: int) -> None:
    torch.manual_seed(0)
    cross = CrossHairConvolution(spatial_dims, 2, 3, 5).double()
    cube = torch.zeros(3, 2, *[5] * spatial_dims, dtype=torch.float64)
    for axis, plane in enumerate(cross.planes):
        index = [slice(None)] * (2 + spatial_dims)
        index[2 + axis] = slice(2, 3)
        cube[tuple(index)] += plane.weight.detach()
    x = torch.rand(1, 2, *(7, 6, 8)[:spatial_dims], dtype=torch.float64)
    convolve = nn.functional.conv2d if spatial_dims == 2 else nn.functional.conv3d
    torch.testing.assert_close(cross(x), convolve(x, cube, cross.planes[0].bias, padding=2))


def test_deep_vessel_net_has_the_published_layers() -> None:
    network = DeepVesselNet()
    # Filters of three planes of k x k: 3 k^2 for each pair of channels, and a bias for each channel.
    pairs = [(1, 5, 3), (5, 10, 5), (10, 20, 5), (20, 50, 3)]
    expected = sum(3 * size**2 * before * after + after for before, after, size in pairs) + 50 + 1
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert network(torch.rand(1, 1, 6, 7, 8)).shape == (1, 1, 6, 7, 8)
    assert DeepVesselNet(spatial_dims=2)(torch.rand(1, 1, 6, 7)).shape == (1, 1, 6, 7)
    with pytest.raises(ValueError, match="a kernel size for each layer"):
        DeepVesselNet(features=(5, 10))


def test_slicewise_sees_one_slice_at_a_time() -> None:
    network, volume = Slicewise(nn.Conv2d(2, 3, 3, padding=1)), torch.rand(2, 2, 5, 6, 4)
    output = network(volume)
    assert output.shape == (2, 3, 5, 6, 4)
    torch.testing.assert_close(output[1, ..., 2], network.network(volume[1:, ..., 2])[0])


@pytest.mark.parametrize("size", [(16, 16, 8), (16, 16)], ids=str)
def test_trans_unet_sees_the_whole_image(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = TransUNet(len(size), 1, 2, size, (4, 6, 8), hidden_size=8, depth=2, num_heads=2, norm="instance").eval()
    image = torch.rand(1, 1, *size, requires_grad=True)
    output = network(image)
    assert output.shape == (1, 2, *size)
    output[(0, 0, *[0] * len(size))].backward()
    assert image.grad[(0, 0, *[side - 1 for side in size])] != 0  # through the transformer alone
    with pytest.raises(ValueError, match="an image_size of 2 multiples of 4"):
        TransUNet(2, image_size=(16, 18), features=(4, 6, 8))


def test_vc_net_puts_what_it_sees_of_a_projection_where_the_maximum_was() -> None:
    torch.manual_seed(0)
    network = VCNet(features=(4, 8), strides=(2,), width=4, slab=4, norm="instance").eval()
    volume = torch.rand(1, 1, 8, 8, 8)
    seen: list[torch.Tensor] = []
    network.embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    assert network(volume).shape == (1, 1, 8, 8, 8)
    from_projections = seen[0][0, 4:].abs().sum(0)  # (8, 8, 8)
    for slab in (slice(0, 4), slice(4, 8)):
        place = volume[0, 0, ..., slab].argmax(-1)
        assert torch.equal(from_projections[..., slab].argmax(-1), place)
        assert ((from_projections[..., slab] > 0).sum(-1) == 1).all()
    with pytest.raises(ValueError, match="slabs of 4 slices, got 6"):
        network(torch.rand(1, 1, 8, 8, 6))


@pytest.mark.parametrize(
    "network",
    [
        DeepVesselNet(features=(2, 3), kernel_sizes=(3, 3)),
        Slicewise(UNet(2, 1, 1, (2, 4), (2,))),
        TransUNet(image_size=(8, 8, 8), features=(2, 4), hidden_size=4, depth=1, num_heads=1),
        VCNet(features=(2, 4), strides=(2,), width=2, slab=4),
    ],
    ids=lambda network: type(network).__name__,
)
def test_all_are_scripted_alike(network: nn.Module) -> None:
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network.eval())(image), network(image))
