# SPDX-License-Identifier: Apache-2.0
"""With a real evaluator of a network that changes nothing."""

import math

import pytest
import torch
from ignite.metrics import Metric
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from torch import nn

from monai_kd.engines.validation_choice import ValidationChoice


class Score(Metric):
    """A key metric."""

    def reset(self): ...

    def update(self, output): ...

    def compute(self):
        return 0.5


def _choice(labels, decollate=True, batch_size=2) -> ValidationChoice:
    samples = [{"image": torch.rand(1, 2), "label": label} for label in labels]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=batch_size),
        network=nn.Identity(),
        key_val_metric={"val_score": Score(lambda output: (0, 0))},
        decollate=decollate,
    )
    choice = ValidationChoice(evaluator, "student")
    evaluator.run()
    return choice


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize(
    "labels, words",
    [
        ([1, 1, 1], "1"),
        ([torch.tensor(2)] * 3, "2"),
        ([torch.tensor([0.0, 1.0])] * 3, "0, 1"),
        ([torch.zeros(1, 3, 4)] * 3, "0"),
        ([torch.zeros(2, 3, 4)] * 3, "0"),
    ],
)
def test_labels_that_are_alike_choose_nothing(labels, words, decollate, caplog):
    choice = _choice(labels, decollate)
    assert choice.fault([]).startswith(f"all validation labels are alike ({words}), from which val_score cannot tell")
    (warning,) = [record.message for record in caplog.records if record.name == "monai_kd"]
    assert warning.startswith(f"student: all validation labels are alike ({words}), so val_score cannot tell")


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize(
    "labels",
    [
        [1, 1, 0],
        [torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0])],
        [torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])],
    ],
)
def test_one_label_that_differs_chooses(labels, decollate, caplog):
    assert _choice(labels, decollate).fault([]) is None and not caplog.records


def test_masks_of_several_sizes_are_looked_at_too():
    assert _choice([torch.zeros(1, 2), torch.zeros(1, 3)], batch_size=1).fault([]) is not None


@pytest.mark.parametrize(
    "values, words",
    [
        ([0.5, 0.5], "val_score was 0.5 after every epoch"),
        ([float("nan")] * 2, "val_score was nan after every epoch"),
        ([float("nan")], "val_score was nan after every epoch"),
        ([0.5], None),  # of one there is no other
        ([0.3, float("nan"), float("nan")], None),
        ([0.5, 0.6, 0.5], None),
        ([], None),
    ],
)
def test_a_score_that_does_not_move_chooses_nothing(values, words):
    epochs = [{"epoch": 1.0, "loss": 2.0}, *({"epoch": 2.0, "val_score": value} for value in values)]
    assert _choice([0, 1, 1]).fault(epochs) == words


class Toy(nn.Module):
    """Gives what it holds."""

    value = 0.0

    def forward(self, image):
        return torch.full_like(image, self.value)


class Told(Score):
    """Finite whatever is predicted, as behind a threshold."""

    def __init__(self, values):
        self.values = iter(values)
        super().__init__(lambda output: (0, 0))

    def compute(self):
        return next(self.values)


@pytest.mark.parametrize(
    "scores, broken, best, epoch",
    [
        ([math.nan, 0.3, 0.2], [], 0.3, 2),
        ([0.3, math.nan, 0.2], [], 0.3, 1),
        ([0.3, 0.9, 0.4], [2], 0.4, 3),  # the prediction of epoch 2 holds NaN
        ([0.9, 0.3, 0.4], [1], 0.4, 3),
        ([0.9, 0.8], [1, 2], math.nan, 1),
    ],
)
def test_what_is_no_number_is_never_the_best(scores, broken, best, epoch, caplog):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": torch.rand(1, 2), "label": n} for n in range(2)]), batch_size=1),
        network=Toy(),
        key_val_metric={"val_score": Told(scores)},
    )
    ValidationChoice(evaluator, "student")
    for number in range(1, len(scores) + 1):
        evaluator.network.value = math.inf if number in broken else 0.0
        evaluator.run(number)
        assert math.isnan(evaluator.state.metrics["val_score"]) == (number in broken or math.isnan(scores[number - 1]))
    state = evaluator.state
    assert (state.best_metric, state.best_metric_epoch) == (pytest.approx(best, nan_ok=True), epoch)
    assert caplog.text.count("no finite numbers") == len(broken)
