# SPDX-License-Identifier: Apache-2.0
"""A bundle's directory where nothing needs to run; what workflows do is tested in tests/bundle."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_kd.bundle import Bundle, _is_news, bundles_in, plain_path


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"name": "Mine"}))
    (tmp_path / "configs" / "train.json").write_text("{}")
    return Bundle(str(tmp_path))


def test_a_bundle_is_a_name_or_a_directory(bundle, tmp_path):
    assert bundle.root == tmp_path.resolve() and bundle.metadata == {"name": "Mine"}
    assert Bundle("brain_tumor_segmentation").metadata["task"]
    with pytest.raises(ValueError, match="unknown bundle 'brain_tumour'; did you mean 'brain_tumor_"):
        Bundle("brain_tumour")


def _run_of(bundle: Bundle, folder: Path) -> Path:
    """A run that looks as if the bundle had made it."""
    folder.mkdir(parents=True)
    kept = {**bundle.config("train.json"), "_meta_": bundle.metadata}
    (folder / "model.json").write_text(json.dumps(kept))
    return folder


def test_a_copy_is_another_bundle_without_weights_and_results(tmp_path):
    original = Bundle("brain_tumor_segmentation")
    published = Bundle(str(shutil.copytree(original.root, tmp_path / "published")))
    for file in ("models/model.pt", "docs/model_card.md"):
        (published.root / file).parent.mkdir(exist_ok=True)
        (published.root / file).touch()
    noted = {**published.metadata, "eval_metrics": {"dice": 0.9}, "training_data": "Real ones", "generated": False}
    (published.root / "configs" / "metadata.json").write_text(json.dumps(noted))
    published.derive_to(tmp_path / "nuclei_segmentation")
    copy = Bundle(str(tmp_path / "nuclei_segmentation"))
    assert copy.identity.startswith("nuclei_segmentation-") and copy.identity != original.identity
    assert copy.metadata["name"] == "nuclei_segmentation" and copy.metadata["eval_metrics"] == {}
    assert not {"training_data", "generated"} & copy.metadata.keys()
    assert not (copy.root / "models").exists()
    docs = sorted(path.name for path in (copy.root / "docs").iterdir())
    assert docs == ["README.md", "README_of_the_original.md", "data_license.txt"]
    assert "copy of the bundle `brain_tumor_segmentation`" in (copy.root / "docs" / "README.md").read_text()
    assert (copy.root / "docs" / "data_license.txt").read_text().startswith("What follows is about the data of the bun")
    published.derive_to(tmp_path / "again" / "nuclei_segmentation")
    assert Bundle(str(tmp_path / "again" / "nuclei_segmentation")).identity != copy.identity


def test_a_copy_in_a_folder_with_an_at_sign_finds_itself(tmp_path):
    """MONAI reads an @ as a reference, also in the text of an expression."""
    Bundle("brain_tumor_segmentation").derive_to(tmp_path / "anna@home" / "copy")
    parser = ConfigParser()
    parser.read_config(tmp_path / "anna@home" / "copy" / "configs" / "inference.json")
    assert parser.get_parsed_content("bundle_root") == str(tmp_path / "anna@home" / "copy")


def test_runs_and_exported_students_of_another_bundle_are_refused(tmp_path):
    original = Bundle("brain_tumor_segmentation")
    original.derive_to(tmp_path / "nuclei_segmentation")
    copy = Bundle(str(tmp_path / "nuclei_segmentation"))
    run = str(_run_of(copy, tmp_path / "run"))
    assert copy.model_of(run)["checkpoint"] == f"{run}/model.pt" and copy.evaluation_of(run, None)
    refusals = [original.model_of, lambda run: original.evaluation_of(run, None)]
    refusals.append(lambda run: original.check_student(Path(run, "model.pt")))
    for refuse in refusals:
        with pytest.raises(ValueError, match="is of the bundle 'nuclei_segmentation-.*', not of 'brain_tumor_segmenta"):
            refuse(run)

    # A copy takes what its original made, until they are about different things.
    own = str(_run_of(original, tmp_path / "own"))
    assert copy.model_of(own) and original.model_of(own)
    (copy.root / "configs" / "metadata.json").write_text(json.dumps({**copy.metadata, "task": "nuclei"}))
    with pytest.raises(ValueError, match="own is of the bundle 'brain_tumor_segmentation', not of 'nuclei_"):
        copy.model_of(own)


def test_bundles_in_a_folder(bundle, tmp_path):
    Bundle("brain_tumor_segmentation").derive_to(tmp_path / "bundles" / "one")
    (tmp_path / "bundles" / "notes").mkdir()
    assert bundles_in(tmp_path / "bundles") == [tmp_path / "bundles" / "one"] and bundles_in(tmp_path) == [tmp_path]
    with pytest.raises(FileNotFoundError, match="there is no folder .*none"):
        bundles_in(tmp_path / "none")


def test_runs_by_name_and_by_path(bundle, tmp_path):
    for run in ("second", "first"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "teacher.json").touch()
    (tmp_path / "runs" / "begun").mkdir()
    assert bundle.runs == ["first", "second"]
    first = tmp_path / "runs" / "first"
    assert bundle.existing_run("first") == bundle.existing_run(str(first)) == first
    with pytest.raises(FileNotFoundError, match="begun is not the folder of a run; there are: first, second"):
        bundle.existing_run("begun")
    for ask in (bundle.model_of, lambda run: bundle.evaluation_of(run, None)):
        with pytest.raises(FileNotFoundError, match="first has no student yet"):
            ask("first")


def test_an_evaluation_takes_the_configuration_of_its_weights(bundle, tmp_path):
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    config = json.dumps({"teacher_checkpoint": str(tmp_path / "shared.pt")})
    (run / "model.json").write_text(config)
    files = ["train.json", "evaluate.json"]
    (tmp_path / "configs" / "inference.json").write_text('{"free_ids": ["crop_size"], "crop_size": 96, "spacing": 2}')
    published = {
        "checkpoint": str(tmp_path / "models" / "model.pt"),
        "output_dir": str(tmp_path / "runs" / "default" / "evaluation_published"),  # no run's own
        "crop_size": 96,  # as it infers
    }
    assert bundle.evaluation_of(None, None) == (files, published)
    assert bundle.evaluation_of("r", None) == (
        [run / "model.json", "evaluate.json"],
        {"ckpt_dir": str(run), "checkpoint": str(run / "model.pt")},
    )  # and so its scores go where the configuration says
    (run / "student_alone.json").write_text(config)
    files, settings = bundle.evaluation_of("r", str(run / "student_alone.pt"))
    assert files[0] == run / "student_alone.json" and settings["checkpoint"] == str(run / "student_alone.pt")
    assert settings["output_dir"] == str(run / "evaluation_student_alone")
    other = bundle.evaluation_of("r", str(tmp_path / "runs" / "other" / "model.pt"))[1]
    assert other["output_dir"] == str(run / "evaluation_other_model")  # the run's own scores stay
    (tmp_path / "shared.json").write_text(config)
    for teacher in (run / "teacher.pt", tmp_path / "shared.pt"):
        files, settings = bundle.evaluation_of("r", str(teacher))
        assert files[1:] == ["evaluate.json"] and settings["evaluated_network"] == "@teacher"
    (tmp_path / "shared.json").write_text("[]")  # somebody else's
    assert "evaluated_network" not in bundle.evaluation_of(None, str(tmp_path / "shared.pt"))[1]
    (tmp_path / "configs" / "evaluate_teacher.json").touch()
    assert bundle.evaluation_of(None, str(run / "teacher.pt"))[0][1:] == ["evaluate.json", "evaluate_teacher.json"]
    (run / "teacher.json").write_text(json.dumps({"teacher_like_student": True}))
    assert bundle.evaluation_of("r", str(run / "teacher.pt"))[0][1:] == ["evaluate.json"]


def test_a_path_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plain_path("a/../b") == str(tmp_path / "b") and plain_path("~") == str(Path.home())


@pytest.mark.parametrize(
    "text, is_news",
    [
        ("Not all config files are in x.", False),
        ("Engine run is terminating due to exception: x", False),
        ("full", True),
    ],
)
def test_only_known_lines_are_left_out_of_the_log(text, is_news):
    assert _is_news(logging.makeLogRecord({"msg": text})) is is_news
