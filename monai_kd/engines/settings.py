# SPDX-License-Identifier: Apache-2.0
"""Settings that make no sense, refused by name before anything is built of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from .run_config import running_config

__all__ = ["check_settings"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and value >= 0 and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_weight(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_count, value))


_Rule = tuple[str, str, Callable[[Any], bool]]

_COUNTS = "batch_size|window_batch_size|val_interval|image_size|low_resolution|passes|num_samples|demo_cases"
_COUNTS += r"|batches|(teacher_)?reduction"

_RULES: tuple[_Rule, ...] = (
    ("amp|resume|channels_last|compile", "true or false", _is_switch),
    (r"(\w+_)?pretrained", "true, false or the path of a file", lambda value: isinstance(value, (bool, str))),
    (r"num_workers|(\w+_)?seed|imitation_epochs", "a whole number from 0", _is_whole),
    (rf"(\w+_)?epochs|low_resolution_factor|{_COUNTS}", "a whole number from 1", _is_count),
    (
        r"threshold|cache_rate|hard_weight|distillation_weight|dropout|\w+_probability|\w+_share",
        "a number from 0 to 1",
        _is_share,
    ),
    ("weight_momentum", "a number between 0 and 1", lambda value: _is_number(value) and 0 < value < 1),
    (r"temperature|(\w+_)?learning_rate", "a number above 0", _is_positive),
    ("(student|teacher)_features", "six whole numbers from 1", lambda value: _are_counts(value) and len(value) == 6),
    (r"(\w+_)?features", "a list of whole numbers from 1", _are_counts),
    (r"\w+_weight|weight_decay|noise_std", "a number from 0", _is_weight),
)
"""Ids, what their values are, and whether one is such a value. The first rule that fits an id counts."""


def check_settings(config: Mapping[str, Any] | None = None) -> None:
    """Refuse values that the ids of a configuration cannot have, all at once.

    Numbers outside of what they mean (a threshold of 2, a temperature of 0, no epochs, a negative rate, NaN), and words
    where a number or a switch is due. Ids that are unknown here, null, references and expressions are let through.

    Args:
        config: the configuration; by default the one that is being evaluated, to whose ``initialize`` this belongs.

    Raises:
        ValueError: naming each id, what it must be and what it is.

    >>> check_settings({"threshold": 2, "seed": 0, "max_epochs": "@teacher_epochs"})
    Traceback (most recent call last):
    ...
    ValueError: threshold must be a number from 0 to 1, got 2
    """
    config = running_config() or {} if config is None else config
    wrong = []
    for key, value in config.items():
        rule = _rule(key)
        if rule is None or value is None or (isinstance(value, str) and value[:1] in ("$", "@", "%")):
            continue
        _, meaning, holds = rule
        if not (holds(value) or isinstance(value, list) and value and all(map(holds, value))):
            wrong.append(f"{key} must be {meaning}, got {value!r}")
    wrong += _soft_labels_that_would_not_teach(config)
    if wrong:
        raise ValueError("; ".join(wrong))


def _soft_labels_that_would_not_teach(config: Mapping[str, Any]) -> list[str]:
    """What is wrong where files are to teach, and a network would."""
    activation, teacher = config.get("teacher_activation"), config.get("teacher")
    if activation is None:
        said = "teacher_dir needs teacher_activation, what its files hold: logits, sigmoid, softmax or values"
        return [said] if config.get("teacher_dir") is not None else []
    if isinstance(teacher, Mapping) and str(teacher.get("_target_")).endswith("FileTeacher"):
        return []
    return ["with teacher_activation files are to teach, but a network would: train by `python -m monai_kd train`"]


def _rule(key: str) -> _Rule | None:
    return next((rule for rule in _RULES if re.fullmatch(rule[0], key)), None)
