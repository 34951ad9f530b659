# SPDX-License-Identifier: Apache-2.0
"""The stage of a teacher that nnU-Net has trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from monai_kd.engines import Stage, running_config
from monai_kd.engines.provenance import patients_of
from monai_kd.engines.weights import write_checkpoint
from monai_kd.process_group import wait_for_all

from .cases import nnunet_datalist
from .trained import TrainedFolder, read_nnunet_checkpoint

__all__ = ["NnunetTeacherStage"]


class NnunetTeacherStage(Stage):
    """A teacher's stage that takes the weights of a trained folder of nnU-Net, where one is named; else it trains.

    What it takes is written as any teacher of a run: weights, and beside them the configuration with the patients that
    the fold was trained on. So those who validate or test a student may not be among them.

    Args:
        folder: nnU-Net's trained folder; None trains.
        fold: which of its folds, by nnU-Net's number, or ``all``; several as ``members``.
        dataset_dir: the raw data set, which the folds are of.
        preprocessed_dir: nnU-Net's folder of preprocessed data, with the split file.
        members: where several folds teach (:class:`~monai_kd.nnunet.NnunetEnsemble`), of each the patients whom it
            was trained on.
        arguments: those of :class:`~monai_kd.engines.Stage`.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None = None,
        fold: int | str | Sequence[int | str] = 0,
        dataset_dir: str | os.PathLike = ".",
        preprocessed_dir: str | os.PathLike | None = None,
        members: Mapping[str, Sequence[str]] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.folder = folder
        self.fold = fold
        self.dataset_dir = dataset_dir
        self.preprocessed_dir = preprocessed_dir
        self.members = members

    def run(self) -> None:
        """Take the weights, or train, unless that was done before.

        Raises:
            FileNotFoundError: when the fold was not completed.
            ValueError: when its checkpoint is not of these plans, or it was trained on who is to validate or test.
        """
        if self.folder is not None:
            is_trained = self.is_trained
            wait_for_all()  # all have looked before the first one writes, and it has written before any looks again
            if not is_trained:
                self._take(TrainedFolder(self.folder))
            wait_for_all()
        super().run()

    def _take(self, trained: TrainedFolder) -> None:
        networks = [self._network] if self.members is None else self._network.networks
        folds = [self.fold] if self.members is None else list(self.members)
        for fold, network in zip(folds, networks):  # type: ignore[arg-type]
            self._load(network, trained.checkpoint(fold))  # type: ignore[arg-type]
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        config = running_config() or {}
        if self._writes:
            self._origin.keep(config, self._seen())
            self._origin.check_data(config)
            write_checkpoint(self.checkpoint, {"model": self._network.state_dict()})
            self.logger.info(f"{self.name}: {trained.path}, fold {', '.join(map(str, folds))}")

    def _seen(self) -> set[str]:
        """Who the teacher was trained on."""
        if self.members is None:
            fold: Any = self.fold
            return patients_of(nnunet_datalist(self.dataset_dir, self.preprocessed_dir, fold)["training"])
        ensemble: Any = self._network
        return set(ensemble.patients)

    @staticmethod
    def _load(network: nn.Module, file: Path) -> None:
        weights = read_nnunet_checkpoint(file)["network_weights"]
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{file}: these weights belong to other plans than those beside them: {error}") from error
