# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.autograd import gradcheck

from monai_kd.losses import ProbabilisticKnowledgeTransferLoss
from monai_kd.losses.probabilistic_knowledge_transfer import neighbour_probability


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probability(features):
    flat = features.numpy().reshape(len(features), -1)
    similarity = 1 - cdist(flat, flat, "cosine") / 2  # (cos + 1) / 2
    return similarity / similarity.sum(1, keepdims=True)


def test_value_by_hand():
    # Orthogonal samples: rows (2/3, 1/3). Equal ones: rows (1/2, 1/2).
    value = ProbabilisticKnowledgeTransferLoss()(torch.ones(2, 5), torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    assert value.item() == pytest.approx((2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)) / 2, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2), (3, 4, 3, 2, 2)], ids=str)
def test_agrees_with_scipy_for_different_features(shape):
    student, teacher = features(shape, 0), features((3, 7, 6), 1)
    p_s, p_t = probability(student), probability(teacher)
    expected = np.mean(p_t * np.log((p_t + 1e-7) / (p_s + 1e-7)))
    assert ProbabilisticKnowledgeTransferLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_every_row_of_probabilities_adds_up_to_one():
    probability = neighbour_probability(torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) - 0.3)
    torch.testing.assert_close(probability.sum(1), torch.ones(3))
    assert not torch.allclose(probability.sum(0), torch.ones(3))


def test_the_length_of_a_sample_does_not_matter():
    student, teacher = features((3, 4), 0), features((3, 5), 1)
    length = torch.tensor([[0.1], [1.0], [20.0]], dtype=torch.float64)
    loss = ProbabilisticKnowledgeTransferLoss()
    torch.testing.assert_close(loss(student * length, teacher), loss(student, teacher))
    assert loss(teacher, teacher).item() == 0


def test_gradients_of_both_sides():
    inputs = features((3, 2, 2), 0).requires_grad_(), features((3, 4), 1).requires_grad_()
    assert gradcheck(ProbabilisticKnowledgeTransferLoss(), inputs)


def test_gradient_at_zero_maps_is_finite():
    student = torch.zeros(2, 3, 4, requires_grad=True)
    ProbabilisticKnowledgeTransferLoss()(student, torch.ones(2, 3, 4)).backward()
    assert student.grad.isfinite().all()


def test_opposite_samples_stay_finite():
    # For some lengths float32 rounds the cosine below -1.
    for size in range(1, 200):
        sample = torch.rand(size, generator=torch.Generator().manual_seed(size))
        student = torch.stack([sample, -sample]).requires_grad_()
        value = ProbabilisticKnowledgeTransferLoss()(student, torch.ones(2, size))
        value.backward()
        assert value.isfinite() and student.grad.isfinite().all()


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="ProbabilisticKnowledgeTransferLoss .*batch of 1: use a batch size of 2"):
        ProbabilisticKnowledgeTransferLoss()(torch.zeros(1, 3), torch.zeros(1, 3))


def test_different_batches_are_refused():
    with pytest.raises(ValueError, match=r"ProbabilisticKnowledgeTransferLoss .*\(2, 3\) and \(3, 3\)"):
        ProbabilisticKnowledgeTransferLoss()(torch.zeros(2, 3), torch.zeros(3, 3))
