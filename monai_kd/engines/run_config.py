# SPDX-License-Identifier: Apache-2.0
"""The configuration that makes a checkpoint: found while it runs, kept beside it, and told to others."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_kd.files import write_text

__all__ = ["plain_settings", "read_run_config", "running_config", "write_json", "write_run_config"]


def running_config() -> dict[str, Any] | None:
    """The configuration that is being evaluated right now, with overlays and overrides merged and macros replaced.

    A run has to keep the configuration that made it, and it may have been started by `python -m monai.bundle run`, by
    MONAI Label or by this package's command line. MONAI gives a configuration no name for itself, and the parser that
    evaluates it is known only to its callers. So the call stack is asked: the nearest `ConfigParser` on it.

    Returns:
        The configuration, or None when no `ConfigParser` is evaluating anything.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner.get()
        frame = frame.f_back
    return None


def write_run_config(checkpoint: Path, config: dict[str, Any]) -> Path:
    """Write the configuration that makes a checkpoint beside it, ``model.json`` for ``model.pt``; the file's path."""
    return write_json(checkpoint.with_suffix(".json"), config)


def read_run_config(checkpoint: Path) -> dict[str, Any]:
    """The configuration that is kept beside a checkpoint; empty where there is none, as with weights from elsewhere."""
    kept = checkpoint.with_suffix(".json")
    config = json.loads(kept.read_text()) if kept.is_file() else {}
    return config if isinstance(config, dict) else {}


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file as a whole or not at all; what JSON lacks becomes text. The file's path."""
    write_text(path, json.dumps(content, indent=2, default=str))
    return path


def plain_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that mean the same elsewhere: numbers, words, and lists of them.

    Code, references, parts of a network and absolute paths are left out, and ``resume``, which sets nothing.

    >>> plain_settings({"rate": 0.1, "features": [2, "@size"], "weights": "/home/a.pt", "split": "official"})
    {'rate': 0.1, 'split': 'official'}
    """
    return {key: value for key, value in config.items() if key != "resume" and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return value[:1] not in ("$", "@", "%") and not os.path.isabs(value)
    return isinstance(value, (bool, int, float))
