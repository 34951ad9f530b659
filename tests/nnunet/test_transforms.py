# SPDX-License-Identifier: Apache-2.0
"""From files to logits and back, against nnU-Net's predictor as a whole."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_kd.nnunet import NnunetInferer, NnunetNetwork, NnunetPlans
from monai_kd.nnunet.plans import label_names
from monai_kd.nnunet.transforms import ClassMasks, NnunetPreprocess, NnunetPreprocessd, NnunetSegmentationd

pytestmark = pytest.mark.nnunet


def _network(prepared) -> NnunetNetwork:
    torch.manual_seed(0)
    network = NnunetNetwork(prepared.plans, prepared.description, reduction=4).eval()
    with torch.no_grad():
        network.decoder.seg_layers[-1].weight.mul_(300)  # or one class won everywhere
    return network


@pytest.mark.parametrize("mirroring", [False, True])
def test_preprocessing_window_and_way_back_give_what_nnunets_predictor_gives(prepared, mirroring):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    network, plans, description = _network(prepared), prepared.plans, prepared.description
    file = prepared.raw / "imagesTs" / "SIM0005_0000.nii.gz"
    sample = NnunetPreprocessd("image", plans, description)({"image": str(file)})
    inferer = NnunetInferer(plans, description, mirroring)
    with torch.no_grad():
        sample["pred"] = inferer(sample["image"][None], network)[0]
    found = NnunetSegmentationd("pred", plans, description, probability_key="prob")(sample)

    known = NnunetPlans(plans, description)
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=mirroring, allow_tqdm=False)
    parameters = [network.state_dict()]
    arguments = (known.manager, known.configuration, parameters, known.description, "nnUNetTrainer", (0, 1, 2))
    predictor.manual_initialization(network, *arguments)
    files = [str(file), str(file).replace("_0000", "_0001")]
    image, properties = known.manager.image_reader_writer_class().read_images(files)
    wanted, probabilities = predictor.predict_single_npy_array(
        image, properties, save_or_return_probabilities=True
    )
    assert len(np.unique(wanted)) > 1
    np.testing.assert_array_equal(found["pred"][0].numpy(), wanted.transpose(2, 1, 0))
    np.testing.assert_allclose(found["prob"].numpy(), probabilities.transpose(0, 3, 2, 1), atol=1e-5)
    assert found["pred"].shape == (1, *nib.load(file).shape)
    np.testing.assert_array_equal(found["pred"].affine, nib.load(file).affine)


def test_probabilities_of_regions_go_by_the_numbers_that_the_file_has_for_them(prepared, monkeypatch):
    """`label_names` names them so; the channels come in another order where one is drawn before a larger one."""
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": 2}
    description = {**prepared.description, "labels": labels, "regions_class_order": [1, 3, 2]}
    step = NnunetSegmentationd("pred", prepared.plans, description, probability_key="prob")
    by_channel = np.stack([np.full((12, 32, 32), value, np.float32) for value in (0.9, 0.6, 0.2)])  # as labels has them
    monkeypatch.setattr(step, "_on_file", lambda *args: (np.ones((12, 32, 32), np.uint8), by_channel))
    file = prepared.raw / "imagesTs" / "SIM0005_0000.nii.gz"
    image = NnunetPreprocessd("image", prepared.plans, prepared.description)({"image": str(file)})["image"]
    found = step({"image": image, "pred": torch.zeros(3, 12, 32, 32)})["prob"]
    named = dict(zip(label_names(description), found[:, 0, 0, 0].tolist()))
    assert named == pytest.approx({"kidney": 0.9, "masses": 0.6, "tumour": 0.2})


def test_channels_that_do_not_fit_and_files_that_are_too_large_are_refused(prepared, tmp_path):
    for channel, shape in ((0, (16, 16, 8)), (1, (16, 16, 9))):
        nib.save(nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), tmp_path / f"anna_000{channel}.nii.gz")
    read = NnunetPreprocess(prepared.plans, prepared.description)
    with pytest.raises(ValueError, match="anna_0000.nii.gz: its channels differ in shape or voxel size"):
        read(tmp_path / "anna_0000.nii.gz")
    with pytest.raises(ValueError, match="has 16 x 16 x 8 = 2,048 voxels, at most 1,000"):
        NnunetPreprocess(prepared.plans, prepared.description, max_voxels=1000)(tmp_path / "anna_0000.nii.gz")
    with pytest.raises(ValueError, match="the plans read images by NaturalImage2DIO"):
        NnunetPreprocess({**prepared.plans, "image_reader_writer": "NaturalImage2DIO"}, prepared.description)("x")


def _write_case(folder: Path, voxels: np.ndarray, unit: str = "mm", scale: float = 1, keep: float = 1) -> Path:
    image = nib.Nifti1Image(voxels, np.diag([1.6 * scale, 1.6 * scale, 4.8 * scale, 1]))
    image.header.set_xyzt_units(unit)
    for channel in (1, 0):
        path = folder / f"anna_000{channel}.nii.gz"
        nib.save(image, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])
    return path


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO"])
def test_what_nnunets_readers_would_change_in_silence_is_refused(prepared, tmp_path, reader):
    read = NnunetPreprocess({**prepared.plans, "image_reader_writer": reader}, prepared.description)
    voxels = np.random.default_rng(0).integers(1, 400, (32, 30, 12)).astype(np.int16)
    wanted = read(_write_case(tmp_path, voxels))
    assert wanted.shape == (2, 12, 30, 32)
    for keep in (0.0, 0.3, 0.7):
        with pytest.raises(ValueError, match="anna_0000.nii.gz: .*(empty|cannot be read as .nii.gz)"):
            read(_write_case(tmp_path, voxels, keep=keep))
    with pytest.raises(ValueError, match="anna_0000.nii.gz: holds complex numbers, expected grey values"):
        read(_write_case(tmp_path, (voxels * 1j).astype(np.complex64)))
    for scale in (1e-3, 1e3):  # which another unit would explain
        with pytest.raises(ValueError, match="anna_0000.nii.gz: is .* mm large by its header, which makes "):
            read(_write_case(tmp_path, voxels, scale=scale))
    if reader == "SimpleITKIO":
        for unit, scale in (("meter", 1e-3), ("micron", 1e3)):
            torch.testing.assert_close(read(_write_case(tmp_path, voxels, unit, scale)), wanted)
        torch.testing.assert_close(read(_write_case(tmp_path, voxels[..., None])), wanted)
    else:
        with pytest.raises(ValueError, match="anna_0000.nii.gz: only 3d images are supported"):
            read(_write_case(tmp_path, voxels[..., None]))


def test_masks_are_of_classes_or_of_regions():
    numbers = torch.tensor([[[0, 1], [2, 3]]])
    classes = ClassMasks({"labels": {"background": 0, "b": 2, "a": 1}})(numbers)
    assert classes.tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]
    regions = ClassMasks({"labels": {"background": 0, "all": [1, 2, 3], "core": [3]}})(numbers)
    assert regions.tolist() == [[[0, 1], [1, 1]], [[0, 0], [0, 1]]]
    with pytest.raises(ValueError, match="step_size must be above 0"):
        NnunetInferer({}, {}, step_size=0)
