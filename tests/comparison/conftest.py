# SPDX-License-Identifier: Apache-2.0
"""A comparison of two seeds as its runs leave it: ten patients of two cases, a better distilled student."""

import csv
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_kd.comparison import Results, Row, collect, collect_results
from monai_kd.comparison.effort import Effort
from monai_kd.comparison.paper import Paper

EFFORT = Effort(
    parameters=1000,
    checkpoint_mb=0.5,
    multiply_accumulates=2_500_000,
    network_ms=2.0,
    case_ms=10.0,
    peak_memory_mb=600.0,
    model_memory_mb=50.0,
    timed_cases=10,
    device="cpu",
    threads=1,
)
MODELS = {"teacher": 0.9, "student_alone": 0.7, "distilled_student": 0.8}
EPOCHS = [
    {"epoch": epoch, "iterations": 5, "seconds": 1.5, "loss": epoch / 10, "task": 0.5, "val_mean_dice": 0.6}
    for epoch in (1, 2)
]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as opened:
        table = csv.DictWriter(opened, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def comparison(tmp_path, monkeypatch) -> Callable[..., Results]:
    """Collect the results of planted cases; what measures and draws networks is left out."""
    root, folder, data = tmp_path / "bundle", tmp_path / "compare", tmp_path / "data"
    monkeypatch.setattr(collect, "measure", lambda run, bundle_root, model: EFFORT)
    monkeypatch.setattr(collect, "draw_cases", lambda *arguments: [])

    def found(
        models: dict[str, float] = MODELS,
        seeds: int = 2,
        generated: bool = False,
        paper: Paper | None = None,
        epochs: list[dict[str, Any]] = EPOCHS,
        others: dict[str, float] | None = None,
        teacher_metrics: tuple[str, str] = ("dice", "distance_mm"),
        own_list: str | None = None,
        unknown: Collection[tuple[int, str, str]] = (),
    ) -> Results:
        generator = np.random.default_rng(0)
        listed = [(f"p{case // 2}", str(data / f"{case}.png")) for case in range(20)]
        for seed in range(seeds):
            levels = {(f"seed_{seed}", model): level for model, level in models.items()}
            levels |= {(f"seed_{seed}/teachers/other", model): level for model, level in (others or {}).items()}
            for (place, model), level in levels.items():
                rows = []
                for patient, path in listed:
                    dice = level + generator.normal(0, 0.01)
                    dice = np.nan if (seed, model, patient) in unknown else dice
                    names = teacher_metrics if model == "teacher" else ("dice", "distance_mm")
                    rows.append({"input": path, "patient": patient, **dict(zip(names, (dice, 10 * (1 - dice))))})
                write_rows(folder / place / "evaluation" / model / "cases.csv", rows)
                summary = folder / place / "evaluation" / model / "summary.json"
                summary.write_text(json.dumps({"parameters": 1000}))
            for stage in ("teacher", "student_alone", "distillation"):
                write_rows(folder / f"seed_{seed}" / f"{stage}.csv", epochs)
            for place in dict.fromkeys(place for place, _ in levels):
                (folder / place / "model.json").write_text(json.dumps({"validate": {"handlers": []}}))
        metadata = {
            "name": "Masks <small>",
            "version": "1.0",
            "description": "Outlines",
            "intended_use": "Research",
            "data_source": "Some data",
            "references": ["A & B, 2026"],
        }
        (root / "configs").mkdir(parents=True, exist_ok=True)
        (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
        (root / "configs" / "evaluate.json").write_text(json.dumps({"compared_groups": "patient"}))
        (root / "configs" / "train.json").write_text(json.dumps({"batch_size": 8, "seed": 0}))
        (root / "LICENSE").write_text("\n  Some License\n  Version 3\n\nText.\n")
        data.mkdir(exist_ok=True)
        if generated:
            (data / "generated.json").write_text(json.dumps({"generator": "Maker", "seed": 0}))
        items = [
            {"image": path, "label": path, "patient": patient, "site": patient[-1] in "13579"}
            for patient, path in listed
        ]
        config = {
            "batch_size": 4,
            "dataset_dir": "/somewhere",
            "datalist_file": own_list,
            **{
                section: {"name": name, "stage": {"name": "@##name"}}  # as the bundles have it
                for section, name in (
                    ("teacher_training", "teacher"),
                    ("student_alone", "student_alone"),
                    ("train", "distillation"),
                )
            },
        }
        rows = [Row(model, model, [folder / f"seed_{seed}" for seed in range(seeds)]) for model in models]
        if others is not None:
            folders = [folder / f"seed_{seed}" / "teachers" / "other" for seed in range(seeds)]
            rows.append(Row("teacher (other)", "teacher", folders))
            rows.append(Row("distilled_student (other)", "distilled_student", folders, teacher="teacher (other)"))
        directions = {"dice": True, "distance_mm": False}
        datalist = {"training": [{"image": "x.png", "patient": "q"}], "validation": [], "test": items}
        return collect_results(folder, root, config, data, datalist, rows, "equal", directions, paper)

    return found
