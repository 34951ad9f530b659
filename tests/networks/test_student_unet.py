# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from monai_kd.networks import EncoderUNet, FeatureTap, decoder_stages, student_unet

FEATURES = [2, 4, 6, 8, 10, 3]


def test_features_make_monais_unet_and_none_the_one_with_an_encoder() -> None:
    assert isinstance(student_unet(FEATURES), BasicUNet)
    assert isinstance(student_unet(), EncoderUNet)


@pytest.mark.parametrize("context_channels, parameters, reach", [(0, 64_145, 48), (64, 89_633, 96)])
def test_the_context_of_a_student_of_few_stages_lets_it_see_further(context_channels, parameters, reach) -> None:
    torch.manual_seed(0)
    network = student_unet(decoder_channels=(64, 32, 16), context_channels=context_channels)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    network(torch.rand(2, 3, 240, 240))
    network.eval()  # by batch statistics every pixel would be seen
    image = torch.rand(1, 3, 240, 240, requires_grad=True)
    network(image)[0, 0, 120, 120].backward()
    seen = image.grad[0].abs().sum((0, 1)).nonzero()
    assert seen.max() - 120 == reach


@pytest.mark.parametrize("features", [FEATURES, None])
def test_the_stages_of_a_decoder_are_those_that_a_tap_sees(features) -> None:
    network = student_unet(features)
    stages = decoder_stages(network)
    tap = FeatureTap(network, [stage.layer for stage in stages])
    network(torch.zeros(2, 3, 32, 48))
    shapes = [tuple(feature.shape[1:]) for feature in tap.pop().values()]
    sizes = [(4, 6), (8, 12), (16, 24), (32, 48)]
    assert shapes == [(stage.channels, *size) for stage, size in zip(stages, sizes, strict=True)]


def test_another_networks_decoder_is_not_guessed() -> None:
    with pytest.raises(TypeError, match="decoder of a Conv2d is not known"):
        decoder_stages(nn.Conv2d(1, 1, 1))
