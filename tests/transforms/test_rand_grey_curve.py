# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch

from monai_kd.transforms import RandGreyCurve, RandGreyCurved

RAMP = torch.linspace(-1, 3, 401).reshape(1, 401)


def test_a_grey_value_goes_where_the_curve_says():
    curve = RandGreyCurve(prob=1.0, knots=5).set_random_state(seed=2)
    image = curve(RAMP)
    by_hand = -1 + 4 * np.interp((RAMP.numpy() + 1) / 4, np.linspace(0, 1, 5), curve.values)
    np.testing.assert_allclose(image.numpy(), by_hand, atol=1e-5)
    assert image.shape == RAMP.shape and image.min() == -1 and image.max() == pytest.approx(3)
    assert (np.diff(image[0].numpy()) < 0).any()  # which no histogram shift does


@pytest.mark.parametrize("dark_air, dark", [(1.0, 50), (0.0, 0)])
def test_air_stays_dark_as_often_as_is_said(dark_air, dark):
    curve = RandGreyCurve(prob=1.0, knots=8, dark_air=dark_air).set_random_state(seed=0)
    firsts = [float(curve(RAMP)[0, 0]) for _ in range(50)]
    assert firsts.count(-1.0) == pytest.approx(dark, abs=20)
    assert dark or len(set(firsts)) > 20


def test_images_are_left_as_they_are_as_often_as_is_said():
    curve = RandGreyCurve(prob=0.5).set_random_state(seed=1)
    kept = sum(torch.equal(curve(RAMP), RAMP) for _ in range(200))
    assert 70 < kept < 130
    constant = torch.full((1, 3), 7.0)
    assert torch.equal(RandGreyCurve(prob=1.0)(constant), constant)


def test_all_keys_have_one_curve_and_a_seed_gives_it_again():
    sample = {"a": RAMP, "b": RAMP.clone(), "c": RAMP}
    transform = RandGreyCurved(["a", "b"], prob=1.0)
    first = transform.set_random_state(seed=5)(sample)
    assert torch.equal(first["a"], first["b"]) and first["c"] is RAMP and not torch.equal(first["a"], RAMP)
    again = transform.set_random_state(seed=5)(sample)
    assert torch.equal(first["a"], again["a"]) and not torch.equal(transform(sample)["a"], first["a"])


@pytest.mark.parametrize("wrong", [{"knots": 1}, {"dark_air": 1.5}])
def test_what_is_no_curve_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandGreyCurve(**wrong)
