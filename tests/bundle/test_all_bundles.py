# SPDX-License-Identifier: Apache-2.0
"""What every bundle must satisfy."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, load
from pydicom.sr.codedict import codes

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.cli import main
from monai_kd.engines import STAGES
from monai_kd.nnunet import class_names

CODES = ("AnatomicalStructure", "MorphologicallyAbnormalStructure", "Brain", "BloodVessel", "Neoplasm")


_SEVERAL = ["train.json", "multi_gpu_train.json"]
_OF_THIS_MACHINE_OR_CALL = {
    *("imports", "initialize", "run", "resume", "checkpoint", "teacher_checkpoint", "hdf5_dataset"),
    *("amp", "channels_last", "batch_size", "window_batch_size", "num_workers", "max_voxels"),
    *("pretrained", "student_pretrained"),  # where the first weights come from
}


def _config(bundle: str, *files: str) -> dict:
    root = Path(monai_kd.bundle_root(bundle))
    return ConfigParser.load_config_files([root / "configs" / file for file in files])


@pytest.fixture(params=monai_kd.bundle_names())
def bundle(request) -> str:
    if request.param == "nnunet_segmentation":
        pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    return request.param


def test_it_passes_its_own_verification_wherever_it_lies(bundle, capsys, tmp_path, monkeypatch):
    place = bundle
    if bundle != "mri_super_resolution":  # the smallest one stays where it is
        left_out = shutil.ignore_patterns("runs", "data")
        place = shutil.copytree(monai_kd.bundle_root(bundle), tmp_path / "elsewhere" / "mine", ignore=left_out)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["verify", str(place)]) == 0, capsys.readouterr().out
    assert not any((tmp_path / "here").iterdir())


@pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI tells everybody that a configuration is code
def test_a_moved_bundle_is_complete_and_reads_its_own_weights(bundle, capsys, tmp_path, monkeypatch):
    left_out = shutil.ignore_patterns("runs", "data")
    moved = Path(shutil.copytree(monai_kd.bundle_root(bundle), tmp_path / f"my_{bundle}", ignore=left_out))
    workflow = ConfigWorkflow(str(moved / "configs" / "inference.json"), logging_file=False)
    workflow.initialize()
    weights = {name: torch.zeros_like(value.half()) for name, value in workflow.network_def.state_dict().items()}
    (moved / "models").mkdir(exist_ok=True)
    torch.save(weights, moved / "models" / "model.pt")
    monkeypatch.chdir(tmp_path)
    if bundle == "mri_super_resolution":  # a small one: what is checked is the same for all
        assert main(["verify", str(moved)]) == 0, capsys.readouterr().out
    assert workflow.parser.get_parsed_content("checkpoint") == str(moved / "models" / "model.pt")
    assert workflow.parser.get_parsed_content("output_dir") == str(moved / "runs" / "inference")
    network = load(moved.name, bundle_dir=str(tmp_path), workflow_type="inference", device="cpu")
    assert not any(value.any() for value in network.state_dict().values())


def test_verification_names_all_that_is_wrong_and_tries_no_export_then(tmp_path, capsys):
    """Of one bundle, and a small one: what is checked is the same for all."""
    copy = tmp_path / "mri_super_resolution"
    assert main(["copy", "mri_super_resolution", str(copy)]) == 0
    (copy / "docs" / "data_license.txt").unlink()
    _edit(copy / "configs" / "metadata.json", version="9.9.9")
    _edit(copy / "configs" / "train.json", train={})
    _edit(copy / "configs" / "inference.json", network_def={"_target_": "Flatten"}, bundle_root=str(tmp_path))
    (copy / "models").mkdir()
    (copy / "models" / "teacher.pt").touch()
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 1
    lines = capsys.readouterr().out.splitlines()
    for title in (
        "has all its files",
        "metadata.json names",
        "the ids that the verbs rely on",
        "find their own folder",
        "bundle properties",
        "the network takes",
        "models/ holds",
    ):
        assert any(line.startswith("FAILED") and title in line for line in lines), lines
    assert sum(line.startswith("skipped") for line in lines) == 3


def test_weights_that_monais_load_would_pass_over_are_found(tmp_path, capsys):
    copy = tmp_path / "mri_super_resolution"
    assert main(["copy", "mri_super_resolution", str(copy)]) == 0
    network = Bundle(str(copy)).workflow("inference.json", overrides={}).network_def
    weights = {name: value + 1 for name, value in network.state_dict().items()}  # or they are what it starts from
    (copy / "models").mkdir(exist_ok=True)
    torch.save({"model": weights}, copy / "models" / "model.pt")
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert ["MONAI's load" in line and "publish the student again" in line for line in failed] == [True]
    weights[next(iter(weights))].flatten()[0] = torch.nan
    torch.save(weights, copy / "models" / "model.pt")
    assert main(["verify", str(copy)]) == 1
    assert "FAILED  models/ holds" in capsys.readouterr().out


@pytest.mark.parametrize("bundle", [name for name in monai_kd.bundle_names() if Bundle(name).segments])
def test_dicom_segments_are_named_as_in_the_metadata_and_coded_as_in_snomed(bundle):
    writer = _config(bundle, "inference.json")["writer"]
    channels = _config(bundle, "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    if writer["label_name"].startswith("$"):  # names of the data set's classes
        writer["label_name"] = class_names(_config(bundle, "inference.json")["description"])[0]
    assert channels["1"] == writer["label_name"] and writer["segment"]["algorithm"] == bundle
    known = {
        code.value: (code.scheme_designator, code.meaning) for code in (getattr(codes.SCT, name) for name in CODES)
    }
    for value, *scheme_and_meaning in (writer["segment"][key] for key in ("category", "type")):
        assert known[value] == tuple(scheme_and_meaning)


def _edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_looking_at_it_needs_no_data_and_leaves_nothing_behind(bundle, workflow, tmp_path):
    for file in ("train.json", "inference.json"):
        inspected = workflow(bundle, file, ckpt_dir=str(tmp_path / "run"), dataset_dir=str(tmp_path / "none"))
        assert inspected.check_properties() == []
    assert not any(tmp_path.iterdir())


def test_a_run_without_data_names_the_folder_and_the_cure(bundle, workflow, tmp_path):
    for file in ("train.json", "inference.json"):
        settings = {"ckpt_dir": str(tmp_path / "run"), "dataset_dir": str(tmp_path / "none")}
        with pytest.raises(RuntimeError) as error:
            workflow(bundle, file, **settings).run()
        assert isinstance(error.value.__cause__, FileNotFoundError) and "none" in str(error.value.__cause__)


def test_training_and_inference_are_about_the_same_network(bundle):
    train, inference = _config(bundle, "train.json"), _config(bundle, "inference.json")
    for key in inference["model_ids"]:
        # The plane of the student that ships is no default for trainings, whose files may be of any, nor is the size of
        # its crops, for which the paper's networks would take long.
        assert key in train and (train[key] == inference[key] or key in ("crop_size", "slice_axis")), key
    assert "network_def" in inference["model_ids"]


def test_what_decides_a_prediction_goes_with_a_runs_student(bundle):
    # Or `infer --run` would do otherwise than the evaluation of that run did.
    train, inference = _config(bundle, "train.json"), _config(bundle, "inference.json")
    plain = {key for key in inference if key in train and isinstance(inference[key], bool | int | float | str | list)}
    computed = {key for key in plain if isinstance(inference[key], str) and inference[key].startswith("$")}
    assert plain - computed - {*inference["model_ids"]} <= _OF_THIS_MACHINE_OR_CALL


def test_a_student_is_measured_as_it_was_trained_and_as_it_infers(bundle):
    # With channels last, as its teacher, or a comparison would time it in another layout than what it is beside.
    configs = Path(monai_kd.bundle_root(bundle), "configs")
    files = (configs / name for name in ("train.json", "evaluate.json", "inference.json"))
    placed = {json.loads(file.read_text())["network"] for file in files}
    assert len(placed) == 1 and "@channels_last" in placed.pop()


def test_what_a_bundle_says_it_reads_is_what_its_reader_reads(bundle):
    first = _config(bundle, "inference.json")["preprocessing"]["transforms"][0]
    told = Bundle(bundle).metadata["data_type"]
    assert "NIfTI" in told or bundle.startswith("chest_xray")
    assert ("DICOM" in told) == first.get("reader", "").startswith("monai_kd.data.")


def test_every_way_to_start_it_is_there(bundle):
    for overlay in ("train_teacher.json", "student_alone.json", "demo.json", "multi_gpu_train.json", "evaluate.json"):
        merged = _config(bundle, "train.json", overlay)
        assert merged["run"], overlay
    assert _config(bundle, "train.json")["training"] == "%run"


def test_several_processes_begin_with_all_that_one_begins_with(bundle):
    one, several = (_config(bundle, *files)["initialize"] for files in (["train.json"], _SEVERAL))
    assert [step for step in one if "device" not in step and step not in several] == []


def test_what_ends_with_a_test_looks_for_test_cases_first(bundle):
    for overlay in ("demo.json", "cross_validate.json"):
        if (Path(monai_kd.bundle_root(bundle)) / "configs" / overlay).is_file():
            steps = _config(bundle, "train.json", overlay)["run"]
            assert steps[0] == "$monai_kd.data.require(@train#dataset#data, @datalist['test'])", overlay


def test_a_demo_s_settings_on_a_list_of_one_s_own_generate_nothing(bundle, tmp_path):
    parser = ConfigParser({**_config(bundle, "train.json", "demo.json"), "ckpt_dir": str(tmp_path)})
    parser["datalist_file"] = "list.json"
    assert parser.get_parsed_content("dataset_dir").startswith(str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_keeping_answers_and_recorded_views_are_ids_that_change_nothing_by_default(bundle):
    train = _config(bundle, "train.json")
    off = {"teacher_cache": "off", "teacher_cache_gb": 4, "teacher_cache_half": False, "views": None}
    assert {key: train[key] for key in off} == off


def test_any_teacher_and_images_without_labels_are_ids_that_change_nothing_by_default(bundle):
    train = _config(bundle, "train.json")
    off = {"unlabelled_dir": None, "unlabelled_share": 0.5, "teacher_preprocessing": None}
    assert {key: train[key] for key in off} == off
    assert train.get("teacher_activation") is train.get("teacher_dir") is None


def test_the_overlays_hold_only_differences(bundle):
    train = _config(bundle, "train.json")
    for overlay in ("train_teacher.json", "student_alone.json", "demo.json", "evaluate.json", "multi_gpu_train.json"):
        text = json.loads((Path(monai_kd.bundle_root(bundle)) / "configs" / overlay).read_text())
        same = [key for key, value in text.items() if key in train and train[key] == value]
        # evaluate.json may be laid over a run's own configuration, whose network can be wrapped for several processes,
        # and whose pretrained weights need not be fetched once more.
        assert not set(same) - {"network", "pretrained"}, overlay


def test_what_is_set_for_a_trainer_or_an_evaluator_holds_for_every_stage_by_its_own_parts(bundle, workflow, tmp_path):
    settings = {"train#trainer#accumulation_steps": 2, "train#optimizer#amsgrad": True}
    settings |= {"validate#evaluator#non_blocking": True, "dataset_dir": str(tmp_path)}
    parser = workflow(bundle, "train.json", **settings).parser
    for stage in STAGES:
        trainer, own = parser[f"{stage}#trainer"], f"@{stage}::"
        assert trainer["accumulation_steps"] == 2 and trainer["compile"] == "@compile"
        assert parser[f"{stage}#optimizer#amsgrad"] is True
        parts = [("max_epochs", "epochs"), ("network", "network"), ("optimizer", "optimizer")]
        parts += [("train_handlers", "handlers"), ("train_data_loader", "dataloader")]
        assert all(trainer[argument] == own + part for argument, part in parts)
        assert all(parser[f"{stage}#stage#{part}"] == own + part for part in ("trainer", "evaluator", "checkpoint"))
        handlers = {handler["_target_"]: handler for handler in parser[f"{stage}#handlers"] if "_target_" in handler}
        validator = "@validate::evaluator" if stage == "train" else f"{own}evaluator"
        assert handlers["ValidationHandler"]["validator"] == validator
        schedule = handlers.get("LrScheduleHandler", {"lr_scheduler": f"{own}scheduler"})
        assert schedule["lr_scheduler"] == f"{own}scheduler"
        scheduler = parser.get(f"{stage}#scheduler") or {"optimizer": trainer["optimizer"]}  # null: none
        assert scheduler["optimizer"] == trainer["optimizer"]
    for stage in ("teacher_training", "student_alone", "validate"):
        evaluator, own = parser[f"{stage}#evaluator"], f"@{stage}::"
        assert evaluator["non_blocking"] is True
        assert evaluator["network"] == f"{own}network" and evaluator["key_val_metric"] == f"{own}key_metric"
        assert evaluator["val_handlers"] == f"${own}val_handlers"  # those of the distillation are no other's


def test_a_setting_within_a_copy_is_refused_with_the_place_to_set_it(bundle, capsys):
    assert main(["train", bundle, "student_alone#trainer#max_epochs=3"]) == 2
    assert "student_alone#trainer is a copy of train#trainer; set train#trainer#max_epochs" in capsys.readouterr().err


def test_metadata_names_the_foreground_by_an_index_above_zero(bundle):
    outputs = _config(bundle, "metadata.json")["network_data_format"]["outputs"]["pred"]
    assert any(int(index) > 0 for index in outputs["channel_def"]) or outputs["format"] == "magnitude"


def test_published_numbers_are_of_models_and_metrics_that_it_has(bundle):
    paper = json.loads((Path(monai_kd.bundle_root(bundle)) / "docs" / "paper_results.json").read_text())
    assert paper.keys() == {"paper", "data", "settings", "results"}
    config = _config(bundle, "train.json", "evaluate.json")
    measured = {name.removeprefix("val_") for name in config["validate"].get("additional_metrics", {})}
    measured |= config["compared_metrics"].keys()
    # Of the training, and what a network costs.
    measured |= {"train_loss", "train_accuracy", "val_loss", "mse", "parameters", "parameters_saved", "inference_ms"}
    for row in paper["results"]:
        assert row.keys() <= {"name", "model", "table", "settings", "metrics", "std"}
        assert row.get("model") in ("teacher", "student_alone", "distilled_student", None)
        assert row.get("model") in ("teacher", None) or row["metrics"].keys() <= measured
