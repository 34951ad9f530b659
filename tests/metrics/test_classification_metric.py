# SPDX-License-Identifier: Apache-2.0
"""With MONAI's handler on a real evaluator, whose network gives back the logits that the image is."""

from __future__ import annotations

import pytest
import sklearn.metrics
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from torch import nn

from monai_kd.metrics import ClassificationMetric

LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 3.0, 1.0], [-1.0, -2.0, -0.5], [5.0, 1.0, 0.0]])
LABELS, PREDICTED = [0, 0, 1, 2, 0], [0, 1, 1, 2, 0]


def _evaluator(logits: torch.Tensor, labels: list[int], decollate: bool = True) -> SupervisedEvaluator:
    samples = [{"image": MetaTensor(image), "label": label} for image, label in zip(logits, labels)]
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=2),
        network=nn.Identity(),
        key_val_metric={
            "val_balanced_accuracy": IgniteMetricHandler(
                metric_fn=ClassificationMetric("balanced_accuracy_score"),
                output_transform=from_engine(["pred", "label"]) if decollate else lambda x: (x["pred"], x["label"]),
            )
        },
        decollate=decollate,
    )


@pytest.mark.parametrize(
    ("score", "arguments", "expected"),
    [
        ("accuracy_score", {}, 4 / 5),
        ("balanced_accuracy_score", {}, (2 / 3 + 1 + 1) / 3),
        ("f1_score", {"average": "macro"}, (4 / 5 + 2 / 3 + 1) / 3),
    ],
)
def test_scores_worked_by_hand(score, arguments, expected):
    metric = ClassificationMetric(score, **arguments)
    metric(LOGITS[:2], torch.tensor(LABELS[:2]))
    metric(list(LOGITS[2:]), LABELS[2:])
    assert metric.aggregate() == pytest.approx(expected)
    assert metric.get_buffer().tolist() == [list(pair) for pair in zip(PREDICTED, LABELS)]


def test_labels_may_be_scalar_tensors():
    metric = ClassificationMetric("accuracy_score")
    metric([MetaTensor(logits) for logits in LOGITS], [torch.tensor(label) for label in LABELS])
    assert metric.aggregate() == 0.8


@pytest.mark.parametrize("decollate", [True, False])
def test_is_the_key_metric_of_an_evaluator_and_starts_afresh_each_time(decollate):
    evaluator = _evaluator(LOGITS, LABELS, decollate)
    for _ in range(2):
        evaluator.run()
        assert evaluator.state.metrics["val_balanced_accuracy"] == pytest.approx(
            sklearn.metrics.balanced_accuracy_score(LABELS, PREDICTED)
        )
        assert len(evaluator.state.metric_details["val_balanced_accuracy"]) == len(LABELS)
    assert evaluator.state.best_metric == pytest.approx((2 / 3 + 1 + 1) / 3)


@pytest.mark.parametrize("labels", [[1, 1], [0, 0]])
def test_predicted_and_missing_classes_do_not_warn(labels):
    evaluator = _evaluator(LOGITS[:2], labels)  # predicted: 0 and 1
    evaluator.run()
    assert evaluator.state.metrics["val_balanced_accuracy"] == 0.5


def test_cases_of_other_processes_count(monkeypatch):
    def gathered(data, concat):
        return torch.cat([data, torch.tensor([[2, 0], [2, 0], [2, 0]])])  # another process's three cases, all wrong

    monkeypatch.setattr("monai.metrics.metric.evenly_divisible_all_gather", gathered)
    metric = ClassificationMetric("accuracy_score")
    metric(LOGITS, torch.tensor(LABELS))
    assert metric.aggregate() == 4 / 8


def test_unknown_score():
    with pytest.raises(ValueError, match="no metric 'balanced_acuracy'; closest names: balanced_accuracy_score"):
        ClassificationMetric("balanced_acuracy")


def test_other_shapes():
    metric = ClassificationMetric("accuracy_score")
    with pytest.raises(ValueError, match=r"logits \(B, C\) and class indices \(B,\), got \(5, 3\) and \(5, 3\)"):
        metric(LOGITS, torch.eye(5, 3))
    with pytest.raises(ValueError, match=r"got \(5,\) and \(5,\)"):
        metric(LOGITS[:, 0], torch.tensor(LABELS))
