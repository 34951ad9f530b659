# SPDX-License-Identifier: Apache-2.0
"""Teachers beside those that a run trains: soft labels from files, and how these are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.files import read_json
from monai_kd.id_roles import PRECISION
from monai_kd.locations import teacher_overlay
from monai_kd.overrides import references
from monai_kd.stage_names import SECTIONS
from monai_kd.term_switches import switches_of

__all__ = ["activation_of", "taught_by_files", "teacher_file", "teacher_of", "without_layers", "without_teacher"]

# Where and how a network computes, which is the caller's to say.
_OF_THE_CALL = PRECISION | {"bundle_root", "device"}


def taught_by_files(settings: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings; where ``teacher_activation`` says what soft labels hold, also those that let files teach.

    No network of a teacher is made then, by which names of its layers could be looked up.

    Args:
        settings: of the call.
        config: the bundle's train.json, which they are laid over.
    """
    if settings.get("teacher_activation") is None:
        return settings
    teacher = {"_target_": "monai_kd.handlers.FileTeacher", "activation": "@teacher_activation"}
    if "teacher_heads" in config:
        teacher["heads"] = "@teacher_heads"
    return {**settings, "teacher": teacher, "teacher_def": "@network_def", "teacher_checkpoint": None}


def without_layers(config: Mapping[str, Any]) -> str:
    """The settings that leave out the terms that look at layers of the teacher, which files have none of.

    Args:
        config: the bundle's train.json.

    Returns:
        such as ``fusion_weight=0``; nothing where that would leave no term.

    >>> term = {"_target_": "monai_kd.losses.DistillationTerm"}
    >>> hint = {**term, "teacher_layer": "encoder", "weight": "@hint_weight"}
    >>> without_layers({"hint_weight": 1, "distillation": {"terms": {"logits": term, "hint": hint}}})
    'hint_weight=0'
    """
    terms = config["distillation"]["terms"]
    while isinstance(terms, str):
        key, *choice = references([terms])
        terms = config[key] if not choice else config[key][config[choice[0]]]
    plain = ("", "@teacher_heads")  # a teacher's answer, and its answers at several heads
    named = {name: config[term[1:]] if isinstance(term, str) else term for name, term in terms.items()}
    looking = [name for name, term in named.items() if term.get("teacher_layer", "") not in plain]
    return switches_of(config, looking) if len(looking) < len(terms) else ""


def without_teacher(steps: list[str]) -> list[str]:
    """What a ``run`` does, without the training of the teacher, where that comes with its weights.

    >>> without_teacher(["$monai_kd.engines.rehearse(@teacher_training#stage, @train#stage)", "$@train#stage.run()"])
    ['$monai_kd.engines.rehearse(@train#stage)', '$@train#stage.run()']
    """
    stage = f"@{SECTIONS['teacher']}#stage"
    return [re.sub(rf"{stage}(, )?", "", step) for step in steps if step != f"${stage}.run()"]


def teacher_file(bundle: Bundle, run: str) -> Path | None:
    """The weights of the teacher of a run with a student: there, or where the student was told to find them.

    The file may be gone, or not be there yet. None where the student has no teacher, or one with its own weights.
    """
    return monai_kd.engines.teacher_checkpoint(bundle.existing_run(run), bundle.root)


def teacher_of(bundle: Bundle, run: str) -> dict[str, Any]:
    """Overrides of inference.json that give the teacher of a run, on the images that it sees.

    Raises:
        FileNotFoundError: when it has none.
    """
    folder = bundle.existing_run(run)
    kept = monai_kd.engines.kept_network(folder, bundle.root, "teacher")
    if kept is None or kept.weights is None or not kept.config.is_file():
        taught = (folder / "model.json").is_file()
        told = teacher_file(bundle, run) if taught else None
        if taught and (told is None or told.is_file()):
            raise FileNotFoundError(
                f"the run {folder} has no teacher with a checkpoint: its teacher comes with its own weights, or is "
                "files; apply it where it comes from"
            )
        missing = "" if told is None else f": {told} is not there"
        raise FileNotFoundError(f"the run {folder} has no teacher{missing}: train one by --stages teacher")
    trained, inference = read_json(kept.config), bundle.config("inference.json")
    bundle.check_is_own(folder, trained)
    settings = {key: trained[key] for key in inference["model_ids"] if key in trained}
    waiting = ["teacher"]
    while waiting:  # the network, and whatever it is made of
        key = waiting.pop()
        if key in trained and key not in _OF_THE_CALL and key not in settings.keys() - {"network_def"}:
            settings[key] = trained[key]
            waiting += [name.partition("#")[0] for name in references([trained[key]])]
    settings |= {"network": settings.pop("teacher"), "checkpoint": str(kept.weights)}
    if kept.is_from_elsewhere and trained.get("teacher_preprocessing"):  # as it was asked when it taught
        settings |= {"teacher": settings["network"], "teacher_preprocessing": trained["teacher_preprocessing"]}
        settings["network"] = monai_kd.engines.TEACHER_AS_ASKED
    settings["imports"] = list(dict.fromkeys([*inference.get("imports", []), *trained.get("imports", [])]))
    settings |= {"probabilities": True} if "probabilities" in inference else {}
    overlay = teacher_overlay(bundle.root, "infer", trained)
    return settings if overlay is None else {**settings, **read_json(overlay)}


def activation_of(config: Mapping[str, Any], described: Mapping[str, Any] | None = None) -> str:
    """What the outputs of an inference are: probabilities, or values as the network gives them.

    Args:
        config: inference.json with the settings of the call.
        described: what ``described`` says of the output, where the bundle has that.
    """
    if described is not None and "activation" in described:
        return described["activation"]
    first = config["postprocessing"]["transforms"][0]
    names = [name for name in ("sigmoid", "softmax") if first.get(name) is True]
    return names[0] if names and config.get(f"postprocessing#transforms#0#{names[0]}", True) else "values"
