# SPDX-License-Identifier: Apache-2.0
"""timm beside a torchvision that cannot load its compiled operators."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

__all__ = ["import_timm"]


def import_timm() -> ModuleType:
    """Import timm, also where torchvision cannot load its compiled operators.

    A torchvision wheel is compiled against one build of PyTorch. Beside another, for instance a CUDA wheel beside a
    CPU-only PyTorch, its library does not load. torchvision means to go on without, but it describes the output shapes
    of two of the operators regardless, so that ``import torchvision``, and ``import timm`` with it, ends in
    ``RuntimeError: operator torchvision::nms does not exist``. No network of timm needs them, and once the two are
    declared the import succeeds. Calling them stays torchvision's own error.

    On a healthy installation this is ``import timm`` and nothing else.

    Raises:
        Exception: whatever else goes wrong in ``import timm``, as it is.
    """
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # Submodules that were imported before the failure are still there, but a new parent would not know them.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]
    return importlib.import_module("timm")
