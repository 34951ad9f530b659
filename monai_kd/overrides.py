# SPDX-License-Identifier: Apache-2.0
"""Settings that are laid over a configuration, held to what it has: MONAI would accept anything in silence.

PyTorch and MONAI are imported when a component is looked up.
"""

from __future__ import annotations

import copy
import inspect
import os
import pydoc
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from monai_kd.names import check_known, closest, hint, unknown

__all__ = ["check_choices", "check_overrides", "laid_over", "references"]

_CLOSE = 0.85  # a new name that is as like an old one as this is a typing error
_EXAMPLE = '{"_target_": "monai_kd.losses.HintLoss"}'
_SEPARATOR = "(?:#|::)"


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse settings by ids that a configuration does not have, and what cannot be their value.

    A new id is taken where it says something:

    - an argument that a component takes by its signature;
    - a further entry of a table, such as ``distillation#terms`` or what ``$@losses[@loss]`` chooses from: a component,
      or a list or mapping of them; in what is chosen from, also what is of the type of the other entries;
    - what another one of the overrides refers to by ``@`` or ``%``.

    Args:
        config: the configuration. Its ``number_words`` has, by id, the words that stand beside the numbers of a
            setting, such as ``{"fold": ["all"]}``.
        overrides: values by id, in the order in which they are laid over it.

    Raises:
        ValueError: for an unknown id, naming the closest one; for a word in the place of a number; for a component that
            does not exist.
    """
    config = copy.deepcopy(dict(config))
    overrides = {key.replace("::", "#"): value for key, value in overrides.items()}
    used = set(references(list(overrides.values())))
    later = set(overrides)
    for key, value in overrides.items():
        later.remove(key)
        parts = key.split("#")
        parent = _find(config, key, parts[:-1])
        node = _entry(parent, parts[-1])
        if node is _NOTHING:
            _check_new(config, key, value, parent, later, used)
        is_number = isinstance(node, (int, float)) and not isinstance(node, bool)
        words = config.get("number_words", {}).get(key, [])
        if is_number and isinstance(value, str) and value[:1] not in ("$", "@", "%") and value not in words:
            or_words = "".join(f" or {word}," for word in words)
            raise ValueError(f"{key} must be a number, such as {node},{or_words} got {value!r}")
        for component in _components(value):
            _check_component(component)
        if isinstance(parent, list):
            parent[int(parts[-1])] = value
        elif isinstance(parent, dict):
            parent[parts[-1]] = copy.deepcopy(value)


def laid_over(config: Mapping[str, Any], files: Iterable[str | os.PathLike]) -> dict[str, Any]:
    """Settings by id that configuration files lay over a configuration, in MONAI's way.

    Args:
        config: the configuration below.
        files: JSON or YAML, later ones over earlier ones. ``+id`` extends a list or mapping.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no settings.
    """
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser, ids = ConfigParser(copy.deepcopy(dict(config))), []
    for file in files:
        if not os.path.isfile(file):
            raise FileNotFoundError(f"there is no configuration file {file}")
        try:
            settings = ConfigParser.load_config_file(file)
        except ValueError as error:
            raise ValueError(f"{file} is no configuration that can be read, JSON or YAML: {error}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{file} must hold settings by id, got {type(settings).__name__}")
        for key, value in settings.items():
            id_ = key.removeprefix("+")
            if id_ not in parser:  # which is for check_overrides to judge
                parser.set(None, id_)
            merge_kv(parser, key if parser[id_] is not None else id_, value)
            ids.append(id_)
    return {id_: parser[id_] for id_ in ids}


def check_choices(parser: Any) -> None:
    """Where a configuration chooses from a table, as ``$@losses[@loss]`` does, refuse what the table does not have.

    Args:
        parser: MONAI's, of the configuration.

    Raises:
        ValueError: naming the closest entry.
    """
    for value in parser.get().values():
        choice = re.fullmatch(r"\$@(\w+)((?:\[@\w+\])+)", value) if isinstance(value, str) else None
        if choice:
            table = parser[choice[1]]
            for key in re.findall(r"\w+", choice[2]):
                word = str(parser.get_parsed_content(key))
                check_known(word, table, key)
                table = table[word]


_NOTHING = object()


def _entry(node: Any, part: str) -> Any:
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    return node[part] if isinstance(node, Mapping) and part in node else _NOTHING


def _find(config: Any, key: str, parts: list[str]) -> Any:
    """What lies at an id, on the way to the whole ``key``."""
    node = config
    for depth, part in enumerate(parts):
        below = _entry(node, part)
        if below is _NOTHING:
            raise _unknown(key, part, node, depth)
        node = below
    return node


def _unknown(key: str, part: str, node: Any, depth: int) -> ValueError:
    if isinstance(node, str) and node.startswith("%"):
        parts = key.split("#")
        place, rest = "#".join(parts[:depth]), "#".join(parts[depth:])
        return ValueError(
            f"{key}: {place} is a copy of {node[1:]}; set {node[1:]}#{rest}, which holds for every copy, or an id "
            f"of {parts[0]} itself"
        )
    choices = [str(choice) for choice in node] if isinstance(node, Mapping) else []
    return unknown(part, choices, f"option or configuration key{f' {key!r}:' if depth else ''}")


def _check_new(config: Any, key: str, value: Any, parent: Any, later: set[str], used: set[str]) -> None:
    """Refuse an id that the configuration does not have, unless it says something there."""
    *path, name = key.split("#")
    if any(other == key or other.startswith(f"{key}#") for other in used):
        return
    if not _is_like_another(name, parent):
        component = "#".join(path)
        if _is_component(parent):
            if not {component, f"{component}#_target_"} & later:  # or it will be another one
                _check_argument(name, parent["_target_"])
            return
        if path and _is_table(config, path, parent):
            if _is_part(value) or (_is_chosen_from(config, path) and _is_alike(value, parent.values())):
                return
            raise ValueError(f"a new entry {key} must be a component such as {_EXAMPLE}, got {value!r}")
    raise _unknown(key, name, parent, len(path))


def _is_like_another(name: str, node: Any) -> bool:
    """Whether a name is a mistyped one; one that differs in its numbers is a further one."""
    close = closest(name, map(str, node), cutoff=_CLOSE) if isinstance(node, Mapping) else []
    return bool(close) and re.sub(r"\d+", "", close[0]) != re.sub(r"\d+", "", name)


def _is_table(config: Any, path: list[str], node: Any) -> bool:
    """Whether what lies at a path is a mapping that something takes as a whole, or chooses from."""
    if not isinstance(node, Mapping) or not node:
        return False
    above = [_find(config, "", path[:depth]) for depth in range(len(path))]
    taken = re.compile(rf"@{_SEPARATOR.join(map(re.escape, path))}(?![\w#:])")
    return any(map(_is_component, above)) or any(map(taken.search, _strings(config))) or _is_chosen_from(config, path)


def _is_chosen_from(config: Any, path: list[str]) -> bool:
    """Whether a configuration has ``@table[...]`` of what lies at a path, or of what that lies in."""
    tables = "|".join(_SEPARATOR.join(map(re.escape, path[: depth + 1])) for depth in range(len(path)))
    return any(re.search(rf"@(?:{tables})\[", text) for text in _strings(config))


def _is_alike(value: Any, others: Iterable[Any]) -> bool:
    return all(type(other) is type(value) for other in others)


def _is_part(value: Any) -> bool:
    """Whether a value is a component, a reference to one, or a list or mapping of them."""
    if isinstance(value, str):
        return value[:1] in ("@", "%")
    if _is_component(value):
        return True
    entries = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return bool(entries) and all(map(_is_part, entries))


def _check_component(component: Mapping[str, Any]) -> None:
    """Refuse a component that does not exist, or an argument that it does not take."""
    target = component["_target_"]
    if not isinstance(target, str):
        raise ValueError(f"_target_ must be the name of a class or function, got {target!r}")
    if "." in target and not target.startswith("$"):
        if _locate(target) is None:
            module, _, name = target.rpartition(".")
            meant = hint(name, dir(_locate(module) or object()))
            raise ValueError(f"there is no {target} to make a component of; {meant or 'look at its module and name'}")
        for name in component:
            _check_argument(name, target)


def _locate(name: str) -> Any:
    try:
        return pydoc.locate(name)
    except pydoc.ErrorDuringImport as error:
        raise ValueError(f"{name} cannot be imported: {error.value}") from error


def _check_argument(name: str, target: str) -> None:
    """Refuse a further argument that a component does not take, as far as its name and signature say so."""
    if "." not in target:  # one of MONAI's short names
        return
    try:
        parameters = inspect.signature(_locate(target)).parameters
    except (TypeError, ValueError):  # nothing of that name, or code without a signature
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not takes_any and not name.startswith("_"):  # MONAI's own, such as _disabled_
        check_known(name, parameters, f"argument of {target}")


def _is_component(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _components(value: Any) -> Iterator[Mapping[str, Any]]:
    """All components in a value, wherever they are."""
    if _is_component(value):
        yield value
    for entry in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _components(entry)


def _strings(value: Any) -> Iterator[str]:
    """All texts in a value, wherever they are."""
    if isinstance(value, str):
        yield value
    for entry in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _strings(entry)


def references(value: Any) -> Iterator[str]:
    """The ids that a value refers to."""
    for text in _strings(value):
        for reference in re.findall(r"[@%](\w+(?:(?:#|::)\w+)*)", text):
            yield reference.replace("::", "#")
