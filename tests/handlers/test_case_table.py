# SPDX-License-Identifier: Apache-2.0
"""With a real evaluator, whose network gives back the mask that the image is."""

import csv
import json
import statistics
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, MAEMetric, PSNRMetric
from torch import nn

from monai_kd.handlers import CaseTable
from monai_kd.metrics import ConfusionRate

from ..processes import in_two_processes

HALF_RIGHT, EMPTY, MISSED = ([1, 1, 0, 0], [1, 0, 0, 0]), ([0] * 4, [0] * 4), ([0] * 4, [0, 1, 0, 0])


def _sample(number, masks, patient=None, channels=1) -> dict:
    image, label = (torch.tensor(mask, dtype=torch.float32).repeat(channels, 1)[..., None] for mask in masks)
    sample = {"image": MetaTensor(image, meta={"filename_or_obj": f"d/{number}.png"}), "label": label}
    return sample if patient is None else {**sample, "patient": patient}


def _evaluator(folder, samples, class_names=(), **metrics) -> SupervisedEvaluator:
    channels = samples[0]["image"].shape[0]
    network = nn.Conv2d(channels, channels, 1, groups=channels)
    nn.init.ones_(network.weight)
    nn.init.zeros_(network.bias)

    def metric(function):
        return IgniteMetricHandler(metric_fn=function, output_transform=from_engine(["pred", "label"]))

    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=2),
        network=network,
        key_val_metric={"val_mean_dice": metric(DiceMetric(ignore_empty=False))},
        additional_metrics={name: metric(function) for name, function in metrics.items()},
        val_handlers=[CaseTable(str(folder), class_names=class_names)],
    )


def _cases(folder) -> list[dict]:
    with open(folder / "cases.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_prediction_of_no_finite_numbers_ends_the_evaluation_by_name(tmp_path):
    evaluator = _evaluator(tmp_path, [_sample(number, HALF_RIGHT) for number in range(3)])
    nn.init.constant_(evaluator.network.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="d/0.png, d/1.png: the network gave 8 of 8 values that are no finite"):
        evaluator.run()
    assert not (tmp_path / "summary.json").exists()


def test_every_case_has_its_row_and_every_metric_its_summary(tmp_path):
    samples = [_sample(number, masks, f"P{number % 2}") for number, masks in enumerate((HALF_RIGHT, EMPTY, MISSED))]
    folder = tmp_path / "evaluation" / "student"
    _evaluator(folder, samples, val_mean_error=MAEMetric()).run()
    dice, error = [2 / 3, 1.0, 0.0], [0.25, 0.0, 0.25]  # both masks empty: 1; one of them: 0
    assert _cases(folder) == [
        {"input": "d/0.png", "patient": "P0", "dice": "0.666667", "error": "0.25"},
        {"input": "d/1.png", "patient": "P1", "dice": "1.0", "error": "0.0"},
        {"input": "d/2.png", "patient": "P0", "dice": "0.0", "error": "0.25"},
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.keys() == {"dice", "error", "parameters"} and summary["parameters"] == 2
    for values, got in ((dice, summary["dice"]), (error, summary["error"])):
        assert got == {
            "mean": pytest.approx(statistics.mean(values)),
            "std": pytest.approx(statistics.stdev(values)),
            "median": pytest.approx(statistics.median(values)),
            "cases": 3,
        }


def test_a_case_without_a_value_is_left_out_of_the_summary(tmp_path):
    samples = [_sample(number, masks) for number, masks in enumerate((HALF_RIGHT, MISSED, EMPTY))]
    rates = {f"val_{name}": ConfusionRate(name) for name in ("precision", "sensitivity")}
    _evaluator(tmp_path, samples, **rates).run()
    assert [case["precision"] for case in _cases(tmp_path)] == ["0.5", "nan", "nan"]  # nothing was predicted
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["precision"]["mean"], summary["precision"]["cases"]) == (0.5, 1)
    assert (summary["sensitivity"]["mean"], summary["sensitivity"]["cases"]) == (0.5, 2)
    _evaluator(tmp_path, samples[1:], **rates).run()
    assert "precision" not in json.loads((tmp_path / "summary.json").read_text())


def test_a_case_that_is_met_exactly_has_no_ratio_of_signal_to_noise(tmp_path):
    samples = [_sample(number, masks) for number, masks in enumerate((HALF_RIGHT, EMPTY))]
    _evaluator(tmp_path, samples, val_psnr=PSNRMetric(max_val=1)).run()
    assert _cases(tmp_path)[1]["psnr"] == "inf"
    psnr = json.loads((tmp_path / "summary.json").read_text())["psnr"]
    assert (psnr["mean"], psnr["cases"]) == (pytest.approx(6.0206, abs=1e-4), 1)


def test_a_single_case_has_no_spread(tmp_path):
    _evaluator(tmp_path, [_sample(0, HALF_RIGHT)]).run()
    assert _cases(tmp_path) == [{"input": "d/0.png", "dice": "0.666667"}]
    dice = json.loads((tmp_path / "summary.json").read_text())["dice"]
    assert (dice["std"], dice["cases"]) == (0.0, 1)


def test_several_channels_are_averaged_per_case(tmp_path):
    sample = _sample(0, HALF_RIGHT, channels=2)
    sample["label"][1] = sample["image"][1]  # right in the second channel
    _evaluator(tmp_path, [sample]).run()
    assert float(_cases(tmp_path)[0]["dice"]) == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)


def test_a_second_evaluation_starts_a_new_table(tmp_path):
    evaluator = _evaluator(tmp_path, [_sample(0, HALF_RIGHT), _sample(1, EMPTY)])
    evaluator.run()
    evaluator.run()
    assert [case["input"] for case in _cases(tmp_path)] == ["d/0.png", "d/1.png"]


def test_several_classes_have_a_column_each_beside_their_mean(tmp_path):
    sample = _sample(0, HALF_RIGHT, channels=2)
    sample["label"][1] = sample["image"][1]  # the second class is all right
    for names in ((), ("one",), ("liver", "vein")):
        _evaluator(tmp_path, [sample], class_names=names).run()
        (row,) = _cases(tmp_path)
        wanted = {"dice": (2 / 3 + 1) / 2}
        wanted |= {"dice_liver": 2 / 3, "dice_vein": 1.0} if len(names) == 2 else {}
        assert {key: float(value) for key, value in row.items() if key != "input"} == pytest.approx(wanted, abs=1e-5)
    assert json.loads((tmp_path / "summary.json").read_text())["dice_vein"]["mean"] == 1


def _evaluate_as_one_of_two(rank: int, folder: Path) -> None:
    with pytest.raises(RuntimeError, match="of all cases, so it runs in one process"):
        _evaluator(folder, [_sample(number, HALF_RIGHT) for number in range(3)]).run()


def test_several_processes_are_refused(tmp_path):
    """Each would have a part of the cases, and the metrics of all."""
    in_two_processes(partial(_evaluate_as_one_of_two, folder=tmp_path), tmp_path)
