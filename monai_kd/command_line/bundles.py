# SPDX-License-Identifier: Apache-2.0
"""The verbs that look at a bundle, copy it or make data for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.bundle import Bundle, bundles_in, plain_path
from monai_kd.files import remove_unfinished, whole_folder
from monai_kd.inspection import find_code
from monai_kd.verification import CHECKS, EXPORTS, check_run

from .errors import DONE, SOME_FAILED, reason
from .output import say
from .words import parse

__all__ = ["copy", "generate", "list_bundles", "verify"]

_LONGEST = 300  # characters of a line that are shown


def list_bundles(folder: str | None = None) -> int:
    """Show the bundles, what each one reads, and whether trained weights are there.

    Args:
        folder: also show the bundles in this folder. Those in the folders that the environment's MONAI_KD_BUNDLES names
            are shown in any case.
    """
    folders = [*os.environ.get("MONAI_KD_BUNDLES", "").split(os.pathsep), *([] if folder is None else [folder])]
    copies = [str(path) for place in filter(None, folders) for path in bundles_in(Path(plain_path(place)))]
    for name in dict.fromkeys([*monai_kd.bundle_names(), *copies]):
        bundle = Bundle(name)
        metadata = bundle.metadata
        weights = "no (train one, or use --run)"
        if bundle.has_weights:
            weights = f"yes, trained on: {metadata.get('training_data', 'data that it does not say')}"
        say(name, f"    {metadata['task']}", f"    data:    {metadata['data_source']}")
        say(f"    reads:   {metadata['data_type']}", f"    weights: {weights}")
        say(f"    runs:    {', '.join(bundle.runs) or 'none'}")
    return DONE


def generate(name: str, out: str, cases: int = 100, seed: int = 0, **options: Any) -> int:
    """Write a generated data set in the file format of the bundle's real one.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        out: a new or empty folder, or one with an earlier generated data set, which is replaced.
        cases: how many cases.
        seed: the same seed gives the same data.
        options: further arguments of the bundle's generator, such as --difficulty hard.
    """
    bundle = Bundle(name)
    if "generator" not in bundle.config("train.json"):
        raise ValueError(f"the bundle {bundle.root.name} has no generator in its train.json, so it can make no data")
    overrides = {f"generator#{key}": value for key, value in parse((), options).items()}
    generator = bundle.workflow("train.json", overrides=overrides).parser.get_parsed_content("generator")
    folder = generator(plain_path(out), cases=int(cases), seed=int(seed))
    say(f"{cases} generated cases in {folder}")
    return DONE


def copy(name: str, dir: str) -> int:
    """Copy a bundle to change it and to train it on one's own data.

    The copy is another bundle: it has a name and an identity of its own, and neither weights nor results.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        dir: a new folder. MONAI Label takes the task from its name, so keep `segmentation` or `classification` in it.
    """
    bundle = Bundle(name)
    target = Path(plain_path(dir)).resolve()
    for place in (target.parent, target):
        remove_unfinished(place)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} exists and is not empty; choose a new folder")
    with whole_folder(target) as folder:
        bundle.derive_to(folder, target)
    say(f"{target} is yours; train it with: python -m monai_kd train {target} --dataset_dir ...")
    return DONE


def verify(name: str | None = None, untrusted: str | None = None, run: str | None = None) -> int:
    """Check everything that a bundle must satisfy: files, metadata, configurations, network, weights, export.

    These are the rules of MONAI's bundles and of its model zoo, as far as they can be checked without a network. The
    exports, which take longest, are tried when all else is well.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        untrusted: instead: the path of a bundle, a run or a file of somebody else. What it would run is listed:
            expressions, imports, components of other packages, pickled objects, operators of TorchScript that touch
            files. Nothing of it is run for that. The exit status is 0 if it would run nothing.
        run: check this run instead, by name or path: that its weights are those of its settings, teacher and bundle.
    """
    if untrusted is not None:
        return _inspect(Path(plain_path(untrusted)))
    if name is None:
        raise ValueError("name a bundle, or --untrusted and a path")
    bundle = Bundle(name)
    if run is not None:
        folder = bundle.existing_run(run)
        check_run(bundle, folder)
        say(f"ok      the run {folder} is what it says of itself")
        return DONE
    failed = 0
    for check in (*CHECKS, *EXPORTS):
        title = (check.__doc__ or "").rstrip(".")
        if failed and check in EXPORTS:
            say(f"skipped {title}: mend the above first")
            continue
        try:
            check(bundle)
            say(f"ok      {title}")
        except Exception as error:
            failed += 1
            say(f"FAILED  {title}: {reason(error)}")
    return SOME_FAILED if failed else DONE


def _inspect(path: Path) -> int:
    """Show what a folder or file of somebody else would run."""
    findings = find_code(path)
    for finding in findings:
        place = f" {finding.place}" if finding.place else ""
        text = finding.text if len(finding.text) <= _LONGEST else f"{finding.text[:_LONGEST]} ..."
        say(f"{finding.file}{place}: {finding.kind}: {text}")
    many = f"{len(findings)} things of {path} would run, or could not be read"
    say(many if findings else f"nothing of {path} would run")
    return SOME_FAILED if findings else DONE
