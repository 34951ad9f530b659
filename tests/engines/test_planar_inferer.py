# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.engines import PlanarInferer


class Recorder(nn.Conv2d):
    """A network of pictures, from 2 to 3 channels, that remembers the shapes it saw."""

    def __init__(self):
        super().__init__(2, 3, 3, padding=1)
        self.shapes = []

    def forward(self, image):
        self.shapes.append(tuple(image.shape))
        return super().forward(image)


def _random(*shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_no_slices_at_once_are_refused():
    with pytest.raises(ValueError, match=r"slices_per_batch \(a bundle's batch_size\) must be 1 or more, got 0"):
        PlanarInferer(slices_per_batch=0)


@torch.no_grad()
def test_pictures_are_given_as_they_are():
    network, pictures = Recorder(), _random(5, 2, 4, 6)
    assert torch.equal(PlanarInferer(slices_per_batch=1)(pictures, network), network(pictures))
    assert network.shapes[0] == (5, 2, 4, 6)


@torch.no_grad()
@pytest.mark.parametrize("slices_per_batch", [1, 3, 16])
def test_a_volume_is_predicted_as_its_slices_one_by_one(slices_per_batch):
    network, volumes = Recorder(), _random(2, 2, 4, 6, 5)
    predicted = PlanarInferer(slices_per_batch)(volumes, network)
    assert all(len(shape) == 4 and shape[0] <= slices_per_batch and shape[1:] == (2, 4, 6) for shape in network.shapes)
    assert sum(shape[0] for shape in network.shapes) == 2 * 5
    torch.testing.assert_close(predicted, torch.stack([network(volumes[..., z]) for z in range(5)], dim=-1))


@torch.no_grad()
def test_a_slice_of_one_value_is_background_and_its_neighbours_are_what_they_were():
    network, volume = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1), nn.InstanceNorm2d(1)), _random(2, 2, 4, 6, 3)
    blank = volume.clone()
    blank[1, 0, ..., 1], blank[1, 1, ..., 1] = -2.1, 0.5  # a constant that differs between channels is one, too
    blank[0, 0, ..., 2] = 7.0  # one constant channel of two is none
    predicted = PlanarInferer()(blank, network)
    assert (predicted[1, ..., 1].sigmoid() == 0).all()
    kept = [(sample, z) for sample in range(2) for z in range(3) if (sample, z) != (1, 1)]
    for sample, z in kept:
        torch.testing.assert_close(predicted[sample, ..., z], network(blank[sample : sample + 1, ..., z])[0])


@torch.no_grad()
def test_of_a_network_that_gives_images_nothing_is_background():
    network, volume = Recorder(), _random(1, 2, 4, 6, 3)
    volume[..., 1] = 0
    predicted = PlanarInferer(logits=False)(volume, network)
    torch.testing.assert_close(predicted, torch.stack([network(volume[..., z]) for z in range(3)], dim=-1))
