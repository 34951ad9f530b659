# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's own planning and preprocessing, in a process of their own: its folders are environment variables."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .installed import is_installed, nnunet
from .plans import configuration_of

__all__ = ["plan_and_preprocess", "preprocessed_dir", "run_nnunet", "samples_folder"]

_DATASET = re.compile(r"Dataset(\d{3})_\w+")


def preprocessed_dir() -> str | None:
    """nnU-Net's folder of preprocessed data, as its environment variable says; None where that is not set."""
    return os.environ.get("nnUNet_preprocessed")


def samples_folder(folder: str | None, plans: Mapping[str, Any]) -> str:
    """Where the preprocessed cases of some plans lie.

    Args:
        folder: nnU-Net's folder of preprocessed data.
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
    """
    identifier = plans["configurations"][configuration_of(plans)]["data_identifier"]
    return str(Path(folder or ".") / plans["dataset_name"] / identifier)


def plan_and_preprocess(
    dataset_dir: str | os.PathLike,
    folder: str | os.PathLike,
    configuration: str = "3d_fullres",
    processes: int = 1,
    options: Sequence[str] = (),
) -> str:
    """Let nnU-Net plan and preprocess a data set, unless that was done.

    Args:
        dataset_dir: the raw data set, called like ``Dataset901_Generated``.
        folder: nnU-Net's folder of preprocessed data.
        configuration: such as ``3d_fullres``.
        processes: of its own that nnU-Net starts, >= 1.
        options: further ones of ``nnUNetv2_plan_and_preprocess``, such as ``("-gpu_memory_target", "2")``.

    Returns:
        The folder.

    Raises:
        ValueError: when the data set's folder is called otherwise.
        RuntimeError: when nnU-Net fails, with its last line.
    """
    raw, place = Path(dataset_dir).resolve(), Path(folder).resolve()
    if not raw.is_dir() or any(place.glob(f"{raw.name}/*_{configuration}/*.pkl")):
        return str(place)
    name = _DATASET.fullmatch(raw.name)
    if name is None:
        raise ValueError(f"{raw}: nnU-Net's data sets are called like Dataset901_NAME; rename the folder")
    if not is_installed():
        nnunet("")  # which says how to install it
    place.mkdir(parents=True, exist_ok=True)
    logging.getLogger("monai_kd").info(f"nnU-Net plans and preprocesses {raw.name} for {configuration}")
    words = ["-d", name[1], "-c", configuration, "-npfp", str(processes), "-np", str(processes), "--no_pbar", *options]
    folders = {"nnUNet_raw": str(raw.parent), "nnUNet_preprocessed": str(place), "nnUNet_results": str(place)}
    run_nnunet("experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry", *words, **folders)
    return str(place)


def run_nnunet(entry: str, *words: str, **environment: str) -> str:
    """Run one of nnU-Net's commands in a process of its own; what it prints.

    Args:
        entry: where it begins, ``module:function`` below ``nnunetv2``.
        words: of the command.
        environment: variables, such as nnU-Net's folders.

    Raises:
        RuntimeError: when it fails, with its last line.
    """
    module, _, function = entry.partition(":")
    code = f"from nnunetv2.{module} import {function}; {function}()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *words],
        env={**os.environ, "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise RuntimeError(f"nnU-Net's {function} failed: {''.join(last)}")
    return done.stdout
