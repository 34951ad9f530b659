# SPDX-License-Identifier: Apache-2.0
"""The configuration that makes a checkpoint: found while it runs, kept beside it, and told to others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_kd.files import read_json, write_json
from monai_kd.locations import identity, is_bundle, literal, running_parser

__all__ = [
    "CROSS_VALIDATED",
    "OWN_SPLIT",
    "plain_settings",
    "read_run_config",
    "running_config",
    "write_run_config",
]

CROSS_VALIDATED = "monai_kd.data.cross_validated"
"""What splits a data list in a fold of `compare --folds`."""

OWN_SPLIT = ("split", "fractions", "fold", "repeat")
"""Ids of a bundle's own split, which a cross-validation takes the place of."""


def running_config() -> dict[str, Any] | None:
    """The configuration that is being evaluated right now, with overlays and overrides merged and macros replaced.

    Returns:
        The configuration, or None when no `ConfigParser` is evaluating anything.
    """
    parser = running_parser()
    return None if parser is None else parser.get()


def write_run_config(checkpoint: Path, config: dict[str, Any]) -> Path:
    """Write the configuration that makes a checkpoint beside it, ``model.json`` for ``model.pt``; the file's path.

    A run can be moved, and so can the bundle that it lies in: the run's folder and the bundle's are kept as expressions
    that find them again.
    """
    kept = checkpoint.with_suffix(".json")
    write_json(kept, {**config, **_places(checkpoint.parent, config)})
    return kept


def _places(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    parser, places = running_parser(), {}
    if parser is not None and "bundle_root" in config:
        root = Path(parser.get_parsed_content("bundle_root"))
        if is_bundle(root):
            places["bundle_root"] = f"$monai_kd.bundle_root({literal(identity(root))}, {literal(str(root))})"
    if parser is not None and "ckpt_dir" in config:
        run = os.path.abspath(parser.get_parsed_content("ckpt_dir"))
        if run == os.path.abspath(folder):
            places["ckpt_dir"] = f"$monai_kd.ckpt_dir({literal(run)})"
    return places


def read_run_config(checkpoint: Path) -> dict[str, Any]:
    """The configuration that is kept beside a checkpoint; empty where there is none, as with weights from elsewhere.

    Raises:
        ValueError: when it is damaged.
    """
    kept = checkpoint.with_suffix(".json")
    config = read_json(kept, object) if kept.is_file() else {}
    return config if isinstance(config, dict) else {}


def plain_settings(config: Mapping[str, Any], tables: bool = False) -> dict[str, Any]:
    """The settings of a configuration that mean the same elsewhere: numbers, words, and lists of them.

    With ``tables`` also mappings of such values, and of null, that are no component.

    Code, references, parts of a network and absolute paths are left out, ``resume``, which sets nothing, and what a
    cross-validation does not go by.

    >>> plain_settings({"rate": 0.1, "features": [2, "@size"], "weights": "/home/a.pt", "split": "official"})
    {'rate': 0.1, 'split': 'official'}
    """
    plain = {key: value for key, value in config.items() if key != "resume" and _is_plain(value, tables)}
    datalist = config.get("datalist")
    if isinstance(datalist, Mapping) and datalist.get("_target_") == CROSS_VALIDATED:
        plain = {key: value for key, value in plain.items() if key not in OWN_SPLIT}  # they split nothing there
        plain |= {key: datalist[key] for key in ("folds", "fold") if key in datalist}
    return plain


def _is_plain(value: Any, tables: bool = False) -> bool:
    if isinstance(value, Mapping) and tables:
        return "_target_" not in value and all(own is None or _is_plain(own, tables) for own in value.values())
    if isinstance(value, list):
        return all(_is_plain(own, tables) for own in value)
    if isinstance(value, str):
        return value[:1] not in ("$", "@", "%") and not os.path.isabs(value)
    return isinstance(value, (bool, int, float))
