# SPDX-License-Identifier: Apache-2.0
import torch
from monai.data import MetaTensor

from monai_kd.engines import plain_batch


def test_metatensors_become_plain_tensors_with_the_same_values():
    batch = {"image": MetaTensor(torch.ones(2, 1, 3)), "label": MetaTensor(torch.zeros(2, 1, 3)), "name": ["a", "b"]}
    image, label = plain_batch(batch, "cpu")
    assert type(image) is torch.Tensor and type(label) is torch.Tensor
    assert torch.equal(image, torch.ones(2, 1, 3)) and torch.equal(label, torch.zeros(2, 1, 3))


def test_plain_tensors_are_moved_and_cast():
    image, label = plain_batch({"image": torch.ones(2), "label": torch.ones(2)}, "meta", dtype=torch.float64)
    assert (image.device.type, image.dtype) == (label.device.type, label.dtype) == ("meta", torch.float64)


def test_other_keys_can_be_image_and_label():
    batch = {"image_hr": torch.ones(2), "brain": torch.zeros(2)}
    image, label = plain_batch(batch, image_key="image_hr", label_key="brain")
    assert torch.equal(image, torch.ones(2)) and torch.equal(label, torch.zeros(2))
