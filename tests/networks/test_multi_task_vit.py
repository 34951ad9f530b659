# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_kd.networks import FeatureTap, MultiTaskViT

TINY = {"image_size": 32, "vit_kwargs": {"patch_size": 8, "depth": 3, "embed_dim": 24, "num_heads": 2}}


def _images(number: int, size: int = 32) -> torch.Tensor:
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("number", [1, 2])
def test_findings_come_first_and_abnormal_last_in_one_tensor(number):
    torch.manual_seed(0)
    network = MultiTaskViT(num_findings=5, **TINY).eval()
    logits = network(_images(number))
    assert logits.shape == (number, 6)
    features = network.backbone(_images(number))
    torch.testing.assert_close(logits[:, :5], network.findings_head(features))
    torch.testing.assert_close(logits[:, 5:], network.abnormal_head(features))


@pytest.mark.parametrize("variant, parameters", [("tiny", 5_528_855), ("small", 21_674_519), ("base", 85_816_343)])
def test_the_papers_variants(variant, parameters):
    with torch.device("meta"):
        network, by_size = MultiTaskViT(f"vit_{variant}_patch16_224"), MultiTaskViT(variant)
    assert [p.shape for p in by_size.parameters()] == [p.shape for p in network.parameters()]
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.block_layers) == 12


def test_the_blocks_can_be_tapped_by_their_names():
    torch.manual_seed(0)
    network = MultiTaskViT(num_findings=2, **TINY)
    tap = FeatureTap(network, network.block_layers)
    network(_images(2))
    outputs = list(tap.pop().values())
    assert len(outputs) == 3 and {tuple(output.shape) for output in outputs} == {(2, 17, 24)}
    assert not torch.equal(outputs[0], outputs[1])


def test_every_parameter_learns():
    torch.manual_seed(0)
    network = MultiTaskViT(num_findings=2, **TINY)
    network(_images(2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_it_scripts():
    torch.manual_seed(0)
    network = MultiTaskViT(num_findings=2, **TINY).eval()
    torch.testing.assert_close(torch.jit.script(network)(_images(1)), network(_images(1)))


def test_networks_that_are_no_plain_vision_transformer():
    for variant in ("resnet18", "swin_tiny_patch4_window7_224", "efficientnet_b0"):
        with pytest.raises(ValueError, match="no plain vision transformer; take one such as"):
            MultiTaskViT(variant)
    with pytest.raises(ValueError, match="vit_tiny_patch16_224"):
        MultiTaskViT("vit_tny_patch16_224")
    with pytest.raises(ValueError, match="num_findings must be 1 or more, got 0"):
        MultiTaskViT(num_findings=0)
