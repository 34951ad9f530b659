# SPDX-License-Identifier: Apache-2.0
"""Weights from a file."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor, nn

from monai_kd.files import whole_file

__all__ = ["explain_unreadable", "load_weights", "read_checkpoint", "read_progress", "read_weights", "replace_weights"]

_PROGRESS = {"model", "trainer", "evaluator", "state", "scaler"}

# What pickles a number of NumPy, as other trainers leave them beside their weights; it makes nothing else.
_NUMBERS: list[Any] = [multiarray.scalar, (multiarray.scalar, "numpy.core.multiarray.scalar"), np.dtype]
_NUMBERS += [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]


def read_checkpoint(checkpoint: str | os.PathLike, device: str | torch.device = "cpu") -> Any:
    """What `torch.save` wrote, if it is no more than tensors, numbers, words, and lists and mappings of them.

    Args:
        checkpoint: the file.
        device: where the tensors go.

    Raises:
        FileNotFoundError: when there is no such file.
        PermissionError: when it may not be read.
        ValueError: when it is damaged, or holds anything else, of which nothing is run.
    """
    if not os.path.isfile(checkpoint):
        raise FileNotFoundError(
            f"there is no trained network at {checkpoint}; train one, or name another checkpoint or run"
        )
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(checkpoint, map_location=device, weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # torch has another one for every kind of file that is none of its own
        raise ValueError(explain_unreadable(checkpoint, error)) from error


def read_progress(file: str | os.PathLike, device: str | torch.device = "cpu") -> dict[str, Any]:
    """What an unfinished stage left to go on with, by part.

    Args:
        file: its ``<name>_resume.pt``.
        device: where the tensors go.

    Raises:
        ValueError: when it is something else. Other errors as of :func:`read_checkpoint`.
    """
    content = read_checkpoint(file, device)
    parts = content.keys() if isinstance(content, Mapping) else set()
    if not _PROGRESS <= parts or not all(isinstance(content[part], Mapping) for part in _PROGRESS):
        raise ValueError(f"{file} is nothing that a training left to go on with: start anew by --overwrite")
    return dict(content)


def explain_unreadable(checkpoint: str | os.PathLike, error: Exception) -> str:
    """What is wrong with a file of weights, instead of torch's page, which ends in how to run what it holds.

    Args:
        checkpoint: the file.
        error: what `torch.load` raised.
    """
    if os.path.getsize(checkpoint) == 0:
        return f"{checkpoint} is empty: whoever wrote it was cut off; copy it again, or train it again"
    if _is_exported(checkpoint):
        kind = "OnnxNetwork" if os.fspath(checkpoint).endswith(".onnx") else "TorchScriptNetwork"
        return (
            f"{checkpoint} is an exported network, and weights alone are wanted: name a .pt file; as a teacher it is "
            f'teacher_checkpoint=null \'teacher_def={{"_target_": "monai_kd.networks.{kind}", "file": '
            f'"{checkpoint}"}}\''
        )
    held = re.search(r"GLOBAL (\S+)|Unsupported class (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and held:
        return (
            f"{checkpoint} holds more than weights ({next(filter(None, held.groups()))}), which could run anything, so "
            f"nothing of it was read; take a file of weights alone, and see `verify --untrusted {checkpoint}`"
        )
    return f"{checkpoint} is no checkpoint that torch can read, or damaged; copy it again, or name another one"


def _is_exported(file: str | os.PathLike) -> bool:
    """Whether a file is ONNX or TorchScript, by its suffix or, of the latter, by the code in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # zipfile has many ways to say that a file is none, or damaged
        return os.fspath(file).endswith(".onnx")


def read_weights(checkpoint: str | os.PathLike) -> dict[str, Tensor]:
    """The weights of a checkpoint by name, on the CPU.

    Args:
        checkpoint: ``{"model": state_dict}``, as a stage writes it, a bare state dictionary, or what nnU-Net's trainer
            saved (``network_weights``).

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no checkpoint.
    """
    content = read_checkpoint(checkpoint)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{checkpoint} holds a {type(content).__name__} and no weights by name; name another one")
    nested = content.get("model", content.get("network_weights"))
    weights = dict(nested if isinstance(nested, Mapping) else content)
    other = next((name for name, value in weights.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        kind = type(weights[other]).__name__
        raise ValueError(f"{checkpoint} holds {other!r}, a {kind}, where weights should be: name another file")
    return weights


def load_weights(network: nn.Module, checkpoint: str | os.PathLike) -> None:
    """Give a network the weights of a checkpoint.

    Args:
        network: what they belong to.
        checkpoint: as :func:`read_weights` reads it.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no checkpoint, or that of another network.
    """
    weights = read_weights(checkpoint)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint}: these weights belong to another network: {error}") from error


def replace_weights(target: str | os.PathLike, checkpoint: str | os.PathLike) -> None:
    """Put the weights of a checkpoint in the place of another one, while others may read there.

    They find one or the other. What is written is a bare state dictionary, the one form that MONAI's `load` and
    `ckpt_export`, the checks of its model zoo, MONAI Label and this package all read.

    Args:
        target: the file that is replaced, or made with its folder.
        checkpoint: as :func:`read_weights` reads it.

    Raises:
        FileNotFoundError: when there is no such checkpoint.
        ValueError: when it is none.
    """
    weights = read_weights(checkpoint)
    path = Path(target)
    path.parent.mkdir(exist_ok=True)
    write_checkpoint(path, weights)


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write weights, or what else PyTorch can read as weights only, whole or not at all."""
    with whole_file(path) as written:
        torch.save(content, written)
