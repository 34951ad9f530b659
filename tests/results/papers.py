# SPDX-License-Identifier: Apache-2.0
"""Start every command of docs/papers.md on a few generated images: does it train a step, evaluate, compare?

    python tests/results/papers.py [ID ...]

Networks, images and numbers of epochs are made small by further overrides, big networks of timm are replaced by small
ones of their kind, and no pretrained weights are loaded. All runs in one process, in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_kd.cli import main
from monai_kd.data import CineGenerator, FigshareGenerator, HeadGenerator, VesselGenerator, XrayGenerator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "papers.md"
SIZE = 32
EPOCH = {"max_epochs": 1, "num_workers": 0}
VGG, VIT = {"mlp_ratio": 0.015625}, {"img_size": 32, "depth": 1}
TINY: dict[str, dict[str, Any]] = {
    "brain_tumor_classification": {
        **EPOCH,
        "image_size": 32,
        "batch_size": 8,
        "fusion_teacher_layer": "branches.0.features.18",
        "fusion_loss#output_size": 2,
    },
    "brain_tumor_segmentation": {
        **EPOCH,
        "image_size": 32,
        "student_features": [2, 2, 4, 4, 4, 2],
        "teacher_features": [4, 4, 4, 8, 8, 4],
        "teacher_def#vit": "vit_tiny_patch16_224",
        "teacher_def#vit_kwargs": VIT,
    },
    "brain_extraction": {
        **EPOCH,
        "batch_size": 2,
        "spacing": [6, 6, 6],
        "crop_size": [32, 32, 32],
        "student_features": [8, 4, 4, 4, 4, 8],
        "teacher_features": [8, 4, 4, 4, 4, 8],
    },
    "mri_reconstruction": {**EPOCH, "split": "index", "image_size": SIZE, "centre_lines": 4, "channels": 4},
    "mri_super_resolution": {**EPOCH, "split": "index", "image_size": SIZE, "slices": 1, "channels": 4},
    "chest_xray_classification": {
        **EPOCH,
        "findings": ["Cardiomegaly", "ILD", "Pleural effusion"],
        "image_size": 32,
        "low_resolution": 8,
        "batch_size": 8,
        "pretrained": False,
        "vit_kwargs": {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2},
    },
    "vessel_segmentation": {
        **EPOCH,
        "fractions": [0.6, 0.2, 0.2],
        "crop_size": [16, 16, 16],
        "features": [4, 8, 8],
        "hidden_size": 8,
        "depth": 1,
        "num_heads": 2,
        "norm": "instance",
        "unet_features": [4, 8, 8, 8],
        "batch_size": 1,
        "num_samples": 2,
        "passes": 1,
    },
}
SMALLER = {"vgg19": "vgg11", "vit_base_patch16_224": "vit_tiny_patch16_224", "pattern=*T1*": "pattern=*"}
TEACHERS = {"two_vgg19": ("vgg11", VGG), "two_vit": ("vit_tiny_patch16_224", VIT)}
OF_ONE: dict[str, dict[str, Any]] = {
    "C12": {
        "teacher_variants": {
            name: {"teacher_branches": [branch] * 2, "teacher_def#branch_kwargs": [kwargs] * 2, "fusion_weight": 0}
            for name, (branch, kwargs) in TEACHERS.items()
        },
        "seeds": 1,
    },
    "R7": {"max_epochs": 2, "imitation_epochs": 1, "teacher_epochs": 1, "student_alone_epochs": 1},
    "R10": {"seeds": 1},
    "K3": {"crop_size": [16, 16]},
    "K2": {"crop_size": [8, 8, 8]},
}
WITHOUT = {"C9": (), **{name: ("fusion_loss#output_size",) for name in map("C{}".format, (*range(1, 9), 10, 11, 12))}}


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The identifier and the words of every command in the page, with its variables put in."""
    values: dict[str, str] = {}
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if found := re.fullmatch(r'(\w+)="(.*)"', line):
                values[found[1]] = found[2]
            elif found := re.fullmatch(r"(.*?)\s+# (\w+)", line):
                command = re.sub(r"\$(\w+)", lambda name: values.get(name[1], name[0]), found[1])
                yield found[2], shlex.split(command)


def make_data(letter: str, folder: Path) -> str:
    """Folder of generated data for commands whose identifiers begin so, made when it is first asked for."""
    kinds = {"C": "figshare", "S": "figshare", "B": "heads", "R": "cine", "V": "cine", "X": "xrays", "K": "vessels"}
    kind = kinds[letter]
    if (folder / kind).is_dir():
        return str(folder / kind)
    if kind == "figshare":
        FigshareGenerator(image_size=48, slices_per_patient=2)(folder / kind, cases=36, seed=1)
    elif kind == "heads":
        HeadGenerator(shape=(40, 40, 40), contrasts=("T1", "T2"))(folder / kind, cases=6, seed=1)
    elif kind == "xrays":
        XrayGenerator(image_size=48)(folder / kind, cases=40, seed=1)
    elif kind == "vessels":
        _make_vessels(folder)
    else:
        CineGenerator(image_size=SIZE, frames_per_patient=2)(folder / kind, cases=10, seed=1)
        lines = np.isin(np.arange(SIZE), (0, 1, 2, SIZE - 1, SIZE - 2, 9, 14, 20)).astype(float)
        np.save(folder / "mask_4x.npy", np.repeat(lines[:, None], SIZE, 1))
    return str(folder / kind)


def _make_vessels(folder: Path) -> None:
    """Angiograms, and their projections as flat images."""
    vessels = VesselGenerator(shape=(32, 24, 16))(folder / "vessels", cases=6, seed=1)
    for kind in ("images", "labels"):
        (folder / "flat" / kind).mkdir(parents=True)
        for path in (vessels / kind).glob("*.nii.gz"):
            image = nib.load(path)
            flat = nib.Nifti1Image(np.asarray(image.dataobj).max(2), image.affine)
            nib.save(flat, folder / "flat" / kind / path.name)


def tiny(name: str, words: list[str], runs: Path) -> list[str]:
    """The command's words on generated data and with small settings, which come last and so decide."""
    verb, bundle = words[3:5]
    kept: list[str] = []
    rest = iter(words[3:])
    for word in rest:
        for before, after in SMALLER.items():
            word = word.replace(before, after)
        word = re.sub(r"\$B/\w+/runs/", f"{runs / bundle}/", word)
        if word == "--dataset_dir":
            data = make_data(name[0], runs.parent)
            kept += [word, str(runs.parent / "flat") if name == "K3" else data]
            next(rest)
        elif word in ("--run", "--output"):
            kept += [word, str(runs / bundle / next(rest))]
        elif word.startswith("mask_file="):
            kept.append(f"mask_file={runs.parent / 'mask_4x.npy'}")
        else:
            kept.append(word)
    if verb == "evaluate":
        return kept
    settings = {key: value for key, value in TINY[bundle].items() if key not in WITHOUT.get(name, ())}
    settings |= {key: value for key, value in OF_ONE.get(name, {}).items() if key != "seeds"}
    if bundle == "brain_tumor_classification":
        chosen = [word.partition("=")[2] for word in kept if word.startswith("teacher_branches=")]
        branches = json.loads(chosen[0]) if chosen else ["vgg11", "vit_tiny_patch16_224"]
        settings["teacher_branches"] = branches
        settings["teacher_def#branch_kwargs"] = [VGG if branch == "vgg11" else VIT for branch in branches]
    if "--cross_validation" in kept:
        settings["repeats" if bundle == "brain_extraction" else "folds"] = [1, 2]
    if verb == "compare":
        kept += ["--out", str(runs / bundle / f"compare_{name}"), "--seeds", "1"]
    return [*kept, *(f"{key}={json.dumps(value)}" for key, value in settings.items())]


def start(name: str, words: list[str]) -> str | None:
    """Run a command; what it said if it failed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(words)
    return None if status == 0 else f"{name}: exit status {status}\n  {shlex.join(words)}\n{said.getvalue()[-2000:]}"


def run() -> int:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("ids", nargs="*", help="only these, and what they need of others is up to you")
    chosen = cli.parse_args().ids
    found = list(commands(PAGE.read_text(encoding="utf-8")))
    folder = Path(tempfile.mkdtemp(prefix="papers_"))
    failed = []
    try:
        for name, words in found:
            if chosen and name not in chosen:
                continue
            begun = time.perf_counter()
            problem = start(name, tiny(name, words, folder / "runs"))
            failed += [name] if problem else []
            print(problem or f"{name}: done", f"({time.perf_counter() - begun:.1f} s)", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    number = len(chosen or found)
    print(f"{number - len(failed)} of {number} commands work; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
