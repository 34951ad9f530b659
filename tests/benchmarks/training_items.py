# SPDX-License-Identifier: Apache-2.0
"""Milliseconds in which a training makes an item that is cached, with and without metadata on the way.

    [MONAI_KD_DATA=DIR] python tests/benchmarks/training_items.py [--items 10] [NAME ...]

Medians of five turns over the same items, by the transforms of train.json and of shipped.json where there is one. The
images are real ones where MONAI_KD_DATA points to them, else generated.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from epoch import BUNDLES, data_settings
from monai.bundle import ConfigParser

import monai_kd

NAMES = [name for name in BUNDLES if not name.startswith("mri")]  # whose items are cached slices without metadata
COMPOSES = ("Compose", "monai_kd.transforms.TrainingCompose")


def data_set(name: str, overlay: str, compose: str, settings: dict[str, Any], items: int) -> Any:
    """The first items of a bundle's training, cached."""
    root = Path(monai_kd.bundle_root(name), "configs")
    files = [root / "train.json", *([root / overlay] if overlay else [])]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update({"bundle_root": str(root.parent), "imagenet_weights": "none", "num_workers": 1, **settings})
    parser.update({"train#preprocessing#_target_": compose, "train#dataset#data": f"$@datalist['training'][:{items}]"})
    return parser.get_parsed_content("train#dataset")


def milliseconds(dataset: Any) -> float:
    """Time in which an item is made, of one turn over all."""
    start = time.perf_counter()
    for place in range(len(dataset)):
        dataset[place]
    return (time.perf_counter() - start) / len(dataset) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--items", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, overlay in product(options.names, ("", "shipped.json")):
        if not Path(monai_kd.bundle_root(name), "configs", overlay or "train.json").is_file():
            continue
        with TemporaryDirectory() as folder:
            settings = data_settings(name, Path(folder))
            sets = [data_set(name, overlay, own, settings, options.items) for own in COMPOSES]
        turns = [[milliseconds(own) for own in sets] for _ in range(6)][1:]
        tracked, plain = (median(column) for column in zip(*turns))
        print(f"{name} {overlay}: {tracked:.2f} ms, without metadata {plain:.2f} ({plain / tracked:.2f})", flush=True)


if __name__ == "__main__":
    main()
