# SPDX-License-Identifier: Apache-2.0
"""Classifier of several networks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from monai.utils import ensure_tuple
from torch import Tensor, nn
from torch.nn import functional as F

from .timm_models import create_timm_model, input_size, rescaled, rescaling

__all__ = ["HybridClassifier"]


class HybridClassifier(nn.Module):
    """Classify an image by several networks and a linear layer over all their logits, the CAKD classification teacher.

    ``W [f_1(x), ..., f_n(x)] + b``: each branch gives C logits, the linear layer maps the n C of them to C.

    M. S. I. Khan, M. N. Mantaqa, "Cross-Architecture Knowledge Distillation Framework with Multi-scale Geometric
    Feature Fusion in Medical Image Classification and Segmentation", senior design project, North South University,
    2025: section 1 of the method, figure 1. Its three teachers, and their parameters for three classes:

    ========================  ======================================================  ===========
    hybrid                    ``("vgg19", "vit_base_patch16_224")``                   225,383,515
    dual VGG19                ``("vgg19", "vgg19")``                                  279,165,083
    dual ViT-B/16             ``("vit_base_patch16_224", "vit_base_patch16_224")``    171,601,947
    ========================  ======================================================  ===========

    Of these, VGG19 has 139,582,531 and ViT-B/16 85,800,963. The branches are ``branches.0``, ``branches.1`` ..., the
    linear layer is ``classifier``; so VGG19's last convolution, 512 x 14 x 14 for an image of 224 x 224, is
    ``branches.0.features.34``. No activation works in place, so that a layer can be tapped before its activation.

    Args:
        branches: names of two or more timm networks, which may be equal. Equal ones start from different random
            weights; their pretrained weights differ in the last layer alone.
        num_classes: C.
        in_channels: channels of the image; the paper repeats the grey image to 3.
        pretrained: load timm's weights of the branches, see :func:`.create_timm_model`. The image is given in
            ImageNet's scale, and brought to that of each branch's weights (timm's ``pretrained_cfg``), which is another
            for most transformers.
        freeze_backbone: train only the last layer of each branch and ``classifier``. All else gets no gradient and
            stays in evaluation mode, so that batch norm keeps its statistics.
        branch_kwargs: further arguments of each branch, for instance ``[{}, {"img_size": 64, "depth": 4}]``.

    Raises:
        ValueError: when there are fewer than two branches, when there are not as many ``branch_kwargs``, when
            pretrained branches are to see other than 3 channels, or when timm has no network of a name.
        OSError: when pretrained weights cannot be had.

    >>> HybridClassifier(("resnet10t", "resnet10t"))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        branches: Sequence[str] = ("vgg19", "vit_base_patch16_224"),
        num_classes: int = 3,
        in_channels: int = 3,
        pretrained: bool | str = False,
        freeze_backbone: bool = False,
        branch_kwargs: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(branches, str) or len(branches) < 2:
            raise ValueError(f"expected a list of two or more networks, got {branches!r}; one alone needs no hybrid")
        if pretrained and in_channels != 3:
            raise ValueError(f"pretrained branches expect images of 3 channels, got in_channels={in_channels}")
        branch_kwargs = [{}] * len(branches) if branch_kwargs is None else branch_kwargs
        if len(branch_kwargs) != len(branches):
            raise ValueError(f"expected {len(branches)} branch_kwargs, one per branch, got {len(branch_kwargs)}")
        self.branches = nn.ModuleList(
            create_timm_model(name, pretrained, num_classes=num_classes, in_chans=in_channels, **kwargs)
            for name, kwargs in zip(branches, branch_kwargs)
        )
        self.classifier = nn.Linear(len(branches) * num_classes, num_classes)
        # None where the branch takes the image as it is, as all do that learn from random weights.
        self.rescalings = [rescaling(branch) if pretrained else None for branch in self.branches]
        module: Any
        for module in self.branches.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.branches.requires_grad_(False)
            self._heads().requires_grad_(True)
            self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.freeze_backbone:
            self.branches.eval()
            self._heads().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, H, W)``, in ImageNet's scale for pretrained branches. A branch that takes one
                size only, as vision transformers do, sees them resized to it.

        Returns:
            Logits ``(B, num_classes)``.
        """
        logits = [
            branch(rescaled(_resized(x, branch), scale)) for branch, scale in zip(self.branches, self.rescalings)
        ]
        return self.classifier(torch.cat(logits, dim=1))

    def _heads(self) -> nn.ModuleList:
        """The last layer of every branch; distilled transformers have two."""
        branches: Any = self.branches
        return nn.ModuleList(head for branch in branches for head in ensure_tuple(branch.get_classifier()))


def _resized(x: Tensor, branch: Any) -> Tensor:
    if not branch.pretrained_cfg.get("fixed_input_size") or x.shape[-2:] == input_size(branch):
        return x
    return F.interpolate(x, input_size(branch), mode="bilinear", antialias=True)
