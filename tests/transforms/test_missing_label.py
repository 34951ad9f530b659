# SPDX-License-Identifier: Apache-2.0
import torch
from monai.data import MetaTensor
from monai.transforms import RandCropByPosNegLabeld

from monai_kd.transforms import MissingLabeld


def test_a_label_that_is_there_is_left_alone():
    label = MetaTensor(torch.ones(1, 4, 4))
    assert MissingLabeld("label")({"image": MetaTensor(torch.zeros(1, 4, 4)), "label": label})["label"] is label


def test_a_missing_one_lies_on_the_images_grid_and_is_the_same_each_time():
    affine = torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64))
    sample = {"image": MetaTensor(torch.zeros(3, 4, 5, 6), affine=affine)}
    first, again = (MissingLabeld("label")(sample)["label"] for _ in range(2))
    assert first.shape == (1, 4, 5, 6) and torch.equal(first.affine, affine) and torch.equal(first, again)
    assert set(first.unique().tolist()) == {0, 1} and "label" not in sample
    assert MissingLabeld("label")({"image": torch.zeros(1, 4, 4)})["label"].shape == (1, 4, 4)


def test_crops_by_the_label_are_drawn_anywhere_and_without_complaint():
    image = torch.arange(400.0).reshape(1, 20, 20)
    sample = MissingLabeld("label")({"image": MetaTensor(image)})
    crops = RandCropByPosNegLabeld(["image"], "label", [2, 2], pos=3, neg=1, num_samples=200)
    crops.set_random_state(0)
    corners = torch.stack([crop["image"].flatten()[0] for crop in crops(sample)])
    assert 0.4 < float((corners >= 200).float().mean()) < 0.6
