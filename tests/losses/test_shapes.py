# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from monai_kd.losses import HintLoss
from monai_kd.losses.shapes import check_batch, check_same_shape, check_same_space


def test_fitting_shapes_pass():
    student, teacher = torch.zeros(2, 3, 4, 5), torch.zeros(2, 7, 4, 5)
    check_same_shape(HintLoss(), student, student)
    check_same_space(HintLoss(), student, teacher)
    check_batch(HintLoss(), student, torch.zeros(2, 9))


def test_the_cure_can_be_given():
    with pytest.raises(ValueError, match=r"^HintLoss expects .* got \(1,\) and \(2,\): do this$"):
        check_same_shape(HintLoss(), torch.zeros(1), torch.zeros(2), "do this")
