# SPDX-License-Identifier: Apache-2.0
"""Vision transformer with a head for findings and a head for the whole image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .timm_models import create_timm_model
from .torchvision_operators import import_timm

__all__ = ["MultiTaskViT"]

_VARIANTS = {size: f"vit_{size}_patch16_224" for size in ("tiny", "small", "base")}
_PLAIN_TRANSFORMERS = {f"timm.models.{name}" for name in ("deit", "vision_transformer", "vision_transformer_hybrid")}


class MultiTaskViT(nn.Module):
    """Predict an X-ray's findings, and whether it is abnormal, by one vision transformer with two linear heads.

    Y. Akhter, R. Ranjan, R. Singh, M. Vatsa, "Low-Resolution Chest X-ray Classification via Knowledge Distillation and
    Multi-Task Learning", 2024: the network of teacher and student. Its two outputs come as one tensor, so that whatever
    takes a prediction takes this one. The paper's three variants, and their parameters for 22 findings:

    ==========================  ==========
    ``vit_tiny_patch16_224``     5,528,855
    ``vit_small_patch16_224``   21,674,519
    ``vit_base_patch16_224``    85,816,343
    ==========================  ==========

    The transformer is ``backbone``, the heads are ``findings_head`` and ``abnormal_head``. ``block_layers`` lists the
    names of the encoder blocks, ``backbone.blocks.0`` and so on, whose outputs are (B, tokens, width).

    Args:
        variant: name of a plain vision transformer of timm, or ``"tiny"``, ``"small"`` or ``"base"`` for one of these.
        num_findings: number of findings F, >= 1.
        in_channels: channels of the image; pretrained networks expect 3, a grey image is repeated.
        image_size: pixels along a side.
        pretrained: load timm's weights of the transformer, see :func:`.create_timm_model`.
        vit_kwargs: further arguments of the transformer, for instance ``{"patch_size": 8, "depth": 4}``.

    Raises:
        ValueError: when timm has no such network, or it is no plain vision transformer, or there are no findings.
        OSError: when pretrained weights cannot be had.

    >>> network = MultiTaskViT("vit_tiny_patch16_224", 2, image_size=32, vit_kwargs={"depth": 1})
    >>> network(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3])
    """

    def __init__(
        self,
        variant: str = "vit_tiny_patch16_224",
        num_findings: int = 22,
        in_channels: int = 3,
        image_size: int = 224,
        pretrained: bool | str = False,
        vit_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if num_findings < 1:
            raise ValueError(f"num_findings must be 1 or more, got {num_findings}")
        variant = _VARIANTS.get(variant, variant)
        # Asked before it is built, because most other networks do not know `img_size`.
        models = import_timm().models
        if models.is_model(variant) and models.model_entrypoint(variant).__module__ not in _PLAIN_TRANSFORMERS:
            raise ValueError(f"{variant!r} is no plain vision transformer; take one such as 'vit_tiny_patch16_224'")
        kwargs = {"num_classes": 0, "in_chans": in_channels, "img_size": image_size, **(vit_kwargs or {})}
        backbone: Any = create_timm_model(variant, pretrained, **kwargs)
        self.backbone = backbone
        self.findings_head = nn.Linear(backbone.num_features, num_findings)
        self.abnormal_head = nn.Linear(backbone.num_features, 1)
        self.block_layers = [f"backbone.blocks.{index}" for index in range(len(backbone.blocks))]

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, image_size, image_size)``.

        Returns:
            Logits ``(B, F + 1)``: the findings, then ``abnormal``.
        """
        features = self.backbone(x)
        return torch.cat([self.findings_head(features), self.abnormal_head(features)], dim=1)
