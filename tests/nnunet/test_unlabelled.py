# SPDX-License-Identifier: Apache-2.0
"""Cases without labels among nnU-Net's samples."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_kd.cli import main
from monai_kd.data import KidneyGenerator
from monai_kd.nnunet import NnunetMixedSamples, NnunetSamples, NnunetSoftLabels, nnunet_epoch, unlabelled_samples

from .conftest import SHAPE, Prepared
from .test_bundle import NAME, TINY

pytestmark = pytest.mark.nnunet


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Images of two people, without labels."""
    raw = KidneyGenerator(SHAPE, spacing=(1.6, 1.6, 4.8))(tmp_path_factory.mktemp("others") / "set", cases=6, seed=7)
    folder = raw.parent / "images"
    folder.mkdir()
    for number in (1, 2):
        for channel in (0, 1):
            image = raw / "imagesTr" / f"SIM000{number}_000{channel}.nii.gz"
            shutil.copy(image, folder / f"other{number}_000{channel}.nii.gz")
    return folder


def _labelled(prepared: Prepared, description: dict | None = None, **settings) -> NnunetSamples:
    cases = [{"case": f"SIM000{number}"} for number in (1, 2, 3)]
    return NnunetSamples(cases, prepared.samples, prepared.plans, description or prepared.description, **settings)


def _unlabelled(others: Path, like: NnunetSamples, kept_in: Path) -> NnunetSamples:
    items = [
        {
            "image": str(others / f"other{number}_0000.nii.gz"),
            "files": [str(others / f"other{number}_000{channel}.nii.gz") for channel in (0, 1)],
            "case": f"other{number}",
            "patient": f"person {number}",
        }
        for number in (1, 2)
    ]
    samples = unlabelled_samples(items, like, kept_in)
    assert samples is not None
    return samples


@pytest.mark.parametrize(
    "batch_size, share, wanted", [(2, 0.5, "ULULULUL"), (4, 0.25, "ULLLULLL"), (2, 0.25, "ULLLULLL")]
)
def test_they_come_first_in_a_batch_and_in_the_wanted_share(prepared, others, tmp_path, batch_size, share, wanted):
    labelled = _labelled(prepared, batch_size=batch_size, batches=8 // batch_size, views=1)
    mixed = nnunet_epoch(labelled, _unlabelled(others, labelled, tmp_path), share)
    samples = [mixed[place] for place in range(len(mixed))]
    assert len(mixed) == len(labelled) == 8 and mixed.data is labelled.data
    assert "".join("UL"[sample["labelled"]] for sample in samples) == wanted
    for place, sample in enumerate(samples):
        assert sample["labelled"] == sample["case"].startswith("SIM")
        if sample["labelled"]:  # what it is without the others
            assert torch.equal(sample["image"], labelled[place]["image"])
        else:
            assert sample["patient"] == f"person {sample['case'][-1]}"
            assert sample["image"].shape == labelled[place]["image"].shape and sample["image"].std() > 0.1
            assert [own.shape for own in sample["label"]] == [own.shape for own in labelled[place]["label"]]


def test_they_are_preprocessed_as_cases_with_labels_are_and_once(prepared, others, tmp_path):
    for channel in (0, 1):
        image = prepared.raw / "imagesTr" / f"SIM0001_000{channel}.nii.gz"
        shutil.copy(image, tmp_path / f"same_000{channel}.nii.gz")
    files = [str(tmp_path / f"same_000{channel}.nii.gz") for channel in (0, 1)]
    item = {"image": files[0], "files": files, "case": "same", "patient": "same"}
    labelled = _labelled(prepared, augmentation=False)
    for _ in range(2):
        samples = unlabelled_samples([item], labelled, tmp_path / "kept")
        assert samples is not None
        samples[0]
        (kept,) = (tmp_path / "kept").glob("*.pkl")
    (name,) = samples._items
    labelled[0]
    own, known = samples._loader._data.load_case(name), labelled._loader._data.load_case("SIM0001")
    assert np.array_equal(own[0][:], known[0][:])
    before = os.stat(kept).st_mtime_ns
    os.utime(files[1])
    assert unlabelled_samples([item], labelled, tmp_path / "kept") and os.stat(kept).st_mtime_ns == before
    assert len(list((tmp_path / "kept").glob("*.pkl"))) == 2  # the file has changed


def test_beside_a_label_to_ignore_they_are_looked_at_anywhere(prepared, others, tmp_path):
    ignoring = {**prepared.description, "labels": {**prepared.description["labels"], "ignore": 4}}
    labelled = _labelled(prepared, ignoring, batch_size=2, batches=2)
    samples = _unlabelled(others, labelled, tmp_path)
    assert all(samples[place]["image"].std() > 0.1 for place in range(4))


def test_they_have_soft_labels_from_files_as_cases_with_labels_do(prepared, others, tmp_path):
    teaching = np.zeros((4, *SHAPE[::-1]), np.float32)
    teaching[1] = 1
    for number in (1, 2):
        np.savez(tmp_path / f"other{number}.npz", probabilities=teaching)
    where = (prepared.plans, prepared.description, tmp_path / "kept")
    labelled = _labelled(prepared, soft_labels=NnunetSoftLabels("softmax", tmp_path, *where), augmentation=False)
    sample = _unlabelled(others, labelled, tmp_path / "images")[0]
    assert sample["teacher"].shape == (4, *sample["image"].shape[1:])
    assert sample["teacher"][1].mean() > 0.8 and not sample["teacher"][[0, 2, 3]].any()  # 0 beyond the image


def test_a_share_that_leaves_no_labels_is_refused(prepared, others, tmp_path):
    labelled = _labelled(prepared)
    samples = _unlabelled(others, labelled, tmp_path)
    with pytest.raises(ValueError, match="unlabelled_share must be .* below 1"):
        NnunetMixedSamples(labelled, samples, 1)
    assert nnunet_epoch(labelled, None) is labelled and nnunet_epoch(labelled, samples, 0) is labelled
    assert unlabelled_samples([], labelled, tmp_path) is None


def test_a_distillation_learns_from_them_and_the_student_alone_does_not(prepared, others, tmp_path):
    words = ["train", NAME, "--dataset_dir", str(prepared.raw), "--run", str(tmp_path / "run"), *TINY]
    words += ["--stages", "teacher,student_alone,distill", f"preprocessed_dir={prepared.preprocessed}"]
    assert main([*words, f"unlabelled_dir={others}", "max_epochs=1", "teacher_epochs=1"]) == 0
    taught = {
        name: set(json.loads((tmp_path / "run" / f"{name}.json").read_text())["trained_on"]["patients"])
        for name in ("teacher", "student_alone", "model")
    }
    assert taught["teacher"] == taught["student_alone"]
    assert taught["model"] == taught["teacher"] | {"other1", "other2"}
    assert len(list((tmp_path / "run" / "unlabelled").glob("*.pkl"))) == 2
