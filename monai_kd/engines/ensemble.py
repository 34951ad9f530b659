# SPDX-License-Identifier: Apache-2.0
"""A teacher that is made of several trained ones."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from monai_kd.networks.ensemble_network import EnsembleNetwork

from .provenance import TRAINED_ON
from .run_config import read_run_config
from .weights import load_weights

__all__ = ["ensemble", "trained_network"]


def ensemble(
    members: Sequence[str | os.PathLike | nn.Module],
    average: str = "logits",
    features_from: int = 0,
    out_of_fold: bool = False,
    default: nn.Module | None = None,
) -> EnsembleNetwork:
    """Several trained networks as one teacher.

    Args:
        members: checkpoints of runs (``RUN/teacher.pt``, or a student), each of which is read with the network that the
            configuration beside it describes, which is code; or networks that come with their weights.
        average: as :class:`~monai_kd.networks.EnsembleNetwork` takes it, and so the others.
        features_from: as there.
        out_of_fold: as there; by the patients in the configuration beside each checkpoint.
        default: the network of a checkpoint that has no configuration beside it.

    Raises:
        FileNotFoundError: when a checkpoint is not there.
        ValueError: when one cannot be read, or has no configuration and there is no ``default``, or when two know other
            classes, or the same ones in another order.
    """
    _check_classes([member for member in members if not isinstance(member, nn.Module)])
    networks: list[nn.Module] = []
    trained_on: list[list[str] | None] = []
    names: list[str] = []
    for number, member in enumerate(members):
        if isinstance(member, nn.Module):
            networks.append(member)
            trained_on.append(None)
            names.append(f"member {number}, {type(member).__name__}")
            continue
        patients = read_run_config(Path(member)).get(TRAINED_ON, {}).get("patients")
        networks.append(trained_network(member, default))
        trained_on.append(patients)
        names.append(str(member))
    return EnsembleNetwork(networks, average, features_from, trained_on, out_of_fold, names)


def _check_classes(checkpoints: Sequence[str | os.PathLike]) -> None:
    """Refuse members whose answers mean other things channel by channel, as far as their configurations tell."""
    known: dict[str, tuple[Any, str | os.PathLike]] = {}
    for checkpoint in checkpoints:
        config = read_run_config(Path(checkpoint))
        own: dict[str, Any] = {key: config[key] for key in ("class_names", "findings") if key in config}
        if labels := (config.get("description") or {}).get("labels"):
            own["labels"] = labels
        for key, value in own.items():
            first, file = known.setdefault(key, (value, checkpoint))
            if first != value:
                raise ValueError(
                    f"{checkpoint}: its {key} are {value}, and those of {file} {first}: an ensemble averages channel "
                    "by channel, so all members need the same ones in one order"
                )


def trained_network(checkpoint: str | os.PathLike, default: nn.Module | None = None) -> nn.Module:
    """The network of a checkpoint, as the configuration beside it describes it, with its weights.

    Args:
        checkpoint: of a run: a teacher's where its stage was that of the teacher.
        default: the network where there is no configuration.

    Raises:
        FileNotFoundError: when there is no such checkpoint.
        ValueError: when it cannot be read, or nothing says which network it is of.
    """
    config: dict[str, Any] = read_run_config(Path(checkpoint))
    key = "teacher_def" if Path(checkpoint).name == "teacher.pt" else "network_def"
    if key in config:
        network = ConfigParser(config).get_parsed_content(key)
    elif default is not None:
        network = copy.deepcopy(default)
    else:
        raise ValueError(
            f"{checkpoint}: nothing beside it says which network it is of ({Path(checkpoint).stem}.json): give the "
            "network as `default`"
        )
    load_weights(network, checkpoint)
    return network
