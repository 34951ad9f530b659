# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from monai_kd.networks import create_timm_model
from monai_kd.networks.timm_models import input_size

TINY = {"img_size": 32, "depth": 1}


def tiny_vit(**kwargs: object) -> nn.Module:
    return create_timm_model("vit_tiny_patch16_224", **{**TINY, **kwargs})


def test_arguments_reach_timm() -> None:
    network = tiny_vit(num_classes=3, in_chans=2)
    assert network(torch.zeros(2, 2, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["vit_bse_patch16_224", "vit_bse_patch16_224.augreg_in21k"])
def test_unknown_name_gets_the_closest_names(name: str) -> None:
    with pytest.raises(ValueError, match=f"no network '{name}'; closest names: .*vit_base_patch16_224"):
        create_timm_model(name)


def test_name_like_no_other_is_refused_too() -> None:
    with pytest.raises(ValueError, match="closest names: none"):
        create_timm_model("????")


def test_weights_that_cannot_be_fetched_name_the_offline_choices(monkeypatch, tmp_path: Path) -> None:
    tiny_vit()  # the import of timm imports the client, whose switch is read from the environment only once
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = r"weights of 'vit_tiny_patch16_224' could not .*pretrained=False.*pretrained=PATH"
    with pytest.raises(OSError, match=message):
        tiny_vit(pretrained=True, cache_dir=tmp_path)


def test_local_weights_are_loaded_and_fitted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = tiny_vit(num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth")}
    network = tiny_vit(pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3, in_chans=1)
    torch.testing.assert_close(network.blocks[0].mlp.fc1.weight, source.blocks[0].mlp.fc1.weight, rtol=0, atol=0)
    # A grey image repeated to three channels and this network's single channel must give the same patches.
    torch.testing.assert_close(network.patch_embed.proj.weight, source.patch_embed.proj.weight.sum(1, keepdim=True))
    assert network.head.out_features == 3


def test_missing_local_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="weights of 'vit_tiny_patch16_224' could not be fetched or read"):
        tiny_vit(pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "none.pth")})


def test_input_size_is_what_the_network_was_built_for() -> None:
    assert input_size(tiny_vit(img_size=(32, 48))) == (32, 48)
    assert input_size(tiny_vit(img_size=64)) == (64, 64)


def test_input_size_of_a_network_without_one_is_its_weights() -> None:
    assert input_size(create_timm_model("resnet10t")) == (176, 176)


def spread(network: nn.Module) -> float:
    """Standard deviation of the last layer's weights, 0.58 where PyTorch draws them for as many inputs."""
    return float(network.classifier.weight.detach().std() * network.classifier.in_features**0.5)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_a_last_layer_for_few_classes_begins_with_small_weights(name: str, tmp_path: Path) -> None:
    assert spread(create_timm_model(name, num_classes=3)) == pytest.approx(3**-0.5, rel=0.1)
    source = create_timm_model(name)
    source.classifier.reset_parameters()
    source.classifier.weight.data *= 10
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    path = str(tmp_path / "weights.pth")
    assert spread(create_timm_model(name, path, num_classes=3)) == pytest.approx(3**-0.5, rel=0.1)
    assert spread(create_timm_model(name, path)) == pytest.approx(10 * 3**-0.5, rel=0.1)  # trained, and kept
