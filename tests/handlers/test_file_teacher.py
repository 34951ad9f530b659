# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from monai_kd.handlers import DistillationHandler, FileTeacher
from monai_kd.losses import DistillationLoss, DistillationTerm


def _engine(values: torch.Tensor, channels: int):
    prediction = torch.zeros(len(values), channels, *values.shape[2:])
    state = SimpleNamespace(batch={"teacher": values}, output={"pred": prediction}, device=torch.device("cpu"))
    return SimpleNamespace(state=state, non_blocking=False)


def test_probabilities_become_the_logits_that_they_came_from():
    logits = 3 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    grey = torch.tensor([[[0.0, 0.5]]])
    assert torch.equal(FileTeacher("values")(_engine(grey, 1))[""], grey)
    for activation, values in (("logits", logits), ("sigmoid", logits.sigmoid()), ("softmax", logits.softmax(1))):
        answer = FileTeacher(activation)(_engine(values, 3))[""]
        expected = logits - logits.logsumexp(1, keepdim=True) if activation == "softmax" else logits
        torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)


def test_certainty_stays_finite():
    answer = FileTeacher("sigmoid")(_engine(torch.tensor([[[0.0, 1.0]]]), 1))[""]
    np.testing.assert_allclose(answer.flatten(), [np.log(1e-5 / (1 - 1e-5)), np.log((1 - 1e-5) / 1e-5)], rtol=1e-2)


def test_what_lies_beyond_the_image_is_background():
    values = torch.tensor([[[0.2, 0.0, 0.1], [0.8, 0.0, 0.4]]])  # inside, outside, half and half
    answer = FileTeacher("softmax")(_engine(values, 2))[""].exp()
    torch.testing.assert_close(answer, torch.tensor([[[0.2, 1.0, 0.6], [0.8, 1e-5, 0.4]]]))
    logits = torch.tensor([[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.5]]])  # outside is where all are 0
    answer = FileTeacher("logits")(_engine(logits, 2))[""]
    torch.testing.assert_close(answer[..., ::2], logits[..., ::2])
    torch.testing.assert_close(answer[0, :, 1].softmax(0), torch.tensor([1.0, 0.0]), atol=2e-5, rtol=0)
    torch.testing.assert_close(answer[0, :, 1].sigmoid(), torch.tensor([0.0, 0.0]), atol=2e-5, rtol=0)  # nor a region
    alone = FileTeacher("logits")(_engine(logits[:, 1:], 1))[""]
    torch.testing.assert_close(alone.sigmoid()[0, 0, 1], torch.tensor(1e-5), atol=1e-6, rtol=0)
    torch.testing.assert_close(FileTeacher("logits").logits(torch.zeros(2, 3)), torch.zeros(2, 3))  # no image


def test_two_classes_teach_a_student_of_the_second():
    values = torch.tensor([[[0.1, 0.7], [0.9, 0.3]]])
    for activation in ("softmax", "sigmoid"):
        answer = FileTeacher(activation)(_engine(values, 1))[""]
        torch.testing.assert_close(answer.sigmoid(), values[:, 1:])


def test_every_head_of_a_prediction_gets_the_mean_of_what_lies_on_its_grid():
    values = torch.tensor([[[[0.1, 0.3, 0.5, 0.9]], [[0.9, 0.7, 0.5, 0.1]]]])
    engine = _engine(values, 2)
    engine.state.output["pred"] = [torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 2)]
    answer = FileTeacher("softmax", heads=["fine", "coarse"])(engine)
    assert answer.keys() == {"", "fine", "coarse"} and answer[""] is answer["fine"]
    torch.testing.assert_close(answer["coarse"].exp(), torch.tensor([[[[0.2, 0.7]], [[0.8, 0.3]]]]))
    terms = {"soft": DistillationTerm(nn.MSELoss(), ["a", "b"], ["fine", "coarse"])}
    DistillationHandler(FileTeacher("softmax", heads=["fine", "coarse"]), DistillationLoss(terms))
    with pytest.raises(ValueError, match="the terms soft look at layers"):
        DistillationHandler(FileTeacher("softmax", heads=["fine"]), DistillationLoss(terms))


def test_other_classes_and_no_label_are_refused():
    with pytest.raises(ValueError, match=r"gives \(3, 4\).*student predicts \(2, 4\): make it for the same classes"):
        FileTeacher("logits")(_engine(torch.zeros(1, 3, 4), 2))
    engine = _engine(torch.zeros(1, 1, 4), 1)
    engine.state.batch = {"image": 0}
    with pytest.raises(ValueError, match="the batch has no 'teacher'"):
        FileTeacher("logits")(engine)
    with pytest.raises(ValueError, match="unknown teacher_activation 'sigmod'; did you mean 'sigmoid'"):
        FileTeacher("sigmod")


def test_a_term_that_looks_at_layers_is_refused_by_name():
    terms = {
        "soft": DistillationTerm(nn.MSELoss()),
        "hint": DistillationTerm(nn.MSELoss(), "0", "0"),
        "all": DistillationTerm(nn.MSELoss(), ["0"], ["0", ""]),
        "off": DistillationTerm(nn.MSELoss(), "0", "0", weight=0),
    }
    with pytest.raises(ValueError, match="the terms hint, all look at layers of the teacher, and soft labels"):
        DistillationHandler(FileTeacher(), DistillationLoss(terms))


def test_values_of_two_channels_are_not_taken_for_two_classes():
    with pytest.raises(ValueError, match=r"gives \(2, 2\).*predicts \(1, 2\)"):
        FileTeacher("values")(_engine(torch.ones(1, 2, 2), 1))
