# SPDX-License-Identifier: Apache-2.0
"""What stands in the sample of a request of MONAI Label's server."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from monai_kd.transforms import LabelServerMaskd, ServedSpacingd

REQUEST = {"image_path": "/studies/a.nii.gz", "model": "brain_extraction"}


def _sample() -> dict:
    image = MetaTensor(torch.rand(1, 6, 5, 4), affine=np.diag([2.0, 2, 2, 1]), meta={"filename_or_obj": "a.nii.gz"})
    return {"image": image}


def test_resampling_leaves_the_words_of_a_request_alone():
    wanted = Spacingd("image", pixdim=(1, 2, 2))(_sample())["image"]
    with pytest.raises(AttributeError):  # or MONAI's own would do
        Spacingd("image", pixdim=(1, 2, 2))({**_sample(), **REQUEST})
    resample = ServedSpacingd("image", pixdim=(1, 2, 2))
    torch.manual_seed(0)
    before = _sample()
    after = resample({**before, **REQUEST})
    assert {key: after[key] for key in REQUEST} == REQUEST and after["image"].shape == wanted.shape
    assert torch.equal(after["image"], Spacingd("image", pixdim=(1, 2, 2))(before)["image"])
    assert resample.inverse(after)["image"].shape == (1, 6, 5, 4)


@pytest.mark.parametrize("shape", [(1, 5, 4), (1, 5, 4, 3)])
def test_a_mask_of_a_request_is_what_the_server_can_write(shape):
    mask = MetaTensor((torch.rand(shape) > 0.5).float())
    served = LabelServerMaskd("pred")({"pred": mask, **REQUEST})["pred"]
    assert served.dtype == torch.uint8 and torch.equal(served.float(), mask[0])
    assert LabelServerMaskd("pred")({"pred": mask})["pred"] is mask


@pytest.mark.parametrize(
    "path, asked, extension",
    [("a.jpg", None, ".png"), ("a.JPEG", "", ".png"), ("a.jpg", ".nrrd", ".nrrd"), ("a.png", None, None)],
)
def test_a_mask_is_not_written_as_jpeg(path, asked, extension):
    request = {"pred": torch.ones(1, 2, 3), "image_path": path}
    request |= {} if asked is None else {"result_extension": asked}
    assert LabelServerMaskd("pred")(request).get("result_extension") == extension


def test_masks_that_may_overlap_are_refused():
    with pytest.raises(ValueError, match="one label for each voxel, got 2 masks"):
        LabelServerMaskd("pred")({"pred": torch.ones(2, 2, 3), "image_path": "a.png"})
