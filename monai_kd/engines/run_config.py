"""The configuration that makes a checkpoint, kept beside it."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["running_config", "write_run_config"]


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
    path = checkpoint.with_suffix(".json")
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(config, indent=2, default=str))
    os.replace(temporary, path)
    return path
