# SPDX-License-Identifier: Apache-2.0
"""The U-Net that nnU-Net has planned, as one network among others."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .installed import nnunet
from .plans import NnunetPlans, student_plans

__all__ = ["NnunetNetwork", "head_layers", "head_weights", "hint_projectors", "stage_features", "stage_layers"]


class NnunetNetwork(nn.Module):
    """nnU-Net's own U-Net of some plans, plain or with a residual encoder, and a share of its channels if wanted.

    Its weights have the names that nnU-Net gives them, so checkpoints go both ways. In training it gives the outputs of
    all deep-supervision heads, the finest first; in evaluation the finest alone. The heads run in any case, so
    `FeatureTap` finds what a teacher says at each (:func:`head_layers`).

    F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
    Nature Methods 18, 2021.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        reduction: divisor of the channels of every stage, >= 1.
        convolutions: largest number of convolutions of a stage; None leaves it.

    Raises:
        ImportError: when nnU-Net is not installed.
        ValueError: when a number is too small.
    """

    def __init__(
        self,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        reduction: int = 1,
        convolutions: int | None = None,
    ) -> None:
        super().__init__()
        known = NnunetPlans(student_plans(plans, reduction, convolutions), description)
        architecture = known.architecture
        network = nnunet("utilities.get_network_from_plans").get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            len(description["channel_names"]),
            known.labels.num_segmentation_heads,
            deep_supervision=True,
        )
        self.encoder = network.encoder
        self.decoder = network.decoder
        self._example = (1, len(description["channel_names"]), *known.configuration.patch_size)

    def forward(self, x: Tensor) -> Any:
        """
        Args:
            x: images (B, C, *spatial), as nnU-Net normalises them.

        Returns:
            Logits (B, K, *spatial); in training a list of them, from the finest grid to the coarsest.
        """
        heads = self.heads(x)
        return heads if self.training else heads[0]

    def heads(self, x: Tensor) -> list[Tensor]:
        """
        Args:
            x: images (B, C, *spatial), as nnU-Net normalises them.

        Returns:
            Logits (B, K, *spatial) of every head, from the finest grid to the coarsest.
        """
        return self.decoder(self.encoder(x))

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles in its place: nnU-Net's code has to be traced, in evaluation mode."""
        network = copy.deepcopy(self).eval()
        with warnings.catch_warnings(action="ignore"):  # normalisation asks for its input's size, which is no branch
            return nn.Sequential(torch.jit.trace(network, torch.zeros(self._example)))


def head_layers(plans: Mapping[str, Any], members: Any = None) -> list[str]:
    """Names of the layers that give the heads' logits, the finest first.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        members: of a teacher that is a :class:`~monai_kd.nnunet.NnunetEnsemble`, whose heads are averages; None
            otherwise.
    """
    number = len(stage_features(plans)) - 1
    if members:
        return [f"heads.{place}" for place in range(number)]
    return [f"decoder.seg_layers.{place}" for place in reversed(range(number))]


def head_weights(plans: Mapping[str, Any]) -> list[float]:
    """nnU-Net's weights of the heads: half as much for the next coarser one, nothing for the coarsest; their sum is 1.

    >>> head_weights({"configurations": {"2d": {"architecture": {"arch_kwargs": {"features_per_stage": [8] * 4}}}}})
    [0.6666666666666666, 0.3333333333333333, 0.0]
    """
    weights = [0.5**place for place in range(len(stage_features(plans)) - 1)]
    if len(weights) > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def stage_layers(plans: Mapping[str, Any], members: Any = None) -> list[str]:
    """Names of the encoder's stages, the finest first; of a :class:`~monai_kd.nnunet.NnunetEnsemble`'s first member.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        members: of a teacher that is an ensemble; None otherwise.
    """
    first = "networks.0." if members else ""
    return [f"{first}encoder.stages.{place}" for place in range(len(stage_features(plans)))]


def hint_projectors(plans: Mapping[str, Any], reduction: int, teacher_reduction: int = 1) -> list[nn.Module]:
    """For every stage of the encoder the 1 x 1 convolution from a student's channels to a teacher's.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        reduction: the student's.
        teacher_reduction: the teacher's.
    """
    (configuration,) = plans["configurations"].values()
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(configuration["patch_size"]) - 1]
    both = zip(stage_features(plans, reduction), stage_features(plans, teacher_reduction))
    return [convolution(own, wanted, kernel_size=1) for own, wanted in both]


def stage_features(plans: Mapping[str, Any], reduction: int = 1) -> list[int]:
    """Number of channels of every stage of the encoder, divided by ``reduction``."""
    (configuration,) = student_plans({"plans_name": "", **plans}, reduction)["configurations"].values()
    features: Sequence[int] = configuration["architecture"]["arch_kwargs"]["features_per_stage"]
    return list(features)
