# SPDX-License-Identifier: Apache-2.0
"""By hand, and the terms of the bundles."""

import json
from pathlib import Path

import monai_kd
from monai_kd.term_switches import switches_of


def _config(name: str) -> dict:
    return json.loads((Path(monai_kd.bundle_root(name)) / "configs" / "train.json").read_text())


def test_the_weight_that_a_terms_own_follows_from_is_found():
    config = _config("brain_tumor_segmentation")
    assert switches_of(config, ["fusion_d4", "fusion_d1"]) == "fusion_weight=0"
    config = _config("mri_super_resolution")  # terms of one name in several methods
    assert switches_of(config, ["factor_transfer", "attention_transfer"]) == (
        "factor_transfer_weight=0 attention_transfer_weight=0"
    )


def test_a_setting_that_does_not_switch_it_off_is_none():
    config = _config("brain_tumor_segmentation")  # (1 - hard_weight) * temperature ** 2
    assert switches_of(config, ["logits"]) == "weight=0 of logits"
    assert switches_of(None, ["one", "two"]) == "weight=0 of one, two"
    term = {"_target_": "monai_kd.losses.DistillationTerm", "weight": "$1 / @a_weight"}
    assert switches_of({"a_weight": 1, "terms": {"one": term}}, ["one"]) == "weight=0 of one"
