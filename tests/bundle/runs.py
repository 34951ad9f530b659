# SPDX-License-Identifier: Apache-2.0
"""What a run is told on the command line, and what it leaves in its folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def as_words(**settings: Any) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def read_rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def check_failures(outputs: Path, reasons: dict[str, str]) -> None:
    """Each of these inputs, and no other, failed, for a reason on one line that names it and has these words."""
    failures = {Path(row["input"]).name: row["reason"] for row in read_rows(outputs / "failures.csv")}
    assert sorted(failures) == sorted(reasons)
    for name, reason in failures.items():
        assert name in reason and reasons[name] in reason and "\n" not in reason


def read_curves(run: Path, stage: str) -> dict[str, list[float]]:
    """The curves of a stage by name."""
    board = EventAccumulator(str(run / "tensorboard" / stage)).Reload()
    return {name: [event.value for event in board.Scalars(name)] for name in board.Tags()["scalars"]}


def read_weights(run: Path, name: str = "model.pt", part: str = "model") -> dict[str, torch.Tensor]:
    content = torch.load(run / name, weights_only=True)
    return content if run.name == "models" else content[part]  # what is published is a bare state dictionary


def check_kept_answers_change_nothing(distillation: Callable[..., ConfigParser], **settings: Any) -> None:
    """Two forms of every image, each of which the teacher is asked about once: rounding apart, the same student."""
    weights = []
    for mode in ("off", "disk"):
        parser = distillation(mode, teacher_cache=mode, views=2, max_epochs=3, **settings)
        parser.get_parsed_content("train#stage").run()
        run = Path(parser["ckpt_dir"])
        weights.append(read_weights(run))
    hits = [float(row["teacher_cache_hits"]) for row in read_rows(run / "distillation.csv")]
    assert hits[0] < 0.1 and hits[2] == 1  # the same crop, or flip, may come again before
    assert (run / "teacher_cache" / "process_0.bin").stat().st_size > 1000
    live, kept = weights
    for name, weight in live.items():  # Adam moves weights without a gradient, as a key's bias, by rounding alone
        torch.testing.assert_close(kept[name], weight, rtol=1e-5, atol=1e-5)
