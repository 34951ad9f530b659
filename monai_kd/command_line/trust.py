# SPDX-License-Identifier: Apache-2.0
"""Code that comes with a run or a file: who asks for it is told, or has to say so."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.bundle import Bundle, plain_path
from monai_kd.inspection import find_code

from .output import say

__all__ = ["check_script", "check_scripts", "say_whose_code"]


def check_script(file: Path, trusted: bool) -> None:
    """Refuse a TorchScript file, which is code, unless `export` made it and its code touches no files.

    Args:
        file: any checkpoint.
        trusted: whether the user said that it may run.

    Raises:
        ValueError: for one that is not trusted.
    """
    if file.suffix == ".ts" and file.is_file():
        _check_script(file, trusted)


def check_scripts(settings: Mapping[str, Any], trusted: bool) -> None:
    """Refuse the TorchScript files that settings name, for a teacher or whatever, as :func:`check_script` does.

    Args:
        settings: values by id; those of a bundle's own files are as trustworthy as the bundle.
        trusted: whether the user said that they may run.

    Raises:
        ValueError: for one that is not trusted.
    """
    for text in _texts(settings):
        if _holds_script(text):
            _check_script(Path(text), trusted)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for entry in entries:
        yield from _texts(entry)


def _holds_script(text: str) -> bool:
    """Whether a text is the path of a file that `torch.jit.load` takes, whatever it is called."""
    try:
        with zipfile.ZipFile(text) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # no path, no zip file, or a damaged one, of which zipfile has many ways to speak
        return False


def _check_script(file: Path, trusted: bool) -> None:
    if trusted:
        return
    is_ours = {"bundle", "model_ids"} <= monai_kd.engines.read_metadata(file).keys()
    found = [finding.text for finding in find_code(file)]
    if not is_ours or found:
        which = f"it uses {', '.join(found)}" if found else "`export` of this project did not make it"
        raise ValueError(
            f"{file} is TorchScript, which is code, and {which}; say --trust if you know where it comes from, and see "
            f"`verify --untrusted {file}`"
        )


def say_whose_code(bundle: Bundle, run: str | None, checkpoint: str | None = None) -> None:
    """Say that the configuration of a run is code, where the run is another user's or lies outside the bundle's runs.

    Args:
        bundle: the bundle.
        run: name or path of the run.
        checkpoint: weights, beside which a configuration may lie.
    """
    places = [] if run is None else [bundle.existing_run(run)]
    if checkpoint is not None and Path(checkpoint).with_suffix(".json").is_file():
        places.append(Path(plain_path(checkpoint)).parent)
    own = Path(monai_kd.run_dir(bundle.root, "")).resolve()
    for place in dict.fromkeys(places):
        is_mine = not hasattr(os, "getuid") or place.stat().st_uid == os.getuid()
        if not (is_mine and place.resolve().is_relative_to(own)):
            whose = "lies outside the bundle's runs" if is_mine else "is another user's"
            say(f"{place} {whose}: its configuration is code, which runs; `verify --untrusted {place}` shows it")
