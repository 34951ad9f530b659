# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from torch import nn

from monai_kd.engines import place_network
from monai_kd.engines.placement import without_placement

NETWORKS = {
    2: lambda **options: nn.Sequential(nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(16, **options), nn.Conv2d(16, 2, 3)),
    3: lambda **options: nn.Sequential(nn.Conv3d(3, 16, 3), nn.InstanceNorm3d(16, **options), nn.Conv3d(16, 2, 3)),
}
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def network_of(axes, **options):
    torch.manual_seed(0)
    return NETWORKS[axes](**options)


def gradients(network, images, autocast=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = network(images)
    torch.manual_seed(1)
    (output.float() * torch.randn(output.shape)).sum().backward()
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"track_running_stats": True}])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("axes", [2, 3])
def test_gradients_are_those_of_channels_first(axes, batch, options):
    network, images = network_of(axes, **options), torch.randn(batch, 3, *[12] * axes)
    placed = place_network(copy.deepcopy(network), "cpu", channels_last=True)
    expected, found = gradients(network, images), gradients(placed, images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    learned, rounded = gradients(placed.apply(forget), images, True), gradients(network.apply(forget), images, True)
    for mine, theirs, exact in zip(learned, rounded, expected, strict=True):
        largest = exact.abs().max() + 1  # the first bias has no gradient but what is rounded
        assert (mine - exact).abs().max() < 2 * (theirs - exact).abs().max() + 0.01 * largest


def forget(module):
    for parameter in module.parameters(recurse=False):
        parameter.grad = None


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("axes", [2, 3])
def test_features_keep_their_order_and_their_values_in_bfloat16(axes, batch):
    network, images = network_of(axes, affine=True), torch.randn(batch, 3, *[12] * axes)
    nn.init.normal_(network[1].weight)
    placed = place_network(copy.deepcopy(network), "cpu", channels_last=True)
    outputs = []
    placed[1].register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        placed(images)
        expected = network[:2](images)
    assert outputs[0].dtype == expected.dtype == torch.bfloat16
    assert outputs[0].is_contiguous(memory_format=FORMATS[axes])
    torch.testing.assert_close(outputs[0], expected, rtol=0.02, atol=0.03)


def test_running_statistics_are_used_and_learned_as_before():
    network, images = network_of(3, track_running_stats=True), torch.randn(2, 3, 8, 8, 8)
    placed = place_network(copy.deepcopy(network), "cpu", channels_last=True)
    with torch.autocast("cpu", torch.bfloat16):
        network(images), placed(images)
        torch.testing.assert_close(placed.state_dict(), network.state_dict(), rtol=0.02, atol=1e-3)
        torch.testing.assert_close(placed.eval()(images), network.eval()(images), rtol=0.02, atol=0.02)


def test_a_norm_stays_one_and_can_be_had_back():
    network = network_of(3, affine=True)
    names = list(network.state_dict())
    placed = place_network(network, "cpu", channels_last=True)
    assert isinstance(placed[1], nn.InstanceNorm3d) and list(placed.state_dict()) == names
    assert place_network(placed, "cpu", channels_last=True)[1] is placed[1]
    copied = copy.deepcopy(placed)
    assert copied[1].forward.__self__ is copied[1]
    assert type(without_placement(placed)[1]) is nn.InstanceNorm3d
    torch.jit.script(placed)


def test_without_channels_last_a_norm_is_pytorchs():
    assert type(place_network(network_of(2), "cpu")[1]) is nn.InstanceNorm2d
