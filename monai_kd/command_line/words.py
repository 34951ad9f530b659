# SPDX-License-Identifier: Apache-2.0
"""The words of a command line: switches, options, and settings whose values and paths mean what was typed."""

from __future__ import annotations

import ast
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_kd.bundle import Bundle, plain_path
from monai_kd.names import check_known
from monai_kd.overrides import laid_over

__all__ = ["as_typed", "check_options", "config_settings", "given", "joined", "parse", "paths", "switches", "value_of"]


def check_options(name: str, verb: Callable[..., int], words: Sequence[str]) -> None:
    """Refuse what a verb does not take before it does anything; fire would complain afterwards.

    Args:
        name: the verb's, as it was typed.
        verb: the function.
        words: those behind the name.

    Raises:
        ValueError: when an option is unknown or lacks its value, or when there are words too many.
    """
    if "--" in words:
        return
    parameters = inspect.signature(verb).parameters
    for word, after in zip(words, [*words[1:], "--"]):
        option = word[2:].replace("-", "_") if word.startswith("--") else ""
        if option in parameters and parameters[option].default is not False and after.startswith("--"):
            raise ValueError(f"{word} needs a value behind it")
    if inspect.Parameter.VAR_KEYWORD not in {parameter.kind for parameter in parameters.values()}:
        for word in words:
            if word.startswith("--"):
                check_known(word[2:].partition("=")[0].replace("-", "_"), parameters, "option")
        before = ["", *words]
        taken = [word for last, word in zip(before, words) if word.startswith("--") or not last.startswith("--")]
        if len(taken) > len(parameters):
            raise ValueError(f"{name} takes {', '.join(parameters) or 'no further words'}, got {' '.join(taken)}")


def switches(verb: Callable[..., int]) -> set[str]:
    """The options of a verb that are on when they are named."""
    parameters = inspect.signature(verb).parameters.values()
    return {f"--{parameter.name}" for parameter in parameters if parameter.default is False}


def as_typed(word: str, switches: set[str]) -> str:
    """A word that fire, which reads every word as Python, takes for the text that was typed.

    It would cut ``train#trainer=...`` at the comment sign, turn a run called 007 into a number, and take the word
    behind ``--resume`` for its value.
    """
    if word in switches:
        return f"{word}=True"
    if word.startswith("-"):
        option, equals, value = word.partition("=")
        return f"{option}={value!r}" if equals else word
    return repr(word)


def parse(overrides: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from words like ``key=value`` and from options like ``--key value``.

    Raises:
        ValueError: when a word is none of these, or gives a run's name as the list of steps that ``run`` is.
    """
    parsed: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            is_data = override.endswith(".json") or os.path.isdir(override)
            cure = ": a data set is given by --dataset_dir FOLDER, a list of its items by --datalist FILE"
            raise ValueError(f"expected key=value, got {override!r}{cure if is_data else ''}")
        parsed[key] = value_of(text)
    parsed.update({key: value_of(value) for key, value in options.items()})
    steps = parsed.get("run", [])
    if not isinstance(steps, list) and str(steps)[:1] not in ("$", "@", "%"):  # it would be taken for a step, and done
        raise ValueError(
            f"the setting run is the list of steps, got {steps!r}; a run is named by --run NAME, the folder of a "
            "comparison by --out FOLDER"
        )
    return {key: _absolute(key, value) for key, value in parsed.items()}


def joined(words: Sequence[str], option: str) -> list[str]:
    """Words in which an option that was given several times is given once, with commas between its values.

    >>> joined(["a", "--config", "b", "--config=c", "d"], "--config")
    ['a', 'd', '--config=b,c']
    """
    others: list[str] = []
    values: list[str] = []
    for before, word in zip(["", *words], words):
        name, equals, value = word.partition("=")
        if before == option and not word.startswith("--"):
            others.pop()
            values.append(word)
        elif name == option and equals:
            values.append(value)
        else:
            others.append(word)
    return [*others, f"{option}={','.join(values)}"] if values else others


def config_settings(config: str | None, bundle: Bundle, *files: str | Path) -> dict[str, Any]:
    """Settings by id from the files of ``--config``.

    Args:
        config: a path, or several with commas between them; later ones are laid over earlier ones. A name that is
            no file here is that of one of the bundle's own, such as ``shipped.json``.
        bundle: the bundle.
        files: its configuration files that they are laid over.
    """
    if config is None:
        return {}
    chosen = [config] if os.path.isfile(config) else config.split(",")
    return {
        key: _absolute(key, value)
        for key, value in laid_over(bundle.config(*files), (_configuration(name, bundle) for name in chosen)).items()
    }


def _configuration(name: str, bundle: Bundle) -> str:
    own = bundle.root / "configs" / name
    return str(own) if own.is_file() and not os.path.isfile(name) else plain_path(name)


def _absolute(key: str, value: Any) -> Any:
    """A setting whose paths, one or a list, mean the same in every folder."""
    if isinstance(value, list) and value and all(_names_path(key, element) for element in value):
        return [plain_path(element) for element in value]
    return plain_path(value) if _names_path(key, value) else value


def _names_path(key: str, value: Any) -> bool:
    """Whether a setting is a path, which means the current folder now and when a run's configuration is used later."""
    if not isinstance(value, str) or value[:1] in ("$", "@", "%"):
        return False
    return key.endswith(("_dir", "_file", "checkpoint")) or os.path.isfile(value)


def value_of(text: Any) -> Any:
    """What a word means as JSON, else as Python, else the word itself."""
    if not isinstance(text, str):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def paths(**settings: str | None) -> dict[str, str]:
    """Those settings that are given, as paths that mean the same in every folder."""
    return {key: plain_path(value) for key, value in settings.items() if value is not None}


def given(**settings: Any) -> dict[str, Any]:
    """Those settings that are not None."""
    return {key: value for key, value in settings.items() if value is not None}
