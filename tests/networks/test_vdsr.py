# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_kd.networks import VDSR, FeatureTap


def _tiny(**kwargs: int) -> VDSR:
    torch.manual_seed(0)
    return VDSR(**{"n_convs": 6, "channels": 3, "n_stages": 3, **kwargs})


def _image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n_convs, parameters", [(12, 370_497), (4, 75_073)])
def test_parameters_of_the_paper(n_convs: int, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in VDSR(n_convs).parameters()) == parameters


@pytest.mark.parametrize("n_stages", [1, 2, 3, 6])
def test_the_network_written_out_however_it_is_cut(n_stages: int) -> None:
    network, x = _tiny(n_stages=n_stages), _image(2, 1, 7, 9)
    convs = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convs) == 6
    features = x
    for conv in convs[:-1]:
        features = conv(features).relu()
    torch.testing.assert_close(network(x), x + convs[-1](features))


def test_without_weights_it_gives_the_image_back() -> None:
    network, x = _tiny(in_channels=2), _image(1, 2, 5, 5)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(network(x), x)


def test_layers_to_tap_are_alike_in_teacher_and_student() -> None:
    names = ["stages.0", "stages.1", "stages.2"]
    for n_convs in (6, 3):
        network = _tiny(n_convs=n_convs)
        tap = FeatureTap(network, names)
        output = network(_image(1, 1, 5, 6))
        features = tap.pop()
        assert [tuple(features[name].shape) for name in names] == [(1, 3, 5, 6), (1, 3, 5, 6), (1, 1, 5, 6)]
        assert features["stages.2"] is output
        assert features["stages.1"].min() == 0  # after the ReLU


def test_scripted_and_traced_networks_agree() -> None:
    network, x = _tiny().eval(), _image(1, 1, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))
        torch.testing.assert_close(torch.jit.trace(network, x)(x), network(x))


@pytest.mark.parametrize("n_convs, lengths", [(8, [2, 2, 2, 2]), (10, [2, 3, 2, 3]), (5, [1, 1, 1, 2]), (2, [1, 1])])
def test_stages_are_as_equal_as_can_be(n_convs: int, lengths: list[int]) -> None:
    network, x = VDSR(n_convs, channels=3), _image(1, 1, 5, 6)
    assert [len(stage.convs) for stage in network.stages] == lengths
    inner = x
    for conv in [conv for stage in network.stages for conv in stage.convs]:
        inner = conv(inner)
    torch.testing.assert_close(network(x), x + inner)


@pytest.mark.parametrize("n_convs, n_stages", [(1, 1), (6, 0)])
def test_too_few_convolutions_or_stages_are_refused(n_convs: int, n_stages: int) -> None:
    with pytest.raises(ValueError, match=f"2 or more and .* 1 or more, got {n_convs} convolutions in {n_stages} s"):
        VDSR(n_convs, n_stages=n_stages)
