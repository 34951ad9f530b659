# SPDX-License-Identifier: Apache-2.0
"""The network of any MONAI bundle."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_kd.inspection import code_in_content, find_code
from monai_kd.networks.torchscript_network import TorchScriptNetwork

__all__ = ["BundleNetwork"]

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml", "train.json", "train.yaml", "train.yml")
_NESTED = ("model", "state_dict", "network_weights")


class BundleNetwork(nn.Module):
    """Apply the trained network of a MONAI bundle, so that a bundle made elsewhere can teach.

    The network is the ``network_def`` of its ``inference.json`` (or ``train.json``), with ``models/model.pt`` read as
    weights only; where there are no such weights, or no ``network_def``, it is the TorchScript file
    ``models/model.ts``, whose layers cannot be looked at.

    A bundle's configuration is code. Without ``trust`` only what ``network_def`` needs is looked at, and refused if
    making it would run more than constructors of monai, torch, timm and monai_kd; so is a TorchScript file, which is
    code itself.

    Args:
        folder: the bundle's directory.
        channels: which of its output's channels are given, in which order, where its classes are others, or stand in
            another order, than the student's; all by default.
        input_channels: which channels of the image it gets, in its order; all by default.
        network_id: id of the network in its configuration.
        trust: run what its configuration, or its TorchScript file, says.

    Raises:
        FileNotFoundError: when there is no bundle, or no network in it.
        ValueError: when it would run code that is not trusted, or weights and network do not belong together.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        channels: Sequence[int] | None = None,
        input_channels: Sequence[int] | None = None,
        network_id: str = "network_def",
        trust: bool = False,
    ) -> None:
        super().__init__()
        root = Path(folder)
        if not (root / "configs").is_dir():
            raise FileNotFoundError(f"{folder}: there is no MONAI bundle, with a folder `configs`: check the path")
        self.folder = str(folder)
        self.channels = None if channels is None else list(channels)
        self.input_channels = None if input_channels is None else list(input_channels)
        self.network = _network_of(root, network_id, trust)

    @property
    def tapped(self) -> nn.Module:
        """The network whose layers a feature tap finds, by their own names."""
        return self.network

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images (B, C, *spatial).

        Returns:
            What the network gives, (B, channels, ...): the first one of several outputs.

        Raises:
            ValueError: when the network cannot be applied to such images, or lacks a channel.
        """
        images = x if self.input_channels is None else _chosen(x, self.input_channels, f"{self.folder}: an image")
        try:
            answer = self.network(images)
        except (RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{self.folder}: its network cannot be applied to images {tuple(images.shape)}: {why}; choose the "
                "channels by input_channels, and what it expects by teacher_preprocessing"
            ) from error
        while not isinstance(answer, Tensor) and isinstance(answer, (Mapping, list, tuple)):
            answer = next(iter(answer.values() if isinstance(answer, Mapping) else answer))
        return answer if self.channels is None else _chosen(answer, self.channels, f"{self.folder}: its output")


def _chosen(tensor: Tensor, channels: Sequence[int], what: str) -> Tensor:
    if max(channels) >= tensor.shape[1] or min(channels) < 0:
        raise ValueError(f"{what} has the channels 0 to {tensor.shape[1] - 1}, and not all of {list(channels)}")
    return tensor[:, list(channels)]


def _network_of(root: Path, network_id: str, trust: bool) -> nn.Module:
    weights, script = root / "models" / "model.pt", root / "models" / "model.ts"
    found = next((content for content in _contents(root) if network_id in content), None)
    if found is not None and weights.is_file():
        network = _made(root, found, network_id, trust)
        _load(network, weights)
        return network
    if script.is_file():
        if not trust:
            used = ", ".join(finding.text for finding in find_code(script))
            which = f", which uses {used}" if used else ""
            raise ValueError(f"{script} is TorchScript, which is code{which}: say trust=true if you know its origin")
        return TorchScriptNetwork(script)
    raise FileNotFoundError(
        f"{root}: no network to load: expected {network_id} in {' or '.join(_CONFIGS[::3])} with models/model.pt, or "
        "models/model.ts"
    )


def _contents(root: Path) -> list[dict[str, Any]]:
    from monai.bundle import ConfigParser

    files = [root / "configs" / name for name in _CONFIGS if (root / "configs" / name).is_file()]
    return [ConfigParser.load_config_file(file) for file in files]


def _made(root: Path, content: dict[str, Any], network_id: str, trust: bool) -> nn.Module:
    """The network by its definition, and by what that refers to."""
    from monai.bundle import ConfigParser

    needed = _reached(content, network_id)
    if not trust and (code := code_in_content({key: content[key] for key in needed})):
        shown = "; ".join(f"{finding.place}: {finding.text}" for finding in code[:3])
        raise ValueError(f"{root}: making its network would run code ({shown}): look at it, and say trust=true")
    parser = ConfigParser(content if trust else {key: content[key] for key in needed})
    parser["bundle_root"] = str(root)
    network = parser.get_parsed_content(network_id)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{root}: {network_id} is a {type(network).__name__} and no network: name it by network_id")
    return network


def _reached(content: Mapping[str, Any], key: str) -> list[str]:
    """The top-level ids that an id needs, itself among them."""
    reached, waiting = [], [key]
    while waiting:
        key = waiting.pop()
        if key in content and key not in reached:
            reached.append(key)
            waiting += [name for text in _texts(content[key]) for name in re.findall(r"[@%](\w+)", text)]
    return reached


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    entries = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [text for entry in entries for text in _texts(entry)]


def _load(network: nn.Module, file: Path) -> None:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has another one for every kind of file that is none of its own
        raise ValueError(
            f"{file}: cannot be read as weights alone, or is damaged: save the network's state_dict there"
        ) from error
    nested = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    try:
        network.load_state_dict(nested)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{file}: these weights belong to another network than network_def: {why}") from error
