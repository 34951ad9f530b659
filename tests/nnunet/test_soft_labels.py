# SPDX-License-Identifier: Apache-2.0
"""Soft labels from files on nnU-Net's grid, and moved with its samples."""

from __future__ import annotations

import copy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_kd.nnunet import NnunetSamples, NnunetSoftLabels, nnunet_soft_labels
from monai_kd.nnunet.cases import case_items

from .conftest import PATCH, Prepared

pytestmark = pytest.mark.nnunet

CLASSES = ("kidney", "tumor", "cyst")


def _truth(prepared: Prepared, case: str) -> nib.Nifti1Image:
    return nib.load(prepared.raw / "labelsTr" / f"{case}.nii.gz")


def _one_hot(prepared: Prepared, case: str) -> np.ndarray:
    """What a teacher that knew the truth would say: (4, x, y, z)."""
    numbers = np.asarray(_truth(prepared, case).dataobj)
    return np.stack([numbers == number for number in range(4)]).astype(np.float32)


@pytest.fixture
def soft(prepared, tmp_path) -> Path:
    folder = tmp_path / "soft"
    folder.mkdir()
    for item in case_items(prepared.raw, "Tr"):
        values = _one_hot(prepared, item["case"]).transpose(0, 3, 2, 1)  # as nnU-Net saves it
        np.savez(folder / f"{item['case']}.npz", probabilities=values)
    return folder


def _labels(prepared: Prepared, soft: Path | None, activation: str = "softmax") -> NnunetSoftLabels:
    assert soft is not None
    return NnunetSoftLabels(activation, soft, prepared.plans, prepared.description, soft / "kept")


def _samples(prepared: Prepared, soft: NnunetSoftLabels | None, **settings) -> NnunetSamples:
    items = case_items(prepared.raw, "Tr")
    arguments = {"plans": prepared.plans, "description": prepared.description, "batches": 4, "soft_labels": soft}
    return NnunetSamples(items, prepared.samples, **{**arguments, **settings})


@pytest.mark.parametrize("augmentation", [True, False])
def test_it_goes_where_image_and_label_go_and_changes_neither(prepared, soft, augmentation):
    plain = _samples(prepared, None, augmentation=augmentation)
    along = _samples(prepared, _labels(prepared, soft), augmentation=augmentation)
    agreeing, wrong = [], []
    for place in range(len(along)):
        sample, bare = along[place], plain[place]
        assert torch.equal(sample["image"], bare["image"]) and "teacher" not in bare
        assert all(torch.equal(own, other) for own, other in zip(sample["label"], bare["label"]))
        values = sample["teacher"]
        assert values.shape == (4, *PATCH) and 0 <= values.min() and values.max() <= 1.001
        label = sample["label"][0][0]
        inside = label > 0
        agreeing.append((values.argmax(0)[inside] == label[inside]).float().mean())
        wrong.append((values.argmax(0)[inside] == label.flip(1)[inside]).float().mean())
    agreement, turned = (float(torch.stack(each).nanmean()) for each in (agreeing, wrong))
    assert agreement > 0.9 > 0.7 > turned


def test_slices_of_a_flat_configuration_get_theirs(prepared, soft):
    plans = copy.deepcopy(prepared.plans)
    flat = plans["configurations"].pop("3d_fullres")
    flat.update(patch_size=PATCH[1:], spacing=flat["spacing"][1:])
    network = flat["architecture"]["arch_kwargs"]
    network.update(conv_op="torch.nn.modules.conv.Conv2d", norm_op="torch.nn.modules.instancenorm.InstanceNorm2d")
    network.update(kernel_sizes=[[3, 3]] * 3, strides=[[1, 1], [2, 2], [2, 2]])
    plans["configurations"]["2d"] = flat
    labels = NnunetSoftLabels("softmax", soft, plans, prepared.description, soft / "kept")
    samples = _samples(prepared, labels, plans=plans)
    agreeing = []
    for place in range(1, len(samples), 2):  # which show a class
        sample = samples[place]
        label = sample["label"][0][0]
        assert sample["teacher"].shape == (4, *PATCH[1:]) and label.shape == tuple(PATCH[1:])
        agreeing.append((sample["teacher"].argmax(0)[label > 0] == label[label > 0]).float().mean())
    assert float(torch.stack(agreeing).nanmean()) > 0.9


def test_files_by_class_say_the_same_and_a_file_that_changes_is_read_anew(prepared, soft, tmp_path):
    item = case_items(prepared.raw, "Tr")[0]
    case, other = item["case"], tmp_path / "by_class"
    other.mkdir()
    affine = _truth(prepared, case).affine
    for name, values in zip(CLASSES, _one_hot(prepared, case)[1:]):
        nib.save(nib.Nifti1Image(values, affine), other / f"{case}_prob_{name}.nii.gz")
    first = _samples(prepared, _labels(prepared, soft))._make_loader()._data
    data, *_, properties = first.load_case(case)
    shape = tuple(data.shape[1:])
    wanted = _labels(prepared, soft).of(item, properties, shape)
    assert wanted.shape == (4, *shape) and np.allclose(wanted.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(_labels(prepared, other).of(item, properties, shape), wanted, atol=1e-6)
    blank = np.zeros(_truth(prepared, case).shape, np.float32)
    nib.save(nib.Nifti1Image(blank, affine), other / f"{case}_prob_kidney.nii.gz")
    assert _labels(prepared, other).of(item, properties, shape)[1].max() == 0


def test_classes_with_blanks_in_their_names_are_found_as_infer_writes_them(prepared, tmp_path):
    item = case_items(prepared.raw, "Tr")[0]
    description = {**prepared.description, "labels": {"background": 0, "left kidney": 1, "tumor": 2, "cyst": 3}}
    files = [tmp_path / f"{item['case']}_prob_{name}.nii.gz" for name in ("left_kidney", "tumor", "cyst")]
    for file in files:
        file.touch()
    found = NnunetSoftLabels("softmax", tmp_path, prepared.plans, description, tmp_path / "kept").files(item)
    assert found == [str(file) for file in files]


def test_what_does_not_fit_is_named(prepared, soft):
    case = case_items(prepared.raw, "Tr")[0]["case"]
    values = _one_hot(prepared, case).transpose(0, 3, 2, 1)
    for changed, words in (
        (values[:, :-1], "lies on another grid, .*bring it onto the case's own grid"),
        (values[1:], "must sum to 1"),
        (values * np.nan, "NaN"),
    ):
        np.savez(soft / f"{case}.npz", probabilities=changed)
        with pytest.raises(ValueError, match=f"{case}.npz: .*{words}"):
            for place in range(8):
                _samples(prepared, _labels(prepared, soft), seed=place)[0]
    (soft / f"{case}.npz").unlink()
    with pytest.raises(FileNotFoundError, match=f"{case}.nii.gz: has no soft label in teacher_dir="):
        for place in range(8):
            _samples(prepared, _labels(prepared, soft), seed=place)[0]
    with pytest.raises(ValueError, match="unknown teacher_activation 'softmx'; did you mean 'softmax'"):
        _labels(prepared, soft, "softmx")
    assert nnunet_soft_labels(None) is None
