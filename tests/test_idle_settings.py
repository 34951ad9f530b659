# SPDX-License-Identifier: Apache-2.0
import pytest

from monai_kd.bundle import Bundle
from monai_kd.idle_settings import without_effect
from monai_kd.locations import bundle_names
from monai_kd.overrides import laid_over


def test_settings_that_an_overlay_left_behind_are_found():
    config = {
        "run": ["$@train#stage.run()"],
        "train": {"stage": {"loss": "@terms", "epochs": "@##epochs"}, "epochs": "$2 * @epochs"},
        "terms": {"weight": "@weight"},
        "weight": 1,
        "epochs": 3,
        "method_terms": {"weight": "@other"},
        "other": 2,
    }
    asked = ["weight", "epochs", "other", "train#epochs", "method_terms#weight"]
    assert without_effect(config, asked) == ["other"]
    assert without_effect({**config, "terms": {"weight": 5}}, ["terms::weight", *asked]) == ["weight", "other"]


@pytest.mark.parametrize("name", bundle_names())
def test_every_setting_of_a_bundle_has_an_effect(name):
    config = Bundle(name).config("train.json")
    # Of the paper's student, which `paper.json` takes.
    of_the_paper = {"student_features", "unet_plus_plus"} if name == "brain_extraction" else set()
    assert {*without_effect(config, config)} - {"training"} == of_the_paper


def test_of_a_recipe_those_that_it_replaces_have_none():
    bundle = Bundle("chest_xray_classification")
    settings = laid_over(bundle.config("train.json"), [bundle.root / "configs" / "shipped.json"])
    config = {**bundle.config("train.json"), **settings}
    config["distillation"] = {**config["distillation"], "terms": settings["distillation#terms"]}
    assert without_effect(config, ["method", "block_weight", "soft_weight"]) == ["method", "block_weight"]
