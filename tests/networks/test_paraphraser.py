# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_kd.networks import Paraphraser


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_factors_have_their_channels_on_the_same_grid(spatial_dims: int) -> None:
    features = torch.rand(2, 6, *(5, 4, 3)[:spatial_dims])
    assert Paraphraser(6, 3, spatial_dims)(features).shape == (2, 3, *features.shape[2:])


def test_no_gradient_of_the_factors_reaches_the_paraphraser() -> None:
    paraphraser, translated = Paraphraser(4, 2), torch.rand(1, 2, 5, 5, requires_grad=True)
    for parameter in paraphraser.parameters():
        assert not parameter.requires_grad
        parameter.requires_grad_(True)
    (translated - paraphraser(torch.rand(1, 4, 5, 5))).square().sum().backward()
    assert all(parameter.grad is None for parameter in paraphraser.parameters()) and translated.grad is not None


def test_the_autoencoder_learns_its_maps() -> None:
    torch.manual_seed(0)
    paraphraser, features = Paraphraser(4, 2).requires_grad_(True), torch.rand(2, 1, 6, 6).expand(2, 4, 6, 6)
    optimiser = torch.optim.Adam(paraphraser.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = paraphraser.reconstruction_loss(features)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    again = paraphraser.decoder(paraphraser.encoder(features))
    assert paraphraser.reconstruction_loss(features).item() == pytest.approx(((again - features) ** 2).mean().item())


def test_channels_are_checked() -> None:
    with pytest.raises(ValueError, match="channels of 1 or more, got 4 and 0"):
        Paraphraser(4, 0)
