# SPDX-License-Identifier: Apache-2.0
"""What the command line shows."""

from __future__ import annotations

import sys

__all__ = ["say"]


def say(text: str) -> None:
    """Show a line or more."""
    sys.stdout.write(text + "\n")
