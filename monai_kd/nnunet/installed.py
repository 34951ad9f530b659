# SPDX-License-Identifier: Apache-2.0
"""nnU-Net, where it is installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Iterator
from typing import Any

__all__ = ["is_installed", "nnunet", "quietly"]


def is_installed() -> bool:
    """Whether nnU-Net can be imported."""
    return importlib.util.find_spec("nnunetv2") is not None


def nnunet(module: str) -> Any:
    """A module of nnU-Net, imported when it is needed: it takes seconds, and most bundles do without.

    Args:
        module: its name below ``nnunetv2``.

    Raises:
        ImportError: when nnU-Net is not installed, with the cure.
    """
    if not is_installed():
        raise ImportError('nnU-Net is not installed: pip install "monai_kd[nnunet]"')
    with quietly():  # it tells which of its environment variables are not set, whether they are needed or not
        importlib.import_module("nnunetv2.paths")
        return importlib.import_module(f"nnunetv2.{module}")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what nnU-Net prints from the command line's own lines."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
