# SPDX-License-Identifier: Apache-2.0
"""Settings that an overlay has left without effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from monai_kd.contract import CONTRACT
from monai_kd.overrides import references

__all__ = ["without_effect"]


def without_effect(config: Mapping[str, Any], ids: Iterable[str]) -> list[str]:
    """Those ids of a training's configuration that nothing refers to which a verb relies on.

    An overlay that replaces what chose by a setting, as a recipe replaces the terms of a distillation, leaves that
    setting behind.

    Args:
        config: ``train.json`` with all that is laid over it, macros replaced.
        ids: those that are asked for; of a nested one the section counts.
    """
    relied_on = {entry.key.partition("#")[0] for entry in CONTRACT if entry.file == "train.json"}
    waiting = [entry.key.partition("#")[0] for entry in CONTRACT if entry.file == "train.json" and entry.needed]
    waiting += ["_meta_", "finalize", "imports", "initialize"]
    reached: set[str] = set()
    while waiting:
        section = waiting.pop()
        if section in config and section not in reached:
            reached.add(section)
            waiting += [name.partition("#")[0] for name in references(config[section])]
    return [id_ for id_ in ids if id_.replace("::", "#").partition("#")[0] not in reached | relied_on]
