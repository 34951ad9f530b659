# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from monai_kd.data import GENERATED, DatasetGenerator
from monai_kd.files import _PREFIX


class Words(DatasetGenerator):
    """A data set of one word, in a folder for each case, and a list of them."""

    def __init__(self, word="a", fail_at=None):
        self.word = word
        self.fail_at = fail_at

    def _arguments(self):
        return {"word": self.word}

    @classmethod
    def _names(cls, settings):
        return [*(f"{settings['word']}/{i}.txt" for i in range(settings["cases"])), "list.txt"]

    def _write(self, folder, cases, seed):
        for i, name in enumerate(self._names({"word": self.word, "cases": cases})):
            if i == self.fail_at:
                raise KeyboardInterrupt
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{self.word}{seed}")
            yield name


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_data_set_says_what_it_is(tmp_path):
    assert Words("b")(tmp_path / "new", cases=2, seed=3) == tmp_path / "new"
    assert files(tmp_path / "new") == ["b/0.txt", "b/1.txt", GENERATED, "list.txt"]
    assert json.loads((tmp_path / "new" / GENERATED).read_text()) == {
        "generator": "Words",
        "cases": 2,
        "seed": 3,
        "word": "b",
    }


def test_an_earlier_data_set_is_replaced_and_what_was_added_to_it_stays(tmp_path):
    Words("a")(tmp_path, cases=3)
    (tmp_path / "notes.txt").touch()
    Words("b")(tmp_path, cases=1)
    assert files(tmp_path) == ["b/0.txt", GENERATED, "list.txt", "notes.txt"]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "list.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty and holds no data set of Words: choose a new folder"):
        Words()(tmp_path, cases=1)
    (tmp_path / GENERATED).write_text('{"generator": "Numbers"}')
    with pytest.raises(FileExistsError, match="no data set of Words"):
        Words()(tmp_path, cases=1)
    assert (tmp_path / "list.txt").read_text() == "mine"


def test_once_writes_only_what_is_not_there_yet(tmp_path):
    folder = tmp_path / "data"
    assert Words().once(folder, cases=2) == str(folder)
    (folder / "a" / "0.txt").write_text("kept")
    Words().once(folder, cases=2)
    assert (folder / "a" / "0.txt").read_text() == "kept"
    Words().once(folder, cases=2, seed=1)
    assert (folder / "a" / "0.txt").read_text() == "a1"


def test_nothing_is_written_where_a_list_names_other_images(tmp_path):
    assert Words().once(tmp_path / "data", cases=2, datalist="own.json") == str(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_a_killed_process_left_is_no_data_set_of_others(tmp_path):
    (tmp_path / f"{_PREFIX}0123").mkdir()
    Words()(tmp_path, cases=1)
    assert not list(tmp_path.glob(".writing-*"))


def test_an_interrupted_data_set_is_completed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Words(fail_at=1)(tmp_path, cases=2)
    assert files(tmp_path) == ["a/0.txt", GENERATED]
    Words().once(tmp_path, cases=2)
    assert files(tmp_path) == ["a/0.txt", "a/1.txt", GENERATED, "list.txt"]


@pytest.mark.parametrize(("cases", "seed"), [(0, 0), (1, -1)])
def test_arguments_out_of_range(tmp_path, cases, seed):
    with pytest.raises(ValueError, match=f"got cases={cases} and seed={seed}"):
        Words()(tmp_path / "new", cases=cases, seed=seed)
    assert not (tmp_path / "new").exists()
