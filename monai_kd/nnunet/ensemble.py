# SPDX-License-Identifier: Apache-2.0
"""Several folds of nnU-Net as one teacher."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from monai_kd.engines.provenance import patients_of
from monai_kd.networks.ensemble_network import EnsembleNetwork

from .cases import nnunet_datalist
from .network import NnunetNetwork, head_layers
from .settling import settle

__all__ = ["NnunetEnsemble", "nnunet_teacher", "take_members"]


class NnunetEnsemble(EnsembleNetwork):
    """Average the logits of several folds' networks at every head, as ``nnUNetv2_predict`` does at the finest.

    Args:
        plans: of all of them, as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        reduction: divisor of the channels of every stage, >= 1.
        members: of each fold, by its name, the patients whom it was trained on.
        out_of_fold: only folds that were not trained on a patient answer for this one, where :meth:`forward` is told
            who they are; else all of them do, as is right for a patient that no fold was trained on.
    """

    def __init__(
        self,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        reduction: int,
        members: Mapping[str, Sequence[str]],
        out_of_fold: bool = False,
    ) -> None:
        super().__init__(
            [NnunetNetwork(plans, description, reduction) for _ in members],
            trained_on=list(members.values()),
            out_of_fold=out_of_fold,
            names=[f"fold {name}" for name in members],
        )
        self.heads = nn.ModuleList(nn.Identity() for _ in head_layers(plans))  # where a feature tap finds the averages

    @property
    def tapped(self) -> nn.Module:
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """
        Args:
            inputs: images (B, C, *spatial), as nnU-Net normalises them; behind them what :meth:`members_for` gives,
                where only some answer.

        Returns:
            As :class:`~monai_kd.nnunet.NnunetNetwork` gives them.
        """
        image, *members = inputs
        means = self.combined(lambda network, own: network.heads(*own), [image], *members)  # type: ignore[operator]
        heads = [layer(mean) for layer, mean in zip(self.heads, means)]
        return heads if self.training else heads[0]


def nnunet_teacher(
    plans: Mapping[str, Any],
    description: Mapping[str, Any],
    reduction: int = 1,
    members: Mapping[str, Sequence[str]] | None = None,
    out_of_fold: bool = False,
) -> nn.Module:
    """A teacher of some plans: one network, or an ensemble where there are members.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        reduction: divisor of the channels of every stage, >= 1.
        members: as :class:`NnunetEnsemble` takes it, and so the other; None for one network.
        out_of_fold: as there.
    """
    if members is None:
        return NnunetNetwork(plans, description, reduction)
    return NnunetEnsemble(plans, description, reduction, members, out_of_fold)


def take_members(
    teacher_fold: int | str | Sequence[int | str],
    fold: int | str,
    dataset_dir: str | os.PathLike,
    preprocessed_dir: str | os.PathLike | None,
    teacher_folder: str | os.PathLike | None = None,
    out_of_fold: bool = False,
    hint_weight: float = 0,
) -> None:
    """Where several folds are to teach, put those that may, and whom each was trained on, into the running
    configuration, as the id ``teacher_members``.

    A fold that was trained on who tests here is left out, and said so; and one that was trained on who validates,
    unless only those answer for a patient that were not trained on this one. Of nnU-Net's own five folds that leaves
    fold k to teach fold k's student, and all of them to teach on ``fold=all`` with labelled ``imagesTs``.

    Args:
        teacher_fold: one fold, of which nothing is done here, or a list of them.
        fold: the student's.
        dataset_dir: the raw data set.
        preprocessed_dir: nnU-Net's folder of preprocessed data, with the split file.
        teacher_folder: nnU-Net's trained folder, which has the folds.
        out_of_fold: only folds that were not trained on a patient answer for this one.
        hint_weight: weight of the term that looks at the teacher's encoder.

    Raises:
        ValueError: when no fold may teach, or what is wanted does not go together.
    """
    if not isinstance(teacher_fold, (list, tuple)):
        if out_of_fold:
            raise ValueError(f"out_of_fold needs several folds that teach, got teacher_fold={teacher_fold}: list them")
        return
    if teacher_folder is None:
        raise ValueError("several folds teach from nnU-Net's trained folder only: give teacher_folder=FOLDER")
    if not teacher_fold or len(set(teacher_fold)) < len(teacher_fold):
        raise ValueError(f"teacher_fold must be a fold, or a list of folds that differ, got {list(teacher_fold)}")
    if out_of_fold and hint_weight:
        raise ValueError(
            "out_of_fold has no encoder to look at, which would be one fold's, of patients whom it has seen: set "
            "hint_weight=0"
        )
    splits = nnunet_datalist(dataset_dir, preprocessed_dir, fold)
    if not splits["training"]:
        return  # which is said where the data are needed
    held_out = patients_of(item for side in ("test", "validation")[: 2 - out_of_fold] for item in splits[side])
    members: dict[str, list[str]] = {}
    for own in teacher_fold:
        trained_on = patients_of(nnunet_datalist(dataset_dir, preprocessed_dir, own)["training"])
        seen = sorted(trained_on & held_out)
        if not seen:
            members[str(own)] = sorted(trained_on)
            continue
        logging.getLogger("monai_kd").warning(
            f"fold {own} does not teach: it was trained on {', '.join(seen[:3])}{' ...' if len(seen) > 3 else ''}, who "
            "validate or test here"
        )
    if not members:
        raise ValueError(
            f"none of the folds {list(teacher_fold)} may teach fold {fold}: each was trained on who validates or tests "
            "here; name that fold itself, or give fold=all and labels for imagesTs"
        )
    settle(teacher_members=members)
