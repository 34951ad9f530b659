# SPDX-License-Identifier: Apache-2.0
"""Lay the numbers of a comparison into docs/results/<bundle>.json: nobody types them.

    python -m monai_kd compare BUNDLE --seeds 1 --out FOLDER ...
    python tests/results/collect.py FOLDER METRIC "Title of the metric" "what was measured" [--first] [--decimals 3]
        [--networks "A -> B"] [--note "..."] [--command "..."] [--teacher standard] [--variants]

METRIC is a name of ``results.json``, such as ``dice``. The experiment with the same words for what was measured is
replaced, with its note, networks and command kept where no new ones are given; another one is added at the end, or in
front, where README.md takes it from (``--first``). Trainings that lie in ``FOLDER/seed_0`` are not repeated by
`compare`. Then `python tests/results/tables.py` writes the pages.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tables import MODELS, RESULTS

from monai_kd.comparison.results import Model, Results
from monai_kd.engines.wording import DISTILLED, label


def told(model: Model, metric: str, decimals: int) -> dict[str, Any]:
    """The score of a model and what it costs, as a row of an experiment."""
    score, effort = model.metrics[metric], model.effort
    row: dict[str, Any] = {"value": round(score.mean, decimals)}
    if score.low is not None and score.high is not None:
        row["interval"] = [round(score.low, decimals), round(score.high, decimals)]
    if score.gain_low is not None and score.gain_high is not None:
        row["gain"] = [round(value, decimals) for value in (score.gain, score.gain_low, score.gain_high)]
    if effort is not None:
        row |= {"parameters": effort.parameters, "mb": round(effort.checkpoint_mb, 1)}
        if effort.multiply_accumulates:
            row["macs"] = effort.multiply_accumulates
        if effort.network_ms:
            row["ms"] = round(effort.network_ms, 1)
    return row


def variants(results: Results, metric: str, decimals: int) -> dict[str, dict[str, Any]]:
    """The other teachers, and the students of other teachers, methods and terms, by what a table calls them."""
    found = {}
    for name, model in results.models.items():
        if name not in MODELS:
            says_it = name.endswith(")") or model.model != DISTILLED
            words = label(name) if says_it else f"{label(DISTILLED)} ({label(name)})"
            found[words] = told(model, metric, decimals)
    return found


def experiment(
    results: Results, metric: str, title: str, data: str, decimals: int, teacher: str | None, others: bool
) -> dict[str, Any]:
    """What a comparison found, by one metric."""
    names = {name: f"{name} ({teacher})" if f"{name} ({teacher})" in results.models else name for name in MODELS}
    models = {name: told(results.models[own], metric, decimals) for name, own in names.items() if own in results.models}
    for name in models:  # the same network was timed beside the others, which counts for a ratio
        plain = told(results.models[name], metric, decimals)
        if "ms" in plain and plain["parameters"] == models[name].get("parameters"):
            models[name]["ms"] = plain["ms"]
    for test in results.tests:  # the first one of a pair is by the metric that decides
        if (test.before, test.after) == (names["student_alone"], names["distilled_student"]):
            models["distilled_student"]["p"] = round(test.p_holm, 4)
            break
    groups = results.groups
    of = "" if groups.cases == groups.number else f" of {groups.number} {groups.by}s"
    return {
        "data": data,
        "metric": title,
        "seeds": len(results.seeds),
        "cases": f"{groups.cases} cases{of}" + (f" in {results.folds} folds" if results.folds else ""),
        "models": models,
        **({"variants": variants(results, metric, decimals)} if others else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    for name in ("metric", "title", "data"):
        parser.add_argument(name)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--decimals", type=int, default=3)
    parser.add_argument("--teacher", help="another of the teachers that were compared, and its student")
    parser.add_argument("--variants", action="store_true", help="all else that was compared, below the three models")
    kept = ("note", "networks", "command")
    for name in kept:
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    results = Results.read(options.comparison / "results.json")
    file = RESULTS / f"{results.bundle}.json"
    content = json.loads(file.read_text("utf-8"))
    asked = (options.metric, options.title, options.data, options.decimals, options.teacher, options.variants)
    own = experiment(results, *asked)
    places = [index for index, known in enumerate(content["experiments"]) if known["data"] == options.data]
    known = content["experiments"][places[0]] if places else {}
    own |= {name: words for name in kept if (words := getattr(options, name) or known.get(name))}
    own |= {"settings": known["settings"]} if "settings" in known else {}
    if places:
        content["experiments"][places[0]] = own
    else:
        content["experiments"].insert(0 if options.first else len(content["experiments"]), own)
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
