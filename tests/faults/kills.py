# SPDX-License-Identifier: Apache-2.0
"""Verbs killed at any moment: what they go on to make is, bit for bit, what they make undisturbed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .child import Child, Ended, count_calls, die_at_call, run_verb, verb
from .tally import DONE, REFUSED, Tally
from .victims import victims
from .workspace import Workspace, judge

__all__ = ["Death", "Kills", "kill_workers", "run_two"]

_WAS_DONE = ("has tumor_segmentation already", "exists and is not empty")


@dataclass
class Death:
    """A way to be killed.

    Attributes:
        after: so many seconds after the start.
        call: or at this call that changes what lies on the disk, counted from 1;
        behind: behind it, rather than before it.
    """

    after: float = 0.0
    call: int = 0
    behind: bool = False

    def __str__(self) -> str:
        return f"{'behind' if self.behind else 'before'} call {self.call}" if self.call else f"after {self.after:.3f} s"


@dataclass
class _Known:
    seconds: float
    calls: int
    made: Any


class Kills:
    """Kill verbs, and let them go on.

    Args:
        space: what they need.
    """

    def __init__(self, space: Workspace) -> None:
        self.space = space
        self.victims = victims(space)
        self._known: dict[str, _Known] = {}

    def known(self, name: str) -> _Known:
        """What a verb makes undisturbed, in what time, with how many calls that change the disk."""
        if name not in self._known:
            place, victim = self.prepared(name), self.victims[name]
            ended = run_verb(victim.begin(place), 600)
            if ended.status:
                raise RuntimeError(f"{name} fails undisturbed: {ended}")
            made, counter = victim.made(place), self.space.folder / "calls"
            run_verb(victim.begin(self.prepared(name)), 600, before=count_calls(counter))
            self._known[name] = _Known(ended.seconds, int(counter.read_text()), made)
        return self._known[name]

    def chain(self, name: str, seed: int, number: int, tally: Tally, longest: int = 6) -> None:
        """Kill a verb a few times, half of them at random and half where it changes the disk; then let it end."""
        known, rng, deaths = self.known(name), np.random.default_rng([seed, number]), []
        for _ in range(int(rng.integers(1, longest + 1))):
            if rng.random() < 0.5:
                deaths.append(Death(after=float(rng.uniform(0, 1.1 * known.seconds))))
            else:
                deaths.append(Death(call=int(rng.integers(1, known.calls + 1)), behind=bool(rng.random() < 0.5)))
        self.kill(name, deaths, tally, f"seed {seed} number {number}")

    def kill(self, name: str, deaths: Sequence[Death], tally: Tally, where: str = "") -> None:
        """Kill a verb in these ways, one after the other, and let it go on each time; then let it end."""
        victim, kind, place, killed = self.victims[name], f"kill:{name}", self.prepared(name), 0
        where = f"{where}, killed {', '.join(map(str, deaths))}"
        for attempt, death in enumerate(deaths):
            words = victim.begin(place) if attempt == 0 else (victim.go_on or victim.begin)(place)
            if death.call:
                ended = run_verb(words, 300, before=die_at_call(death.call, death.behind))
            else:
                ended = run_verb(words, 300, kill_after=death.after)
            if ended.status != -signal.SIGKILL or ended.hung:  # it was done before
                outcome, detail = _judge(ended)
                if outcome != DONE:
                    tally.add(kind, "unclear" if outcome == REFUSED else outcome, f"{where}: {detail}")
                    return
                break
            killed += 1
            try:
                victim.whole(place)
            except Exception as error:
                tally.add(kind, "silent", f"{where}: half a file: {error}", killed)
                return
        if killed:
            self._end(name, place, where, killed, tally)

    def _end(self, name: str, place: Path, where: str, killed: int, tally: Tally) -> None:
        victim, kind = self.victims[name], f"kill:{name}"
        outcome, detail = _judge(run_verb((victim.go_on or victim.begin)(place), 300))
        if outcome != DONE:
            tally.add(kind, "unclear" if outcome == REFUSED else outcome, f"{where}: {detail}", killed)
            return
        try:
            made = victim.made(place)
        except Exception as error:
            tally.add(kind, "silent", f"{where}: {type(error).__name__}: {error}", killed)
            return
        known = self.known(name).made
        differing = [key for key in known.keys() | made.keys() if made.get(key) != known.get(key)]
        left = [str(path.relative_to(place)) for path in place.rglob(".writing-*")]
        left += [str(path.relative_to(place)) for path in place.rglob("*.held")]
        if differing:
            tally.add(kind, "silent", f"{where}: {', '.join(map(str, differing))} differ", killed)
        elif left:
            tally.add(kind, "left behind", f"{where}: {', '.join(left)}", killed)
        else:
            tally.add(kind, DONE, count=killed)

    def prepared(self, name: str) -> Path:
        """A new folder with what a verb needs."""
        place = self.space.place(name)
        self.victims[name].prepare(place)
        return place


def _judge(ended: Ended) -> tuple[str, str]:
    outcome, detail = judge(ended)
    was_done = outcome == REFUSED and any(words in detail for words in _WAS_DONE)  # it was killed behind its end
    return (DONE, "") if was_done else (outcome, detail)


def run_two(kills: Kills, name: str, seed: int, number: int, tally: Tally) -> None:
    """Run a verb twice at once in one folder: one does its work, the other one is refused, or finds it done."""
    known, victim, kind = kills.known(name), kills.victims[name], f"two at once:{name}"
    rng = np.random.default_rng([seed, number])
    place = kills.prepared(name)
    first = verb(victim.begin(place))
    time.sleep(float(rng.uniform(0, known.seconds)))
    second = verb(victim.begin(place))
    ended = [child.wait(300) for child in (first, second)]
    judged = [judge(one) for one in ended]
    where = f"seed {seed} number {number}"
    for outcome, detail in judged:
        if outcome not in (DONE, REFUSED):
            tally.add(kind, outcome, f"{where}: {detail}")
            return
    if judged[0][0] != DONE and judged[1][0] != DONE:
        tally.add(kind, "unclear", f"{where}: neither did it: {judged}")
        return
    made = victim.made(place)
    is_same = all(made[key] == known.made[key] for key in known.made)
    tally.add(kind, DONE if is_same else "silent", f"{where}: what they made together differs")


def kill_workers(kills: Kills, seed: int, number: int, tally: Tally) -> None:
    """Kill a process that loads data for a training: the training says so, and goes on later as if nothing had been."""
    known, victim, kind = kills.known("train_workers"), kills.victims["train_workers"], "worker killed"
    place = kills.prepared("train_workers")
    rng = np.random.default_rng([seed, number])
    child = verb(victim.begin(place))
    wait, deadline = float(rng.uniform(0, known.seconds)), time.monotonic() + 60
    worker = None
    while time.monotonic() < deadline and worker is None and not _has_ended(child):
        if time.monotonic() - child.start > wait:
            worker = next(iter(_children(child.pid)), None)
        time.sleep(0.002)
    if worker is not None:
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            worker = None
    outcome, detail = judge(child.wait(120))
    where = f"seed {seed} number {number}"
    if worker is None:
        return
    if outcome not in (DONE, REFUSED):
        tally.add(kind, outcome, f"{where}: {detail}")
        return
    ended = judge(run_verb(victim.go_on(place)))  # type: ignore[misc]
    if ended[0] != DONE:
        tally.add(kind, "unclear", f"{where}: it does not go on: {ended}")
        return
    tally.add(kind, outcome if victim.made(place) == known.made else "silent", f"{where}: what it made differs")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _has_ended(child: Child) -> bool:
    try:
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
