# SPDX-License-Identifier: Apache-2.0
"""The metrics of an evaluation, case by case and in summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Events
from monai.engines import Evaluator, IterationEvents
from monai.utils import CommonKeys as Keys
from monai.utils import ensure_tuple

from monai_kd.csv_tables import rounded, write_table
from monai_kd.files import write_text
from monai_kd.finite import check_finite
from monai_kd.process_group import is_distributed

__all__ = ["CaseTable"]


class CaseTable:
    """Write ``cases.csv`` and ``summary.json`` when an evaluation is completed.

    ``cases.csv`` has a row per case: ``input``, ``patient`` where the data list names it, and a column per metric that
    keeps its values per case (MONAI's metric handlers with ``save_details``). ``summary.json`` gives each metric's
    mean, standard deviation over cases, median and number of cases, and the network's number of ``parameters``. A case
    without a finite value, such as the precision where nothing was predicted, is left out there, and so is a metric
    that no case has. A metric ``val_mean_dice`` is called ``dice``; of several classes it is the mean over them, and
    ``dice_<class>`` is that of each. The evaluation ends with an error at the first case whose prediction holds NaN or
    infinite values.

    Args:
        output_dir: folder of the two files, made if need be.
        image_key: key of the image whose metadata names the input file.
        class_names: of the metrics' channels, where there are several.
    """

    def __init__(self, output_dir: str, image_key: str = Keys.IMAGE, class_names: Sequence[str] = ()) -> None:
        self.output_dir = Path(output_dir)
        self.image_key = image_key
        self.channel_names = tuple(class_names)
        self._cases: list[dict[str, str]] = []

    def attach(self, engine: Evaluator) -> None:
        """
        Args:
            engine: an evaluator that decollates its batches.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._forward_completed)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Any) -> None:
        if is_distributed():
            raise RuntimeError(
                "an evaluation's tables are of all cases, so it runs in one process: start it without torchrun"
            )
        self._cases = []

    def _forward_completed(self, engine: Any) -> None:
        """A prediction of NaN would count as an empty one."""
        meta = getattr(engine.state.batch[self.image_key], "meta", {})
        check_finite(engine.state.output[Keys.PRED], ", ".join(map(str, ensure_tuple(meta.get("filename_or_obj", "")))))

    def _iteration_completed(self, engine: Any) -> None:
        for sample in engine.state.batch:
            case = {"input": str(sample[self.image_key].meta["filename_or_obj"])}
            if "patient" in sample:
                case["patient"] = str(sample["patient"])
            self._cases.append(case)

    def _completed(self, engine: Any) -> None:
        columns: dict[str, np.ndarray] = {}
        for name, details in engine.state.metric_details.items():
            values = np.asarray(details.cpu(), dtype=float).reshape(len(self._cases), -1)
            columns[_short(name)] = values.mean(axis=1)
            if 1 < values.shape[1] == len(self.channel_names):
                columns |= {f"{_short(name)}_{own}": column for own, column in zip(self.channel_names, values.T)}
        rows = [
            {**case, **{name: rounded(float(values[row]), 6) for name, values in columns.items()}}
            for row, case in enumerate(self._cases)
        ]
        self._write_rows("cases.csv", rows)
        self._write_summary(_summarise(columns), engine)

    def _write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_table(self.output_dir / name, rows, list(rows[0]))

    def _write_summary(self, scores: Mapping[str, Any], engine: Any) -> None:
        summary = {**scores, "parameters": sum(p.numel() for p in engine.network.parameters())}
        write_text(self.output_dir / "summary.json", json.dumps(summary, indent=2))


def _short(name: str) -> str:
    return name.removeprefix("val_").removeprefix("mean_")


def _summarise(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    known = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {
        name: {
            "mean": float(values.mean()),
            "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            "median": float(np.median(values)),
            "cases": len(values),
        }
        for name, values in known.items()
        if len(values)
    }
