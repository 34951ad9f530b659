# SPDX-License-Identifier: Apache-2.0
"""Files that are there as a whole or not at all."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from monai_kd import files
from monai_kd.files import (
    put_in_place,
    read_json,
    remove_unfinished,
    temporary_folder,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def test_a_file_is_the_old_one_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")
    with whole_file(path) as written:
        written.write_text("new")
        assert path.read_text() == "old" and written.name == "model.pt"
        assert list(tmp_path.glob("*.pt")) == [path]  # what lists networks does not see the unfinished one
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(error, tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), whole_file(tmp_path / "a.txt") as written:
        written.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_numbers_stand_in_one_line_and_nothing_else_changes(tmp_path):
    content = {"shape": [1, -2.5, 1e-07], "mixed": [True, None], "words": ["[\n  1\n]", "2"], "deep": [[1, 2]]}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == content and text.endswith("}\n")
    assert '"shape": [1, -2.5, 1e-07],' in text and '"mixed": [true, null],' in text and text.count("[1, 2]") == 1
    assert text.count("\n") == 11


def test_what_json_lacks_is_written_as_text(tmp_path):
    write_json(tmp_path / "a.json", {"folder": tmp_path, "pair": (1, 2)})
    assert read_json(tmp_path / "a.json") == {"folder": str(tmp_path), "pair": [1, 2]}


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"{", dict, "a.json is damaged, or no JSON"),
        (b"\xff", object, "a.json is damaged, or no JSON"),
        (b"[]", dict, "a.json must hold settings by name, got list"),
        (b"{}", list, "a.json must hold a list, got dict"),
    ],
)
def test_a_damaged_file_or_another_one_is_named(content, kind, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json", kind)


def test_a_file_is_read_in_utf_8_whatever_the_machine_speaks_and_one_from_elsewhere_by_its_mark(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "Zoë"}', encoding="utf-8")
    (tmp_path / "b.json").write_text('{"name": "Zoë"}', encoding="utf-16")
    code = f"from monai_kd.files import read_json; print(ascii(read_json({str(tmp_path / 'a.json')!r})))"
    other = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = subprocess.run([sys.executable, "-c", code], env=other, check=True, capture_output=True, text=True).stdout
    assert said.strip() == ascii({"name": "Zoë"}) == ascii(read_json(tmp_path / "b.json", encoding=None))


def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_file_and_folder_are_on_the_disk_before_and_after_the_name_changes(tmp_path, monkeypatch):
    steps, sync, replace = [], os.fsync, os.replace

    def record_sync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replace(*paths)))
    (tmp_path / "b").write_text("text")
    put_in_place(tmp_path / "b", tmp_path / "a")
    assert steps == ["file", "replace", "folder"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_is_there_as_a_whole(is_there, tmp_path):
    path = tmp_path / "app"
    if is_there:
        path.mkdir()
        (path / "old.txt").write_text("old")
    with pytest.raises(ValueError), whole_folder(path) as folder:
        (folder / "new.txt").write_text("half")
        raise ValueError
    assert os.listdir(tmp_path) == (["app"] if is_there else [])
    with whole_folder(path) as folder:
        assert folder.name == "app"
        (folder / "models").mkdir()
        (folder / "models" / "new.txt").write_text("new")
        assert not (path / "models").exists()
    assert (path / "models" / "new.txt").read_text() == "new" and os.listdir(tmp_path) == ["app"]
    assert sorted(os.listdir(path)) == (["models", "old.txt"] if is_there else ["models"])
    assert stat.S_IMODE(path.stat().st_mode) & 0o077  # not the rights of the place of unfinished files


def test_nobody_can_foretell_or_enter_the_place_of_unfinished_files(tmp_path):
    with temporary_folder(tmp_path) as first, temporary_folder(tmp_path) as second:
        assert first != second and first.parent == second.parent == tmp_path
        assert stat.S_IMODE(first.stat().st_mode) == 0o700


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_stays(tmp_path):
    code = """
import os, signal, sys
from monai_kd.files import whole_file
with whole_file(sys.argv[1]) as written:
    written.write_text("half")
    print("begun", flush=True)
    if sys.stdin.readline() == "die\\n":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "sub").mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    dying, living = (
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "sub" / name)], **pipes)
        for name in ("dead.txt", "live.txt")
    )
    with dying, living:
        assert dying.stdout.readline() == living.stdout.readline() == "begun\n"
        dying.communicate("die\n", timeout=60)
        assert len(list((tmp_path / "sub").glob(".writing-*"))) == 2
        remove_unfinished(tmp_path)  # not in sub-folders
        assert len(list((tmp_path / "sub").glob(".writing-*"))) == 2
        remove_unfinished(tmp_path, recursive=True)
        assert len(list((tmp_path / "sub").glob(".writing-*"))) == 1
        living.communicate("end\n", timeout=60)
    assert dying.returncode < 0 and living.returncode == 0
    assert os.listdir(tmp_path / "sub") == ["live.txt"] and (tmp_path / "sub" / "live.txt").read_text() == "half"


def test_folders_of_others_are_not_removed(tmp_path):
    (tmp_path / ".writing-elsewhere-0123").mkdir()
    (tmp_path / ".writing-mine").touch()
    remove_unfinished(tmp_path)
    assert len(os.listdir(tmp_path)) == 2


def test_a_system_without_locks_writes_and_removes_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", fail)
    left = tmp_path / f"{files._PREFIX}0123"
    left.mkdir()
    write_text(tmp_path / "a.txt", "text")
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [left.name, "a.txt"]


def test_a_folder_that_is_taken_for_an_old_one_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    mkdir, made = Path.mkdir, []

    def make_and_lose(path, *arguments, **options):
        mkdir(path, *arguments, **options)
        made.append(path)
        if len(made) == 1:
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    with temporary_folder(tmp_path) as folder:
        assert folder == made[1] and folder.is_dir()
    assert len(made) == 2 and os.listdir(tmp_path) == []


def test_threads_may_write_and_clear_at_once(tmp_path):
    failed = []

    def write(number):
        try:
            for count in range(10):
                write_text(tmp_path / f"{number}.txt", str(count))
                remove_unfinished(tmp_path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failed and sorted(os.listdir(tmp_path)) == [f"{number}.txt" for number in range(4)]
