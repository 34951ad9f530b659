# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_kd VERB ...``"""

import os
import signal
import sys

from monai_kd.cli import main


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C. A plain KeyboardInterrupt, though caught, ends Python with a signal once it has passed MONAI's `eval`."""


def _interrupt_only(process: int) -> None:
    """Let Ctrl-C interrupt this process; the loaders' workers, which get it as well, end with it."""

    def interrupt(*_: object) -> None:
        if os.getpid() == process:
            raise _Interrupted

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


if __name__ == "__main__":
    _interrupt_only(os.getpid())
    sys.exit(main())
