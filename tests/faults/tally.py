# SPDX-License-Identifier: Apache-2.0
"""How often each kind of fault was tried, and what came of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

from monai_kd.files import write_text

__all__ = ["DONE", "FAULTS", "REFUSED", "Tally"]

DONE, REFUSED = "done", "refused"
FAULTS = ("silent", "hang", "traceback", "died", "leak", "left behind", "unclear")
"""What must not be: a wrong result that nobody is told of; no end; Python's trace; a signal that nobody sent; a
patient's name in a message; unfinished files; a message of several lines, or one that does not say which file."""

_SHOWN = 200


class Tally:
    """Counts by kind and by what came of it, with an example of each fault."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: list[dict[str, str]] = []

    def add(self, kind: str, outcome: str, detail: str = "", count: int = 1) -> None:
        """Count what came of a fault.

        Args:
            kind: of the fault.
            outcome: ``DONE``, ``REFUSED``, or one of ``FAULTS``.
            detail: what a fault must be seen by.
            count: how many.
        """
        self.counts[kind][outcome] += count
        if outcome in FAULTS and len(self.examples) < _SHOWN:
            self.examples.append({"kind": kind, "outcome": outcome, "detail": detail[:4000]})

    def tried(self, kind: str) -> int:
        """How often a kind was tried."""
        return sum(self.counts[kind].values())

    @property
    def faults(self) -> int:
        """How often came what must not be."""
        return sum(counts[outcome] for counts in self.counts.values() for outcome in FAULTS)

    def write(self, file: Path, **more: object) -> None:
        """Write all of it as JSON, as a whole."""
        write_text(file, json.dumps({**more, "counts": self.counts, "examples": self.examples}, indent=1))

    def lines(self) -> list[str]:
        """A table by kind, with the sums of each group of kinds (what stands before the colon)."""
        rows: dict[str, Counter[str]] = {}
        for kind in sorted(self.counts):
            group = kind.partition(":")[0]
            rows.setdefault(group, Counter()).update(self.counts[kind])
            if ":" in kind:
                rows[f"  {kind}"] = self.counts[kind]
        lines = []
        for kind, counts in rows.items():
            outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
            lines.append(f"{kind:<40} {sum(counts.values()):>8}  {outcomes}")
        return lines
