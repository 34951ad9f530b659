# SPDX-License-Identifier: Apache-2.0
"""With arrays as images, a network of one weight and a writer of text files."""

import csv
import os
import shutil
import time
import weakref
from collections import Counter
from concurrent.futures import Executor, Future
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import onnx
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SaliencyInferer, SimpleInferer
from monai.transforms import Compose, Invertd
from onnx import TensorProto, helper
from torch import nn

from monai_kd.csv_tables import read_table
from monai_kd.engines import BatchInference, result_tables
from monai_kd.engines.batch_case import ahead
from monai_kd.engines.output_names import output_stems, part_of
from monai_kd.engines.result_tables import GrowingTable, finished_rows
from monai_kd.files import temporary_folder
from monai_kd.transforms import ResizeInPlaned

from ..processes import forked

UNLUCKY = 13.0


class Doubler(nn.Conv2d):
    """Doubles an image once its weight is loaded, remembers what it saw, and cannot stand the number 13."""

    def __init__(self):
        super().__init__(1, 1, 1, bias=False)
        self.shapes = []
        self.modes = set()

    def forward(self, image):
        if (image == UNLUCKY).any():
            raise RuntimeError("13 is\n  unlucky")
        self.shapes.append(tuple(image.shape))
        self.modes.add((self.training, torch.is_grad_enabled()))
        return super().forward(image)


def _read(sample):
    return {"image": torch.from_numpy(np.load(sample["image"]))}


def _triple(sample):
    return {**sample, "pred": sample["pred"] * 1.5}


def _write(sample, stem):
    stem.parent.mkdir(parents=True, exist_ok=True)
    output = stem.with_name(f"{stem.name}_pred.txt")
    output.write_text("")
    return {"output": output, "largest": float(sample["pred"].max())}


def _inference(
    folder, network=None, preprocessing=None, postprocessing=_triple, writer=_write, **arguments
) -> BatchInference:
    checkpoint = folder / "model.pt"
    torch.save({"model": {"weight": torch.full((1, 1, 1, 1), 2.0)}}, checkpoint)
    return BatchInference(
        network or Doubler(),
        checkpoint,
        preprocessing or Compose([_read]),  # MONAI wraps what a transform raises
        SimpleInferer(),
        postprocessing,
        writer,
        **arguments,
    )


def _images(folder, *values, shape=(2, 2), names=None) -> list[dict]:
    """One array per value, of that value everywhere; None gives a file that is no array."""
    items = []
    for number, value in enumerate(values):
        path = folder / "images" / (names[number] if names else f"{number}.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no array\n")
        if value is not None:
            np.save(path, np.full((1, *shape), value, np.float32))
        items.append({"image": str(path)})
    return items


def _table(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _run(folder, items, inference) -> Counter:
    report = inference.run(items, folder / "images", folder / "out")
    return Counter(done=report.done, skipped=report.skipped, failed=report.failed)


def test_every_input_has_its_output_and_its_row(tmp_path):
    items = _images(tmp_path, 1, 2, 3, names=["1.npy", "sub/2.npy", "sub/deep/3.npy"])
    network = Doubler()
    assert _run(tmp_path, items, _inference(tmp_path, network)) == Counter(done=3)
    rows = _table(tmp_path / "out" / "summary.csv")
    assert list(rows[0]) == ["input", "output", "seconds", "largest", "fingerprint"]
    assert {row["input"]: (row["output"], float(row["largest"])) for row in rows} == {
        items[0]["image"]: (str(tmp_path / "out/1_pred.txt"), 3.0),
        items[1]["image"]: (str(tmp_path / "out/sub/2_pred.txt"), 6.0),
        items[2]["image"]: (str(tmp_path / "out/sub/deep/3_pred.txt"), 9.0),
    }
    assert all(float(row["seconds"]) > 0 and Path(row["output"]).is_file() for row in rows)
    assert (tmp_path / "out" / "failures.csv").read_text().split() == ["input,reason"]
    assert network.modes == {(False, False)}


def test_what_the_preprocessing_did_to_the_grid_can_be_undone(tmp_path):
    def read(sample):
        return {"image": MetaTensor(_read(sample)["image"], meta={"filename_or_obj": sample["image"]})}

    shapes = []
    preprocessing = Compose([read, ResizeInPlaned("image", (6, 4))])
    inference = _inference(
        tmp_path,
        preprocessing=preprocessing,
        postprocessing=Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False),
        writer=lambda sample, stem: shapes.append(sample["pred"].shape) or _write(sample, stem),
    )
    assert _run(tmp_path, _images(tmp_path, 1, shape=(3, 5)), inference) == Counter(done=1)
    assert shapes == [(1, 3, 5)]


def test_a_bare_state_dictionary_will_do(tmp_path):
    inference = _inference(tmp_path)
    torch.save({"weight": torch.full((1, 1, 1, 1), 4.0)}, inference.checkpoint)
    _run(tmp_path, _images(tmp_path, 1), inference)
    assert _table(tmp_path / "out" / "summary.csv")[0]["largest"] == "6.0"


def test_failures_in_reading_network_and_writing_leave_the_others_alone(tmp_path):
    def write(sample, stem):
        if sample["image"].max() == 3:
            raise OSError(f"{stem}: disk\nis full")
        return _write(sample, stem)

    items = _images(tmp_path, 1, None, UNLUCKY, 2, 3, 4)
    assert _run(tmp_path, items, _inference(tmp_path, writer=write, batch_size=3)) == Counter(done=3, failed=3)
    values = {row["input"]: float(row["largest"]) for row in _table(tmp_path / "out" / "summary.csv")}
    assert values == {items[0]["image"]: 3.0, items[3]["image"]: 6.0, items[5]["image"]: 12.0}
    reasons = {row["input"]: row["reason"] for row in _table(tmp_path / "out" / "failures.csv")}
    unreadable, unlucky, unwritten = (items[index]["image"] for index in (1, 2, 4))
    assert reasons.keys() == {unreadable, unlucky, unwritten}
    assert reasons[unreadable].startswith(f"{unreadable}: ") and "pickle" in reasons[unreadable]  # NumPy's own words
    assert reasons[unlucky] == f"{unlucky}: 13 is unlucky"
    assert reasons[unwritten] == f"{unwritten}: {tmp_path / 'out' / '4'}: disk is full"


def test_what_could_not_be_listed_is_a_failure_and_is_never_opened(tmp_path):
    items = _images(tmp_path, 1)
    pipe = tmp_path / "images" / "pipe.npy"
    os.mkfifo(pipe)  # opening it would wait for ever
    items.append({"image": str(pipe), "files": [], "unreadable": f"{pipe}: no plain file"})
    assert _run(tmp_path, items, _inference(tmp_path)) == Counter(done=1, failed=1)
    assert _table(tmp_path / "out" / "failures.csv") == [{"input": str(pipe), "reason": f"{pipe}: no plain file"}]
    pipe.unlink()
    np.save(pipe, np.ones((1, 2, 2), np.float32))
    items[1] = {"image": str(pipe)}
    assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == Counter(done=1, skipped=1)


def test_a_reason_is_what_the_reader_says_and_names_the_file_once(tmp_path):
    def read(sample):
        try:
            raise OSError("errno 5")
        except OSError as error:
            raise ValueError(f"{sample['image']}: is empty; copy it again") from error

    items = _images(tmp_path, 1)
    _run(tmp_path, items, _inference(tmp_path, preprocessing=Compose([read])))
    assert _table(tmp_path / "out" / "failures.csv") == [
        {"input": items[0]["image"], "reason": f"{items[0]['image']}: is empty; copy it again"}
    ]


def test_batches_hold_neighbours_of_one_shape(tmp_path):
    small, large = (1, 2, 2), (1, 3, 2)
    items = []
    for number, shape in enumerate((small, small, small, large, large, small)):
        items += _images(tmp_path, number, shape=shape[1:], names=[f"{number}.npy"])
    network = Doubler()
    assert _run(tmp_path, items, _inference(tmp_path, network, batch_size=2)) == Counter(done=6)
    assert network.shapes == [(2, *small), (1, *small), (2, *large), (1, *small)]
    rows = _table(tmp_path / "out" / "summary.csv")
    assert {row["input"]: float(row["largest"]) for row in rows} == {
        item["image"]: 3.0 * number for number, item in enumerate(items)
    }


def test_reading_runs_ahead_of_the_network_but_not_far(tmp_path):
    batch_size, ahead = 2, 7  # a batch, the first of the next, and two batches
    enough_read, reads, leads = Event(), [], []

    def read(sample):
        reads.append(sample)
        if len(reads) == ahead:
            enough_read.set()
        return _read(sample)

    class Slow(Doubler):
        def forward(self, image):
            assert enough_read.wait(timeout=10)
            time.sleep(0.004)  # an unbounded reader would now read on
            leads.append(len(reads) - batch_size * len(leads))
            return super().forward(image)

    inference = _inference(tmp_path, Slow(), preprocessing=read, batch_size=batch_size)
    assert _run(tmp_path, _images(tmp_path, *range(12)), inference) == Counter(done=12)
    assert leads[0] == ahead and max(leads) == ahead and len(leads) == 6


def test_resume_does_what_is_new_failed_missing_or_changed(tmp_path):
    items = _images(tmp_path, 1, 2, 3, None, 5)
    assert _run(tmp_path, items[:4], _inference(tmp_path)) == Counter(done=3, failed=1)
    values = [1, 20, 3, 4, 5]  # the second has changed, the fourth is repaired, the fifth is new
    _images(tmp_path, *values)
    os.utime(items[1]["image"], (0, 0))  # what counts is the content
    (tmp_path / "out" / "2_pred.txt").unlink()

    network = Doubler()
    assert _run(tmp_path, items, _inference(tmp_path, network, resume=True)) == Counter(done=4, skipped=1)
    assert sum(shape[0] for shape in network.shapes) == 4
    rows = _table(tmp_path / "out" / "summary.csv")
    assert len(rows) == 5 and _table(tmp_path / "out" / "failures.csv") == []
    assert {row["input"]: float(row["largest"]) for row in rows} == {
        item["image"]: 3.0 * value for item, value in zip(items, values)
    }


def test_resume_keeps_the_rows_of_inputs_that_it_is_not_given(tmp_path):
    items = _images(tmp_path, 1, 2)
    _run(tmp_path, items[:1], _inference(tmp_path))
    assert _run(tmp_path, items[1:], _inference(tmp_path, resume=True)) == Counter(done=1)
    assert [row["input"] for row in _table(tmp_path / "out" / "summary.csv")] == [item["image"] for item in items]


def test_what_another_input_of_the_same_name_has_replaced_is_done_again(tmp_path):
    items = _images(tmp_path, 1, 2, names=["a/1.npy", "b/1.npy"])
    for item, value in ((items[0], 3.0), (items[1], 6.0), (items[0], 3.0)):  # each in its own call
        report = _inference(tmp_path, resume=True).run([item], item["image"], tmp_path / "out")
        (row,) = _table(tmp_path / "out" / "summary.csv")
        assert (report.done, row["input"], float(row["largest"])) == (1, item["image"], value)


def test_rows_that_are_replaced_are_said(tmp_path, caplog):
    items = _images(tmp_path, 1, 2, 3)
    _run(tmp_path, items[:2], _inference(tmp_path))
    with caplog.at_level("WARNING", "monai_kd"):
        _run(tmp_path, items[2:], _inference(tmp_path))
        _run(tmp_path, items[2:], _inference(tmp_path))
    (warning,) = caplog.messages
    assert "summary.csv: replaced, with the 2 rows of other inputs; --resume keeps them" in warning


def test_rows_with_other_numbers_keep_them_in_one_table(tmp_path):
    items = _images(tmp_path, 1, 2, 3)
    for item, name in zip(items, ("tumor", "vessel", "tumor")):
        settings = {"writer": lambda sample, stem, name=name: {f"{name}_pixels": 5}, "resume": True}
        _run(tmp_path, [item], _inference(tmp_path, **settings))
    rows = _table(tmp_path / "out" / "summary.csv")
    assert [(row["tumor_pixels"], row["vessel_pixels"]) for row in rows] == [("5", ""), ("", "5"), ("5", "")]


def test_a_table_grows_by_a_column_within_a_run(tmp_path):
    with GrowingTable(tmp_path / "summary.csv") as table:
        for row in ({"input": "a", "x": 1}, {"input": "=b", "y": 2}, {"input": "c", "x": 3}):
            table.add(row)
    wanted = [{"input": "a", "x": "1", "y": ""}, {"input": "=b", "x": "", "y": "2"}, {"input": "c", "x": "3", "y": ""}]
    assert read_table(tmp_path / "summary.csv") == wanted
    with GrowingTable(tmp_path / "failures.csv", ["input"]) as table:
        table.add({"input": "a", "other": 1})  # columns that are given stay
    assert read_table(tmp_path / "failures.csv") == [{"input": "a"}]


def test_resume_keeps_no_result_of_other_weights(tmp_path):
    items = _images(tmp_path, 1, 2)
    _run(tmp_path, items, _inference(tmp_path))
    inference = _inference(tmp_path, resume=True)
    torch.save({"model": {"weight": torch.full((1, 1, 1, 1), 4.0)}}, inference.checkpoint)
    os.utime(inference.checkpoint, (0, 0))
    assert _run(tmp_path, items, inference) == Counter(done=2)
    assert [float(row["largest"]) for row in _table(tmp_path / "out" / "summary.csv")] == [6.0, 12.0]


def test_resume_keeps_no_result_of_other_settings(tmp_path):
    items = _images(tmp_path, 1, 2)

    def run(**settings) -> Counter:
        config = {"overlay": False, "batch_size": 2, "device": "cpu", "report": "$run()", **settings}
        inference = _inference(tmp_path, batch_size=config["batch_size"], resume=True)
        parser = ConfigParser(config, globals={"run": lambda: _run(tmp_path, items, inference)})
        return parser.get_parsed_content("report")

    assert run() == Counter(done=2)
    assert run(batch_size=1, device="cpu:0", output_dir="elsewhere") == Counter(skipped=2)
    assert run(overlay=True) == Counter(done=2)


def test_a_result_without_a_file_of_its_own_can_be_resumed(tmp_path):
    def classify(sample, stem):
        return {"predicted": "large" if sample["pred"].max() > 3 else "small", "score": 1}

    settings = {"writer": classify, "prediction_columns": ["predicted"], "resume": True}
    items = _images(tmp_path, 1, 2)
    assert _run(tmp_path, items[:1], _inference(tmp_path, **settings)) == Counter(done=1)
    assert _run(tmp_path, items, _inference(tmp_path, **settings)) == Counter(done=1, skipped=1)
    rows = [{"input": items[0]["image"], "predicted": "small"}, {"input": items[1]["image"], "predicted": "large"}]
    assert _table(tmp_path / "out" / "predictions.csv") == rows
    summary = _table(tmp_path / "out" / "summary.csv")
    assert list(summary[0]) == ["input", "output", "seconds", "predicted", "score", "fingerprint"]


def test_a_row_that_a_killed_run_could_not_finish_is_done_again(tmp_path):
    items = _images(tmp_path, 1, 2)
    _run(tmp_path, items, _inference(tmp_path))
    table = tmp_path / "out" / "summary.csv"
    table.write_text(table.read_text().rstrip()[:-20])
    assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == Counter(done=1, skipped=1)


def test_what_a_killed_run_of_this_project_left_is_removed_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    for name in ("sub/.writing-abc", ".writing", "writing-abc"):
        (out / name).mkdir(parents=True)
    with temporary_folder(out / "sub") as live:
        left = live.with_name(f"{live.name[:-16]}{'0' * 16}")  # a name of this machine that nobody holds
        left.mkdir()
        (left / "0_pred.txt").touch()
        _run(tmp_path, _images(tmp_path, 1), _inference(tmp_path))
        folders = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_dir()}
        assert folders == {"sub", f"sub/{live.name}", "sub/.writing-abc", ".writing", "writing-abc"}


@pytest.mark.parametrize("damage", [lambda path: path.write_text(""), Path.unlink], ids=["emptied", "deleted"])
@pytest.mark.parametrize("name", ["1_pred.txt", "1_prob.txt"])
def test_an_output_that_is_not_whole_is_done_again(name, damage, tmp_path):
    def write(sample, stem):
        stem.with_name(f"{stem.name}_prob.txt").write_text("0.5")
        stem.with_name(f"{stem.name}_pred.txt").write_text("1")
        return {"output": stem.with_name(f"{stem.name}_pred.txt")}

    items = _images(tmp_path, 1, 2)
    assert _run(tmp_path, items, _inference(tmp_path, writer=write)) == Counter(done=2)
    assert _run(tmp_path, items, _inference(tmp_path, writer=write, resume=True)) == Counter(skipped=2)
    damage(tmp_path / "out" / name)
    assert _run(tmp_path, items, _inference(tmp_path, writer=write, resume=True)) == Counter(done=1, skipped=1)
    assert (tmp_path / "out" / name).read_text()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_is_no_finite_number_fails_and_takes_no_neighbour_with_it(batch_size, tmp_path):
    items = _images(tmp_path, 1, 2e38, 3)  # twice that is beyond single precision
    assert _run(tmp_path, items, _inference(tmp_path, batch_size=batch_size)) == Counter(done=2, failed=1)
    (failure,) = _table(tmp_path / "out" / "failures.csv")
    assert failure["input"] == items[1]["image"] and "4 of 4 values that are no finite numbers" in failure["reason"]
    assert not (tmp_path / "out" / "1_pred.txt").exists()


def test_an_explainer_may_see_further_images(tmp_path):
    seen = []
    inference = _inference(
        tmp_path,
        preprocessing=lambda item: {**_read(item), "other": _read(item)["image"] + 5},
        explainer=lambda image, network, other: seen.append((image, other)) or image,
        explainer_keys=["other"],
    )
    assert _run(tmp_path, _images(tmp_path, 1, 2), inference) == Counter(done=2)
    assert all(torch.equal(image + 5, other) and len(image) == 1 for image, other in seen) and len(seen) == 2


@pytest.mark.parametrize("between", [nn.Identity(), nn.ReLU(inplace=True)])  # behind the layer that is explained
def test_an_explainer_may_use_gradients_and_leaves_nothing_behind(tmp_path, between):
    class Classifier(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(1, 1, 1, bias=False), nn.Identity(), nn.Flatten(), nn.Linear(4, 2))
            self[2] = nn.Sequential(between, nn.Flatten())

    network, explanations = Classifier(), []
    with torch.no_grad():  # a small image is of the first class, a large one of the second
        network[0].weight.fill_(1)
        network[3].weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        network[3].bias.copy_(torch.tensor([10.0, -10.0]))
    inference = _inference(
        tmp_path,
        network,
        writer=lambda sample, stem: explanations.append(sample["explanation"]) or {"output": ""},
        batch_size=2,
        explainer=SaliencyInferer(cam_name="GradCAM", target_layers="1", postprocessing=lambda cam: cam),
    )
    torch.save({"model": network.state_dict()}, inference.checkpoint)
    images = [np.array([[[0, 1], [2, 3]]], np.float32), np.array([[[5, 6], [7, 8]]], np.float32)]
    items = _images(tmp_path, 0, 0)
    for item, image in zip(items, images):
        np.save(item["image"], image)
    assert _run(tmp_path, items, inference) == Counter(done=2)
    # Grad-CAM of the class that was found: the gradient is 1 for the second class, and -1, cut off, for the first.
    assert [isinstance(explanation, MetaTensor) for explanation in explanations] == [True, True]
    np.testing.assert_allclose(explanations[0], np.zeros((1, 2, 2)))
    np.testing.assert_allclose(explanations[1], images[1])
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert getattr(between, "inplace", True)


def test_several_readers_read_at_the_same_time_and_keep_the_order(tmp_path):
    together = Barrier(2)

    def read(sample):
        together.wait(timeout=10)
        return _read(sample)

    items = _images(tmp_path, 1, 2, 3, 4)
    inference = _inference(tmp_path, preprocessing=read, num_workers=2)
    assert _run(tmp_path, items, inference) == Counter(done=4)
    assert [row["input"] for row in _table(tmp_path / "out" / "summary.csv")] == [item["image"] for item in items]


def test_what_is_finished_does_not_wait_for_more():
    class Now(Executor):
        def submit(self, function, *arguments):
            done: Future = Future()
            done.set_result(function(*arguments))
            return done

    items = iter((1, 2, 3))
    assert next(ahead(Now(), str, items, depth=10, at_once=True)) == "1" and next(items) == 2


def test_tables_are_utf_8_wherever_they_are_written_and_read(tmp_path, monkeypatch):
    def ascii_at_home(file, mode="r", **arguments):
        return open(file, mode, **arguments) if "b" in mode else open(file, mode, **{"encoding": "ascii", **arguments})

    monkeypatch.setattr(result_tables, "open", ascii_at_home, raising=False)
    items = _images(tmp_path, 1, names=["Schädel.npy"])
    for count in (Counter(done=1), Counter(skipped=1)):
        assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == count
    assert "Schädel.npy" in (tmp_path / "out" / "summary.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("source", ["images", "images/*.npy"])
def test_the_folder_of_the_inputs_takes_no_outputs(tmp_path, source):
    items = _images(tmp_path, 1, 2)
    with pytest.raises(ValueError, match="images is the folder of the inputs"):
        _inference(tmp_path).run(items, tmp_path / source, tmp_path / "images")
    assert not list((tmp_path / "images").glob("*.csv"))


def test_without_resume_everything_is_done_again(tmp_path):
    items = _images(tmp_path, 1, 2)
    for _ in range(2):
        assert _run(tmp_path, items, _inference(tmp_path)) == Counter(done=2)
    assert len(_table(tmp_path / "out" / "summary.csv")) == 2


def test_a_run_that_is_killed_has_kept_what_it_did(tmp_path):
    def write(sample, stem):
        if sample["image"].max() == 9:
            raise KeyboardInterrupt
        return _write(sample, stem)

    items = _images(tmp_path, *range(12))
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, items, _inference(tmp_path, writer=write, batch_size=1))
    done = [row["input"] for row in _table(tmp_path / "out" / "summary.csv")]
    assert done[:9] == [item["image"] for item in items[:9]] and items[9]["image"] not in done
    again = _run(tmp_path, items, _inference(tmp_path, resume=True))
    assert again == Counter(done=12 - len(done), skipped=len(done))


class Stuck(Doubler):
    """Never gets done with the seventh image."""

    def forward(self, image):
        while image.max() >= 7:
            time.sleep(1)
        return super().forward(image)


def test_a_run_that_is_killed_at_once_has_lost_the_files_in_hand_only_and_holds_no_lock(tmp_path):
    items = _images(tmp_path, *range(12))
    child = forked(lambda: _run(tmp_path, items, _inference(tmp_path, Stuck(), batch_size=1)))
    summary, enough = tmp_path / "out" / "summary.csv", time.monotonic() + 120
    while not (summary.is_file() and summary.read_text().count("\n") == 8) and time.monotonic() < enough:
        time.sleep(0.05)
    with pytest.raises(FileExistsError, match=rf"another run is .*out \(process {child.pid} on .*\): wait"):
        _run(tmp_path, items, _inference(tmp_path, resume=True))
    child.kill()
    child.join()
    assert len(_table(summary)) == 7  # though the network, which is stuck, hands on nothing more
    assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == Counter(done=5, skipped=7)
    assert [row["input"] for row in _table(summary)] == [item["image"] for item in items]
    assert not list((tmp_path / "out").glob(".writing-*"))


def test_no_moment_loses_the_rows_that_a_new_table_keeps(tmp_path):
    items = _images(tmp_path, 1, 2)
    _run(tmp_path, items, _inference(tmp_path))
    before = (tmp_path / "out" / "summary.csv").read_bytes()

    def rows():
        yield _table(tmp_path / "out" / "summary.csv")[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GrowingTable(tmp_path / "out" / "summary.csv", rows=rows())
    assert (tmp_path / "out" / "summary.csv").read_bytes() == before


def test_parts_share_the_work_and_a_run_of_the_whole_joins_them(tmp_path):
    items = _images(tmp_path, *range(20, 40), names=[f"{n % 3}/{n}.npy" for n in range(20)])
    settings = {"prediction_columns": ["largest"]}
    done = [
        _run(tmp_path, items, _inference(tmp_path, part=part, **settings))["done"] for part in ("1/3", "2/3", "3/3")
    ]
    assert sum(done) == 20 and min(done) > 0
    tables = [_table(tmp_path / "out" / f"summary_part{part}of3.csv") for part in (1, 2, 3)]
    assert [len(table) for table in tables] == done and not (tmp_path / "out" / "summary.csv").exists()
    assert {row["input"] for table in tables for row in table} == {item["image"] for item in items}

    network = Doubler()
    assert _run(tmp_path, items, _inference(tmp_path, network, resume=True, **settings)) == Counter(skipped=20)
    assert network.shapes == []
    joined = sorted(_table(tmp_path / "out" / "summary.csv"), key=lambda row: row["input"])
    assert joined == sorted((row for table in tables for row in table), key=lambda row: row["input"])
    assert len(_table(tmp_path / "out" / "predictions.csv")) == 20
    assert not list((tmp_path / "out").glob("[!.]*part*"))


def test_parts_from_folders_of_their_own_are_joined_where_they_are_put_together(tmp_path):
    items = _images(tmp_path, *range(6), names=[f"{n % 2}/{n}.npy" for n in range(6)])
    for part in (1, 2):
        assert _inference(tmp_path, part=f"{part}/2").run(items, tmp_path / "images", tmp_path / f"part{part}").done
        shutil.copytree(tmp_path / f"part{part}", tmp_path / "out", dirs_exist_ok=True)
        shutil.rmtree(tmp_path / f"part{part}")
    assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == Counter(skipped=6)
    outputs = [Path(row["output"]) for row in _table(tmp_path / "out" / "summary.csv")]
    assert len(outputs) == 6 and all(path.is_file() and tmp_path / "out" in path.parents for path in outputs)


def test_the_part_of_an_input_depends_on_its_own_name_alone(tmp_path):
    def part(folder, values, names) -> set[str]:
        items = _images(folder, *values, names=names)
        folder.joinpath("out").mkdir(exist_ok=True)
        _run(folder, items, _inference(folder, part="2/2"))
        rows = _table(folder / "out" / "summary_part2of2.csv")
        return {os.path.relpath(row["input"], folder / "images") for row in rows}

    names = [f"sub/{number}.npy" for number in range(12)]
    here = part(tmp_path / "here", range(12), names)
    there = part(tmp_path / "another" / "machine", range(13), [*names[::-1], "new.npy"])
    assert here == there - {"new.npy"} and 0 < len(here) < 12


def test_outputs_of_parts_are_named_as_those_of_the_whole(tmp_path):
    items = _images(tmp_path, *range(8), names=[f"{'aA'[n % 2]}{n // 2}.npy" for n in range(8)])
    for part in ("1/2", "2/2"):
        _run(tmp_path, items, _inference(tmp_path, part=part))
    names = {path.name for path in (tmp_path / "out").glob("*_pred.txt")}
    assert names == {f"{Path(item['image']).name}_pred.txt" for item in items}


def test_a_part_resumes_whatever_run_did_its_inputs(tmp_path):
    items = _images(tmp_path, *range(10))
    _run(tmp_path, items[:5], _inference(tmp_path))
    reports = [_run(tmp_path, items, _inference(tmp_path, part=part, resume=True)) for part in ("1/2", "2/2")]
    assert sum(reports, Counter()) == Counter(done=5, skipped=5)


def test_the_newest_table_knows_what_an_output_is_now(tmp_path):
    items = _images(tmp_path, 1)
    _run(tmp_path, items, _inference(tmp_path))
    os.utime(tmp_path / "out" / "summary.csv", (0, 0))
    part = f"{1 + part_of('0.npy', 2)}/2"
    inference = _inference(tmp_path, part=part)
    torch.save({"model": {"weight": torch.full((1, 1, 1, 1), 4.0)}}, inference.checkpoint)
    _run(tmp_path, items, inference)  # of other weights, in the same place
    assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == Counter(done=1)


def test_two_runs_in_one_folder_are_kept_apart_unless_they_are_two_parts(tmp_path):
    items, errors = _images(tmp_path, 1, 2, 3, 4), {}

    def meet(other: str):
        def write(sample, stem):
            try:
                errors[other] = _run(tmp_path, items, _inference(tmp_path, part=other))
            except FileExistsError as error:
                errors[other] = str(error)
            return _write(sample, stem)

        return write

    for mine, other in (("1/1", "1/1"), ("1/1", "1/2"), ("1/2", "1/1")):
        _run(tmp_path, items, _inference(tmp_path, writer=meet(other), part=mine))
        assert "another run is writing to" in errors[other]
    _run(tmp_path, items, _inference(tmp_path, writer=meet("1/2"), part="1/2"))
    assert "another run is writing to" in errors["1/2"]
    _run(tmp_path, items, _inference(tmp_path, writer=meet("2/2"), part="1/2"))
    assert errors["2/2"]["done"] > 0


def test_only_a_few_inputs_are_in_memory_however_many_there_are(tmp_path):
    alive, most = weakref.WeakSet(), []

    def read(sample):
        image = MetaTensor(_read(sample)["image"], meta={"filename_or_obj": sample["image"]})
        alive.add(image)
        return {"image": image}

    def write(sample, stem):
        most.append(len(alive))
        return _write(sample, stem)

    inference = _inference(tmp_path, preprocessing=read, writer=write, batch_size=2)
    assert _run(tmp_path, _images(tmp_path, *range(20, 80)), inference) == Counter(done=60)
    # Read ahead: two batches and one; in the network: a batch and one; to be written: two batches and one.
    assert max(most) <= 5 + 3 + 5


ODD_NAMES = ["a#b.npy", "$x.npy", "@y %z.npy", "-r.npy", "...npy", "....npy", 'a,b\n"c".npy', "\udce4.npy", "ä ö.npy"]


def test_odd_names_stay_in_the_output_folder_and_are_known_again(tmp_path, caplog):
    names = [*ODD_NAMES, "..a/..b/c.npy", "sub\\x.npy"]
    items = _images(tmp_path, *range(len(names)), names=names)
    assert _run(tmp_path, items, _inference(tmp_path)) == Counter(done=len(names))
    written = [path for path in tmp_path.rglob("*_pred.txt")]
    assert len(written) == len(names) and all(path.is_relative_to(tmp_path / "out") for path in written)
    rows = finished_rows([tmp_path / "out" / "summary.csv"])
    assert rows.keys() == {item["image"] for item in items}
    assert _run(tmp_path, items, _inference(tmp_path, resume=True)) == Counter(skipped=len(names))
    Path(items[7]["image"]).write_text("damaged")
    with caplog.at_level("ERROR", "monai_kd"):
        assert _run(tmp_path, items, _inference(tmp_path)) == Counter(done=len(names) - 1, failed=1)
    assert "\\udce4.npy" in caplog.text


def test_a_link_takes_no_output_out_of_the_output_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(outside)
    (tmp_path / "out" / "1_pred.txt").symlink_to(outside / "kept.txt")
    items = _images(tmp_path, 1, 2, names=["a.npy", "sub/deep/b.npy"])
    assert _run(tmp_path, items, _inference(tmp_path)) == Counter(done=1, failed=1)
    (failure,) = _table(tmp_path / "out" / "failures.csv")
    assert failure["input"] == items[1]["image"] and f"would take its output to {outside}" in failure["reason"]
    assert not any(outside.iterdir())


def test_inputs_behind_links_and_dots_have_their_outputs_in_the_output_folder(tmp_path):
    items = _images(tmp_path, 1, 2, names=["real/a.npy", "b.npy"])
    (tmp_path / "images" / "link").symlink_to(tmp_path / "images" / "real")
    images = [tmp_path / "images" / "link" / "a.npy", tmp_path / "images" / "real" / ".." / "b.npy"]
    report = _inference(tmp_path).run([{"image": str(path)} for path in images], tmp_path / "images", tmp_path / "out")
    assert report.done == len(items)
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*_pred.txt")} == {
        "link/a_pred.txt",
        "b_pred.txt",
    }


@pytest.fixture(params=["onnx", "ts"])
def tripler(request, tmp_path) -> Path:
    """An exported network that triples an image."""
    file = tmp_path / f"tripler.{request.param}"
    if request.param == "ts":
        network = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(network.weight, 3)
        torch.jit.save(torch.jit.script(network), file)
        return file
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 1, "x", "y"]) for name in ("image", "pred")]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [3.0])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "weight"], ["pred"])], "g", infos[:1], infos[1:], [weight]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return file


def test_an_exported_network_takes_the_place_of_the_network(tmp_path, tripler):
    items = _images(tmp_path, 1, 2, 3)
    unused = Doubler()
    for report in (Counter(done=3), Counter(skipped=3)):
        inference = _inference(tmp_path, unused, batch_size=2, resume=True)
        inference.checkpoint = tripler
        assert _run(tmp_path, items, inference) == report
    rows = _table(tmp_path / "out" / "summary.csv")
    assert [float(row["largest"]) for row in rows] == [4.5, 9, 13.5] and unused.shapes == []


def test_an_exported_network_cannot_be_explained(tmp_path, tripler):
    inference = _inference(tmp_path, explainer=lambda image, network: image)
    inference.checkpoint = tripler
    with pytest.raises(ValueError, match="an exported network cannot be explained.*infer without overlay"):
        _run(tmp_path, _images(tmp_path, 1), inference)


def test_where_and_how_the_work_is_done_has_no_influence_on_the_fingerprint(tmp_path):
    items = _images(tmp_path, 1)

    def run(**settings) -> Counter:
        config = {"batch_inference": {"overlay": False, **settings}, "report": "$run()"}
        parser = ConfigParser(config, globals={"run": lambda: _run(tmp_path, items, _inference(tmp_path, resume=True))})
        return parser.get_parsed_content("report")

    assert run() == Counter(done=1)
    assert run(part="1/1", num_workers=3) == Counter(skipped=1)
    assert run(overlay=True) == Counter(done=1)


def test_a_file_that_a_setting_names_is_part_of_the_fingerprint(tmp_path):
    items, lines = _images(tmp_path, 1), tmp_path / "lines.txt"

    def run(content: str) -> Counter:
        lines.write_text(content)
        config = {"mask_file": str(lines), "report": "$run()"}
        parser = ConfigParser(config, globals={"run": lambda: _run(tmp_path, items, _inference(tmp_path, resume=True))})
        return parser.get_parsed_content("report")

    assert [run(content) for content in ("101", "101", "110")] == [Counter(done=1), Counter(skipped=1), Counter(done=1)]


@pytest.mark.parametrize("place", ["images/predicted", "link"])
def test_the_outputs_of_an_earlier_run_are_no_inputs(tmp_path, place, caplog):
    items = _images(tmp_path, 1, 2, names=["1.npy", "predicted/2.npy"])
    (tmp_path / "link").symlink_to(tmp_path / "images" / "predicted")
    report = _inference(tmp_path).run(items, tmp_path / "images", tmp_path / place)
    assert (report.done, report.skipped, report.failed) == (1, 0, 0)
    assert f"1 images in {tmp_path / place} are left out" in caplog.text


def test_a_link_to_the_folder_of_the_inputs_takes_no_outputs(tmp_path):
    items = _images(tmp_path, 1)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    with pytest.raises(ValueError, match="link is the folder of the inputs"):
        _inference(tmp_path).run(items, tmp_path / "images", tmp_path / "link")


def test_inputs_may_lie_below_the_output_folder(tmp_path):
    report = _inference(tmp_path).run(_images(tmp_path, 1), tmp_path / "images", tmp_path)
    assert report.done == 1 and (tmp_path / "0_pred.txt").is_file()


def test_no_inputs_are_no_error(tmp_path):
    assert _run(tmp_path, [], _inference(tmp_path)) == Counter()


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        _inference(tmp_path, batch_size=0)
    with pytest.raises(ValueError, match="num_workers must be 1 or more, got 'two'"):
        _inference(tmp_path, num_workers="two")
    for part in ("0/2", "3/2", "2", "1/0", "a/b"):
        with pytest.raises(ValueError, match=f"part must be such as 2/4, the second of four, got '{part}'"):
            _inference(tmp_path, part=part)
    inference = _inference(tmp_path)
    inference.checkpoint.unlink()
    with pytest.raises(FileNotFoundError, match="no trained network at .*model.pt; train one, or name another"):
        _run(tmp_path, _images(tmp_path, 1), inference)
    torch.save({"model": {"weight": torch.zeros(2, 1, 1, 1)}}, inference.checkpoint)
    with pytest.raises(ValueError, match="model.pt: these weights belong to another network: "):
        _run(tmp_path, _images(tmp_path, 1), inference)
    inference.checkpoint.write_text("no checkpoint")
    with pytest.raises(ValueError, match="model.pt is no checkpoint that torch can read"):
        _run(tmp_path, _images(tmp_path, 1), inference)
    assert not (tmp_path / "out").exists()


def test_an_input_of_several_files_is_done_again_when_any_of_them_changes(tmp_path):
    for number in range(3):
        folder = tmp_path / "images" / "case.v1"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", np.full((1, 2, 2), number, np.float32))
    files = sorted(map(str, folder.iterdir()))
    item = {"image": str(folder), "files": files}

    def read(sample):
        return {"image": torch.from_numpy(sum(np.load(file) for file in Path(sample["image"]).iterdir()))}

    def run(item):
        return _run(tmp_path, [item], _inference(tmp_path, preprocessing=Compose([read]), resume=True))

    assert run(item) == Counter(done=1) and run(item) == Counter(skipped=1)
    assert (tmp_path / "out" / "case.v1_pred.txt").is_file()
    np.save(files[-1], np.full((1, 2, 2), 7, np.float32))
    assert run(item) == Counter(done=1)
    assert run({**item, "files": files[:-1]}) == Counter(done=1)
    with pytest.raises(ValueError, match="is the folder of the inputs"):
        _inference(tmp_path).run([item], str(folder), str(folder))


@pytest.mark.parametrize(
    "images, root, stems",
    [
        (["d/a.png", "d/s/b.nii.gz", "d/s/t/c.1.mat"], "d", ["a", "s/b", "s/t/c.1"]),
        (["d/a.png", "d/a.nii.gz", "d/s/a.png"], "d", ["a.png", "a.nii.gz", "s/a"]),
        (["d/a.png", "d/A.mat", "d/b.mat"], "d", ["a.png", "A.mat", "b"]),  # one file where case does not count
        (["d/a.png", "d/a.mat", "d/a.png.nii"], "d", ["a.png", "a.mat", "a.png.nii"]),  # a full name collides in turn
        (["d/A.NII.GZ", "d/b.Nii.gz"], "d", ["A", "b"]),
        (["d/a.png"], "d/a.png", ["a"]),  # a single file
        (["d/1.2.840", "d/v.2/IM1", "d/x.zip/x_series_3"], "d", ["1.2.840", "v.2/IM1", "x.zip/x_series_3"]),
        (["d/a"], "d/a", ["a"]),  # a folder that is one input
        (["d/s/a.png", "d/t/b.png"], "d/*/*.png", ["s/a", "t/b"]),  # a glob
        (["d/a.png", "e/b.png"], "d", ["d/a", "e/b"]),  # nothing leaves the output folder
        (["d/../../a.png", "./d/b.png"], "d", None),
        ([], "d", []),
    ],
)
def test_output_stems(images, root, stems):
    got = output_stems(images, root)
    assert stems is None or got == stems
    assert not any(Path(stem).is_absolute() or ".." in Path(stem).parts for stem in got)
    assert len({stem.lower() for stem in got}) == len(images)


def test_outputs_are_named_after_what_an_image_is_of_unless_two_would_be_the_same():
    images = ["d/a_0000.nii.gz", "d/s/b_0000.nii.gz", "d/c.nii.gz", "d/c_0000.nii.gz"]
    after = ["d/a.nii.gz", "d/s/b.nii.gz", "d/c.nii.gz", "d/c.nii.gz"]
    assert output_stems(images, "d", after) == ["a", "s/b", "c.nii.gz", "c_0000"]
