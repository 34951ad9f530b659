# SPDX-License-Identifier: Apache-2.0
"""Ids that decide nothing: each is one that a bundle has, and who asks the same question leaves out the same."""

import json
from pathlib import Path

from monai_kd import bundle_names, bundle_root, id_roles
from monai_kd.engines import fingerprints, nested_run, provenance, reproduction


def test_every_id_is_one_of_a_bundles_and_has_one_role():
    files = [file for name in bundle_names() for file in Path(bundle_root(name), "configs").glob("*.json")]
    known = {key for file in files for key in json.loads(file.read_text())} | id_roles.NOTES
    nested = {"part"}  # of batch_inference
    roles = [value for value in vars(id_roles).values() if isinstance(value, frozenset)]
    assert set().union(*roles) <= known | nested
    assert sum(map(len, roles)) == len(set().union(*roles))


def test_what_decides_nothing_in_a_training_decides_nothing_in_a_comparison_of_trainings():
    of_a_stage = {"run", "training", "imports", "initialize", "finalize"}  # what is done is the comparison itself
    own_data = {"teacher_checkpoint", "demo_cases"}  # of a stage it is compared by its content
    assert provenance._NO_INFLUENCE - nested_run._NO_INFLUENCE == of_a_stage | own_data
    assert nested_run._NO_INFLUENCE <= provenance._NO_INFLUENCE
    common = id_roles.PLACES | id_roles.MACHINE | id_roles.CALL
    assert common <= fingerprints._NO_INFLUENCE
    assert common - reproduction._NO_SETTINGS == {"num_workers"}  # other random changes are drawn by it


def test_hashes_of_earlier_checkpoints_are_of_the_same_settings():
    of_earlier = {"bundle_root", "ckpt_dir", "dataset_dir", "device", "num_workers", "cache_rate", "resume", "_meta_"}
    of_earlier |= {"imports", "initialize", "run", "training", "finalize", "teacher_checkpoint", "trained_on"}
    assert provenance._NO_INFLUENCE == of_earlier | {"teacher_cache", "teacher_cache_gb", "demo_cases"}
    assert provenance.made_by({"rate": 0.1, "device": "cpu"})["settings"] == "ff5c20efcc60c1a6dba22c5eca3b3421"
