# SPDX-License-Identifier: Apache-2.0
"""Errors in one line."""

import errno
import pickle
import queue

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import LoadImaged

import monai_kd
from monai_kd.cli import main
from monai_kd.command_line.errors import reason, status_of


def test_what_torch_says_about_other_weights_is_one_line():
    nn = pytest.importorskip("torch").nn
    saved = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(1, 1)).state_dict()
    with pytest.raises(RuntimeError) as error:
        nn.Sequential(nn.Linear(2, 4), nn.Linear(3, 1), nn.Identity(), nn.Linear(1, 1)).load_state_dict(saved)
    assert reason(error.value) == (
        "these weights belong to another network: 2 missing (such as 3.weight), 2 unexpected (such as 2.weight), "
        "2 of another shape (such as 0.weight); name the --run that they were trained in, or other weights"
    )


def test_a_newline_in_a_name_is_no_end_of_a_sentence():
    assert reason(ValueError("a\nb.png is damaged.\n  Try another")) == "a\\nb.png is damaged. Try another"


class Malicious:
    """Writes a file where somebody unpickles it."""

    def __reduce__(self):
        return exec, ("open('planted', 'w')",)


def _checkpoints(folder):
    """Files that are no weights, by what is said of them."""
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1000)}, folder / "whole.pt")
    whole = (folder / "whole.pt").read_bytes()
    (folder / "empty.pt").touch()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weight": torch.zeros(8000)}, folder / "larger.pt")  # for which torch has another error: OSError
    (folder / "larger.pt").write_bytes((folder / "larger.pt").read_bytes()[:9000])
    (folder / "text.pt").write_text("hello")
    torch.save({"weight": Malicious()}, folder / "malicious.pt")
    torch.save({"weight": Malicious()}, folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "new.pt").write_bytes(pickle.dumps(Malicious(), protocol=4))
    return {
        "empty": "is empty",
        "cut": "is no checkpoint that torch can read, or damaged",
        "larger": "is no checkpoint that torch can read, or damaged",
        "text": "is no checkpoint that torch can read, or damaged",
        "malicious": "holds more than weights",
        "old": "holds more than weights",
        "new": "",
    }


def test_files_that_are_no_weights_are_named_and_nothing_of_them_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch = pytest.importorskip("torch")
    for name, message in _checkpoints(tmp_path).items():
        path = tmp_path / f"{name}.pt"
        for load in (monai_kd.engines.read_weights, lambda path: torch.load(path, weights_only=True)):
            with pytest.raises(Exception) as error:
                load(path)
            said = reason(error.value)
            assert str(path) in said and message in said and "\n" not in said
            assert "weights_only" not in said and status_of(error.value) == 2
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    "error, message",
    [
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory; a smaller batch_size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b.pt"), "/a/b.pt could not be written as a whole"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), "was killed, most often for"),
        (RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), "num_workers, 0 for none"),
        (queue.Empty(), "a process that loads images was killed"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk is full"),
    ],
    ids=str,
)
def test_what_broke_off_has_status_1_and_says_what_to_do(error, message):
    assert message in reason(error) and status_of(error) == 1


def test_a_network_that_cannot_be_compiled_is_said_in_a_line():
    output = "a.cpp: In function f\na.cpp:7: error: no match\n  note: candidates"
    page = f"C++ compile error\n\nCommand:\ng++ -O3 a.cpp\n\nOutput:\n{output}"

    def backend(graph, inputs):
        raise RuntimeError(page)

    with pytest.raises(RuntimeError) as error:
        torch.compile(torch.nn.Linear(1, 1), backend=backend)(torch.zeros(1, 1))
    said = reason(error.value)
    assert "RuntimeError: C++ compile error a.cpp:7: error: no match); train with compile=false" in said
    assert "note" not in said and "\n" not in said and status_of(error.value) == 1


def test_wrong_calls_have_status_2():
    assert [status_of(error) for error in (ValueError(), FileNotFoundError(2, "x"), KeyError("x"))] == [2, 2, 2]
    assert status_of(RuntimeError()) == 1


def test_what_a_loader_s_process_says_is_its_first_cause(tmp_path):
    """PyTorch gives a page of text, without the errors themselves."""
    load = LoadImaged("image", reader="monai_kd.data.ImageFileReader")
    loader = DataLoader(Dataset([{"image": str(tmp_path / "none.png")}], load), num_workers=1)
    with pytest.raises(RuntimeError) as error:
        next(iter(loader))
    assert reason(error.value) == f"{tmp_path / 'none.png'}: there is no such file: check the path"
    assert status_of(error.value) == 2
    broken = DataLoader(Dataset([0], lambda number: 1 / number), num_workers=1)
    with pytest.raises(RuntimeError) as error:
        next(iter(broken))
    assert reason(error.value) == "division by zero" and status_of(error.value) == 1
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")  # an error of this package's own kind
    with pytest.raises(RuntimeError) as error:
        next(iter(DataLoader(Dataset([{"image": str(tmp_path / "a.dcm")}], load), num_workers=1)))
    assert reason(error.value).startswith(f"{tmp_path / 'a.dcm'}: ") and status_of(error.value) == 2

    def exhausted(number):
        raise MemoryError("Unable to allocate 9 GiB")

    with pytest.raises((RuntimeError, MemoryError)) as error:
        next(iter(DataLoader(Dataset([0], exhausted), num_workers=1)))
    assert "not enough memory; a smaller batch_size" in reason(error.value) and status_of(error.value) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_ids": '])
def test_a_damaged_configuration_of_a_run_is_named(content, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.json").write_text(content)
    (run / "model.pt").touch()
    for words in (["infer", "NAME", "in", "out", "--run", "RUN"], ["evaluate", "NAME", "--run", "RUN"]):
        words = [{"NAME": "brain_tumor_segmentation", "RUN": str(run)}.get(word, word) for word in words]
        assert main(words) == 2
        error = capsys.readouterr().err
        assert str(run / "model.json") in error and error.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"])
def test_a_damaged_exported_network_is_named(content, tmp_path, capsys):
    for suffix in (".ts", ".onnx"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        words = ["infer", "brain_tumor_segmentation", "in", "out", "--checkpoint", str(tmp_path / f"a{suffix}")]
        assert main(words) == 2
        error = capsys.readouterr().err
        assert f"a{suffix}" in error and error.count("\n") == 1
