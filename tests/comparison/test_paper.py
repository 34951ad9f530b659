# SPDX-License-Identifier: Apache-2.0
"""Published numbers stand beside a model only where it was trained with their settings."""

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

import monai_kd
from monai_kd.comparison.paper import Paper, PaperRow, match_paper, read_paper
from monai_kd.engines.case_values import Row

MODELS = ("teacher", "student_alone", "distilled_student")


def _published(bundle: str) -> tuple[Paper, dict]:
    root = Path(monai_kd.bundle_root(bundle))
    return read_paper(root / "docs" / "paper_results.json"), json.loads((root / "configs" / "train.json").read_text())


def _matched(bundle: str, **settings) -> dict[str, str]:
    """The published rows that models of these settings stand beside, by model."""
    paper, config = _published(bundle)
    match_paper(paper, {**config, **settings}, [Row(model, model, []) for model in MODELS])
    return {f"{row.table}: {row.name}": model for row in paper.results for model in row.here}


@pytest.mark.parametrize("bundle", monai_kd.bundle_names())
def test_every_row_has_settings_by_ids_that_there_are_and_numbers(bundle):
    paper, config = _published(bundle)
    parser = ConfigParser(config)
    assert paper.results
    for row in paper.results:
        assert row.model in (*MODELS, None) and row.metrics and row.std.keys() <= row.metrics.keys()
        assert bool(row.settings) == (row.model is not None)
        assert all(name in parser for name in row.settings), row


@pytest.mark.parametrize("bundle", monai_kd.bundle_names())
def test_no_two_models_of_one_table_are_told_apart_by_their_names_alone(bundle):
    paper, _ = _published(bundle)
    places = [(row.table, row.model, json.dumps(row.settings, sort_keys=True)) for row in paper.results if row.model]
    assert len(places) == len(set(places))
    assert len({(row.table, row.name) for row in paper.results}) == len(paper.results)


def test_the_kind_of_teacher_the_method_the_organ_and_the_factor_choose_the_row():
    friendly = _matched("mri_reconstruction")
    assert friendly["Table 1: cardiac, 4x: D3C5, SFT-KD by AT"] == "distilled_student"
    assert all(": cardiac, 4x: " in name and "Std-KD" not in name for name in friendly)
    standard = _matched("mri_reconstruction", teacher_kind="standard", method="fitnets", image_size=240)
    students = [name for name, model in standard.items() if model == "distilled_student"]
    assert students == ["Tables 1 and 3: brain, 4x: D3C5, Std-KD by FitNets"]
    faster = _matched("mri_reconstruction", acceleration=5, image_size=240)
    assert faster and all(": brain, 5x: " in name for name in faster)
    assert _matched("mri_reconstruction", initialise="random", image_size=240)[
        "Table 5: brain, 4x: D3C5, SFT-KD by AT, random initialisation"
    ]
    # A method that the paper has for another task: nothing of the student's stands beside it.
    other = _matched("mri_reconstruction", teacher_kind="standard", method="nst")
    assert "distilled_student" not in other.values()


def test_the_size_of_the_network_and_the_resolution_choose_the_row():
    base = {"variant": "vit_base_patch16_224", "low_resolution": 112, "pretrained": True}
    assert _matched("chest_xray_classification", **base) == {
        "Table 1: ViT-base at 224": "teacher",
        "Table 1: ViT-base at 112": "student_alone",
        "Table 2: ViT-base at 112, MLCAK": "distilled_student",
    }
    assert not _matched("chest_xray_classification", **{**base, "low_resolution": 64, "max_epochs": 3})


def test_the_teachers_branches_and_whether_there_is_a_fusion_choose_the_row():
    name, two = "brain_tumor_classification", ["vgg19", "vgg19"]
    paper = {"image_size": 224}  # as by paper.json
    assert _matched(name, **paper, teacher_branches=two, fusion_weight=0) == {
        "Table I: 2x VGG19": "teacher",
        "Table I: EfficientNet (2x VGG19 teacher)": "distilled_student",
    }
    fused = _matched(name, **paper, fusion_weight=0.2)
    assert fused["Table I: EfficientNet (MSGFF)"] and "Table I: EfficientNet (hybrid teacher)" not in fused
    assert not _matched(name, **paper, teacher_branches=["vgg19", "resnet18"])
    assert not _matched(name)  # at the size that ships


def test_the_nearest_model_says_which_settings_differ():
    rows = [Row("distilled_student", "distilled_student", []), Row("other", "distilled_student", [], {"method": "b"})]
    settings = {"method": "b", "n": 2, "m#k": [1, 2]}
    paper = Paper("", "", [PaperRow("x", "I", {"dice": 1}, "distilled_student", settings)])
    match_paper(paper, {"method": "a", "n": 1, "m": {"k": "$(1, 2)"}}, rows)
    assert paper.results[0].here == [] and paper.results[0].differing == ["n"]
    match_paper(paper, {"method": "a", "n": "@m#n", "m": {"k": [1, 2], "n": 2}}, rows)
    assert paper.results[0].here == ["other"] and paper.results[0].differing == []
