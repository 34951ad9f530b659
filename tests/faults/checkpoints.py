# SPDX-License-Identifier: Apache-2.0
"""Hostile and damaged checkpoints, given to every verb that takes one: nothing of them runs, and each is named."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .child import limit_memory, run_verb
from .tally import DONE, REFUSED, Tally
from .workspace import Workspace, judge

__all__ = ["try_checkpoint"]


class _Runs:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


class _Writes(nn.Module):
    """A script that makes a file when it is applied."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        written = torch.from_file(self.mark, True, 4, dtype=torch.float32).fill_(1.0)
        return x[:, :1] * written[0]  # or the compiler would leave it out


class _Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


def _saved(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _scripted(module: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def _bomb() -> bytes:
    """Weights that are packed a thousand times smaller, which `torch.save` never does."""
    file, source = io.BytesIO(), io.BytesIO(_saved({"model": {"a": torch.zeros(2**20)}}))
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name) * (200 if name.endswith("/0") else 1))
    return file.getvalue()


def _makers(space: Workspace, mark: Path, rng: np.random.Generator) -> dict[str, tuple[str, Callable[[], bytes]]]:
    """Suffix and content by name."""
    whole = (space.run / "model.pt").read_bytes()
    state = torch.load(space.run / "model.pt", weights_only=True)["model"]

    def changed(change: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
        first = next(iter(state))
        return _saved({"model": {**state, first: change(state[first])}})

    return {
        "empty": (".pt", lambda: b""),
        "text": (".pt", lambda: b"no weights\n" * 50),
        "zeros": (".pt", lambda: bytes(5000)),
        "truncated": (".pt", lambda: whole[: int(rng.integers(1, len(whole) - 1))]),
        "not_finite": (".pt", lambda: changed(lambda value: value * float(rng.choice([np.nan, np.inf])))),
        "another_network": (".pt", lambda: _saved({"model": nn.Linear(3, 4).state_dict()})),
        "another_shape": (".pt", lambda: changed(lambda value: value[:1])),
        "list": (".pt", lambda: _saved([1, 2])),
        "number": (".pt", lambda: _saved(7)),
        "numbers_by_number": (".pt", lambda: _saved({1: 2})),
        "nested": (".pt", lambda: _saved({"model": {"model": {}}})),
        "pickle": (".pt", lambda: _saved({"model": {**state, "a": _Runs(mark)}})),
        "pickle_older": (".pt", lambda: _saved(_Runs(mark), _use_new_zipfile_serialization=False)),
        "pickle_plain": (".pt", lambda: pickle.dumps(_Runs(mark))),
        "bomb": (".pt", _bomb),
        "script": (".ts", lambda: _scripted(_Plain())),
        "script_as_weights": (".pt", lambda: _scripted(_Plain())),
        "script_that_writes": (".ts", lambda: _scripted(_Writes(str(mark)))),
        "script_truncated": (".ts", lambda: _scripted(_Plain())[:-50]),
        "script_empty": (".ts", lambda: b""),
        "onnx_text": (".onnx", lambda: b"no network\n" * 9),
        "onnx_empty": (".onnx", lambda: b""),
    }


def try_checkpoint(space: Workspace, seed: int, number: int, tally: Tally) -> None:
    """Give one checkpoint to one verb; numbers go through all pairs of them."""
    rng = np.random.default_rng([seed, number])
    place = space.place("checkpoint")
    mark = place / "it_ran"
    makers = _makers(space, mark, rng)
    name = list(makers)[number % len(makers)]
    suffix, make = makers[name]
    file = place / f"hostile{suffix}"
    file.write_bytes(make())
    ways = {**_by_file(space, place, file), **(_by_run(space, place, file) if suffix == ".pt" else {})}
    way = list(ways)[number // len(makers) % len(ways)]
    words = ways[way]()
    ended = run_verb(words, 120, before=limit_memory(4 * 2**30))
    outcome, detail = judge(ended)
    kind, where = f"checkpoint:{way}", f"seed {seed} number {number}, {name}: {detail}"
    if mark.exists():
        tally.add(kind, "silent", f"it ran: {where}")
    elif outcome == DONE and not (way == "untrusted" and name in _HARMLESS):
        tally.add(kind, "silent", f"it was taken: {where} {ended.out[-500:]}")
    elif outcome == REFUSED and detail.startswith("error") and not any(name in detail for name in _SAID):
        tally.add(kind, "unclear", f"names no file: {where}")
    elif way == "untrusted" and ended.status == 1 and not ended.err:
        tally.add(kind, REFUSED)
    else:
        tally.add(kind, outcome, where)


_SAID = ("hostile", "model.pt", "teacher.pt", "resume.pt", "belong to another network")
_HARMLESS = ("not_finite", "another_network", "another_shape", "list", "number", "numbers_by_number", "nested", "bomb")
_HARMLESS += ("script", "script_as_weights", "onnx_text", "onnx_empty")


def _by_file(space: Workspace, place: Path, file: Path) -> dict[str, Callable[[], list]]:
    """Verbs that are given a file."""
    out, images = place / "out", space.images
    data = ["--dataset_dir", space.data]
    ways: dict[str, Callable[[], list]] = {
        "infer": lambda: ["infer", space.bundle, images, out, "--checkpoint", file, "--run", "tiny"],
        "untrusted": lambda: ["verify", "--untrusted", file],
    }
    if file.suffix == ".pt":
        teacher = [f"teacher_checkpoint={file}", "--stages", "distill", "--run", place / "run"]
        ways |= {
            "evaluate": lambda: ["evaluate", space.bundle, "--run", "tiny", "--checkpoint", file, "--output", out],
            "teacher": lambda: ["train", space.bundle, *data, *teacher, *space.words],
        }
    return ways


def _by_run(space: Workspace, place: Path, file: Path) -> dict[str, Callable[[], list]]:
    """Verbs that are given a run with such a student, or such a teacher."""
    bundle, out = place / "own_segmentation", place / "out"

    def swapped(name: str, *words: object) -> list:
        shutil.copytree(space.bundle, bundle)
        shutil.copy(file, bundle / "runs" / "tiny" / name)
        (bundle / "models" / "model.pt").unlink()
        return list(words)

    def published(*words: object) -> list:
        swapped("model.pt")
        shutil.copy(file, bundle / "models" / "model.pt")
        return list(words)

    export = ["export", bundle, out.with_suffix(".ts"), "--format", "torchscript", "--run", "tiny"]
    app = ["label_app", place / "app", "--bundles", bundle, "--run", "tiny"]
    return {
        "infer_run": lambda: swapped("model.pt", "infer", bundle, space.images, out, "--run", "tiny"),
        "infer_published": lambda: published("infer", bundle, space.images, out),
        "evaluate_run": lambda: swapped("model.pt", "evaluate", bundle, "--run", "tiny"),
        "export_run": lambda: swapped("model.pt", *export),
        "publish_run": lambda: swapped("model.pt", "publish", bundle, "tiny"),
        "label_app_run": lambda: swapped("model.pt", *app),
        "label_app_teacher": lambda: swapped("teacher.pt", *app),
        "verify_run": lambda: swapped("model.pt", "verify", bundle, "--run", "tiny"),
        "resume": lambda: swapped(
            *("distillation_resume.pt", "train", bundle, "--dataset_dir", space.data, "--run", "tiny", "--resume"),
            *space.words,
        ),
    }
