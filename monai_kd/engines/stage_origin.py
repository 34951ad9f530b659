# SPDX-License-Identifier: Apache-2.0
"""What the checkpoint of a stage is made by, and of whom it has learned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from monai_kd.handlers.distillation import DistillationHandler
from monai_kd.locations import running_parser
from monai_kd.networks.ensemble_network import EnsembleNetwork

from .model_card import generation_of
from .provenance import (
    TRAINED_ON,
    Datalist,
    check_data,
    check_patients,
    check_same_settings,
    differing_settings,
    learned_from,
    made_by,
    patients_behind,
    patients_of,
    sign,
)
from .run_config import read_run_config, write_run_config

__all__ = ["StageOrigin"]


class StageOrigin:
    """Hold what a stage uses to where it comes from, and keep where its own checkpoint does.

    Args:
        checkpoint: path of the stage's checkpoint; its configuration is kept beside it.
        data_ids: ids of the configuration that decide what is learned from which data.
        datalist: the items by side.
        distils: whether it is a distillation: only this has a teacher, a loss with a state, and images without labels.
    """

    def __init__(self, checkpoint: Path, data_ids: Sequence[str], datalist: Datalist | None, distils: bool) -> None:
        self.checkpoint = checkpoint
        self.data_ids = tuple(data_ids)
        self.datalist = datalist or {}
        self.distils = distils
        self._made_by: dict[str, str] = {}

    def check_data(self, config: Mapping[str, Any]) -> None:
        """Refuse to use again, or to go on with, what was trained on other data than a configuration's."""
        check_data(self.checkpoint, config, self.data_ids, self.datalist)

    def check_patients(self, files: Iterable[Path]) -> None:
        """Refuse weights to start with that have learned of who validates or tests here."""
        for file in files:
            check_patients(file, self.datalist)

    def check_same_settings(self, begun: Path, config: Mapping[str, Any]) -> None:
        """Refuse to go on from ``begun`` with other settings, or another teacher, than it was begun with."""
        check_same_settings(begun, self.checkpoint, config, self._makers(config))

    def other_settings(self, stage: object, config: Mapping[str, Any]) -> str:
        """What is to be said of a checkpoint that is used though ``config`` would make another, if it would.

        Args:
            stage: what the running configuration calls the stage is found by it.
            config: that configuration.
        """
        own = [name for name, value in running_parser().ref_resolver.resolved_content.items() if value is stage]
        differing = differing_settings(read_run_config(self.checkpoint), config, own)
        if not differing:
            return ""
        names = f"{', '.join(differing[:5])}{' ...' if len(differing) > 5 else ''}"
        return (
            f"with other settings than these ({names}): it is used as it is, and what made it stands in "
            f"{self.checkpoint.with_suffix('.json').name} beside it"
        )

    def begin(self, config: Mapping[str, Any], handlers: Iterable[Any], files: Iterable[Path]) -> None:
        """Keep what makes the checkpoint from now on; what is signed later names it.

        Args:
            config: the running configuration.
            handlers: the trainer's, of which a teacher hands on what it knows of its patients.
            files: the weights that it starts with or goes on from, perhaps with fewer patients than before.
        """
        self._made_by = self._makers(config)
        patients = patients_of(learned_from(self.datalist, self.distils))
        for file in files:
            patients |= patients_behind(file) or set()
        for handler in handlers:
            network = handler.teacher.network if isinstance(handler, DistillationHandler) else None
            if isinstance(network, EnsembleNetwork):
                patients |= network.patients
        self.keep(config, patients)

    def keep(self, config: Mapping[str, Any], patients: Collection[str]) -> None:
        """Write the configuration beside the checkpoint, and what of its data may lie nowhere when somebody asks."""
        made = generation_of(self.datalist.get("training", ()))
        trained_on = {"patients": sorted(patients), **({} if made is None else {"generated": made})}
        write_run_config(self.checkpoint, {**config, TRAINED_ON: trained_on})

    def signed(self, module: nn.Module) -> dict[str, Any]:
        """The weights of a module, with what makes them where that is known."""
        weights = module.state_dict()
        if self._made_by:
            sign(weights, self._made_by)
        return weights

    def _makers(self, config: Mapping[str, Any]) -> dict[str, str]:
        has_teacher = self.distils and "teacher_checkpoint" in config
        return made_by(config, running_parser().get_parsed_content("teacher_checkpoint") if has_teacher else None)
