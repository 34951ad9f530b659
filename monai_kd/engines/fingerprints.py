# SPDX-License-Identifier: Apache-2.0
"""Whether an input is done: a hash of all that decides its result, and the files that it gave."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_kd.id_roles import CALL, MACHINE, NOTES, OF_INFERENCE, PLACES, STEPS

from .batch_case import Case
from .run_config import running_config

__all__ = ["Fingerprints", "here", "signed", "stem_of"]

_NO_INFLUENCE = PLACES | MACHINE | CALL | STEPS | NOTES | OF_INFERENCE


class Fingerprints:
    """The fingerprints of a batch's inputs: of checkpoint, running configuration, files that it names, and the input's.

    Args:
        checkpoint: the file of the network.
    """

    def __init__(self, checkpoint: Path) -> None:
        with open(checkpoint, "rb") as file:
            self._method: Any = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
        settings = _deciding(running_config() or {})
        settings["batch_inference"] = _deciding(settings.get("batch_inference", {}))
        self._method.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for name in sorted({value for value in settings.values() if isinstance(value, str) and os.path.isfile(value)}):
            with open(name, "rb") as file:  # such as a mask of k-space
                hashlib.file_digest(file, lambda: self._method)

    def of(self, files: Sequence[str]) -> str:
        """The fingerprint of an input of these files.

        Raises:
            OSError: when one cannot be read.
        """
        content: Any = self._method.copy()
        for name in files:
            with open(name, "rb") as file:
                hashlib.file_digest(file, lambda: content)
        return content.hexdigest()

    def is_done(self, case: Case, row: Mapping[str, str] | None) -> bool:
        """Whether an earlier run's row is of this very input, and all that it wrote is there as a whole."""
        if row is None or not all(map(os.path.isfile, case.files)):
            return False
        fingerprint, _, written = row["fingerprint"].partition(" ")
        try:
            output = here(case, row)["output"]
            is_there = _is_whole(case.stem, written) and (not output or os.path.isfile(output))
            return is_there and fingerprint == self.of(case.files)
        except OSError:  # reading it will say why
            return False


def here(case: Case, row: Mapping[str, str]) -> dict[str, str]:
    """An earlier run's row with its output where this run would write it: its folder may have been moved since."""
    return {**row, "output": str(case.stem.parent / os.path.basename(row["output"])) if row["output"] else ""}


def signed(fingerprint: str, stem: Path, written: Sequence[Path]) -> str:
    """A fingerprint with the files that were written and their sizes, as :meth:`Fingerprints.is_done` reads it."""
    sizes = [f"{path.name.removeprefix(stem.name)}={path.stat().st_size}" for path in sorted(written)]
    return f"{fingerprint} {'/'.join(sizes)}".rstrip()


def stem_of(row: Mapping[str, str]) -> str:
    """The path, without endings, of what an earlier run's row wrote; the row's input where it wrote nothing.

    >>> stem_of({"input": "a.png", "output": "out/a_trans.png", "fingerprint": "1f _trans.png=9/_trans_overlay.png=8"})
    'out/a'
    """
    endings = [entry.rpartition("=")[0] for entry in row["fingerprint"].partition(" ")[2].split("/")]
    of_output = [row["output"].removesuffix(ending) for ending in endings if ending and row["output"].endswith(ending)]
    return min(of_output, key=len, default=row["input"])


def _is_whole(stem: Path, written: str) -> bool:
    """Whether the files of a signed fingerprint are there in their sizes."""
    sizes = [entry.rpartition("=") for entry in written.split("/") if entry]
    return all(os.path.getsize(stem.with_name(stem.name + ending)) == int(size) for ending, _, size in sizes)


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _NO_INFLUENCE}
