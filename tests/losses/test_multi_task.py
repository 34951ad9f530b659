# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_kd.losses import MultiTaskBCELoss


def test_value_worked_by_hand():
    # Logit 0 costs log 2 whatever the label; log 3 for a label of 0 costs log 4.
    logits = torch.tensor([[0.0, math.log(3), 0.0]])
    loss = MultiTaskBCELoss()(logits, torch.tensor([[1.0, 0.0, 1.0]]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2 + math.log(2))


def test_the_second_task_weighs_as_much_as_all_findings():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 6)), rng.integers(0, 2, (4, 6))
    p = 1 / (1 + np.exp(-logits))
    each = -np.where(labels, np.log(p), np.log(1 - p))
    loss = MultiTaskBCELoss()(torch.from_numpy(logits), torch.from_numpy(labels).double())
    assert loss.item() == pytest.approx(each[:, :-1].mean() + each[:, -1].mean())


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(MultiTaskBCELoss(), (logits, labels))


def test_half_precision_is_lifted():
    logits = torch.tensor([[20.0, -20.0]], dtype=torch.float16)
    assert MultiTaskBCELoss()(logits, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(40)


@pytest.mark.parametrize("logits, labels", [((2, 3), (2, 2)), ((2, 1), (2, 1)), ((3,), (3,))])
def test_other_shapes(logits, labels):
    with pytest.raises(ValueError, match=r"MultiTaskBCELoss expects logits and labels \(B, F \+ 1\)"):
        MultiTaskBCELoss()(torch.zeros(logits), torch.zeros(labels))
