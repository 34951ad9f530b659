# SPDX-License-Identifier: Apache-2.0
"""Knowledge distillation for medical images: five published systems as MONAI bundles on one core.

Importing this package is free of PyTorch and MONAI. Its subpackages load when they are first named, so that a bundle's
expressions can write ``$monai_kd.data.require(...)`` after a plain ``$import monai_kd``.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from .locations import bundle_names, bundle_root, ckpt_dir, data_dir, run_dir

__all__ = ["__version__", "bundle_names", "bundle_root", "ckpt_dir", "data_dir", "run_dir"]

__version__ = "0.2.0"

_SUBPACKAGES = ("comparison", "data", "engines", "handlers", "losses", "metrics", "networks", "nnunet", "transforms")


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
