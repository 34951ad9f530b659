"""The configuration of a run, kept in the run's folder."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["RUN_CONFIG", "running_config", "write_run_config"]

RUN_CONFIG = "config.json"


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


def write_run_config(folder: str | os.PathLike, config: dict[str, Any]) -> Path:
    """Write ``config`` as ``config.json`` into a run's folder, and give the file's path."""
    path = Path(folder) / RUN_CONFIG
    content = json.dumps(config, indent=2, default=str)
    if not path.is_file() or path.read_text() != content:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(content)
        os.replace(temporary, path)
    return path
