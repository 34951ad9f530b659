# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_kd.networks import EncoderUNet, FeatureTap, create_timm_model

SMALL = {"stages": 3, "decoder_channels": (16, 8, 8), "separable": True}


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_the_prediction_has_the_images_size(encoder: str, size: tuple[int, int]) -> None:
    network = EncoderUNet(encoder, in_channels=2, out_channels=3, **SMALL)
    assert network(image(2, 2, *size)).shape == (2, 3, *size)


def test_stages_that_are_not_used_are_not_built() -> None:
    network = EncoderUNet(**SMALL)
    assert sum(p.numel() for p in network.encoder.parameters()) == 54_928  # a grey image: 2 x 9 x 32 weights less
    assert network.encoder.feature_info.reduction() == [2, 4, 8]


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18"])
def test_torchscript_gives_the_same(encoder: str) -> None:
    network = EncoderUNet(encoder, **SMALL).eval()
    scripted = torch.jit.script(network)
    for size in (32, 40):
        torch.testing.assert_close(scripted(image(1, 1, size, 32)), network(image(1, 1, size, 32)))


def test_every_parameter_learns_and_every_named_layer_can_be_tapped() -> None:
    network = EncoderUNet(context_channels=4, **SMALL)
    layers = ["encoder.blocks.2", "context", "decoder.0", "decoder.1", "decoder.2"]
    tap = FeatureTap(network, layers)
    network(image(2, 1, 32, 32)).square().mean().backward()
    shapes = [tuple(feature.shape[1:]) for feature in tap.pop().values()]
    assert shapes == [(40, 4, 4), (40, 4, 4), (16, 8, 8), (8, 16, 16), (8, 32, 32)]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_pretrained_weights_come_from_a_local_file(tmp_path) -> None:
    torch.manual_seed(0)
    trained = create_timm_model("tf_efficientnet_lite0", num_classes=2)
    file = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), file)
    network = EncoderUNet(in_channels=3, pretrained=str(file), **SMALL)
    own = dict(trained.named_parameters())
    for name, parameter in network.encoder.named_parameters():
        assert torch.equal(parameter, own[name]), name


def test_channels_and_stages_must_agree() -> None:
    with pytest.raises(ValueError, match=r"expected 5 decoder_channels, one per stage, got \[8\]"):
        EncoderUNet(decoder_channels=(8,))
