# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_kd.transforms import BinaryLabel, BinaryLabeld


@pytest.mark.parametrize("inside", [1, 255, -1, 0.5])
def test_the_one_value_beside_0_is_inside(inside):
    label = torch.tensor([[[0, inside], [inside, 0]]])
    result = BinaryLabel()(label)
    assert result.dtype == torch.float32 and result.tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize("value, expected", [(0, 0), (7, 1)])
def test_a_label_of_one_value(value, expected):
    assert torch.equal(BinaryLabel()(torch.full((1, 2, 3), value)), torch.full((1, 2, 3), float(expected)))


def test_metadata_are_kept():
    label = MetaTensor(torch.tensor([[[0, 2]]]), affine=torch.eye(4) * 2, meta={"filename_or_obj": "a.nii"})
    result = BinaryLabeld("label")({"label": label, "other": 1})["label"]
    assert result.meta["filename_or_obj"] == "a.nii" and torch.equal(result.affine, label.affine)


@pytest.mark.parametrize(
    "values, shown", [([1, 2], "got 2: 1, 2;"), ([1, 2, 3, 4, 5, 6], "got 6: 1, 2, 3, 4, 5, ...;")]
)
def test_more_values_are_refused_by_name(values, shown):
    label = MetaTensor(torch.tensor([[0, *values]]), meta={"filename_or_obj": "vessels.mha"})
    with pytest.raises(ValueError, match=f"vessels.mha: a label must have one value beside 0, {shown} join"):
        BinaryLabel()(label)


def test_nan_is_no_label():
    with pytest.raises(ValueError, match="one value beside 0, got 1: nan"):
        BinaryLabel()(torch.tensor([[0, float("nan")]]))
