# SPDX-License-Identifier: Apache-2.0
"""A few faults of every kind; `soak.py` tries them by the hundred thousand."""

from pathlib import Path

import pytest

from .checkpoints import try_checkpoint
from .disks import can_mount, try_disk
from .inputs import BOMBS, SPECIAL, try_inputs
from .kills import Death, Kills, run_two
from .many import infer_many
from .readers import damage_files
from .samples import Sample, make_samples
from .settings import try_setting
from .soak import KILLS, kinds
from .tally import DONE, REFUSED, Tally
from .workspace import Workspace


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def kills(space) -> Kills:
    return Kills(space)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Sample]:
    return make_samples(tmp_path_factory.mktemp("samples"))


def _check(tally: Tally) -> None:
    assert not tally.faults and tally.counts, tally.examples


@pytest.mark.parametrize("name", ["copy", "generate", "label_app", "export", "publish", "infer", "train"])
def test_what_is_killed_where_it_changes_the_disk_goes_on(name, kills):
    tally, calls = Tally(), kills.known(name).calls
    for call in {1, calls} if name == "train" else {1, calls // 3, 2 * calls // 3, calls}:
        kills.kill(name, [Death(call=call, behind=call % 2 == 0)], tally)
    _check(tally)


def test_what_is_killed_again_and_again_goes_on(kills):
    tally = Tally()
    kills.kill("infer", [Death(after=share * kills.known("infer").seconds) for share in (0.3, 0.6, 0.8)], tally)
    _check(tally)


def test_two_at_once_do_not_mix(kills):
    tally = Tally()
    run_two(kills, "train", 0, 0, tally)
    _check(tally)


def test_damaged_files_are_read_or_named(samples, tmp_path):
    tally = Tally()
    for name, sample in samples.items():
        damage_files(name, sample, 0, 0, 10, tmp_path, tally)
    assert {kind.partition(":")[2] for kind in tally.counts} == set(samples)
    _check(tally)


@pytest.mark.parametrize("number", [3, 9, 11, 12, 13, 17, 22 + 11, 66 + 4, 88 + 11])
def test_nothing_of_a_hostile_checkpoint_runs(number, space):
    tally = Tally()
    try_checkpoint(space, 0, number, tally)
    _check(tally)


@pytest.mark.parametrize("number", range(4))
def test_settings_without_sense_are_refused(number, space):
    tally = Tally()
    try_setting(space, 0, number, tally)
    _check(tally)


@pytest.mark.parametrize("kind, name", [*(("bomb", name) for name in BOMBS), *(("special", name) for name in SPECIAL)])
def test_bad_inputs_fail_alone(kind, name, space):
    tally = Tally()
    try_inputs(space, kind, name, tally)
    _check(tally)


@pytest.mark.parametrize("name", ["copy", "generate"])
def test_a_full_disk_is_said_and_room_cures_it(name, kills):
    if not can_mount(kills.space.folder / "disk"):
        pytest.skip("needs the right to mount a file system")
    tally = Tally()
    try_disk(kills, name, 0, 0, tally)
    _check(tally)


def test_many_files_leave_many_rows(space):
    tally = Tally()
    infer_many(space, 0, 60, tally)
    _check(tally)


def test_the_soak_tries_all_kinds(space):
    counted = {kind.counted for kind in kinds(space, 0, Tally())}
    assert {f"kill:{name}" for name in KILLS} | {"checkpoint:", "setting:", "bomb:", "special:"} <= counted


def test_a_tally_adds_up(tmp_path: Path):
    tally = Tally()
    tally.add("file:png", DONE, count=3)
    tally.add("file:jpg", REFUSED)
    tally.add("file:jpg", "silent", "what is seen")
    assert tally.faults == 1 and tally.tried("file:jpg") == 2 and tally.examples[0]["detail"] == "what is seen"
    assert tally.lines()[0].split() == ["file", "5", "3", "done,", "1", "refused,", "1", "silent"]
