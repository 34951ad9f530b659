# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from monai_kd.networks import AttentionRollout, MultiTaskViT


def _network(seed: int, **kwargs) -> MultiTaskViT:
    torch.manual_seed(seed)
    vit_kwargs = {"patch_size": 8, "depth": 3, "embed_dim": 24, "num_heads": 2, **kwargs}
    return MultiTaskViT(num_findings=2, image_size=32, vit_kwargs=vit_kwargs).eval()


def _image(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _by_numpy(network: MultiTaskViT, image: torch.Tensor) -> np.ndarray:
    """The product of the attention matrices, from queries and keys."""
    vit = network.backbone
    tokens = torch.cat([vit.cls_token, vit.patch_embed(image)], dim=1) + vit.pos_embed
    flow = np.eye(17)
    with torch.no_grad():
        for block in vit.blocks:
            q, k, _ = (
                block.attn.qkv(block.norm1(tokens))[0].double().numpy().reshape(17, 3, 2, 12).transpose(1, 2, 0, 3)
            )
            scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(12))
            attention = (scores / scores.sum(-1, keepdims=True)).mean(axis=0)
            flow = (0.5 * attention + 0.5 * np.eye(17)) @ flow
            tokens = block(tokens)
    return flow[0, 1:].reshape(1, 1, 4, 4)


def test_the_map_is_the_class_tokens_row_of_the_product():
    network, image = _network(0), _image()
    expected = _by_numpy(copy.deepcopy(network), image)
    rollout = AttentionRollout()(image, network)
    np.testing.assert_allclose(rollout, expected, rtol=1e-4)
    assert expected.std() > 0 and not rollout.requires_grad


def test_looking_does_not_change_the_prediction():
    network, image = _network(0), _image()
    with torch.no_grad():
        before = network(image)
        AttentionRollout()(image, network)
        torch.testing.assert_close(network(image), before)
    assert not any(module._forward_hooks for module in network.modules())


def test_without_a_class_token_the_mean_row_is_taken():
    network = _network(0, class_token=False, global_pool="avg")
    rollout = AttentionRollout()(_image(), network)
    assert rollout.shape == (1, 1, 4, 4) and rollout.sum().item() == pytest.approx(1)


def test_blocks_of_parallel_attentions_are_refused():
    with torch.device("meta"):
        network = MultiTaskViT("vit_small_patch16_18x2_224", 2, vit_kwargs={"depth": 2})
    with pytest.raises(ValueError, match="blocks with one attention each, not of ParallelThingsBlock: do without"):
        AttentionRollout()(_image(), network)


def test_the_teachers_map_comes_beside_and_from_its_own_image():
    student, teacher = _network(0), _network(1)
    both = AttentionRollout(teacher.train())(_image(0), student, _image(1))
    assert both.shape == (1, 2, 4, 4) and not teacher.training
    torch.testing.assert_close(both[:, :1], AttentionRollout()(_image(0), student))
    torch.testing.assert_close(both[:, 1:], AttentionRollout()(_image(1), teacher))
