# SPDX-License-Identifier: Apache-2.0
"""The precision that networks compute in, on every device."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from monai_kd.names import check_known

__all__ = ["PRECISIONS", "PrecisionInferer", "choose_precision", "has_bfloat16", "precision_of"]

PRECISIONS = ("float32", "bfloat16", "float16", "auto")

_FAST_FLAGS = {"amx_bf16", "bf16"}  # as Linux calls them, the last one on ARM
_FAST_VENDOR = {"avx512_bf16": "AuthenticAMD"}  # Intel's take their time: 0.6 of float32's rate, measured


def choose_precision(precision: str, device: str | torch.device) -> str:
    """Say what networks are to compute in: what was asked for, and of ``auto`` what the device is fastest in.

    ``auto`` is ``bfloat16`` where the processor multiplies it faster (:func:`has_bfloat16`), else ``float16`` on a GPU
    and ``float32`` on a CPU. ``bfloat16`` works on every processor; where it is slower than ``float32``, a warning
    says so.

    Args:
        precision: one of :data:`PRECISIONS`.
        device: where the networks are.

    Returns:
        ``float32``, ``bfloat16`` or ``float16``. The last one needs gradients to be scaled, which MONAI's trainer does
        where its ``amp`` is on.

    Raises:
        ValueError: when the precision is none of these, or is ``float16`` on a CPU.
    """
    check_known(str(precision), PRECISIONS, "precision")
    device = torch.device(device)
    has_instructions = has_bfloat16(device)
    if precision == "auto":
        return "bfloat16" if has_instructions else "float16" if device.type == "cuda" else "float32"
    if precision == "float16" and device.type == "cpu":
        raise ValueError("precision float16 (or amp=true) needs a GPU; on a CPU choose bfloat16, auto or float32")
    if precision == "bfloat16" and not has_instructions:
        logging.getLogger("monai_kd").warning(
            f"this device ({device.type}) has no fast instructions for bfloat16: it works, and is slower than float32"
        )
    return precision


def precision_of(parser: ConfigParser) -> str:
    """What the networks of a bundle's configuration compute in; one of before it had a choice has its ``amp`` only."""
    if "compute_precision" in parser:
        return parser.get_parsed_content("compute_precision")
    return "float16" if "amp" in parser and parser.get_parsed_content("amp") else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16 that are faster than those for float32.

    CUDA says so itself; of a processor Linux tells the maker and what it can do.
    """
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    vendor, flags = _processor()
    return bool(_FAST_FLAGS & flags) or any(flag in flags and vendor == of for flag, of in _FAST_VENDOR.items())


def _processor() -> tuple[str, set[str]]:
    """Who made the processor and what it can do, in Linux's words; nothing elsewhere, where it is not known."""
    described = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not described.is_file():
        return "", set()
    lines = [line.partition(":") for line in described.read_text().splitlines()]
    words = {name.strip(): value.strip() for name, _, value in reversed(lines)}  # the first one's, of all cores
    return words.get("vendor_id", ""), set(words.get("flags", words.get("Features", "")).split())


class PrecisionInferer(Inferer):
    """Apply a network in a precision, and give what it says in float32.

    Only the network itself computes in ``bfloat16`` (`torch.autocast`); windows are blended and losses computed in
    float32, and the weights stay float32. ``float16`` is left to MONAI's engines, which autocast on a GPU where their
    ``amp`` is on, since gradients have to be scaled then; so ``float32`` and ``float16`` change nothing here.

    Args:
        inferer: how the network is applied; plainly by default.
        precision: what :func:`choose_precision` gave.
    """

    def __init__(self, inferer: Inferer | None = None, precision: str = "float32") -> None:
        super().__init__()
        check_known(precision, [choice for choice in PRECISIONS if choice != "auto"], "precision")
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: what the inferer takes, such as (B, C, *spatial).
            network: what it applies.
            args: further inputs of the network.
            kwargs: further inputs of the network by name.

        Returns:
            What the inferer gives of the network's output.
        """
        if self.precision != "bfloat16":
            return self.inferer(inputs, network, *args, **kwargs)

        def compute(*values: Any, **named: Any) -> Any:
            with torch.autocast(inputs.device.type, torch.bfloat16):
                return _as_float32(network(*values, **named))

        return self.inferer(inputs, compute, *args, **kwargs)


def _as_float32(output: Any) -> Any:
    """A network's output, one tensor or several, without half precision."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    if isinstance(output, (list, tuple)):
        return type(output)(_as_float32(part) for part in output)
    return output
