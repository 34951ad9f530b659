# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's way to train by some plans: its augmentation and its loss, without its trainer's folders and loops."""

from __future__ import annotations

from typing import Any

import torch

from .installed import nnunet, quietly
from .plans import MIRROR_AXES, NnunetPlans

__all__ = ["NnunetRecipe"]


class NnunetRecipe:
    """What nnU-Net's standard trainer decides by the plans.

    The trainer makes folders, log files and data loaders of its own as soon as it is made, and finds all of them by
    environment variables. So only its methods are asked, of one that is not initialised.

    Args:
        plans: the managers of the plans.
    """

    def __init__(self, plans: NnunetPlans) -> None:
        trainer: Any = object.__new__(nnunet("training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer)
        trainer.plans_manager, trainer.configuration_manager = plans.manager, plans.configuration
        trainer.label_manager, trainer.dataset_json = plans.labels, plans.description
        trainer.is_ddp, trainer.is_cascaded, trainer.enable_deep_supervision = False, False, True
        trainer.device = torch.device("cpu")  # on which nothing is compiled
        trainer.print_to_log_file = lambda *args, **kwargs: None
        self._trainer = trainer
        self._plans = plans
        with quietly():
            way = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self._rotation, self._flat, self.initial_patch_size, axes = way
        self.mirror_axes = plans.manager.plans.get(MIRROR_AXES, axes)
        """Axes along which an image is as likely mirrored; None or empty: none of them."""

    @property
    def patch_size(self) -> list[int]:
        """Voxels of what the network sees, in nnU-Net's order of the axes."""
        return list(self._plans.configuration.patch_size)

    def loss(self) -> torch.nn.Module:
        """Dice and cross-entropy over all heads: of lists of logits and labels, the finest first."""
        return self._trainer._build_loss()

    def augmentation(self) -> Any:
        """From ``image`` and ``segmentation`` of the initial patch size to those of a patch, with a label by head."""
        labels = self._plans.labels
        return self._trainer.get_training_transforms(
            self.patch_size,
            self._rotation,
            self._trainer._get_deep_supervision_scales(),
            self.mirror_axes,
            self._flat,
            use_mask_for_norm=self._plans.configuration.use_mask_for_norm,
            is_cascaded=False,
            foreground_labels=labels.foreground_labels,
            regions=labels.foreground_regions if labels.has_regions else None,
            ignore_label=labels.ignore_label,
        )

    def no_augmentation(self) -> Any:
        """The same without anything random, as nnU-Net validates."""
        labels = self._plans.labels
        return self._trainer.get_validation_transforms(
            self._trainer._get_deep_supervision_scales(),
            is_cascaded=False,
            foreground_labels=labels.foreground_labels,
            regions=labels.foreground_regions if labels.has_regions else None,
            ignore_label=labels.ignore_label,
        )
