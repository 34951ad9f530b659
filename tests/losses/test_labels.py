# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.losses import DistillationLoss, DistillationTerm, LayerwiseLoss, at_least_float32
from monai_kd.losses.labels import LabelledRows


class Masked(nn.Module):
    """Mean of ``|s - t|`` where the label is 1."""

    @at_least_float32
    def forward(self, student, teacher, label):
        return (student - teacher).abs()[label > 0].mean()


STUDENT, TEACHER, LABEL = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1, 0, 1])


def test_only_a_loss_that_asks_gets_the_label():
    loss = DistillationLoss({"masked": DistillationTerm(Masked()), "plain": DistillationTerm(nn.L1Loss())})
    _, values = loss(torch.tensor(0.0), {"": STUDENT}, {"": TEACHER}, LABEL)
    assert values["masked"] == (1 + 4) / 2 and values["plain"] == pytest.approx((1 + 2 + 4) / 3)


def test_a_scripted_loss_and_a_function_are_called_as_ever():
    for loss in (torch.jit.script(nn.L1Loss()), nn.functional.l1_loss):
        term = DistillationTerm(loss)
        assert term({"": STUDENT}, {"": TEACHER}, LABEL) == pytest.approx(7 / 3)


def test_layers_share_the_label():
    loss = LayerwiseLoss(Masked())
    assert loss([STUDENT, STUDENT + 1], [TEACHER, TEACHER], label=LABEL) == (2.5 + 3.5) / 2
    assert LayerwiseLoss(nn.L1Loss())([STUDENT], [TEACHER], label=LABEL) == pytest.approx(7 / 3)


def test_a_loss_may_do_without_the_label():
    class Optional(Masked):
        def forward(self, student, teacher, label=None):
            return super().forward(student, teacher, torch.ones(3) if label is None else label)

    term = DistillationTerm(Optional())
    assert term({"": STUDENT}, {"": TEACHER}) == pytest.approx(7 / 3)
    assert term({"": STUDENT}, {"": TEACHER}, LABEL) == 2.5


def test_a_label_that_is_missing_is_named():
    with pytest.raises(ValueError, match="Masked looks at the label, but the batch has none: .*weight 0"):
        DistillationTerm(Masked())({"": STUDENT}, {"": TEACHER})


def test_layers_that_need_no_label_are_compared_for_all_samples():
    two = LabelledRows(torch.tensor([0, 1]))
    term = DistillationTerm(LayerwiseLoss(nn.L1Loss()), ["a", "b"], ["a", "b"])
    sides = {"a": STUDENT, "b": STUDENT + 1}, {"a": TEACHER, "b": TEACHER}
    assert term(*sides, LABEL, two) == pytest.approx((7 / 3 + 10 / 3) / 2)
    masked = DistillationTerm(LayerwiseLoss(Masked()), ["a", "b"], ["a", "b"])
    assert masked(*sides, LABEL, two) == (1 + 2) / 2
    assert masked(*sides, LABEL, LabelledRows(torch.tensor([], dtype=torch.int64))) == 0
