# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint comes from: its data, its settings and its teacher, and whether it is so."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import CommonKeys

from monai_kd.id_roles import CACHES, CALL, MACHINE, NOTES, PLACES, PROGRAM, STEPS, TRAINED_ON
from monai_kd.overrides import references

from .run_config import read_run_config
from .weights import read_checkpoint

__all__ = [
    "TRAINED_ON",
    "Datalist",
    "check_data",
    "check_origin",
    "check_patients",
    "check_same_settings",
    "differing_settings",
    "learned_from",
    "made_by",
    "patients_behind",
    "patients_of",
    "seen_patients",
    "sign",
    "value_of_id",
]

Datalist = Mapping[str, Sequence[Mapping[str, Any]]]

_MADE_BY = "made_by"  # in the metadata that PyTorch keeps with a state dictionary

# What decides nothing of what is learned. Hashes in checkpoints are of all else: it must stay as it is.
_NO_INFLUENCE = PLACES | MACHINE | CACHES | CALL | STEPS | PROGRAM | NOTES | {"teacher_checkpoint", "demo_cases"}

# Ids that a data list reads for a distillation alone: what a teacher has learned is the same with them and without.
_OF_A_DISTILLATION = {"unlabelled_dir", "teacher_dir", "teacher_activation"}
_ABSENT = object()


def check_data(
    checkpoint: Path, config: Mapping[str, Any], data_ids: Sequence[str], datalist: Datalist | None = None
) -> None:
    """Refuse a network that was trained on other data: its training patients may be test patients here.

    Args:
        checkpoint: its weights. If no configuration is beside them, as with weights from elsewhere, nothing is known.
        config: the configuration that is to use them.
        data_ids: ids of what must be the same in both.
        datalist: the items that are to be used, by side.

    Raises:
        ValueError: naming the ids that differ, or patients that it was trained on and who are not to train here.
    """
    trained = read_run_config(checkpoint)
    own = json.loads(json.dumps(config, default=str))  # as it is kept: a tuple is a list there
    differing = [key for key in data_ids if trained.get(key) != own.get(key)]
    if differing and trained.keys() & set(data_ids):  # or the file beside it says nothing of a run
        raise ValueError(
            f"{checkpoint} was trained with other settings ({', '.join(differing)}); use the same ones, or train anew "
            "in another run"
        )
    check_patients(checkpoint, datalist)


def check_patients(checkpoint: Path, datalist: Datalist | None) -> None:
    """Refuse weights that have learned of who validates or tests here, whoever is to go on with them.

    Args:
        checkpoint: the weights. If nothing beside them says whom they have learned of, nothing is known.
        datalist: the items that are to be used, by side.

    Raises:
        ValueError: naming these patients.
    """
    others = [item for side in ("validation", "test") for item in (datalist or {}).get(side, ())]
    if seen := seen_patients(checkpoint, others):
        raise ValueError(
            f"{checkpoint} was trained on {', '.join(seen[:3])}{' ...' if len(seen) > 3 else ''}, who validate or test "
            "here: use the data set and the split that it was trained with, or train anew in another run (if these are "
            f"other people by the same names, move {checkpoint.with_suffix('.json').name} away)"
        )


def seen_patients(checkpoint: Path, items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Who of some items' patients a network has learned of, as far as that is kept beside its checkpoint; sorted."""
    return sorted(patients_of(items) & (patients_behind(checkpoint) or set()))


def patients_behind(checkpoint: Path) -> set[str] | None:
    """Whom a network has learned of: by its own items, and by what it began with and was taught by.

    None where nothing is kept beside its checkpoint.
    """
    trained = read_run_config(checkpoint)
    return set(trained[TRAINED_ON].get("patients", ())) if TRAINED_ON in trained else None


def patients_of(items: Iterable[Mapping[str, Any]]) -> set[str]:
    """Who is in some items; an image without a patient is one of its own."""
    return {str(item.get("patient", item.get(CommonKeys.IMAGE))) for item in items}


def learned_from(datalist: Datalist, distils: bool) -> list[Mapping[str, Any]]:
    """The items that a stage learns from: a distillation also from those without labels."""
    return [item for side in ("training", "unlabelled")[: 1 + distils] for item in datalist.get(side, ())]


def made_by(config: Mapping[str, Any], teacher: str | os.PathLike | None = None) -> dict[str, str]:
    """Hashes of what makes a checkpoint: the settings that decide what is learned, and the teacher's file.

    Args:
        config: the running configuration, or the one that is kept beside a checkpoint.
        teacher: the teacher's checkpoint; none for a stage without one.
    """
    text = json.dumps(_deciding(config), sort_keys=True)
    hashes = {"settings": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}
    if teacher is not None and os.path.isfile(teacher):
        with open(teacher, "rb") as file:
            hashes["teacher"] = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return hashes


def sign(weights: Mapping[str, Any], origin: Mapping[str, str]) -> None:
    """Write what made some weights into their metadata, where it travels with them.

    Args:
        weights: what a module's ``state_dict()`` gave.
        origin: what :func:`made_by` gave.
    """
    getattr(weights, "_metadata", {}).setdefault("", {})[_MADE_BY] = dict(origin)


def _origin_of(checkpoint: Path) -> dict[str, str] | None:
    content = read_checkpoint(checkpoint)
    weights = content.get("model") if isinstance(content, Mapping) else None
    return getattr(weights, "_metadata", {}).get("", {}).get(_MADE_BY)


def check_same_settings(begun: Path, checkpoint: Path, config: Mapping[str, Any], own: Mapping[str, str]) -> None:
    """Refuse to go on with other settings, or another teacher, than a stage was begun with.

    Args:
        begun: its checkpoint, or what it left to go on with.
        checkpoint: its checkpoint; the settings that it was begun with are kept beside it.
        config: the settings that it is to go on with.
        own: what :func:`made_by` gives for these.

    Raises:
        ValueError: naming the settings that differ, or the teacher.
    """
    kept = read_run_config(checkpoint)
    before, now = _deciding(kept), _deciding(config)
    differing = sorted(_differences(before, now)) if kept else []
    differing = [name for name in differing if not _say_the_same(name, kept, config)]
    if differing:
        raise ValueError(
            f"{checkpoint} was begun with other settings ({', '.join(differing[:5])}): resume it with the same ones, "
            "start anew by --overwrite, or name another --run"
        )
    wrote = _origin_of(begun) or own
    if wrote.get("teacher") != own.get("teacher"):
        raise ValueError(
            f"{checkpoint} was begun with another teacher: start anew by --overwrite, or name another --run"
        )


def check_origin(checkpoint: Path) -> None:
    """Hold a completed checkpoint to the configuration beside it, and to the teacher of its run.

    Raises:
        ValueError: when the configuration is not the one that made it, or the teacher in its folder is another one.
    """
    wrote, kept = _origin_of(checkpoint), read_run_config(checkpoint)
    if wrote is None or not kept:  # of an earlier version, or from elsewhere
        return
    teacher = checkpoint.with_name("teacher.pt")
    own = made_by(kept, teacher)
    if wrote["settings"] != own["settings"]:
        raise ValueError(
            f"{checkpoint} was not made by the configuration beside it, {checkpoint.with_suffix('.json').name}: train "
            "it anew by --overwrite"
        )
    if "teacher" in wrote and "teacher" in own and wrote["teacher"] != own["teacher"]:
        raise ValueError(
            f"{checkpoint} was distilled from another teacher than {teacher}: train it anew by --overwrite"
        )


def differing_settings(kept: Mapping[str, Any], config: Mapping[str, Any], roots: Iterable[str]) -> list[str]:
    """Ids by which a stage was made otherwise than a configuration would make it: of its network, training and data.

    What both reach from the stage, by references; those that only one has by other words of the one that refers to it.

    Args:
        kept: the configuration beside what the stage made. One that has no such stage says nothing of it.
        config: the other one.
        roots: the stage's ids, as ``teacher_training#stage``.

    Returns:
        Settings, which are whole, before parts of others.
    """
    before, now = _deciding(kept), _deciding(config)
    reached = (_reached(before, roots) & _reached(now, roots)) - _OF_A_DISTILLATION
    names = [
        name
        for name in _differences(before, now)
        if any(f"{name}#".startswith(f"{own}#") or own.startswith(f"{name}#") for own in reached)
    ]
    names = [name for name in names if not _say_the_same(name, kept, config)]
    return sorted(names, key=lambda name: ("#" in name, name))


def _reached(config: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """The ids that some ids of a configuration refer to, directly and by others, and themselves."""
    reached, waiting = set(), [name.replace("::", "#") for name in roots]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += references(value_of_id(config, name))
    return reached


def value_of_id(config: Any, name: str) -> Any:
    """What a configuration has by an id, such as ``train#handlers#0``, as it stands there; None where it has none."""
    for key in name.split("#"):
        if isinstance(config, list) and key.isdecimal() and int(key) < len(config):
            config = config[int(key)]
        else:
            config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps({key: value for key, value in config.items() if key not in _NO_INFLUENCE}, default=str)
    return json.loads(re.sub(r" at 0x[0-9a-f]+", "", text))  # where an object lies in memory


def _differences(before: Any, now: Any, where: str = "") -> set[str]:
    """Ids of what two configurations have otherwise.

    An id of the top level that one of them lacks is one of another version, and decides nothing by itself.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = before.keys() | now.keys() if where else before.keys() & now.keys()
        return {
            found
            for key in keys
            for found in _differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{where}#{key}".lstrip("#"))
        }
    return set() if before == now else {where}


def _say_the_same(name: str, *configs: Mapping[str, Any]) -> bool:
    """Whether an id has the same plain value in configurations that reach it by different references.

    So that what `train` has trained is not strange to `compare`, which counts the epochs of the student alone itself.
    """
    parsers = [ConfigParser(dict(config)) for config in configs]
    if not all(name in parser for parser in parsers):
        return False
    given = [parser[name] for parser in parsers]
    if not any(isinstance(value, str) and value.startswith("@") for value in given):
        return False
    if not all(isinstance(value, (str, int, float)) and not str(value).startswith("$") for value in given):
        return False
    first, *others = (parser.get_parsed_content(name) for parser in parsers)
    return isinstance(first, (str, int, float)) and all(first == other for other in others)
