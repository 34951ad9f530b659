# SPDX-License-Identifier: Apache-2.0
"""Settings that are laid over a configuration."""

import copy
import json

import pytest

from monai_kd.bundle import Bundle
from monai_kd.overrides import check_overrides, laid_over

HINT = {"_target_": "monai_kd.losses.HintLoss"}
SOFT = {"_target_": "monai_kd.losses.SoftTargetLoss"}
CONFIG = {
    "weight": 0.5,
    "losses": {"hint": HINT, "soft": SOFT},
    "loss": "$@losses[@choice]",
    "choice": "hint",
    "methods": {"at": {"attention": HINT}, "sp": {"similarity": HINT}},
    "terms": "$@methods[@choice]",
    "layers": {"unet": {"first": "model.0"}},
    "layer": "$@layers[@choice]['first']",
    "distillation": {
        "_target_": "monai_kd.losses.DistillationLoss",
        "terms": {"logits": HINT, "fusion_d4": {"_target_": "monai_kd.losses.DistillationTerm", "loss": HINT}},
    },
    "train": {"dataset": {"_target_": "Dataset"}, "handlers": []},
    "alone": "%train",
}


def test_an_argument_that_a_component_does_not_take():
    config = {"generator": {"_target_": "monai_kd.data.XrayGenerator"}, "net": {"_target_": "Net"}}
    check_overrides(config, {"generator#image_size": 64, "generator#_disabled_": True, "net#depth": 3})
    with pytest.raises(ValueError, match="unknown argument of monai_kd.data.XrayGenerator 'image_siz'; did you mean"):
        check_overrides(config, {"generator#image_siz": 64})
    # Another component may take it, and a name without a module is one of MONAI's, never a file of the user's.
    check_overrides(config, {"generator#_target_": "torch.optim.SGD", "generator#momentum": 0.9})
    check_overrides({**config, "net": {"_target_": "conftest"}}, {"net#depth": 3})


@pytest.mark.parametrize(
    "override, message",
    [
        ({"epochz": 1}, "key 'epochz'; did you mean 'epochs'"),
        ({"net#chanels": 1}, "'net#chanels': 'chanels'; did you mean 'channels'"),
        ({"epochs": "many"}, "epochs must be a number, such as 5, got 'many'"),
    ],
)
def test_ids_that_a_configuration_lacks(override, message):
    config = {"epochs": 5, "net": {"_target_": "Net", "channels": 2}, "steps": [{"size": 1}]}
    check_overrides(config, {"epochs": "@n", "net#depth": 3, "steps#0#size": 2, "net::channels": 4})
    with pytest.raises(ValueError, match=message):
        check_overrides(config, override)


@pytest.mark.parametrize(
    "override",
    [
        {"distillation#terms#relational": {"_target_": "monai_kd.losses.DistillationTerm", "loss": HINT}},
        {"distillation#terms#fusion_d5": HINT},  # like another one but for its number
        {"distillation::terms::relational": "@losses#hint"},
        {"losses#mine": HINT},
        {"losses#mine": [HINT, HINT]},
        {"methods#rkd": {"distance": HINT, "hint": "@losses#hint"}},
        {"methods#sp#another": HINT},
        {"layers#resnet": {"first": "layer1"}},
        {"losses#mine": SOFT, "losses#mine#temperature": 2},
        {"my_loss": HINT, "losses#mine": "@my_loss"},
        {"train#weights": HINT, "loss": "@train#weights"},
    ],
    ids=str,
)
def test_a_table_takes_new_entries_and_an_id_that_is_used_is_one(override):
    before = copy.deepcopy(CONFIG)
    check_overrides(CONFIG, override)
    assert CONFIG == before


@pytest.mark.parametrize(
    "override, message",
    [
        ({"distillation#terms#logit": HINT}, "'logit'; did you mean 'logits'"),
        ({"distillation#terms#relational": 5}, "a new entry distillation#terms#relational must be a component such as"),
        ({"distillation#terms#relational#weight": 5}, "'relational'; there are: logits, fusion_d4"),
        ({"losses#mine": "HintLoss"}, "a new entry losses#mine must be a component"),
        ({"layers#resnet": "layer1"}, "a new entry layers#resnet must be a component"),
        ({"losses#mine": {"_target_": "monai_kd.losses.HintLos"}}, "no monai_kd.losses.HintLos .* mean 'HintLoss'"),
        ({"losses#mine": {"_target_": "nowhere.at.All"}}, "there is no nowhere.at.All to make a component of"),
        ({"losses#mine": {**SOFT, "temperatur": 2}}, "SoftTargetLoss 'temperatur'; did you mean 'temperature'"),
        ({"losses#mine": SOFT, "losses#mine#temperatur": 2}, "SoftTargetLoss 'temperatur'"),
        ({"losses#mine": {"_target_": 5}}, "_target_ must be the name of a class or function, got 5"),
        ({"train#dataloader": HINT}, "'train#dataloader': 'dataloader'; did you mean 'dataset'"),
        ({"my_loss": HINT}, "unknown option or configuration key 'my_loss'"),
        ({"train#handlers#0": HINT}, "'train#handlers#0': '0'"),
        ({"alone#handlers#0": HINT}, "alone is a copy of train; set train#handlers#0, which holds for every copy"),
    ],
    ids=str,
)
def test_what_no_table_takes(override, message):
    with pytest.raises(ValueError, match=message):
        check_overrides(CONFIG, override)


def test_the_bundles_tables_take_new_entries():
    for name, table in (
        ("brain_tumor_segmentation", "distillation#terms"),
        ("brain_tumor_segmentation", "fusion_losses"),
        ("chest_xray_classification", "method_terms"),
        ("chest_xray_classification", "method_terms#mlcak"),
        ("mri_reconstruction", "method_terms"),
        ("mri_super_resolution", "teacher_losses"),
        ("vessel_segmentation", "networks"),
    ):
        check_overrides(Bundle(name).config("train.json"), {f"{table}#relational": HINT})


def _write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_files_are_laid_over_in_order_and_in_monais_way(tmp_path):
    first = _write(tmp_path / "a.json", {"weight": 1, "+losses": {"mine": HINT}, "distillation#terms#logits": SOFT})
    second = _write(tmp_path / "b.yaml", "weight: 2\n+losses:\n  yours: '@losses#mine'\n")
    settings = laid_over(CONFIG, [first, second])
    assert settings == {
        "weight": 2,
        "losses": {**CONFIG["losses"], "mine": HINT, "yours": "@losses#mine"},
        "distillation#terms#logits": SOFT,
    }
    check_overrides(CONFIG, settings)
    assert "mine" not in CONFIG["losses"]
    assert laid_over(CONFIG, [_write(tmp_path / "c.json", {"wieght": 1})]) == {"wieght": 1}  # refused as an override


@pytest.mark.parametrize(
    "content, error, message",
    [
        (None, FileNotFoundError, "there is no configuration file .*a.json"),
        ("{", ValueError, "a.json is no configuration that can be read"),
        ([1], ValueError, "a.json must hold settings by id, got list"),
        ({"+weight": 3}, ValueError, "must be dict or list"),
    ],
)
def test_files_that_are_no_settings(content, error, message, tmp_path):
    path = tmp_path / "a.json" if content is None else _write(tmp_path / "a.json", content)
    with pytest.raises(error, match=message):
        laid_over(CONFIG, [path])


def test_a_bundle_says_which_words_stand_beside_a_settings_numbers():
    config = {"fold": 1, "part": {"share": 0.5}, "epochs": 5, "number_words": {"fold": ["all"], "part#share": ["auto"]}}
    check_overrides(config, {"fold": "all", "part::share": "auto", "epochs": 7})
    for key, value, message in (
        ("fold", "al", "fold must be a number, such as 1, or all, got 'al'"),
        ("part#share", "all", "part#share must be a number, such as 0.5, or auto, got 'all'"),
        ("epochs", "all", "epochs must be a number, such as 5, got 'all'"),
    ):
        with pytest.raises(ValueError, match=message):
            check_overrides(config, {key: value})
    with pytest.raises(ValueError, match="fold must be a number, such as 1, got 'all'"):
        check_overrides({"fold": 1, "teacher_fold": "@fold"}, {"fold": "all"})


def test_all_is_a_fold_of_nnunet():
    check_overrides(Bundle("nnunet_segmentation").config("train.json"), {"fold": "all"})
