# SPDX-License-Identifier: Apache-2.0
"""Folders of files that only have names."""

from __future__ import annotations

from pathlib import Path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
