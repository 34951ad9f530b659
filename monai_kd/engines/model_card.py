# SPDX-License-Identifier: Apache-2.0
"""What a trained student says about itself to those who may use it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import CommonKeys, ensure_tuple

from monai_kd.files import read_json

from .provenance import TRAINED_ON

__all__ = ["describe_data", "describe_licence", "describe_model", "generated_by", "generation_of", "is_generated"]

_DEPTH = 4  # folders between a generated image and the note on its making, at most


def describe_model(
    metadata: Mapping[str, Any],
    facts: Mapping[str, str],
    results: Sequence[str],
    commands: Sequence[str],
    settings: Mapping[str, Any],
    limits: Sequence[str] = (),
    origin: str = "",
) -> str:
    """A model card in Markdown.

    Args:
        metadata: the bundle's ``metadata.json``.
        facts: what is to be known first, such as the data and the size, each by its heading.
        results: tables and what stands between them.
        commands: the command lines that make the model.
        settings: all that it was made with, by id.
        limits: sentences on what the results do not say.
        origin: further sentences on how the model was made.
    """
    facts = {"Intended use": f"{metadata['intended_use']}.", **facts}
    parts = [
        f"# Model card: {metadata['name']} {metadata['version']}",
        f"{metadata['description']}.",
        *(f"**{heading}.** {text}" for heading, text in facts.items()),
        "## Results on the test cases",
        *results,
        "## Limits",
        _items(limits),
        "What else limits the model is in the bundle's `docs/README.md`.",
        "## How to reproduce",
        "In the folder that holds the bundle, where it is a copy; `DATA` is the data set's folder:",
        "\n".join(["```bash", *commands, "```"]),
        "All settings:" if settings else "",
        _items([f"`{key}`: `{json.dumps(value)}`" for key, value in settings.items()]),
        origin,
        "## References",
        _items(metadata.get("references", [])),
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def describe_data(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """A sentence on the data that a configuration trains on, and their licence.

    Args:
        config: ``dataset_dir`` and ``datalist_file``, as a run keeps them or while it is running.
        metadata: the bundle's ``metadata.json``.

    >>> describe_data({"datalist_file": "/data/own.json"}, {})
    'Those that `own.json` lists.'
    """
    if is_generated(config):
        made = _kept(config) or generated_by(str(config.get("dataset_dir", "")))
        by = f" by {made['generator']}" if made else ""
        return f"GENERATED images{by}, no patient's, free to use: the results say nothing about real ones."
    listed = str(config.get("datalist_file") or "")
    if listed:
        return "Those of a data list." if listed[0] in "$@%" else f"Those that `{Path(listed).name}` lists."
    # Where the images of a folder come from can't be told from it, only how it is laid out.
    return (
        f"Those of a folder that is laid out as the bundle's own data ({metadata['data_source']}). Where they are "
        "these, their licence is in the bundle's `data_license.txt`."
    )


def describe_licence(bundle_root: Path, metadata: Mapping[str, Any]) -> str:
    """A sentence on who may use a bundle and its weights.

    Args:
        bundle_root: the bundle's directory, with its ``LICENSE``.
        metadata: its ``metadata.json``.
    """
    file = bundle_root / "LICENSE"
    if not file.is_file():
        return "None is stated: the bundle has no `LICENSE`."
    title = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()][:2]
    return f"{', '.join(title)}; see `LICENSE` of the bundle. {metadata.get('copyright', '')}".strip()


def is_generated(config: Mapping[str, Any]) -> bool:
    """Whether a configuration trains on generated data, or did: what it was trained on may have been moved since.

    >>> is_generated({"dataset_dir": "$@generator.once(@ckpt_dir + '/data')"}), is_generated({"dataset_dir": "/data"})
    (True, False)
    """
    if _kept(config):
        return True
    folder = str(config.get("dataset_dir", ""))
    return not config.get("datalist_file") and (generated_by(folder) is not None or "@generator" in folder)


def generated_by(dataset_dir: str | os.PathLike) -> dict[str, Any] | None:
    """What a generated data set says about its making (``generated.json``); None of real data."""
    file = Path(dataset_dir) / "generated.json"
    return read_json(file) if file.is_file() else None


def generation_of(items: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the folders above the first of these images say about its making; None of real ones.

    Args:
        items: of a datalist.
    """
    images = [ensure_tuple(item[CommonKeys.IMAGE])[0] for item in items[:1] if CommonKeys.IMAGE in item]
    folders = [folder for image in images for folder in list(Path(image).parents)[:_DEPTH]]
    return next((made for folder in folders if (made := generated_by(folder)) is not None), None)


def _kept(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run keeps of the making of its training images."""
    return (config.get(TRAINED_ON) or {}).get("generated")


def _items(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
