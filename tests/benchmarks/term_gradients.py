# SPDX-License-Identifier: Apache-2.0
"""Measure what each distillation term weighs at the start of a training: its gradient against the task's.

    python tests/benchmarks/term_gradients.py [--bundles NAME ...] [--settings demo train] [--out OUT.json] ...

For every bundle and every method that it has (``method_terms``; else its terms as they are) a teacher is trained for a
few steps on generated data, as the configuration says, and the student begins a distillation by it. The norms of
``weight * term``'s gradient in the student's parameters come from `monai_kd.handlers.GradientShares`: the table has
each one's ratio to the task's, and the weight at which the two would be equal. Settings are the demo's, or those of
``train.json`` with fewer generated cases, where ``--override`` makes them smaller (``image_size=128``).

A weight is fit to begin with if the ratio is of the order of 1: between 0.1 and 10. Below 0.01 a term does nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import set_determinism

import monai_kd

SHARE = "gradient_share_"


def parse(bundle: str, settings: str, overrides: dict[str, Any]) -> ConfigParser:
    configs = Path(monai_kd.bundle_root(bundle)) / "configs"
    files = ["train.json", "demo.json"] if settings == "demo" else ["train.json"]
    parser = ConfigParser({})
    parser.read_meta(str(configs / "metadata.json"))
    parser.read_config([str(configs / file) for file in files])
    parser.update(overrides)
    # A few steps are not validated, nor do their rates fall.
    for section in ("train", "student_alone", "teacher_training"):
        handlers = parser.get(section).get("handlers")
        if isinstance(handlers, list):
            parser[f"{section}#handlers"] = [handler for handler in handlers if not _is_of_epochs(handler)]
    return parser


def _is_of_epochs(handler: Any) -> bool:
    return isinstance(handler, dict) and handler.get("_target_") in ("ValidationHandler", "LrScheduleHandler")


def measure(bundle: str, settings: str, method: str, folder: Path, arguments: argparse.Namespace) -> list[dict]:
    """A row for each term."""
    overrides: dict[str, Any] = {
        "bundle_root": monai_kd.bundle_root(bundle),
        "ckpt_dir": str(folder),
        "dataset_dir": f"$@generator.once('{folder}/data', cases={arguments.cases}, seed=0)",
        "num_workers": 0,
        "cache_rate": 0.0,
        **({"method": method} if method else {}),
        **dict(_key_value(word) for word in arguments.override),
    }
    parser = parse(bundle, settings, overrides)
    parser.parse()
    set_determinism(0)
    for name in ("network_def", "distillation"):  # first, so that every method begins with the same student
        parser.get_parsed_content(name)
    teacher_file = folder / "teacher.pt"
    if not teacher_file.is_file():
        stage = parser.get_parsed_content("teacher_training#stage")
        _steps(stage.trainer, arguments.teacher_steps)
        stage.run()
    trainer = parser.get_parsed_content("train#trainer")
    loss = parser.get_parsed_content("distillation")
    _steps(trainer, arguments.steps)
    trainer.state.max_epochs = 1  # whose numbers the shares are
    trainer.run()
    shares = {k.removeprefix(SHARE): v for k, v in trainer.state.metrics.items() if k.startswith(SHARE)}
    task = shares.pop("task", float("nan"))
    return [
        {
            "bundle": bundle,
            "settings": settings,
            "method": method or "-",
            "term": name,
            "weight": loss.terms[name].weight,
            "ratio": share / task,
            "equal_at": loss.terms[name].weight * task / share if share else None,
        }
        for name, share in shares.items()
    ]


def _steps(trainer: Any, number: int) -> None:
    """Let the trainer's run end after so many steps, rounded up to whole epochs where there is more than one."""
    trainer.state.epoch_length = min(number, trainer.state.epoch_length)
    trainer.state.max_epochs = -(-number // trainer.state.epoch_length)


def _key_value(word: str) -> tuple[str, Any]:
    key, _, value = word.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def methods(bundle: str) -> Sequence[str]:
    config = json.loads((Path(monai_kd.bundle_root(bundle)) / "configs" / "train.json").read_text())
    return list(config.get("method_terms", {})) or [""]


def table(rows: Iterable[dict]) -> str:
    lines = ["| bundle | settings | method | term | weight | gradient / task's | equal at |", f"|{'---|' * 7}"]
    for row in rows:
        equal = "-" if row["equal_at"] is None else f"{row['equal_at']:.2g}"
        words = [row[name] for name in ("bundle", "settings", "method", "term")]
        lines.append(f"| {' | '.join([*words, format(row['weight'], 'g'), format(row['ratio'], '.2g'), equal])} |")
    return "\n".join(lines)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--bundles", nargs="+", default=monai_kd.bundle_names())
    cli.add_argument("--settings", nargs="+", default=["demo"], choices=["demo", "train"])
    cli.add_argument("--methods", nargs="+", help="only these")
    cli.add_argument("--cases", type=int, default=20, help="generated cases")
    cli.add_argument("--teacher-steps", type=int, default=100)
    cli.add_argument("--steps", type=int, default=3, help="steps of the distillation that are averaged")
    cli.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE")
    cli.add_argument("--out", type=Path, help="JSON file for the rows")
    arguments = cli.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows: list[dict] = []
    for settings in arguments.settings:
        for bundle in arguments.bundles:
            with tempfile.TemporaryDirectory() as folder:
                for method in [m for m in methods(bundle) if not arguments.methods or m in arguments.methods]:
                    rows += measure(bundle, settings, method, Path(folder), arguments)
                    print(table(rows).splitlines()[-1], flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(rows, indent=2))
    print(table(rows))


if __name__ == "__main__":
    main()
