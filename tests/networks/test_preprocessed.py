# SPDX-License-Identifier: Apache-2.0
"""A network behind transforms of its own images."""

import torch
from monai.transforms import NormalizeIntensity
from torch import nn

from monai_kd.networks import FeatureTap, preprocessed


class _Sum(nn.Module):
    def forward(self, image, other):
        return image + other


def test_each_image_is_transformed_by_itself_and_what_else_comes_is_left():
    network = preprocessed(_Sum(), [NormalizeIntensity()])
    images = torch.rand(3, 1, 8, 8) * torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]
    found = network(images, torch.ones(3, 1, 8, 8)) - 1
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((1, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_layers_and_weights_keep_their_names():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    names = list(network.state_dict())
    made = preprocessed(network, [lambda image: 0 * image])
    assert made is network and list(made.state_dict()) == names
    tap = FeatureTap(made, ["0"])
    made(torch.rand(1, 1, 4, 4))
    torch.testing.assert_close(tap.pop()["0"][0, :, 0, 0], network[0].bias)


def test_without_transforms_nothing_changes():
    network = nn.Identity()
    for none in (None, []):
        torch.testing.assert_close(preprocessed(network, none)(torch.ones(1, 1, 2)), torch.ones(1, 1, 2))
