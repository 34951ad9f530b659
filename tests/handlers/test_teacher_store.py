# SPDX-License-Identifier: Apache-2.0
import os

import pytest
import torch

from monai_kd.handlers.teacher_store import KEY_BYTES, FileStore, MemoryStore

IDENTITY = b"i" * KEY_BYTES


def _key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "little")


def _answer(number: int) -> dict[str, torch.Tensor]:
    return {"": torch.full((3,), float(number)), "'a' | pooled[1]": torch.full((2, 2), number, dtype=torch.bfloat16)}


def _filled(path, count: int = 3, **arguments) -> FileStore:
    store = FileStore(path, IDENTITY, **{"max_bytes": 1e6, **arguments})
    for number in range(count):
        store.add(_key(number), _answer(number))
    return store


def _check(store, numbers) -> None:
    for number in numbers:
        kept = store.get(_key(number))
        assert kept.keys() == _answer(number).keys()
        for name, value in _answer(number).items():
            assert torch.equal(kept[name], value) and kept[name].dtype == value.dtype


def test_a_file_gives_back_what_it_was_given_now_and_later(tmp_path):
    store = _filled(tmp_path / "run" / "answers.bin")
    _check(store, range(3))
    assert store.get(_key(3)) is None and store.nbytes == store.path.stat().st_size
    store.add(_key(1), _answer(5))  # known already
    store.close()
    store.close()
    assert store.get(_key(1)) is None
    again = FileStore(store.path, IDENTITY, 1e6)
    assert len(again) == 3 and not again.dropped
    again.add(_key(3), _answer(3))
    _check(again, range(4))


@pytest.mark.parametrize("what", ["header", "key", "nothing of the last", "one byte"])
def test_a_file_that_ends_early_gives_what_is_whole(tmp_path, what):
    store = _filled(tmp_path / "answers.bin")
    last, length = store._places[_key(2)]
    store.close()
    size = {"header": 10, "key": last + 5, "nothing of the last": last, "one byte": store.nbytes - 1}[what]
    os.truncate(store.path, size)
    cut = FileStore(store.path, IDENTITY, 1e6)
    whole = 0 if what == "header" else 2
    assert len(cut) == whole
    _check(cut, range(whole))
    assert {
        "header": "answers of another teacher, or to other questions",
        "nothing of the last": "",
    }.get(what, "an incomplete answer behind 2 whole ones") == cut.dropped
    cut.add(_key(2), _answer(2))
    cut.close()
    assert len(FileStore(store.path, IDENTITY, 1e6)) == whole + 1


@pytest.mark.parametrize("place", ["key", "length", "checksum", "answer"])
def test_damage_is_never_read(tmp_path, place):
    store = _filled(tmp_path / "answers.bin")
    start, length = store._places[_key(1)]
    offset = {"key": 0, "length": KEY_BYTES, "checksum": KEY_BYTES + 8, "answer": KEY_BYTES + 12 + length - 1}[place]
    content = bytearray(store.path.read_bytes())
    content[start + offset] ^= 128
    store.path.write_bytes(content)
    assert store.get(_key(1)) is None
    _check(store, [0, 2])
    store.add(_key(1), _answer(1))
    _check(store, range(3))
    store.close()
    again = FileStore(store.path, IDENTITY, 1e6)
    for number in range(3):
        assert again.get(_key(number)) is None or _check(again, [number]) is None
    _check(again, [0])


def test_a_hole_at_the_end_is_cut_off(tmp_path):
    store = _filled(tmp_path / "answers.bin")
    store.close()
    os.truncate(store.path, store.nbytes + 4096)  # as a machine that went down may leave it
    again = FileStore(store.path, IDENTITY, 1e6)
    assert len(again) == 3 and again.dropped and again.path.stat().st_size == store.nbytes


def test_the_answers_of_another_identity_are_dropped(tmp_path):
    _filled(tmp_path / "answers.bin").close()
    other = FileStore(tmp_path / "answers.bin", b"o" * KEY_BYTES, 1e6)
    assert len(other) == 0 and other.get(_key(0)) is None and "another teacher" in other.dropped
    assert other.path.stat().st_size == other.nbytes < 100


def test_two_that_write_to_one_file_do_not_disturb_each_other(tmp_path):
    first, second = _filled(tmp_path / "answers.bin", 1), _filled(tmp_path / "answers.bin", 0)
    for number in range(1, 7):
        (first if number % 2 else second).add(_key(number), _answer(number))
    _check(first, [0, 1, 3, 5])
    _check(second, [0, 2, 4, 6])
    first.close()
    second.close()
    _check(FileStore(tmp_path / "answers.bin", IDENTITY, 1e6), range(7))


def test_a_file_does_not_become_larger_than_it_may(tmp_path):
    size = _filled(tmp_path / "all.bin", 4).nbytes
    store = _filled(tmp_path / "answers.bin", 4, max_bytes=size - 1)
    assert store.is_full and len(store) == 3 and store.path.stat().st_size < size
    _check(store, range(3))


def test_memory_holds_so_many_bytes(tmp_path):
    store = MemoryStore(2 * (3 * 4 + 4 * 2) + 1)
    for number in range(3):
        store.add(_key(number), _answer(number))
        store.add(_key(number), _answer(number))
    assert store.is_full and store.nbytes == 40 and store.get(_key(2)) is None
    _check(store, range(2))
    store.close()
    assert store.get(_key(0)) is None and store.nbytes == 0
