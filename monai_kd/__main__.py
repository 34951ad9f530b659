# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_kd VERB ...``"""

import sys

from monai_kd.command_line.errors import SOME_FAILED
from monai_kd.command_line.interrupt import exit_at_once, raise_on_interrupt

__all__ = ["command"]


def command() -> None:
    """Run the command that this process was started for, and end the process."""
    interrupted = raise_on_interrupt()
    try:
        from monai_kd.cli import main

        status = main()
    except KeyboardInterrupt:  # before that began, or after it ended
        status = SOME_FAILED
    if interrupted.is_set():
        exit_at_once(status)
    sys.exit(status)


if __name__ == "__main__":
    command()
