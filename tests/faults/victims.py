# SPDX-License-Identifier: Apache-2.0
"""The verbs that are killed: how each begins and goes on, and what it must have made in the end."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .workspace import Workspace

__all__ = ["Victim", "victims", "weights_of"]


@dataclass
class Victim:
    """A verb that is to be killed.

    Attributes:
        prepare: makes in a folder what the verb needs.
        begin: its words, in a folder.
        go_on: its words when it goes on; by default the same.
        made: what it has made, to be compared.
        whole: what must hold of the folder whenever it is killed; it raises an error otherwise.
    """

    begin: Callable[[Path], list]
    made: Callable[[Path], Any]
    go_on: Callable[[Path], list] | None = None
    prepare: Callable[[Path], None] = lambda place: None
    whole: Callable[[Path], None] = lambda place: None


def weights_of(file: Path) -> dict[str, str]:
    """A hash of each tensor of a checkpoint."""
    content = torch.load(file, weights_only=True)
    state = content.get("model", content)
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.items()}


def _rows(file: Path, *without: str) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as table:
        rows = [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(table)]
    return sorted(rows, key=str)


def _tree(folder: Path) -> dict[str, str]:
    """A hash of each file below a folder, whatever identity a copy was given."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json":
            content = re.sub(rb"-[0-9a-f]{8}\b", b"", content)
        found[str(path.relative_to(folder))] = (
            str(weights_of(path)) if path.suffix == ".pt" else hashlib.sha256(content).hexdigest()
        )
    return found


def _trained(run: Path) -> dict[str, Any]:
    if list(run.glob("*_resume.pt")):
        raise AssertionError("a completed run has something to go on with")
    if any(b"\0" in log.read_bytes() for log in run.glob("*.log")):
        raise AssertionError("a log holds zeros")
    tables = {name: _rows(run / f"{name}.csv", "seconds", "waiting") for name in ("teacher", "distillation")}
    return {**tables, **{name: weights_of(run / name) for name in ("teacher.pt", "model.pt")}}


def _inferred(folder: Path) -> dict[str, Any]:
    files = {name: digest for name, digest in _tree(folder).items() if not name.endswith(".csv") and name != ".lock"}
    return {**files, "rows": _rows(folder / "summary.csv", "seconds"), "failures": _rows(folder / "failures.csv")}


def _compared(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    networks = {str(file.relative_to(folder)): weights_of(file) for file in sorted(folder.rglob("*.pt"))}
    return {**networks, **{model: found["models"][model]["metrics"] for model in found["models"]}}


def _exported(folder: Path) -> dict[str, Any]:
    if [path.name for path in folder.iterdir()] != ["student.ts"]:
        raise AssertionError(f"more than the export lies there: {list(folder.iterdir())}")
    network = torch.jit.load(str(folder / "student.ts"))
    return {name: value.tolist() for name, value in network.state_dict().items()}


def _published(bundle: Path) -> dict[str, Any]:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    card = len((bundle / "docs" / "model_card.md").read_text())
    models = sorted(path.name for path in (bundle / "models").iterdir())
    return {
        "weights": weights_of(bundle / "models" / "model.pt"),
        "metrics": metadata["eval_metrics"],
        "card": card,
        "models": models,
    }


def _readable_model(bundle: Path) -> None:
    for model in (bundle / "models").glob("*.pt"):
        weights_of(model)
    json.loads((bundle / "configs" / "metadata.json").read_text())


def victims(space: Workspace) -> dict[str, Victim]:
    """All of them by verb."""
    data = ["--dataset_dir", space.data]
    train = ["train", space.bundle, *data, *space.words]
    infer = ["infer", space.bundle, space.images]
    infer_more = ["--run", "tiny", "--probabilities", "--overlay", "batch_size=1"]
    compare = ["compare", space.bundle, *data, "--seeds", "1", *space.words, "max_epochs=1"]

    def copy_bundle(place: Path) -> None:
        shutil.copytree(space.bundle, place / "own_segmentation", dirs_exist_ok=True)
        (place / "own_segmentation" / "models" / "model.pt").unlink()

    def old_export(place: Path) -> None:
        (place / "student.ts").write_bytes(b"an older one")

    def export_is_whole(place: Path) -> None:
        file = place / "student.ts"
        if file.read_bytes() != b"an older one":
            torch.jit.load(str(file))

    return {
        "train": Victim(
            lambda place: [*train, "--run", place / "run"],
            lambda place: _trained(place / "run"),
            lambda place: [*train, "--run", place / "run", "--resume"],
        ),
        "train_workers": Victim(
            lambda place: [*train, "--run", place / "run", "num_workers=2"],
            lambda place: _trained(place / "run"),
            lambda place: [*train, "--run", place / "run", "num_workers=2", "--resume"],
        ),
        "infer": Victim(
            lambda place: [*infer, place / "out", *infer_more],
            lambda place: _inferred(place / "out"),
            lambda place: [*infer, place / "out", *infer_more, "--resume"],
        ),
        "compare": Victim(lambda place: [*compare, "--out", place / "out"], lambda place: _compared(place / "out")),
        "export": Victim(
            lambda place: [
                *("export", space.bundle, place / "student.ts", "--format", "torchscript", "--run", "tiny"),
                *("--dataset_dir", space.data),
            ],
            _exported,
            prepare=old_export,
            whole=export_is_whole,
        ),
        "publish": Victim(
            lambda place: ["publish", place / "own_segmentation", "tiny"],
            lambda place: _published(place / "own_segmentation"),
            prepare=copy_bundle,
            whole=lambda place: _readable_model(place / "own_segmentation"),
        ),
        "label_app": Victim(
            lambda place: ["label_app", place / "app", "--bundles", space.bundle, "--run", "tiny"],
            lambda place: _tree(place / "app"),
        ),
        "copy": Victim(
            lambda place: ["copy", "vessel_segmentation", place / "my_segmentation"],
            lambda place: _tree(place / "my_segmentation"),
        ),
        "generate": Victim(
            lambda place: ["generate", space.bundle, place / "data", "--cases", "6", "--image_size", "32"],
            lambda place: _tree(place / "data"),
        ),
    }
