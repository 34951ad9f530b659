# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.utils import LossReduction

from monai_kd import losses
from monai_kd.losses.reduction import checked_reduction

# A loss and the shape of its elements for features (2, 3, 4, 6).
ELEMENTS = {
    "BinarySoftTargetLoss": ({}, (2, 3, 4, 6)),
    "FactorTransferLoss": ({}, (2, 72)),
    "HintLoss": ({}, (2, 3, 4, 6)),
    "PooledFeatureLoss": ({"output_size": 2}, (2, 3, 2, 2)),
    "SoftTargetLoss": ({}, (2, 4, 6)),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_mean_and_sum_are_those_of_the_elements(name):
    arguments, shape = ELEMENTS[name]
    student, teacher = torch.randn(2, 2, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    make = getattr(losses, name)
    elements = make(**arguments, reduction="none")(student, teacher)
    assert elements.shape == shape
    torch.testing.assert_close(make(**arguments)(student, teacher), elements.mean())
    torch.testing.assert_close(make(**arguments, reduction=LossReduction.SUM)(student, teacher), elements.sum())


def test_an_unknown_reduction_is_named_with_the_choices():
    assert checked_reduction(LossReduction.NONE) == checked_reduction("none") == "none"
    with pytest.raises(ValueError, match="median"):
        checked_reduction("median")
