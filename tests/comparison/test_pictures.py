# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch
from monai.data import MetaTensor

from monai_kd.comparison.pictures import _true_mask, choose_cases


def test_the_worst_and_the_median_case():
    values = np.array([0.3, np.nan, 0.9, 0.1, 0.5])
    assert choose_cases(values, higher_is_better=True) == {"worst": 3, "median": 4}
    assert choose_cases(values, higher_is_better=False) == {"worst": 2, "median": 0}
    assert choose_cases(np.array([np.nan]), higher_is_better=True) == {}


def test_only_a_mask_on_the_predictions_grid_is_drawn_as_truth():
    pred = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "a.png"})
    mask = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    truth = _true_mask({"pred": pred, "label": mask})
    assert torch.equal(truth.as_tensor(), mask) and truth.meta["filename_or_obj"] == "a.png"
    assert _true_mask({"pred": pred, "label": 2 * mask}) is None
    assert _true_mask({"pred": pred, "label": mask[:, :1]}) is None
    assert _true_mask({"pred": pred, "label": 1}) is None
