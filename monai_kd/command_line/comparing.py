# SPDX-License-Identifier: Apache-2.0
"""The verb ``compare``."""

from __future__ import annotations

from typing import Any

import monai_kd
from monai_kd.bundle import Bundle, plain_path
from monai_kd.files import read_json

from .errors import DONE
from .output import say
from .teachers import taught_by_files
from .trust import check_scripts
from .words import config_settings, given, parse, paths, value_of

__all__ = ["compare"]


def compare(
    name: str,
    *overrides: str,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    seeds: int | None = None,
    folds: int = 0,
    device: str | None = None,
    out: str | None = None,
    effort: str = "equal",
    demo: bool = False,
    dry_run: bool = False,
    terms: bool = False,
    methods: bool = False,
    teachers: bool = False,
    paper: bool = False,
    trust: bool = False,
    config: str | None = None,
    **options: Any,
) -> int:
    """Say whether distillation helped: train and test teacher, student alone and distilled student with several seeds.

    Writes report.html, table.md, table.csv, results.json and model_card.md. What is completed is kept: the same command
    goes on with an interrupted comparison.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        overrides: further settings as key=value, by the ids of the bundle's train.json.
        dataset_dir: folder of the data set.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        seeds: how many seeds; 3, or 1 with --demo or --folds.
        folds: cross-validate over so many parts of all patients, in the place of the test side.
        device: cpu, cuda:0, ...
        out: the folder of the comparison.
        effort: how long the student alone trains: equal (as many steps as the student takes with the teacher in all
            stages) or schedule (as many as in the distillation).
        demo: generated data and small networks.
        dry_run: only say what would be trained, what is there, and how long the rest may take.
        terms: also train each term of the distillation alone, and all but each.
        methods: also train the other distillation methods that the bundle offers.
        teachers: also train the other teachers that the bundle offers, and a student by each.
        paper: put the paper's published numbers beside the results.
        trust: run TorchScript files, which are code, that `export` did not make, such as a teacher.
        config: a JSON or YAML file of settings, laid over the bundle's as key=value is, which it gives way to; several
            with commas between them, or as --config given several times.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    demo, dry_run, paper = (value_of(switch) for switch in (demo, dry_run, paper))
    also = {"terms": value_of(terms), "methods": value_of(methods), "teachers": value_of(teachers)}
    folder = monai_kd.run_dir(bundle.root, "compare_demo" if demo else "compare") if out is None else plain_path(out)
    settings = {**paths(dataset_dir=dataset_dir, datalist_file=datalist), **given(device=device)}
    folds = value_of(folds)
    if folds and not read_json(bundle.root / "configs" / "evaluate.json").get("compared_folds", True):
        raise ValueError(f"{name} trains by the folds of its data set, one by one: name fold=N in the place of --folds")
    number = (1 if demo or folds else 3) if seeds is None else value_of(seeds)
    chosen = {"seeds": number, "effort": effort, "folds": folds, **also}
    if dry_run:
        call = f"$monai_kd.comparison.plan(@ckpt_dir, **{chosen})"
    else:
        chosen["paper"] = paper
        call = f"$monai_kd.comparison.compare(@ckpt_dir, @dataset_dir, @datalist, @bundle_root, **{chosen})"
    sides = "@datalist['training']" if folds else "@datalist['training'], @datalist['test']"
    needed = [] if dry_run else [f"$monai_kd.data.require({sides})"]
    settings |= {"ckpt_dir": folder, "run": [*needed, call]}
    overlays = ["demo.json"] if demo else []
    wanted = {**config_settings(config, bundle, "train.json", *overlays), **settings, **parse(overrides, options)}
    check_scripts(wanted, value_of(trust))
    results = bundle.run("train.json", *overlays, overrides=taught_by_files(wanted, bundle.config("train.json")))
    written = f"the comparison is in {folder}: open report.html, or read table.md"
    say(*(results[-1].splitlines() if dry_run else [written]))
    return DONE
