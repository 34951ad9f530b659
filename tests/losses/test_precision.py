# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd import losses
from monai_kd.losses import at_least_float32
from monai_kd.losses.labels import call_with_label


class Recorder(nn.Module):
    """Remembers what its forward got, and whether autocast was on."""

    @at_least_float32
    def forward(self, student, teacher):
        self.got = student, teacher
        self.autocast = torch.is_autocast_enabled("cpu")
        return torch.zeros(())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted_to_float32(dtype):
    recorder = Recorder()
    recorder(torch.ones(2, dtype=dtype), teacher=[torch.ones(2, dtype=dtype), torch.ones(2)])
    student, teacher = recorder.got
    assert [x.dtype for x in (student, *teacher)] == [torch.float32] * 3


def test_other_types_are_left_alone():
    student, teacher = torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.uint8)
    recorder = Recorder()
    recorder(student, teacher)
    assert recorder.got[0] is student and recorder.got[1] is teacher


def test_autocast_is_off_inside_only():
    recorder = Recorder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recorder([torch.ones(2)], [torch.ones(2)])
        assert torch.is_autocast_enabled("cpu")
    assert not recorder.autocast


def test_gradient_comes_back_in_the_callers_type():
    student = torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    losses.HintLoss()(student, torch.zeros(2)).backward()
    assert student.grad.dtype == torch.bfloat16
    assert student.grad.tolist() == [1.0, 2.0]


def test_a_call_without_tensors_is_refused():
    with pytest.raises(TypeError, match="expects tensors"):
        Recorder()(1.0, None)


# A loss is made by its defaults and gets two feature maps, and a label of three classes if it asks for one, unless
# something else is said here.
ARGUMENTS = {"PooledFeatureLoss": {"output_size": 2}}
INPUTS = {
    "FlowOfSolutionLoss": lambda student, teacher: ([student, student], [teacher, teacher]),
    "MultiTaskBCELoss": lambda student, teacher: (student.flatten(1), (teacher.flatten(1) > 0.5).to(teacher)),
    "StudentFriendlyLoss": lambda student, teacher: ([teacher, student], student.flip(0)),
}
# Each hands the tensors on to other losses.
CONTAINERS = {"DistillationLoss", "DistillationTerm", "LayerwiseLoss"}
LOSSES = sorted(name for name in losses.__all__ if isinstance(getattr(losses, name), type) and name not in CONTAINERS)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_computes_in_float32(name):
    loss = getattr(losses, name)(**ARGUMENTS.get(name, {}))
    generator = torch.Generator().manual_seed(0)
    halves = torch.rand(2, 4, 3, 4, 5, generator=generator).bfloat16()
    label = torch.randint(3, (4, 1, 4, 5), generator=generator)

    def value(features):
        return call_with_label(loss, *INPUTS.get(name, lambda student, teacher: (student, teacher))(*features), label)

    expected = value(halves.float())
    assert expected.dtype == torch.float32 and value(halves).equal(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert value(halves.float()).equal(expected)
        assert value(halves).equal(expected)


def test_norms_that_overflow_half_precision_stay_finite():
    student = torch.full((2, 3, 8, 8), 300.0, dtype=torch.float16, requires_grad=True)
    teacher = torch.full((2, 3, 8, 8), -300.0, dtype=torch.float16)
    value = losses.SimilarityPreservingLoss()(student, teacher)
    value.backward()
    assert value.item() == 0  # the similarities of equal samples do not depend on their size or sign
    assert student.grad.isfinite().all()
