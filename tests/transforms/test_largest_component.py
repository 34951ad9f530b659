# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_kd.transforms import LargestComponent, LargestComponentd


def _ball(centre: tuple[int, ...], radius: float, shape: tuple[int, ...] = (20, 18, 16)) -> np.ndarray:
    return sum((i - c) ** 2 for i, c in zip(np.ogrid[tuple(map(slice, shape))], centre)) <= radius**2


def test_the_larger_of_two_bodies_stays_and_is_filled():
    hollow = _ball((8, 8, 8), 6) & ~_ball((8, 8, 8), 3)
    mask = torch.from_numpy((hollow | _ball((17, 15, 13), 2)).astype(np.uint8))[None]
    solid = LargestComponent()(mask)
    assert solid.dtype == torch.uint8 and solid.shape == mask.shape
    np.testing.assert_array_equal(solid[0], _ball((8, 8, 8), 6))
    np.testing.assert_array_equal(solid[0], ndimage.binary_fill_holes(hollow))


def test_a_hole_that_opens_to_the_border_of_the_image_is_no_hole():
    mask = torch.ones(1, 5, 5)
    mask[0, 0:3, 2] = 0
    assert torch.equal(LargestComponent()(mask), mask)


def test_bodies_that_touch_by_a_corner_are_two():
    mask = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    assert LargestComponent()(mask).sum() == 3
    assert LargestComponent()(torch.eye(4)[None]).sum() == 1


def test_an_empty_mask_stays_empty_and_each_channel_is_its_own():
    mask = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    assert LargestComponent()(mask).sum(dim=(1, 2)).tolist() == [0, 1]


def test_it_is_what_scipy_makes_of_any_mask():
    random = np.random.default_rng(0)
    for _ in range(200):
        mask = random.random(random.integers(1, 9, random.integers(1, 4))) < random.random()
        labels, count = ndimage.label(mask)
        largest = labels == np.bincount(labels[mask]).argmax() if count else mask
        solid = LargestComponent()(torch.from_numpy(mask)[None])[0]
        np.testing.assert_array_equal(solid, ndimage.binary_fill_holes(largest))


def test_the_dictionary_form_keeps_metadata():
    mask = MetaTensor(torch.ones(1, 3, 3, 3), affine=2 * torch.eye(4, dtype=torch.float64))
    sample = LargestComponentd("pred")({"pred": mask, "other": 1})
    assert torch.equal(sample["pred"].affine, mask.affine) and sample["other"] == 1
