# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from monai_kd.transforms import ScaleByMaximum, ScaleByMaximumd


def _image(values: list[list[float]]) -> MetaTensor:
    """Channels of one row of pixels."""
    return MetaTensor(torch.tensor(values)[:, None], meta={"filename_or_obj": "a.nii"})


def test_a_real_image_by_its_largest_magnitude() -> None:
    scaled = ScaleByMaximum()(_image([[2.0, -8.0, 0.0]]))
    assert scaled.tolist() == [[[0.25, -1.0, 0.0]]] and scaled.meta["filename_or_obj"] == "a.nii"


def test_a_complex_image_by_its_largest_magnitude_without_its_mask() -> None:
    scaled = ScaleByMaximum()(_image([[3.0, 1.0], [4.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(scaled[:, 0].as_tensor(), torch.tensor([[0.6, 0.2], [0.8, 0.0], [1.0, 0.0]]))


def test_the_inverse_restores_values_and_mask() -> None:
    scale, image = ScaleByMaximum(), _image([[3.0, 1.0], [4.0, 0.0], [1.0, 0.0]])
    restored = scale.inverse(scale(image))
    torch.testing.assert_close(restored.as_tensor(), image.as_tensor())
    assert restored.applied_operations == [] and restored.meta["filename_or_obj"] == "a.nii"


def test_an_image_without_signal_stays() -> None:
    assert ScaleByMaximum()(_image([[0.0, 0.0]])).tolist() == [[[0.0, 0.0]]]


def test_every_key_is_scaled_by_the_reference() -> None:
    sample = {"image": _image([[3.0], [4.0]]), "label": _image([[20.0]])}
    scaled = ScaleByMaximumd(["image", "label"])(sample)
    assert scaled["label"].item() == pytest.approx(4)
    assert scaled["image"].flatten().tolist() == pytest.approx([0.6, 0.8])
    assert sample["image"].flatten().tolist() == [3, 4]
    assert ScaleByMaximumd("image", reference="label")(sample)["image"].flatten().tolist() == pytest.approx([0.15, 0.2])


def test_a_prediction_is_brought_back_to_the_grey_scale_of_its_image() -> None:
    scale = Compose([ScaleByMaximumd("image")])
    sample = scale({"image": _image([[3.0, 0.0], [4.0, 1.0]])})
    sample["pred"] = MetaTensor(torch.tensor([[[1.5, 0.1]]]))  # one channel, of a network that keeps no records
    pred = Invertd("pred", transform=scale, orig_keys="image", nearest_interp=False)(sample)["pred"]
    assert pred.flatten().tolist() == pytest.approx([7.5, 0.5])
