# SPDX-License-Identifier: Apache-2.0
from torch import nn

from monai_kd.engines import parameters


def test_frozen_parameters_are_left_out():
    student, projector = nn.Linear(2, 1), nn.Linear(3, 1)
    student.bias.requires_grad_(False)
    assert [id(parameter) for parameter in parameters(student, projector)] == [
        id(parameter) for parameter in (student.weight, projector.weight, projector.bias)
    ]
