# SPDX-License-Identifier: Apache-2.0
"""Teachers that are no network of the run: soft labels from files, ensembles, bundles of others."""

import contextlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.networks.nets import SegResNet
from PIL import Image

from monai_kd.cli import main
from monai_kd.handlers import FileTeacher

from . import test_brain_extraction as heads
from . import test_brain_tumor_segmentation as tumors
from . import test_chest_xray_classification as xrays
from . import test_vessel_segmentation as vessels
from .runs import as_words, read_curves
from .test_unlabelled import GENERATED

SHORT = {"max_epochs": 1, "teacher_epochs": 1}
FILES_TEACH = {"_target_": "monai_kd.handlers.FileTeacher", "activation": "@teacher_activation"}
LAYERS_OFF = {f"{name}_weight": 0 for name in vessels.TERMS}
# What the files hold, the settings that leave the terms without layers, and the images that the teacher sees.
FILES = {
    tumors.NAME: (tumors, "sigmoid", {"fusion_weight": 0}, "image"),
    xrays.NAME: (xrays, "sigmoid", {"method": "vanilla", "augmentation_probability": 0}, "image_hr"),
    vessels.NAME: (vessels, "sigmoid", LAYERS_OFF, "image_hr"),
    heads.NAME: (heads, "values", {}, "image"),
}


@pytest.fixture(scope="module", params=FILES)
def taught(request, tmp_path_factory) -> SimpleNamespace:
    """A trained teacher, and what it wrote about the images of a data set."""
    bundle, activation, settings, key = FILES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    generate, cases = GENERATED[request.param]
    data = generate(folder / "set", cases=cases, seed=1)
    run, soft, tiny = folder / "first", folder / "soft", {**bundle.TINY, **SHORT}
    words = ["--dataset_dir", str(data), "--run", str(run)]
    assert main(["train", bundle.NAME, *words, "--stages", "teacher", *as_words(**tiny)]) == 0
    images = data / "images" if (data / "images").is_dir() else data  # labels beside them are no images
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["infer", bundle.NAME, str(images), str(soft), "--run", str(run), "--teacher"]) == 0
    told = dict(word.split("=") for word in output.getvalue().splitlines()[-1].split() if "=" in word)
    without_layers = {key: "0" for key in settings if key.endswith("_weight")}
    without_layers |= {"block_weight": "0"} if bundle is xrays else {}
    assert told == {"teacher_dir": str(soft), "teacher_activation": activation, **without_layers}
    files = {"teacher_dir": str(soft), "teacher_activation": activation}
    return SimpleNamespace(bundle=bundle, data=data, run=run, tiny={**tiny, **settings, **files}, key=key)


def test_a_file_says_what_the_teacher_says_wherever_its_image_went(taught, workflow):
    """Cropped, turned and resampled as in a training."""
    settings = {**taught.tiny, "dataset_dir": str(taught.data), "ckpt_dir": str(taught.run), "teacher": FILES_TEACH}
    parser = workflow(taught.bundle.NAME, "train.json", **settings).parser
    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    teacher = parser.get_parsed_content("teacher_def").eval()
    teacher.load_state_dict(torch.load(taught.run / "teacher.pt", weights_only=True)["model"])
    with torch.no_grad():
        live = teacher(batch[taught.key])
    filed = FileTeacher(taught.tiny["teacher_activation"]).logits(torch.as_tensor(batch["teacher"]))
    assert live.shape == filed.shape
    if live.ndim == 2:
        torch.testing.assert_close(filed, live, atol=1e-3, rtol=1e-3)
    elif taught.bundle is heads:  # after so little training it says nothing of the image; grey values, no probabilities
        assert -1 < float(filed.min()) < 0
    else:  # the whole image is another context than a crop, and it went to its own grid and back
        axes = [(), *((axis,) for axis in range(2, live.ndim))]
        pairs = (torch.stack([live.flatten(), filed.flip(axis).flatten()]) for axis in axes)
        agreement, *turned = (float(torch.corrcoef(pair)[0, 1]) for pair in pairs)
        assert agreement > max(0.4, *turned)


def test_a_student_learns_from_files_alone(taught, tmp_path):
    run = tmp_path / "second"
    words = ["--dataset_dir", str(taught.data), "--run", str(run), *as_words(**taught.tiny)]
    assert main(["train", taught.bundle.NAME, *words]) == 0
    assert (run / "model.pt").is_file() and not (run / "teacher.pt").exists()
    assert not (run / "teacher.csv").exists() and len(read_curves(run, "distillation")["task"]) == 1


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> SimpleNamespace:
    """Slices, and two teachers of unlike size that were trained on them."""
    folder = tmp_path_factory.mktemp("slices")
    generate, cases = GENERATED[tumors.NAME]
    data = generate(folder / "set", cases=cases, seed=1)
    for name, width in (("one", 4), ("two", 2)):
        features = [width, width, 4, 8, 8, width]
        settings = {**tumors.TINY, **SHORT, "teacher_features": features, "seed": width}
        words = ["--dataset_dir", str(data), "--run", str(folder / name), "--stages", "teacher", *as_words(**settings)]
        assert main(["train", tumors.NAME, *words]) == 0
    return SimpleNamespace(folder=folder, data=data, words=["train", tumors.NAME, "--dataset_dir", str(data)])


def _ensemble(slices, **arguments) -> dict:
    members = [str(slices.folder / name / "teacher.pt") for name in ("one", "two")]
    definition = {"_target_": "monai_kd.engines.ensemble", "members": members, **arguments}
    return {**tumors.TINY, **SHORT, "teacher_checkpoint": None, "teacher_def": definition}


def test_several_runs_teach_together_and_are_asked_once_about_an_image(slices, tmp_path):
    settings = {**_ensemble(slices, average="sigmoid"), "teacher_cache": "memory", "views": 1, "max_epochs": 2}
    assert main([*slices.words, "--run", str(tmp_path / "run"), *as_words(**settings)]) == 0
    curves = read_curves(tmp_path / "run", "distillation")
    assert curves["teacher_cache_hits"] == [0, 1] and "fusion_d1" in curves
    assert not (tmp_path / "run" / "teacher.pt").exists()


def test_a_member_that_has_seen_a_test_patient_is_refused(slices, tmp_path, capsys):
    settings = {**_ensemble(slices), "split_seed": 5}
    assert main([*slices.words, "--run", str(tmp_path / "run"), *as_words(**settings)]) == 2
    error = capsys.readouterr().err
    assert "one/teacher.pt was trained on" in error and "who validate or test here" in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_bundle_of_others_teaches_in_its_own_grey_values(slices, tmp_path):
    root = tmp_path / "theirs"
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    definition = {"_target_": "SegResNet", "spatial_dims": 2, "init_filters": 8, "in_channels": 1, "out_channels": 2}
    (root / "configs" / "inference.json").write_text(json.dumps({"network_def": definition}))
    torch.save(SegResNet(2, 8, 1, 2).state_dict(), root / "models" / "model.pt")
    theirs = {"_target_": "monai_kd.networks.BundleNetwork", "folder": str(root)}
    theirs |= {"channels": [1], "input_channels": [0]}
    settings = {**tumors.TINY, **SHORT, "teacher_checkpoint": None, "fusion_weight": 0, "teacher_def": theirs}
    settings["teacher_preprocessing"] = [{"_target_": "NormalizeIntensity"}]
    assert main([*slices.words, "--run", str(tmp_path / "run"), *as_words(**settings)]) == 0
    assert (tmp_path / "run" / "model.pt").is_file()


def test_weights_of_a_network_from_elsewhere_teach_and_can_be_looked_at(slices, tmp_path, capsys):
    theirs, run, soft = tmp_path / "theirs.pt", tmp_path / "run", tmp_path / "soft"
    network = SegResNet(2, 8, 3, 1).eval()
    torch.save(network.state_dict(), theirs)
    definition = {"_target_": "SegResNet", "spatial_dims": 2, "init_filters": 8, "in_channels": 3, "out_channels": 1}
    settings = {**tumors.TINY, **SHORT, "teacher_checkpoint": str(theirs), "fusion_weight": 0}
    assert main([*slices.words, "--run", str(run), *as_words(**settings, teacher_def=definition)]) == 0
    assert not (run / "teacher.pt").exists() and "not there yet" not in capsys.readouterr().out

    image = min(slices.data.glob("*.mat"))
    assert main(["infer", tumors.NAME, str(image), str(soft), "--run", str(run), "--teacher"]) == 0
    said = np.asarray(Image.open(soft / f"{image.stem}_prob.png")) / 65535
    assert said.std() > 0
    words = ["--dataset_dir", str(slices.data), "--checkpoint", str(theirs), "--output", str(tmp_path / "scores")]
    assert main(["evaluate", tumors.NAME, "--run", str(run), *words]) == 0
    assert (tmp_path / "scores" / "summary.json").is_file()

    weights = network.state_dict()
    weights["convInit.conv.weight"] *= 2  # of images that are halved this is the same teacher
    torch.save(weights, tmp_path / "halved.pt")
    halved = {"teacher_preprocessing": [{"_target_": "NormalizeIntensity", "subtrahend": 0, "divisor": 2}]}
    halved |= {**settings, "teacher_checkpoint": str(tmp_path / "halved.pt")}
    words = as_words(**halved, teacher_def=definition)
    assert main([*slices.words, "--run", str(tmp_path / "run_halved"), *words]) == 0
    words = ["--run", str(tmp_path / "run_halved"), "--teacher"]
    assert main(["infer", tumors.NAME, str(image), str(tmp_path / "halved"), *words]) == 0
    again = np.asarray(Image.open(tmp_path / "halved" / f"{image.stem}_prob.png")) / 65535
    np.testing.assert_allclose(again, said, atol=1e-4)
    words = ["--dataset_dir", str(slices.data), "--checkpoint", str(tmp_path / "halved.pt")]
    words += ["--output", str(tmp_path / "scores_halved"), "--run", str(tmp_path / "run_halved")]
    assert main(["evaluate", tumors.NAME, *words]) == 0
    scores = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("scores", "scores_halved")]
    assert scores[0]["dice"]["mean"] == pytest.approx(scores[1]["dice"]["mean"], abs=1e-4)

    other = {"list": [1, 2], "number": 7, "by_number": {1: 2}}
    for name, content in other.items():
        torch.save(content, tmp_path / f"{name}.pt")
        capsys.readouterr()
        words = as_words(**{**settings, "teacher_checkpoint": str(tmp_path / f"{name}.pt")}, teacher_def=definition)
        assert main([*slices.words, "--run", str(tmp_path / name), "--stages", "distill", *words]) == 2
        assert f"{name}.pt holds a" in capsys.readouterr().err
    theirs.unlink()
    capsys.readouterr()
    assert main(["infer", tumors.NAME, str(image), str(soft), "--run", str(run), "--teacher"]) == 2
    assert f"{theirs} is not there" in capsys.readouterr().err


def test_a_teacher_that_is_trained_into_another_place_is_said_to_be(slices, tmp_path, capsys):
    settings = {**tumors.TINY, **SHORT, "teacher_checkpoint": str(tmp_path / "mistyped.pt")}
    assert main([*slices.words, "--run", str(tmp_path / "run"), *as_words(**settings)]) == 0
    assert "mistyped.pt is not there yet, so a teacher is trained into it" in capsys.readouterr().out
    assert (tmp_path / "mistyped.pt").is_file()


def test_a_comparison_without_a_teacher_to_train_trains_both_students(slices, tmp_path, capsys):
    words = ["compare", *slices.words[1:], "--out", str(tmp_path / "out"), "--seeds", "1", "--dry_run"]
    soft = {**tumors.TINY, "teacher_activation": "sigmoid", "teacher_dir": str(slices.folder), "fusion_weight": 0}
    for settings in (_ensemble(slices), soft):
        capsys.readouterr()
        assert main([*words, *as_words(**settings)]) == 0
        plan = capsys.readouterr().out
        assert "seed_0 student_alone" in plan and "seed_0 distillation" in plan and "seed_0 teacher" not in plan


def test_a_teacher_from_elsewhere_stands_in_the_comparison_unless_it_gives_something_else(slices, tmp_path, capsys):
    out, theirs = tmp_path / "out", tmp_path / "theirs.pt"
    words = ["compare", *slices.words[1:], "--seeds", "1", *as_words(batch_size=4)]
    assert main([*words, "--terms", "--out", str(out), *as_words(**_ensemble(slices))]) == 0
    models = json.loads((out / "results.json").read_text())["models"]
    assert list(models)[:3] == ["teacher", "student_alone", "distilled_student"]
    assert models["teacher"]["effort"]["parameters"] > models["distilled_student"]["effort"]["parameters"]
    assert models["distilled_student"]["metrics"]["dice"]["retained_percent"] is not None
    assert not list(out.glob("seed_0/terms/*/evaluation/teacher"))

    torch.save(SegResNet(2, 8, 3, 2).state_dict(), theirs)
    settings = {**tumors.TINY, **SHORT, "teacher_checkpoint": str(theirs), "fusion_weight": 0}
    settings["distillation#terms#logits#teacher_projector"] = {
        "_target_": "monai_kd.networks.SelectChannels",
        "channels": [1],
    }
    definition = {"_target_": "SegResNet", "spatial_dims": 2, "init_filters": 8, "in_channels": 3, "out_channels": 2}
    capsys.readouterr()
    words += as_words(**settings, teacher_def=definition)
    assert main([*words, "--out", str(tmp_path / "other")]) == 0
    assert "the teacher cannot be tested as the student is" in capsys.readouterr().out
    models = json.loads((tmp_path / "other" / "results.json").read_text())["models"]
    assert list(models) == ["student_alone", "distilled_student"]


def test_the_teachers_verb_needs_a_run_with_a_teacher(slices, tmp_path, capsys):
    words = ["infer", tumors.NAME, str(slices.data), str(tmp_path / "out"), "--teacher"]
    assert main(words) == 2
    assert "--teacher needs --run RUN" in capsys.readouterr().err
    shutil.copytree(slices.folder / "one", tmp_path / "one")
    (tmp_path / "one" / "teacher.pt").unlink()
    assert main([*words, "--run", str(tmp_path / "one")]) == 2
    assert "has no teacher: train one by --stages teacher" in capsys.readouterr().err
