# SPDX-License-Identifier: Apache-2.0
import errno
import os
import platform
import subprocess
import sys

import pytest

from monai_kd import folder_lock
from monai_kd.folder_lock import held_by_this_process, locked_folder


def _lock(folder, **options):
    return locked_folder(folder, "another run", "choose another folder", **options)


def _no_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def _ended_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture(params=[True, False], ids=["locks", "no locks"])
def file_system(request, monkeypatch) -> bool:
    if not request.param:
        monkeypatch.setattr(folder_lock.fcntl, "flock", _no_locks)
    return request.param


def test_one_at_a_time_and_the_other_is_named(file_system, tmp_path):
    who = rf"another run is writing to .* \(process {os.getpid()} on {platform.node()}\): wait for it, stop it, or"
    for _ in range(2):
        with _lock(tmp_path):
            with pytest.raises(FileExistsError, match=who), _lock(tmp_path):
                pass
        with _lock(tmp_path):
            pass


def test_a_process_holds_its_own_folder_twice_and_others_are_kept_out(file_system, tmp_path, monkeypatch):
    def hold():
        return held_by_this_process(tmp_path / "run", "another training", "name another --run")

    who = rf"another training is writing to .* \(process {os.getpid()} on .*\): wait for it, stop it, or name an"
    with hold(), hold():
        with monkeypatch.context() as patch:
            patch.setattr(folder_lock, "_mine", set())  # as another process sees it
            with pytest.raises(FileExistsError, match=who), hold():
                pass
    with hold():
        pass
    assert not any(tmp_path.iterdir())  # as nothing came to lie there


def test_a_worker_that_outlives_its_killed_process_holds_no_lock(tmp_path):
    code = """
import os, sys, time
from pathlib import Path
from monai_kd.folder_lock import held_by_this_process
with held_by_this_process(Path(sys.argv[1]), "another training", "name another --run"):
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.read()  # until the test ends
        os._exit(0)
    time.sleep(60)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as holder:
        assert holder.stdout.readline() == "forked\n"
        with pytest.raises(FileExistsError, match=f"process {holder.pid} on"), _held(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with _held(tmp_path):
            pass


def _held(folder):
    return held_by_this_process(folder, "another training", "name another --run")


def test_those_who_share_keep_out_those_who_do_not(tmp_path):
    with _lock(tmp_path, shared=True), _lock(tmp_path, shared=True):
        with pytest.raises(FileExistsError, match="another run is writing to .*: wait"), _lock(tmp_path):
            pass


def test_without_locks_a_file_says_who_and_goes_stale_with_its_process(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder_lock.fcntl, "flock", _no_locks)
    held = tmp_path / ".lock.held"
    held.write_text(f"{_ended_process()} {platform.node()}")
    with caplog.at_level("WARNING", "monai_kd"), _lock(tmp_path):
        assert held.read_text() == f"{os.getpid()} {platform.node()}"
    assert not held.exists() and "has no locks" in caplog.text and "start no two runs in a folder" in caplog.text
    held.write_text("1 elsewhere")  # nobody here can know
    cure = rf"process 1 on elsewhere.*if it has ended, remove {held}"
    with pytest.raises(FileExistsError, match=cure), _lock(tmp_path):
        pass
