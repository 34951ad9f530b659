# SPDX-License-Identifier: Apache-2.0
"""The command lines that repeat a training, from the configuration that it has left."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

import monai_kd
from monai_kd.files import read_json
from monai_kd.id_roles import CALL, MACHINE, NOTES, PLACES, PROGRAM, STEPS
from monai_kd.stage_names import STAGES, stages_of

from .model_card import generated_by
from .nested_run import run_steps

__all__ = ["reproduce", "setting_words"]

_PLACEHOLDER = "DATA"  # stands for the data set's folder, which is another one elsewhere
# The number of workers stays: by it other random changes are drawn, and so other weights made.
_NO_SETTINGS = (PLACES | MACHINE | CALL | STEPS | PROGRAM | NOTES | {"datalist_file"}) - {"num_workers"}
_OVERLAYS = {"demo.json": ["--demo"], "shipped.json": ["--config", "shipped.json"]}
_WORD = re.compile(r"(?!(?:true|false|null|none|nan|infinity)$)[a-z_][\w./-]*", re.IGNORECASE)


def reproduce(
    bundle_root: Path,
    config: Mapping[str, Any],
    verb: str = "train",
    options: Sequence[str] = (),
    taught_by: Mapping[str, Any] | None = None,
) -> list[str]:
    """The command lines that make a student again, to be run in the folder that holds a copied bundle.

    ``DATA`` stands for the folder of the data set, and ``PATH`` for folders of other files, which no other machine has.
    Generated data are generated first, and a teacher that was there already is trained first, by its own settings: the
    student's command then finds it, as the student did.

    Args:
        bundle_root: the bundle's directory.
        config: what is kept with a run's student, or is running.
        verb: ``train`` or ``compare``.
        options: further words for the verb.
        taught_by: what is kept with the teacher, where that was made by other settings.
    """
    name = _name(bundle_root)
    overlays = [file for file in _OVERLAYS if _is_overlaid(bundle_root, file, config)]
    files = ["train.json", *overlays]
    parser = ConfigParser(ConfigParser.load_config_files([str(bundle_root / "configs" / file) for file in files]))
    for _ in range(2):  # what a macro copies is copied as it stands, with ids that are relative to its new place
        parser.resolve_macro_and_relative_ids()
    words = [*options, *(word for file in overlays for word in _OVERLAYS[file])]
    commands, folder = [], str(config.get("dataset_dir", ""))
    if config.get("datalist_file"):
        words += ["--datalist", _elsewhere(config["datalist_file"])]
    if folder[:1] not in ("$", "@", "%"):
        made = generated_by(folder)
        if made is not None:
            commands.append(_generation(name, made))
        words += ["--dataset_dir", _PLACEHOLDER]
    if verb == "train" and (stages := stages_of(config["run"])) and stages != stages_of(parser["run"]):
        words += ["--stages", ",".join(stages)]
    words += setting_words(parser.get(), config)
    commands.append(shlex.join(["python", "-m", "monai_kd", verb, name, *words]))
    before: list[str] = []
    if taught_by:
        # Without what `--stages teacher` sets itself.
        teacher = {key: value for key, value in taught_by.items() if key != "distillation_checks"}
        before = reproduce(bundle_root, {**teacher, "run": run_steps(STAGES[:1])})
    return list(dict.fromkeys([*before, *commands]))


def setting_words(base: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The settings in which a configuration differs from a bundle's, as words of a command line.

    >>> setting_words({"rate": 1, "net": {"size": 2, "depth": 1}}, {"rate": 0.5, "net": {"size": 2, "depth": 3}})
    ['rate=0.5', 'net#depth=3']

    Args:
        base: the bundle's, with its macros replaced.
        config: the other one.
    """
    kept = {key: value for key, value in config.items() if key in base and key not in _NO_SETTINGS}
    plain = json.loads(json.dumps({key: base[key] for key in kept}, default=str))
    return [f"{key}={_text(value)}" for key, value in _differing(plain, kept)]


def _differing(base: Mapping[str, Any], config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        before = base[key]
        if before == value:
            continue
        # Only what a configuration has can be set by its id: what is new, or left out, is set with what is around it.
        if isinstance(before, dict) and isinstance(value, dict) and before.keys() == value.keys():
            yield from _differing(before, value, f"{above}{key}#")
        else:
            yield f"{above}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, str):
        value = _elsewhere(value)
        return value if _WORD.fullmatch(value) else json.dumps(value)
    return json.dumps(value)


def _elsewhere(path: Any) -> str:
    """A path without the folders of this machine; other text as it is."""
    return f"PATH/{os.path.basename(path)}" if os.path.isabs(str(path)) else str(path)


def _name(bundle_root: Path) -> str:
    """What the command line knows a bundle by: its name if it is one of the package's, else its folder."""
    name = bundle_root.name
    own = name in monai_kd.bundle_names() and Path(monai_kd.bundle_root(name)).resolve() == bundle_root.resolve()
    return name if own else f"./{name}"


def _is_overlaid(bundle_root: Path, file: str, config: Mapping[str, Any]) -> bool:
    """Whether a configuration has the ids that only this overlay has."""
    files = [bundle_root / "configs" / name for name in ("train.json", file)]
    if not files[1].is_file():
        return False
    train, overlay = map(read_json, files)
    own = {key for key in overlay.keys() - train.keys() if "#" not in key}
    return bool(own) and own <= config.keys()


def _generation(name: str, made: Mapping[str, Any]) -> str:
    words = [word for key, value in made.items() if key != "generator" for word in (f"--{key}", _text(value))]
    return shlex.join(["python", "-m", "monai_kd", "generate", name, _PLACEHOLDER, *words])
