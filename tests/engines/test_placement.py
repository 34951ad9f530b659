# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.engines import place_network
from monai_kd.engines.placement import without_placement


@pytest.mark.parametrize(
    "convolution, shape, memory_format",
    [(nn.Conv2d, (2, 3, 6, 6), torch.channels_last), (nn.Conv3d, (2, 3, 6, 6, 6), torch.channels_last_3d)],
)
def test_features_follow_the_weights_and_values_stay(convolution, shape, memory_format):
    torch.manual_seed(0)
    network = nn.Sequential(convolution(3, 4, 3), nn.ReLU(), convolution(4, 5, 3), nn.Flatten(), nn.LazyLinear(2))
    image = torch.rand(shape)
    before, weights = network(image), {name: value.clone() for name, value in network.state_dict().items()}
    assert place_network(network, "cpu", channels_last=True) is network
    assert network[0].weight.is_contiguous(memory_format=memory_format)
    features = []
    network[2].register_forward_hook(lambda layer, inputs, output: features.append(output))
    network(image)
    assert features[0].is_contiguous(memory_format=memory_format)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(network(image), before)


@pytest.mark.parametrize("convolution, size", [(nn.Conv2d, (6, 6)), (nn.Conv3d, (6, 6, 6))])
def test_features_of_images_of_one_channel_follow_as_well(convolution, size):
    """Channels last and first are the same for one channel; which of them a layer takes, its strides decide."""
    network = place_network(nn.Sequential(convolution(1, 4, 3), convolution(4, 5, 3)), "cpu", channels_last=True)
    given = []
    network[0].register_forward_pre_hook(lambda layer, inputs: given.append(inputs[0]))
    network[1].register_forward_pre_hook(lambda layer, inputs: given.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(2, 1, *size))
    assert [image.stride(1) for image in given] == [1, 1]


def test_without_it_the_weights_lie_as_they_did():
    network = nn.Conv2d(3, 4, 3)
    assert place_network(network, "cpu").weight.is_contiguous()


def test_a_network_can_be_scripted_without_its_placement():
    network = place_network(nn.Sequential(nn.Conv2d(4, 4, 5, groups=4), nn.Flatten()), "cpu", channels_last=True)
    network[0].register_forward_hook(print)
    without_placement(network)
    assert list(network[0]._forward_hooks.values()) == [print]  # others' stay
    network[0]._forward_hooks.clear()
    image = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
