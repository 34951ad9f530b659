# SPDX-License-Identifier: Apache-2.0
"""Settings without sense: each is refused by its name before anything is trained."""

from __future__ import annotations

import json

import numpy as np

from .child import limit_memory, run_verb
from .tally import DONE, REFUSED, Tally
from .workspace import Workspace, judge

__all__ = ["try_setting"]

_NONSENSE = {
    "threshold": ["2", "-0.1", "NaN", "half", "[]", "{}"],
    "temperature": ["0", "-1", "NaN", "warm", "Infinity"],
    "image_size": ["0", "-32", "3.5", "large", "[32, 0]", "true"],
    "batch_size": ["0", "-4", "1.5", "many", "true"],
    "max_epochs": ["0", "-1", "2.5", "long", "true"],
    "learning_rate": ["-0.1", "0", "NaN", "Infinity", "fast"],
    "num_workers": ["-1", "1.5", "all"],
    "cache_rate": ["2", "-1", "NaN"],
    "hard_weight": ["2", "-1", "NaN"],
    "fusion_weight": ["-1", "NaN", "Infinity"],
    "amp": ["maybe", "2", "[]"],
    "resume": ["perhaps"],
    "seed": ["-1", "0.5", "NaN"],
    "val_interval": ["0", "-1"],
    "teacher_cache": ["sometimes"],
    "precision": ["float7"],
    "fusion": ["decodr"],
    "split": ["seedy"],
    "device": ["cuda:99", "gpu", "-1"],
    "student_features": ["[]", "[0, 0, 0, 0, 0, 0]", "7", "[-1, 2, 2, 2, 2, 2]"],
    "max_voxels": ["-1", "0", "1"],
}
_FORMS = ("max_epoch", "learning_rat", "lossess", "network_def#featurs", "train#trainer#max_epoch", "a", "threshold#0")
_ANY = ["-1", "0", '"x"', "[]", "{}", "null", "true", "[1, 2]", "3.5", '{"a": {"b": 1}}', "NaN", '"@"', '"%nothing"']
_SLOW = ("epochs", "run", "training", "imports", "initialize", "bundle_root", "ckpt_dir")


def try_setting(space: Workspace, seed: int, number: int, tally: Tally) -> None:
    """Train with one setting: one that makes no sense, one that does not exist, or anything for any id."""
    rng = np.random.default_rng([seed, number])
    place = space.place("setting")
    kind = ("nonsense", "unknown", "any")[number % 3]
    if kind == "nonsense":
        key = str(rng.choice(list(_NONSENSE)))
        value = str(rng.choice(_NONSENSE[key]))
    elif kind == "unknown":
        key, value = str(rng.choice(_FORMS)), "1"
    else:
        config = json.loads((space.bundle / "configs" / "train.json").read_text())
        key = str(rng.choice([key for key in config if not any(word in key for word in _SLOW)]))
        value = str(rng.choice(_ANY))
    words = [word for word in space.words if word.partition("=")[0] != key]
    call = ["train", space.bundle, "--dataset_dir", space.data, "--run", place / "run", *words, f"{key}={value}"]
    ended = run_verb(call, 120, before=limit_memory(6 * 2**30))
    outcome, detail = judge(ended)
    where = f"seed {seed} number {number}, {key}={value}: {detail}"
    if outcome == DONE and kind != "any":
        tally.add(f"setting:{kind}", "silent", f"it was taken: {where}")
    elif outcome == REFUSED and kind == "nonsense" and key not in detail and value not in detail:
        tally.add(f"setting:{kind}", "unclear", f"names no setting: {where}")
    elif outcome == REFUSED and kind != "any" and list(place.glob("run/*.pt")):
        tally.add(f"setting:{kind}", "silent", f"it was refused after training: {where}")
    else:
        tally.add(f"setting:{kind}", outcome, where)
