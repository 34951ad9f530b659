# SPDX-License-Identifier: Apache-2.0
"""Write the tables of results into the pages from docs/results/<bundle>.json: nobody types them.

    python tests/results/tables.py          # writes
    python tests/results/tables.py --check  # says by its exit status whether the pages hold what the files say

They stand between ``<!-- results: WHICH -->`` and ``<!-- end of results -->``, where WHICH is `bundles` (a row for each
bundle, README.md), a bundle's name (a row for each experiment, the bundle's page) or a bundle's name and `in full` (a
table for each experiment, docs/results.md).

A file has `bundle` and `experiments`, a list of `data`, `metric`, `models`, and as far as known `seeds`, `cases`,
`note`, `command`, `networks` (where they are not the bundle's own) and `settings` (where they stand); the first one is
that of README.md. `models` has `teacher`, `student_alone` and `distilled_student`, which have `value` (null: not
measured) and as far as measured `interval` (of 95 %), `gain` over the student alone with its interval, `p` (against the
student alone), `parameters`, `macs`, `ms` and `mb`. `variants`, by name, are what else was compared, in the same form.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
MODELS = {"teacher": "teacher", "student_alone": "student alone", "distilled_student": "distilled student"}
COLUMNS = {"parameters": "parameters", "macs": "multiply-accumulates", "ms": "ms", "mb": "MB"}
BLOCK = re.compile(r"<!-- results: ([\w ]+) -->\n(.*?)<!-- end of results -->", re.DOTALL)
BUNDLES = {
    "brain_tumor_segmentation": ("outlines tumours in MRI slices", "U-Net + ViT -> small U-Net"),
    "brain_tumor_classification": ("names the kind of tumour", "VGG19 + ViT-B/16 -> EfficientNet-B0"),
    "brain_extraction": ("masks the brain in 3D head images", "3D UNet++ that paints it -> smaller UNet++"),
    "mri_reconstruction": ("restores images from a part of k-space", "DC-CNN D5C5 -> D3C5"),
    "mri_super_resolution": ("the same from the centre of k-space", "VDSR -> shallow VDSR"),
    "chest_xray_classification": ("tells findings in X-rays of low resolution", "ViT on full -> ViT on low resolution"),
    "vessel_segmentation": ("outlines vessels in 3D images of low resolution", "H-net on full -> L-net on low"),
    "nnunet_segmentation": ("what your nnU-Net does", "nnU-Net -> the same plans, a quarter of the channels"),
}
"""What a bundle does, and its teacher and student, in the order of README.md."""


def written(value: float | None, digits: int) -> str:
    """A measured number; nothing where none was measured."""
    return "" if value is None else f"{value:.{digits}f}"


def digits_of(told: dict[str, Any]) -> int:
    """How many decimals an experiment's values have, so that all are written with as many."""
    values = [told["models"][model]["value"] for model in MODELS]
    return max(len(str(value).partition(".")[2]) for value in values if value is not None)


def experiments(bundle: str) -> list[dict[str, Any]]:
    """What has been measured of a bundle."""
    return json.loads((RESULTS / f"{bundle}.json").read_text("utf-8"))["experiments"]


def ratio(told: dict[str, Any], key: str) -> str:
    """How many times less the student needs than its teacher; nothing where one of them was not measured."""
    teacher, student = (told["models"][model].get(key) for model in ("teacher", "distilled_student"))
    return f"{teacher / student:.2g} x" if teacher and student else ""


def gain(told: dict[str, Any]) -> str:
    """By how much the distilled student differs from the same student alone."""
    alone, distilled = (told["models"][model]["value"] for model in ("student_alone", "distilled_student"))
    digits, metric = digits_of(told), told["metric"]
    if alone is None or distilled is None:
        return f"{written(distilled, digits)} {metric}; alone: not measured"
    p = told["models"]["distilled_student"].get("p")
    chance = "" if p is None else f" (p = {p:.2g})"
    # The recorded gain is of values that are not rounded.
    difference = told["models"]["distilled_student"].get("gain", [distilled - alone])[0]
    return f"{difference:+.{digits}f} {metric}{chance}"


def gain_in_words(row: dict[str, Any], digits: int) -> str:
    """By how much a student differs from the one alone, with its interval; nothing where that is not known."""
    if "gain" not in row:
        return ""
    value, low, high = (f"{number:+.{digits}f}" for number in row["gain"])
    return f"{value} ({low} to {high})"


def bundles_table() -> str:
    """A row for each bundle, with its first experiment."""
    lines = ["| bundle | does | teacher -> student | gain | smaller | faster | weights |"]
    lines.append("|" + "---|" * 7)
    for bundle, (does, pair) in BUNDLES.items():
        measured = ["not measured on real images yet", "", ""]
        if found := experiments(bundle):
            pair = found[0].get("networks", pair)
            measured = [gain(found[0]), ratio(found[0], "parameters"), ratio(found[0], "ms")]
        model = ROOT / "bundle" / bundle / "models" / "model.pt"
        card = f"[{model.stat().st_size / 1e6:.1f} MB](bundle/{bundle}/docs/model_card.md)" if model.is_file() else ""
        name = f"[`{bundle}`](bundle/{bundle}/docs/README.md)"
        lines.append("| " + " | ".join([name, does, pair, *measured, card]) + " |")
    return "\n".join(lines)


def short_table(bundle: str) -> str:
    """A row for each experiment."""
    if not experiments(bundle):
        return "Not measured on real images yet."
    lines = ["| data | measure | teacher | alone | distilled | p |", "|---|---|---|---|---|---|"]
    for told in experiments(bundle):
        values = [written(told["models"][model]["value"], digits_of(told)) for model in MODELS]
        p = told["models"]["distilled_student"].get("p")
        cells = [told["data"], told["metric"], *values, "" if p is None else f"{p:.2g}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def long_tables(bundle: str) -> str:
    """A table for each experiment with all that was measured, and how."""
    blocks, last = [], ""
    for told in experiments(bundle):
        others = told.get("variants", {})
        models = [*(told["models"][model] for model in MODELS), *others.values()]
        columns = {
            "": [*MODELS.values(), *others],
            told["metric"]: [written(row["value"], digits_of(told)) for row in models],
            "95 % interval": [
                " to ".join(written(end, digits_of(told)) for end in row.get("interval", ())) for row in models
            ],
            "gain": [gain_in_words(row, digits_of(told)) for row in models],
            "p against alone": [f"{row['p']:.2g}" if "p" in row else "" for row in models],
        }
        columns |= {title: [f"{row[key]:,}" if key in row else "" for row in models] for key, title in COLUMNS.items()}
        columns = {title: cells for title, cells in columns.items() if any(cells)}
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cells) + " |" for cells in zip(*columns.values())]
        seeds = {None: None, 1: "one seed"}.get(told.get("seeds"), f"{told.get('seeds')} seeds")
        about = "; ".join(text for text in (told.get("cases"), seeds, told.get("note")) if text)
        if "command" in told:
            about += f". Repeat it:\n\n```bash\n{told['command']}\n```"
        about = f"**{told['data']}.** {about}"
        blocks.append(("The same by another measure:" if about == last else about) + "\n\n" + "\n".join(lines))
        last = about
    return "\n\n".join(blocks) or "Not measured on real images yet."


def table(which: str) -> str:
    """What belongs between two marks."""
    if which == "bundles":
        return bundles_table()
    return long_tables(which.removesuffix(" in full")) if which.endswith(" in full") else short_table(which)


def laid_in(page: str) -> str:
    """A page with its tables between their marks."""
    return BLOCK.sub(lambda mark: f"<!-- results: {mark[1]} -->\n{table(mark[1])}\n<!-- end of results -->", page)


def places() -> dict[Path, list[str]]:
    """The pages, and which tables each of them must have."""
    found = {ROOT / "README.md": ["bundles"], ROOT / "docs" / "results.md": [f"{name} in full" for name in BUNDLES]}
    return found | {ROOT / "bundle" / name / "docs" / "README.md": [name] for name in BUNDLES}


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check, stale = parser.parse_args().check, 0
    for page, needed in places().items():
        before = page.read_text("utf-8")
        if sorted(which for which, _ in BLOCK.findall(before)) != sorted(needed):
            raise ValueError(f"{page} must have <!-- results: ... --> ... <!-- end of results --> for {needed}")
        after = laid_in(before)
        stale += before != after
        if not check:
            page.write_text(after, "utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    raise SystemExit(main())
