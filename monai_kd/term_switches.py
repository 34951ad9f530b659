# SPDX-License-Identifier: Apache-2.0
"""By which settings of a configuration the terms of its distillation are switched off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from monai_kd.locations import running_parser
from monai_kd.overrides import references

__all__ = ["running_switches", "switches_of"]


def switches_of(config: Mapping[str, Any] | None, names: Iterable[str]) -> str:
    """The settings that switch terms off, as one writes them.

    Args:
        config: the configuration that the terms stand in; None where they were made by hand.
        names: of the terms.

    Returns:
        ``fusion_weight=0``, or several with a blank between them; of a term whose weight no setting makes 0, that its
        ``weight`` is to be 0.

    >>> term = {"_target_": "monai_kd.losses.DistillationTerm", "weight": "$@hint_weight / 2"}
    >>> config = {"hint_weight": 2, "terms": {"a": term}}
    >>> switches_of(config, ["a"]), switches_of(config, ["b"])
    ('hint_weight=0', 'weight=0 of b')
    """
    config = config or {}
    found = {name: _switch(config, name) for name in names}
    unknown = [name for name, switch in found.items() if switch is None]
    known = list(dict.fromkeys(f"{switch}=0" for switch in found.values() if switch is not None))
    return " ".join([*known, *([f"weight=0 of {', '.join(unknown)}"] if unknown else [])])


def running_switches(names: Iterable[str]) -> str:
    """The same of the configuration that is being evaluated, if one is."""
    parser = running_parser()
    return switches_of(None if parser is None else parser.get(), names)


def _switch(config: Mapping[str, Any], name: str) -> str | None:
    """The first weight of the configuration that makes that of a term 0 by being 0."""
    for weight in _weights(config, name):
        waiting, seen = [*references([weight])], set()
        while waiting:
            key = waiting.pop(0).partition("#")[0]
            if key in seen or key not in config:
                continue
            seen.add(key)
            if key.endswith("weight") and isinstance(config[key], (int, float)):
                if _with_zero(config, key, weight) == 0:
                    return key
            waiting += references([config[key]])
    return None


def _weights(node: Any, name: str) -> Iterator[Any]:
    """What stands as weight in the terms of a name."""
    if isinstance(node, Mapping):
        term = node.get(name)
        if isinstance(term, Mapping) and str(term.get("_target_")).endswith("DistillationTerm") and "weight" in term:
            yield term["weight"]
        for value in node.values():
            yield from _weights(value, name)


def _with_zero(config: Mapping[str, Any], key: str, weight: Any) -> Any:
    from monai.bundle import ConfigParser

    try:
        return ConfigParser({**config, key: 0, "weight_of_term": weight}).get_parsed_content("weight_of_term")
    except Exception:  # whatever an expression of somebody's bundle does; then it is no cure
        return None
