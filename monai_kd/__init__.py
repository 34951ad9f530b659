# SPDX-License-Identifier: Apache-2.0
"""Knowledge distillation for medical images: five published systems as MONAI bundles on one core.

Importing this package is free of PyTorch and MONAI. Its subpackages load when they are first named, so that a bundle's
expressions can write ``$monai_kd.data.require(...)`` after a plain ``$import monai_kd``.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

__all__ = ["__version__", "bundle_names", "bundle_root", "data_dir", "run_dir"]

__version__ = "0.1.0"

_SUBPACKAGES = ("comparison", "data", "engines", "handlers", "losses", "metrics", "networks", "transforms")
_PACKAGE = Path(__file__).resolve().parent


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _bundles() -> Path:
    """The folder of the bundles: beside the package in a checkout, inside it in an installed wheel."""
    checkout, installed = _PACKAGE.parent / "bundle", _PACKAGE / "bundles"
    # Installed packages may well have an unrelated neighbour called `bundle`; ours holds bundles.
    return installed if any(installed.glob("*/configs/metadata.json")) else checkout


def bundle_names() -> list[str]:
    """Names of the bundles that this installation carries, sorted."""
    return sorted(path.parents[1].name for path in _bundles().glob("*/configs/metadata.json"))


def bundle_root(name: str) -> str:
    """Absolute path of a bundle's directory.

    It is found from where this file lies and never from the current folder, so a bundle's ``bundle_root`` means the
    same wherever the command was started.

    Args:
        name: one of :func:`bundle_names`.

    Raises:
        ValueError: when there is no such bundle.
    """
    root = _bundles() / name
    if not (root / "configs" / "metadata.json").is_file():
        raise ValueError(f"there is no bundle {name!r}; there are: {', '.join(bundle_names()) or 'none'}")
    return str(root)


def _writable_root(root: str | os.PathLike) -> Path:
    """Where a bundle's runs and data go: the bundle itself, unless it lies in an installed package."""
    path = Path(root).resolve()
    if path.is_relative_to(_PACKAGE):
        return Path(os.environ.get("MONAI_KD_HOME", "~/.monai_kd")).expanduser().resolve() / path.name
    return path


def run_dir(root: str | os.PathLike, run: str = "default") -> str:
    """Absolute path of the folder that a run of the bundle in ``root`` writes to.

    ``<root>/runs/<run>``; for a bundle inside an installed package ``$MONAI_KD_HOME/<bundle>/runs/<run>``
    (``~/.monai_kd`` by default), because nothing is ever written into site-packages.
    """
    return str(_writable_root(root) / "runs" / run)


def data_dir(root: str | os.PathLike) -> str:
    """Absolute path where the bundle in ``root`` looks for its data set unless told otherwise."""
    return str(_writable_root(root) / "data")
