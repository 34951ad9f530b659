# SPDX-License-Identifier: Apache-2.0
"""Samples as nnU-Net's loader makes them, and as a seed repeats them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from monai_kd.nnunet import NnunetSamples

from .conftest import PATCH

pytestmark = pytest.mark.nnunet


def _samples(prepared, **settings) -> NnunetSamples:
    cases = [{"case": f"SIM000{number}"} for number in (1, 2, 3)]
    arguments = {"plans": prepared.plans, "description": prepared.description, "batches": 4, **settings}
    return NnunetSamples(cases, prepared.samples, **arguments)


def test_a_sample_follows_from_seed_place_and_epoch_and_disturbs_no_other_random_state(prepared):
    samples = _samples(prepared)
    torch.manual_seed(5)
    np.random.seed(5)
    wanted = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    first = samples[3]
    assert torch.equal(torch.rand(1), wanted[0]) and np.random.rand() == wanted[1]
    assert len(samples) == 8 and first["image"].shape == (2, *PATCH) and first["image"].dtype == torch.float32
    assert [label.shape for label in first["label"]] == [(1, *PATCH), (1, 8, 16, 16)]
    again = pickle.loads(pickle.dumps(samples))  # as a worker gets it
    again[0]
    assert torch.equal(again[3]["image"], first["image"]) and again[3]["case"] == first["case"]
    assert not torch.equal(_samples(prepared, seed=1)[3]["image"], first["image"])
    again.set_epoch(1)
    assert not torch.equal(again[3]["image"], first["image"])
    views = _samples(prepared, views=2)
    views.set_epoch(2)
    assert torch.equal(views[3]["image"], first["image"])


def test_the_last_third_of_a_batch_shows_a_class(prepared):
    samples = _samples(prepared, batches=6, augmentation=False)
    for index in range(1, len(samples), 2):
        assert (samples[index]["label"][0] > 0).any()
    assert {int(value) for index in range(6) for value in samples[index]["label"][0].unique()} <= {0, 1, 2, 3}


def test_a_case_that_was_not_preprocessed_is_named(prepared):
    samples = NnunetSamples([{"case": "anna"}], prepared.samples, prepared.plans, prepared.description)
    with pytest.raises(FileNotFoundError, match="no preprocessed anna: .*nnUNetv2_preprocess -c 3d_fullres"):
        samples[0]
    with pytest.raises(ValueError, match="views must be a whole number from 1, got 0"):
        _samples(prepared, views=0)
    assert len(NnunetSamples([], prepared.samples, prepared.plans, prepared.description)) == 0
