# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_kd.networks import ChannelEnergy, LayerProjectors, MeanOfLayers, SelectChannels


def test_mean_of_layers_averages_element_by_element() -> None:
    layers = [torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 4.0]]), torch.tensor([[6.0, 0.0]])]
    assert MeanOfLayers()(layers).tolist() == [[3.0, 2.0]]


def test_mean_of_layers_spreads_the_gradient_evenly() -> None:
    layers = [torch.zeros(2, 3, requires_grad=True) for _ in range(4)]
    MeanOfLayers()(layers).sum().backward()
    assert all((layer.grad == 0.25).all() for layer in layers)


def test_mean_of_layers_refuses_one_tensor() -> None:
    with pytest.raises(TypeError, match="list of layers"):
        MeanOfLayers()(torch.zeros(2, 3))


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 4)], []])
def test_mean_of_layers_refuses_unequal_shapes_and_none(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"layers of one shape, got \["):
        MeanOfLayers()([torch.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("space", [(), (2,), (2, 3, 2)])
def test_select_channels_keeps_the_order_given(space: tuple[int, ...]) -> None:
    features = torch.rand(2, 4, *space, generator=torch.Generator().manual_seed(0))
    selected = SelectChannels([3, -4])(features)
    assert selected.shape == (2, 2, *space)
    assert (selected[:, 0] == features[:, 3]).all() and (selected[:, 1] == features[:, 0]).all()


def test_select_channels_passes_the_gradient_to_the_selected_only() -> None:
    features = torch.zeros(1, 3, requires_grad=True)
    SelectChannels([1])(features).sum().backward()
    assert features.grad.tolist() == [[0.0, 1.0, 0.0]]


def test_select_channels_refuses_nothing_and_too_much() -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        SelectChannels([])
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        SelectChannels([3])(torch.zeros(1, 3))


def test_each_layer_has_a_projector_of_its_own():
    projectors = LayerProjectors([nn.Conv2d(1, 3, 1), nn.Identity()])
    layers = [torch.rand(1, 1, 2, 2), torch.rand(1, 4)]
    first, second = projectors(layers)
    assert first.shape == (1, 3, 2, 2) and torch.equal(second, layers[1])
    for wrong, got in ((layers[:1], "1 layers"), (layers[0], "one tensor")):
        with pytest.raises(ValueError, match=f"expected 2 layers, one for each projector, got {got}"):
            projectors(wrong)


def test_channel_energy_sums_squares_of_one_layer_or_of_each() -> None:
    layer = torch.tensor([[[1.0, -2.0], [3.0, 0.0]]])
    assert ChannelEnergy()(layer).tolist() == [[[10.0, 4.0]]]
    assert [one.tolist() for one in ChannelEnergy()([layer, 2 * layer])] == [[[[10.0, 4.0]]], [[[40.0, 16.0]]]]


def test_the_energy_of_half_precision_is_finite():
    assert ChannelEnergy()(torch.full((1, 2, 3), 300.0, dtype=torch.float16)).tolist() == [[[180000.0] * 3]]
