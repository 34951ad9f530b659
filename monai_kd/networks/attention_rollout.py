# SPDX-License-Identifier: Apache-2.0
"""What a vision transformer attends to, from the image to its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .feature_tap import FeatureTap

__all__ = ["AttentionRollout"]


class AttentionRollout:
    """Compute how much of each patch of an image flows into the token that a vision transformer predicts from.

    ``R = A_N ... A_2 A_1`` with ``A_i = (mean over heads of block i's attention + I) / 2``: the identity stands for the
    residual connection. The map is R's row of the class token over the patches or, in a transformer without one, the
    mean row. It is the same for every finding. ``explainer(image, network)`` is what
    :class:`~monai_kd.engines.BatchInference` calls.

    S. Abnar, W. Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020. Rows of A_i sum to 1 as they are.

    Args:
        teacher: a second network, whose map is given beside the first one's.
        backbone: name of the transformer within the networks, a `VisionTransformer` of timm.
    """

    def __init__(self, teacher: nn.Module | None = None, backbone: str = "backbone") -> None:
        self.teacher = teacher
        self.backbone = backbone

    def __call__(self, image: Tensor, network: nn.Module, teacher_image: Tensor | None = None) -> Tensor:
        """
        Args:
            image: (1, C, X, Y).
            network: what sees it. Its attention is computed openly from now on, which is slower.
            teacher_image: what the teacher sees, where there is one; by default the same image.

        Returns:
            (1, 1 or 2, X / patch size, Y / patch size): the network's map, then the teacher's. Each sums to 1 at most.

        Raises:
            ValueError: when a block of a transformer has not one attention, as those with parallel ones.
        """
        pairs: list[tuple[nn.Module, Tensor]] = [(network, image)]
        if self.teacher is not None:
            teacher = self.teacher.to(image.device).eval()
            pairs.append((teacher, image if teacher_image is None else teacher_image))
        return torch.cat([self._rollout(*pair) for pair in pairs], dim=1)

    @torch.no_grad()
    def _rollout(self, network: nn.Module, image: Tensor) -> Tensor:
        transformer: Any = network.get_submodule(self.backbone)
        if not all(hasattr(block, "attn") for block in transformer.blocks):
            kind = type(transformer.blocks[0]).__name__
            raise ValueError(f"roll-out is of blocks with one attention each, not of {kind}: do without the overlay")
        for block in transformer.blocks:
            block.attn.fused_attn = False  # the fused kernel keeps its weights to itself
        layers = [f"{self.backbone}.blocks.{index}.attn.attn_drop" for index in range(len(transformer.blocks))]
        tap = FeatureTap(network, layers)
        network(image)
        attentions = tap.pop().values()
        tap.remove()
        flow = _multiply([attention.float().mean(dim=1) for attention in attentions])
        prefix = transformer.num_prefix_tokens
        row = flow[:, 0] if transformer.has_class_token else flow.mean(dim=1)
        return row[:, prefix:].reshape(1, 1, *transformer.patch_embed.grid_size)


def _multiply(attentions: Sequence[Tensor]) -> Tensor:
    """The product (B, tokens, tokens) of the blocks' attention with their residual connections, last block first."""
    flow = identity = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    for attention in attentions:
        flow = (attention + identity) / 2 @ flow
    return flow
