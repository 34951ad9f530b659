# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.autograd import gradcheck

from monai_kd.losses import DecoupledSoftTargetLoss, SoftTargetLoss


def logits(shape, seed):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(shape, classes):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(9))


def decoupled(student, teacher, label, temperature, target_weight, non_target_weight):
    """Position by position, from the probabilities."""
    p_s, p_t = (softmax(np.moveaxis(x.numpy(), 1, -1) / temperature, axis=-1) for x in (student, teacher))
    value = np.empty(label.shape)
    for index, y in np.ndenumerate(label.numpy()):
        s, t = p_s[index], p_t[index]
        binary = rel_entr([t[y], 1 - t[y]], [s[y], 1 - s[y]]).sum()
        others = rel_entr(np.delete(t, y) / (1 - t[y]), np.delete(s, y) / (1 - s[y])).sum()
        value[index] = temperature**2 * (target_weight * binary + non_target_weight * others)
    return value


def test_value_by_hand():
    # Teacher (1/2, 3/8, 1/8), student (1/2, 1/4, 1/4): the same for the true class, and (3/4, 1/4) for the others.
    student, teacher = torch.tensor([[2.0, 1.0, 1.0]]).log(), torch.tensor([[4.0, 3.0, 1.0]]).log()
    value = DecoupledSoftTargetLoss(temperature=1, target_weight=5, non_target_weight=2)
    expected = 2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert value(student, teacher, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("space", [(), (4, 5), (4, 3, 2)], ids=str)
def test_agrees_with_numpy(space):
    student, teacher, label = logits((3, 4, *space), 0), logits((3, 4, *space), 1), labels((3, *space), 4)
    expected = decoupled(student, teacher, label, 2.0, 0.7, 3.0)
    for reduction, value in (("mean", expected.mean()), ("sum", expected.sum()), ("none", expected)):
        loss = DecoupledSoftTargetLoss(2.0, 0.7, 3.0, reduction)
        np.testing.assert_allclose(loss(student, teacher, label).numpy(), value, rtol=1e-9)
        np.testing.assert_allclose(loss(student, teacher, label[:, None].float()).numpy(), value, rtol=1e-9)


def test_with_the_teachers_doubt_as_weight_it_is_the_soft_target_loss():
    # The paper's equation 5: KL = KL(b_t || b_s) + (1 - p_t,y) KL(q_t || q_s).
    student, teacher, label = logits((1, 5), 0), logits((1, 5), 1), torch.tensor([2])
    doubt = 1 - (teacher / 4).softmax(1)[0, 2].item()
    value = DecoupledSoftTargetLoss(4.0, 1.0, doubt)(student, teacher, label)
    torch.testing.assert_close(value, SoftTargetLoss(4.0)(student, teacher))


def test_of_two_classes_the_second_part_is_nothing():
    student, teacher, label = logits((3, 2), 0), logits((3, 2), 1), labels((3,), 2)
    value = DecoupledSoftTargetLoss(non_target_weight=100)(student, teacher, label)
    torch.testing.assert_close(value, SoftTargetLoss()(student, teacher))


def test_gradients_of_both_sides():
    inputs = logits((2, 3, 2), 0).requires_grad_(), logits((2, 3, 2), 1).requires_grad_()
    label = labels((2, 2), 3)
    assert gradcheck(lambda student, teacher: DecoupledSoftTargetLoss()(student, teacher, label), inputs)


def test_a_sure_teacher_stays_finite():
    student = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    value = DecoupledSoftTargetLoss(1.0)(student, torch.tensor([[500.0, 0.0, -500.0]]), torch.tensor([0]))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def test_wrong_shapes_and_labels_are_refused():
    loss, two = DecoupledSoftTargetLoss(), torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="one shape, got .*the same classes on the same grid"):
        loss(two, torch.zeros(2, 4, 4, 4), labels((2, 4, 4), 3))
    with pytest.raises(ValueError, match=r"two or more classes on axis 1, got \(2, 1\): use BinarySoftTargetLoss"):
        loss(torch.zeros(2, 1), torch.zeros(2, 1), labels((2,), 1))
    with pytest.raises(ValueError, match=r"expects labels \(2, 4, 4\), one class.*got \(2, 3, 4, 4\)"):
        loss(two, two, torch.zeros(2, 3, 4, 4))
    for label, found in ((torch.tensor([0, 3]), "0 to 3"), (torch.tensor([-1, 0]), "-1 to 0")):
        with pytest.raises(ValueError, match=f"expects labels from 0 to 2, got {found}"):
            loss(torch.zeros(2, 3), torch.zeros(2, 3), label)


def test_wrong_arguments_are_refused():
    for arguments, message in (
        ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ({"target_weight": -1}, "target_weight must be 0 or more, got -1"),
        ({"non_target_weight": math.nan}, "non_target_weight must be 0 or more, got nan"),
        ({"reduction": "median"}, "median"),
    ):
        with pytest.raises(ValueError, match=message):
            DecoupledSoftTargetLoss(**arguments)
