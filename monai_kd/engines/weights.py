"""Weights from a file."""

from __future__ import annotations

import os

import torch
from torch import nn

__all__ = ["load_weights"]


def load_weights(network: nn.Module, checkpoint: str | os.PathLike) -> None:
    """Give a network the weights of a checkpoint.

    Args:
        network: what they belong to.
        checkpoint: ``{"model": state_dict}``, as a stage writes it, or a bare state dictionary.

    Raises:
        ValueError: when the file is no checkpoint, or that of another network.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has another one for every kind of file that is none of its own
        raise ValueError(f"{checkpoint} is no checkpoint that torch can read; name another one") from error
    try:
        network.load_state_dict(content.get("model", content))
    except RuntimeError as error:
        raise ValueError(f"{checkpoint}: these weights belong to another network: {error}") from error
