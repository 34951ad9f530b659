# SPDX-License-Identifier: Apache-2.0
"""Plans as plain settings, and what they are refused for."""

from __future__ import annotations

import copy
import json

import pytest

from monai_kd.nnunet.network import head_layers, head_weights, hint_projectors, stage_features, stage_layers
from monai_kd.nnunet.plans import class_names, label_names, plain_plans, read_description, read_plans, student_plans

from .conftest import small_plans

needs_nnunet = pytest.mark.nnunet


def test_a_student_has_a_share_of_the_channels_and_a_name_of_its_own(plans):
    student = student_plans(plans, reduction=4, convolutions=1)
    arguments = student["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert arguments["features_per_stage"] == [2, 4, 8] and arguments["n_conv_per_stage"] == [1, 1, 1]
    assert arguments["n_conv_per_stage_decoder"] == [1, 1] and student["plans_name"] == "nnUNetPlans_r4_c1"
    assert student_plans(plans, reduction=1) == plans  # and the teacher's are as they were
    assert stage_features(plans) == [8, 16, 32] and stage_features(plans, 16) == [1, 1, 2]
    with pytest.raises(ValueError, match="reduction must be a whole number from 1, got 0"):
        student_plans(plans, reduction=0)


def test_layers_of_heads_and_stages_come_from_the_finest_to_the_coarsest(plans):
    assert head_layers(plans) == ["decoder.seg_layers.1", "decoder.seg_layers.0"]
    assert stage_layers(plans) == ["encoder.stages.0", "encoder.stages.1", "encoder.stages.2"]
    assert head_weights(plans) == [1, 0]
    assert head_weights(small_plans((2, 2, 2, 2))) == pytest.approx([2 / 3, 1 / 3, 0])
    shapes = [tuple(projector.weight.shape) for projector in hint_projectors(plans, reduction=4, teacher_reduction=2)]
    assert shapes == [(4, 2, 1, 1, 1), (8, 4, 1, 1, 1), (16, 8, 1, 1, 1)]


def test_names_of_classes_and_of_the_numbers_that_regions_write():
    labels = {"background": 0, "masses": [2, 3], "kidney": [1, 2, 3], "cyst": [3], "ignore": 4}
    regions = {"labels": labels, "regions_class_order": [2, 1, 3]}
    assert class_names(regions) == ["masses", "kidney", "cyst"]
    assert label_names(regions) == ["kidney", "masses", "cyst"]


@needs_nnunet
def test_one_configuration_is_taken_without_what_it_inherits(plans):
    pytest.importorskip("nnunetv2")
    several = copy.deepcopy(plans)
    several["configurations"]["mine"] = {"inherits_from": "3d_fullres", "batch_size": 5}
    taken = plain_plans(several, "mine")
    assert list(taken["configurations"]) == ["mine"]
    assert taken["configurations"]["mine"] == {**plans["configurations"]["3d_fullres"], "batch_size": 5}


def _of(plans, **changes) -> dict:
    plans = copy.deepcopy(plans)
    plans["configurations"]["3d_fullres"].update(changes)
    return plans


@needs_nnunet
@pytest.mark.parametrize(
    "change, words",
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade, which .* not supported"),
        ({"architecture": {"network_class_name": "new.Net", "arch_kwargs": {}}}, "of a newer nnU-Net; update nnunetv2"),
    ],
)
def test_a_cascade_and_newer_plans_are_refused_by_name(plans, change, words):
    pytest.importorskip("nnunetv2")
    with pytest.raises(ValueError, match=f"p.json: .*{words}"):
        plain_plans(_of(plans, **change), "3d_fullres", "p.json")


@needs_nnunet
@pytest.mark.parametrize("place", ["network_class_name", "conv_op"])
@pytest.mark.parametrize(
    "name", ["evil.PlainConvUNet", "torch.nn.functional.torch.os.PlainConvUNet", "torch.nn.Conv3d.torch.PlainConvUNet"]
)
def test_code_of_anybody_else_is_not_run(plans, place, name, description):
    pytest.importorskip("nnunetv2")
    from monai_kd.nnunet import NnunetNetwork

    architecture = copy.deepcopy(plans["configurations"]["3d_fullres"]["architecture"])
    (architecture if place in architecture else architecture["arch_kwargs"])[place] = name
    harmful = _of(plans, architecture=architecture)
    for build in (lambda: plain_plans(harmful, "3d_fullres"), lambda: NnunetNetwork(harmful, description)):
        with pytest.raises(ValueError, match=f"names '{name}', which is neither PyTorch's nor nnU-Net's"):
            build()


def test_files_that_are_no_plans_or_no_description_say_so(tmp_path):
    for content, words in (("{", "damaged"), ("[]", "must hold settings"), ('{"plans_per_stage": {}}', "those of v1")):
        (tmp_path / "plans.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            read_plans(tmp_path / "plans.json", "2d")
    with pytest.raises(FileNotFoundError, match="none.json, which nnU-Net writes"):
        read_plans(tmp_path / "none.json", "2d")
    (tmp_path / "plans.json").write_text(json.dumps({"configurations": {"2d": {}, "3d_lowres": {}}}))
    with pytest.raises(ValueError, match="no configuration '3d_fullres'; there are: 2d, 3d_lowres"):
        read_plans(tmp_path / "plans.json", "3d_fullres")
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "MR"}, "labels": {"0": "background"}}))
    with pytest.raises(ValueError, match="nnUNetv2_convert_MSD_dataset"):
        read_description(tmp_path / "dataset.json")
