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


def _matched(bundle: str, *files: str, **settings) -> dict[str, str]:
    """The published rows that models of these settings stand beside, by model."""
    paper, config = _published(bundle)
    parser = ConfigParser(config)
    for file in files:
        parser.update(json.loads((Path(monai_kd.bundle_root(bundle)) / "configs" / file).read_text()))
    parser.update(settings)
    match_paper(paper, parser.config, [Row(model, model, []) for model in MODELS])
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
    name, base = "chest_xray_classification", {"variant": "vit_base_patch16_224", "pretrained": True}
    assert _matched(name, "paper.json", **base, low_resolution=112) == {
        "Table 1: ViT-base at 224": "teacher",
        "Table 1: ViT-base at 112": "student_alone",
        "Table 2: ViT-base at 112, MLCAK": "distilled_student",
    }
    assert not _matched(name, "paper.json", **base, low_resolution=64, max_epochs=3)
    assert not _matched(name, **base, low_resolution=112, image_size=224)  # other findings, in patches of 24 pixels


def test_what_is_put_in_the_networks_place_chooses_the_row():
    name = "vessel_segmentation"
    assert _matched(name, "paper.json") == {
        "Table 1: Multi-scale vision transformer (H-net)": "teacher",
        "Table 2: L-net without knowledge transfer, low resolution": "student_alone",
        "Table 2: L-net from full KT-ViT, low resolution": "distilled_student",
    }
    assert _matched(name, "paper.json", architecture="vc_net") == {
        "Table 1: VC-Net": "teacher",
        "Table 2: VC-Net, low resolution": "student_alone",
    }
    for architecture, row in {"unet_2d": "2D U-Net", "deep_vessel_net": "DeepVesselNet"}.items():
        assert _matched(name, "paper.json", architecture=architecture) == {f"Table 1: {row}": "teacher"}
    transformer = {"architecture": "trans_unet", "hidden_size": 768, "depth": 12, "num_heads": 12}
    assert _matched(name, "paper.json", **transformer) == {"Table 1: 3D TransUNet": "teacher"}
    assert not _matched(name, "paper.json", **transformer, spatial_dims=2)
    assert _matched(name, "paper.json", convolutional_embedding=False) == {
        "Table 3: H-net without convolutional embedding": "teacher"
    }


ATTENTION = "monai_kd.losses.AttentionTransferLoss"


@pytest.mark.parametrize(
    "bundle, settings",
    [
        ("vessel_segmentation", {"soft_target_weight": 0}),
        ("vessel_segmentation", {"distillation#terms#decoder_1#weight": 0}),  # as --terms leaves it out
        ("vessel_segmentation", {"distillation#terms#decoder_1#loss#_target_": ATTENTION}),
        ("vessel_segmentation", {"unlabelled_dir": "more"}),
        ("chest_xray_classification", {"pretrained": True, "findings_term#weight": 0}),
        ("chest_xray_classification", {"pretrained": True, "block_weight": 0}),
        ("brain_tumor_segmentation", {"fusion_weight": 0}),
        ("brain_tumor_segmentation", {"fusion_losses#decoder#_target_": ATTENTION}),
        ("brain_tumor_segmentation", {"loss#_target_": "monai.losses.DiceLoss"}),
        ("brain_tumor_classification", {"distillation#terms#soft_target#weight": 0}),
        ("brain_tumor_classification", {"class_weights": [1, 2, 3]}),
        ("brain_tumor_classification", {"teacher_def#_target_": "monai_kd.networks.create_timm_model"}),
    ],
)
def test_a_student_by_other_terms_or_images_is_not_the_papers(bundle, settings):
    theirs = {"pretrained": True} if bundle == "chest_xray_classification" else {}
    assert "distilled_student" in _matched(bundle, "paper.json", **theirs).values()
    assert "distilled_student" not in _matched(bundle, "paper.json", **settings).values()


def test_a_loss_of_squares_is_that_of_table_4():
    squared = _matched("mri_reconstruction", image_size=240, **{"loss#_target_": "torch.nn.MSELoss"})
    assert squared["Table 4: brain, 4x: D3C5, SFT-KD by AT"] == "distilled_student"
    assert all(name.startswith("Table 4: ") for name in squared)


def test_factor_transfer_is_that_with_a_paraphraser():
    rows = _matched("mri_super_resolution", method="ft_paraphraser", slices=110)
    assert rows["Table 9: VDSR of 4, SFT-KD by factor transfer"] == "distilled_student"
    assert "distilled_student" not in _matched("mri_super_resolution", method="ft", slices=110).values()


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
