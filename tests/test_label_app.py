# SPDX-License-Identifier: Apache-2.0
"""The app for MONAI Label: its folder, and a real server where MONAI_KD_LABEL_PYTHON is the Python that has one."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.cli import main

FLAGSHIP = "brain_tumor_segmentation"
BUNDLES = {"brain_extraction": "brain", FLAGSHIP: "tumor", "vessel_segmentation": "vessel"}


def _make_run(name: str, folder: Path) -> Path:
    """What a run leaves that an app needs, with small networks that have learned nothing."""
    config = Bundle(name).config("train.json", "demo.json")
    config["bundle_root"] = str(Bundle(name).root)
    config["ckpt_dir"] = str(folder)
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(config))
    parser = ConfigParser(config)
    torch.manual_seed(0)
    for part, file in (("network_def", "model.pt"), ("teacher_def", "teacher.pt")):
        torch.save({"model": parser.get_parsed_content(part).state_dict()}, folder / file)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return _make_run(FLAGSHIP, tmp_path_factory.mktemp("runs") / "first")


def test_an_app_holds_a_copy_of_the_bundle_with_the_runs_networks(run, tmp_path, capsys):
    app = tmp_path / "app"
    assert main(["label_app", str(app), "--bundles", FLAGSHIP, "--run", str(run)]) == 0
    said = capsys.readouterr()
    assert f"monailabel start_server --app {app} --studies" in said.out
    assert f"{run} lies outside the bundle's runs: its configuration is code" in said.out + said.err
    assert "LabelApp" in (app / "main.py").read_text()

    copy = app / "model" / FLAGSHIP
    # MONAI Label offers whatever lies in models/ as the student.
    assert [path.name for path in (copy / "models").iterdir()] == ["model.pt"]
    served = torch.load(copy / "models" / "model.pt", weights_only=True)
    trained = torch.load(run / "model.pt", weights_only=True)["model"]
    assert served.keys() == trained.keys() and all(torch.equal(served[name], trained[name]) for name in trained)
    assert (copy / "runs" / "default" / "teacher.pt").read_bytes() == (run / "teacher.pt").read_bytes()
    train, inference = (
        ConfigParser.load_config_file(copy / "configs" / f"{name}.json") for name in ("train", "inference")
    )
    for config in (train, inference):
        assert config["image_size"] == 64 and config["student_features"] == [8, 8, 16, 16, 32, 8]
    assert ConfigParser(inference).get_parsed_content("checkpoint") == str(copy / "models" / "model.pt")
    metadata = json.loads((copy / "configs" / "metadata.json").read_text())
    assert not metadata["eval_metrics"] and not metadata.keys() & {"training_data", "generated"}  # of other weights
    assert not (copy / "docs" / "model_card.md").exists()
    parser = ConfigParser(train)
    assert parser.get_parsed_content("teacher_checkpoint") == str(copy / "runs" / "default" / "teacher.pt")
    assert parser.get_parsed_content("train#stage#checkpoint") == str(copy / "runs" / "default" / "model.pt")


def test_by_default_it_takes_the_bundles_that_can_be_served(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MONAI_KD_HOME", str(tmp_path / "home"))
    runs = {name: _make_run(name, tmp_path / "runs" / name) for name in BUNDLES}
    monkeypatch.setattr(Bundle, "runs", property(lambda self: ["first"] if self.root.name in runs else []))
    monkeypatch.setattr(Bundle, "run_folder", lambda self, run: runs[self.root.name])
    assert main(["label_app", str(tmp_path / "app"), "--run", "first"]) == 0, capsys.readouterr().err
    assert {path.name for path in (tmp_path / "app" / "model").iterdir()} == set(BUNDLES)
    assert main(["label_app", str(tmp_path / "other"), "--bundles", "nnunet_segmentation"]) == 2
    assert "nnunet_segmentation learns from files that MONAI Label does not make" in capsys.readouterr().err


def test_a_requests_number_of_epochs_is_not_the_teachers(run, tmp_path):
    assert main(["label_app", str(tmp_path / "app"), "--bundles", FLAGSHIP, "--run", str(run)]) == 0
    parser = ConfigParser(ConfigParser.load_config_file(tmp_path / "app/model" / FLAGSHIP / "configs/train.json"))
    parser["train"]["trainer"]["max_epochs"] = 1  # as MONAI Label does
    parser["teacher_epochs"] = 7
    parser.parse()
    epochs = [parser.get_parsed_content(f"{stage}#trainer#max_epochs") for stage in ("teacher_training", "train")]
    assert epochs == [7, 1]
    assert parser.get_parsed_content("train#epochs") == 1  # by which a schedule counts its steps


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_an_app_takes_no_teacher_that_cannot_be_read(content, run, tmp_path, capsys):
    own = Path(shutil.copytree(run, tmp_path / "own"))
    (own / "teacher.pt").write_bytes(content)
    assert main(["label_app", str(tmp_path / "app"), "--bundles", FLAGSHIP, "--run", str(own)]) == 2
    error = capsys.readouterr().err
    assert "teacher.pt is" in error and error.count("\n") == 1
    assert not (tmp_path / "app").exists()


def test_an_app_has_the_teacher_of_a_run_that_was_moved(run, tmp_path):
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    config = json.loads((moved / "model.json").read_text())
    (moved / "model.json").write_text(json.dumps({**config, "ckpt_dir": str(tmp_path / "before")}))
    assert main(["label_app", str(tmp_path / "app"), "--bundles", FLAGSHIP, "--run", str(moved)]) == 0
    teacher = tmp_path / "app" / "model" / FLAGSHIP / "runs" / "default" / "teacher.pt"
    assert teacher.read_bytes() == (run / "teacher.pt").read_bytes()


def test_an_app_of_a_student_without_a_teacher_trains_none_and_names_no_patients(run, tmp_path):
    own = tmp_path / "run"
    shutil.copytree(run, own)
    config = json.loads((own / "model.json").read_text())
    (own / "model.json").write_text(
        json.dumps({**config, "teacher_checkpoint": None, "trained_on": {"patients": ["anna"]}})
    )
    assert main(["label_app", str(tmp_path / "app"), "--bundles", FLAGSHIP, "--run", str(own)]) == 0
    train = ConfigParser.load_config_file(tmp_path / "app" / "model" / FLAGSHIP / "configs" / "train.json")
    assert train["teacher_checkpoint"] is None and not any("teacher_training" in step for step in train["run"])
    assert "anna" not in json.dumps(train)


def test_an_app_gets_further_bundles_but_none_twice(run, tmp_path, capsys):
    app = tmp_path / "app"
    assert main(["label_app", str(app), "--bundles", FLAGSHIP, "--run", str(run)]) == 0
    another = tmp_path / "my_segmentation"
    assert main(["copy", FLAGSHIP, str(another)]) == 0
    monai_kd.engines.replace_weights(another / "models" / "model.pt", run / "model.pt")
    assert main(["label_app", str(app), "--bundles", str(another)]) == 0
    assert sorted(path.name for path in (app / "model").iterdir()) == [FLAGSHIP, "my_segmentation"]
    assert not (app / "model" / "my_segmentation" / "runs").exists()  # without a run there is no teacher
    assert main(["label_app", str(app), "--bundles", f"{another},{FLAGSHIP}", "--run", "first"]) == 2
    assert "has my_segmentation already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--bundles", "vessel_segmentation"], "vessel_segmentation has no models/model.pt; name the --run"),
        (["--bundles", "brain_tumor_segmentatoin"], "did you mean 'brain_tumor_segmentation'"),
        (["--bundles", "mri_reconstruction"], "mri_reconstruction does not outline anything"),
        (["--run", "RUN"], "is of one bundle"),
        (["--bundles", FLAGSHIP, "--run", "RUN/none"], "none is not the folder of a run"),
        (["--bundles", "vessel_segmentation", "--run", "RUN"], "another bundle or an earlier version: no spacing"),
    ],
)
def test_an_app_that_cannot_be_is_refused_and_nothing_is_written(words, message, run, tmp_path, capsys):
    words = [word.replace("RUN", str(run)) for word in words]
    assert main(["label_app", str(tmp_path / "app"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_an_app_has_all_that_come_with_weights(tmp_path, monkeypatch, capsys):
    assert main(["label_app", str(tmp_path / "app")]) == 0
    assert {path.name for path in (tmp_path / "app" / "model").iterdir()} == {"brain_extraction", FLAGSHIP}
    assert "without weights, so left out: vessel_segmentation" in capsys.readouterr().out
    monkeypatch.setattr(Bundle, "has_weights", False)
    assert main(["label_app", str(tmp_path / "none")]) == 2
    assert "no bundle has weights" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_run_of_one_bundle_names_that_bundle(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Bundle, "runs", property(lambda bundle: ["first"] if bundle.root.name == FLAGSHIP else []))
    assert main(["label_app", str(tmp_path / "app"), "--run", "first"]) == 2
    assert f"name those that have it by --bundles {FLAGSHIP}" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_folder_with_other_files_and_an_unfinished_run_are_refused(run, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert main(["label_app", str(tmp_path), "--bundles", FLAGSHIP, "--run", str(run)]) == 2
    assert "neither empty nor an app" in capsys.readouterr().err
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "model.json").write_text("{}")
    assert main(["label_app", str(tmp_path / "app"), "--bundles", FLAGSHIP, "--run", str(begun)]) == 2
    assert "has no completed student" in capsys.readouterr().err


@pytest.fixture(scope="module")
def label_python() -> str:
    """The Python of an environment with MONAI Label and this package."""
    python = os.environ.get("MONAI_KD_LABEL_PYTHON", "")
    if not python:
        pytest.skip("MONAI_KD_LABEL_PYTHON does not name the Python that has MONAI Label")
    return python


@pytest.fixture(scope="module")
def app(label_python, studies, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("label")
    for name in BUNDLES:
        run = _make_run(name, folder / "runs" / name)
        assert main(["label_app", str(folder / "app"), "--bundles", name, "--run", str(run)]) == 0
        bundle, out = folder / "app" / "model" / name, folder / name
        assert main(["infer", str(bundle), str(studies / "volume.nii.gz"), str(out), "--probabilities"]) == 0
        # Networks that have learned nothing shall find neither nothing nor everything.
        inference = json.loads((bundle / "configs" / "inference.json").read_text())
        inference["threshold"] = float(np.median(nib.load(out / "volume_prob.nii.gz").get_fdata()))
        (bundle / "configs" / "inference.json").write_text(json.dumps(inference))
    return folder / "app"


@pytest.fixture(scope="module")
def studies(label_python, tmp_path_factory) -> Path:
    """A volume, a picture, and pictures with final labels, as a local datastore of MONAI Label keeps them."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "labels" / "final").mkdir(parents=True)
    rng = np.random.default_rng(0)
    affine = np.array([[0, -1.5, 0, 20], [2, 0, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1]], dtype=float)
    volume = rng.integers(0, 255, (40, 36, 34)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, affine), folder / "volume.nii.gz")
    nib.save(nib.Nifti1Image(volume[..., 0], affine), folder / "flat.nii.gz")
    affine[0, 2] = 1  # the slices are shifted against each other, as under a tilted gantry
    nib.save(nib.Nifti1Image(volume, affine), folder / "sheared.nii.gz")
    for number in range(5):
        image = rng.integers(0, 120, (50, 40), dtype=np.uint8)
        mask = np.zeros_like(image)
        mask[10 + number : 30, 12:25] = 1
        Image.fromarray(image + 100 * mask).save(folder / f"slice{number}.png")
        if number:
            Image.fromarray(mask).save(folder / "labels" / "final" / f"slice{number}.png")
    return folder


@pytest.fixture(scope="module")
def ask(label_python, app, studies) -> Iterator[Callable[..., bytes]]:
    """Ask a server that runs the app: GET, or POST of JSON."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["start_server", "--app", str(app), "--studies", str(studies)]
    words += ["--host", address.split(":")[0], "--port", address.split(":")[1]]

    def request(path: str, content: Any = None) -> bytes:
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(f"http://{address}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return answer.read()

    with open(app.parent / "server.log", "w") as log:
        server = subprocess.Popen([label_python, "-m", "monailabel.main", *words], stdout=log, stderr=log, cwd=app)
        try:
            _wait(lambda: _answers(request), server)
            yield request
        finally:
            server.terminate()
            server.wait(timeout=60)


def _answers(request: Callable[..., bytes], path: str = "/info/") -> bool:
    try:
        return bool(request(path))
    except OSError:  # refused, reset, or not found
        return False


def _wait(is_done: Callable[[], bool], server: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + 900
    while not is_done():
        assert time.monotonic() < until and (server is None or server.poll() is None)
        time.sleep(1)


def _masks(ask: Callable[..., bytes], app: Path, name: str, image: Path, folder: Path) -> tuple[Any, Any]:
    """The server's mask and that of the command line, as images."""
    outputs = folder / "out"
    assert main(["infer", str(app / "model" / name), str(image), str(outputs)]) == 0
    suffix = "".join(image.suffixes)
    stem = image.name.removesuffix(suffix)
    (folder / f"served{suffix}").write_bytes(ask(f"/infer/{name}?image={stem}&output=image", {}))
    read = Image.open if suffix == ".png" else nib.load
    return read(folder / f"served{suffix}"), read(outputs / f"{stem}_pred{suffix}")


@pytest.mark.parametrize("name", BUNDLES)
def test_the_server_masks_volumes_as_the_command_line_does(name, ask, app, studies, tmp_path):
    served, own = _masks(ask, app, name, studies / "volume.nii.gz", tmp_path)
    image = nib.load(studies / "volume.nii.gz")
    assert served.shape == image.shape and 0 < np.asarray(served.dataobj).mean() < 1
    np.testing.assert_allclose(served.affine, image.affine, atol=1e-4)
    assert np.mean(np.asarray(served.dataobj) != np.asarray(own.dataobj)) < 0.01  # which are at the threshold
    answer = json.loads(ask(f"/infer/{name}?image=volume&output=json", {}))
    assert answer["label_names"] == {BUNDLES[name]: 1}


@pytest.mark.parametrize("name", ["flat", "sheared"])
def test_served_masks_are_where_the_image_is(name, ask, app, studies, tmp_path):
    served, own = _masks(ask, app, FLAGSHIP, studies / f"{name}.nii.gz", tmp_path)
    image = nib.load(studies / f"{name}.nii.gz")
    assert served.shape == own.shape == image.shape
    np.testing.assert_allclose(served.affine, image.affine, atol=1e-4)
    assert np.mean(np.asarray(served.dataobj) != np.asarray(own.dataobj)) < 0.01


def test_the_server_fine_tunes_the_student_by_the_teacher(ask, app, studies, tmp_path):
    bundle = app / "model" / FLAGSHIP
    untrained, teacher = (bundle / "models" / "model.pt").read_bytes(), bundle / "runs" / "default" / "teacher.pt"
    taught_by = teacher.read_bytes()
    assert json.loads(ask("/info/"))["train_stats"][FLAGSHIP] == {}
    ask(f"/train/{FLAGSHIP}", {"max_epochs": 2, "val_split": 0.25})
    _wait(lambda: json.loads(ask("/train/?all=true"))[-1]["status"] not in ("SUBMITTED", "RUNNING"))
    assert json.loads(ask("/train/?all=true"))[-1]["status"] == "DONE", (app.parent / "server.log").read_text()[-5000:]
    run = bundle / "runs" / "default"
    log = (run / "distillation.log").read_text()
    assert "epoch 2/2" in log and "logits " in log and "the best so far" in log
    assert teacher.read_bytes() == taught_by
    assert [path.name for path in (bundle / "models").iterdir()] == ["model.pt"]
    served, trained = (bundle / "models" / "model.pt").read_bytes(), run / "replaced.pt"
    # It is served where it scores better, and what it was is kept then.
    assert (served != untrained) == trained.is_file()
    stats = json.loads(ask("/info/"))["train_stats"][FLAGSHIP]
    assert stats["stage"] == "distillation" and stats["epoch"] == 2 and "val_mean_dice" in stats["metrics"]
    served, own = _masks(ask, app, FLAGSHIP, studies / "slice0.png", tmp_path)
    assert served.size == (40, 50)
    np.testing.assert_array_equal(np.asarray(served) > 0, np.asarray(own) > 0)


def test_the_server_infers_in_batches_without_a_gpu_and_scores(ask, studies):
    ask(f"/batch/infer/{FLAGSHIP}?images=unlabeled&run_sync=true", {"max_workers": 1})
    assert (studies / "labels" / "original" / "slice0.png").is_file()
    info = json.loads(ask("/info/"))
    key = f"uncertainty_{FLAGSHIP}"  # of each bundle its own
    assert {"dice", *BUNDLES} <= info["scoring"].keys()
    assert {"random", "first", *(f"uncertainty_{name}" for name in BUNDLES)} <= info["strategies"].keys()
    # A training ends with a scoring of the server's own, and one can run at a time.
    _wait(lambda: not _answers(ask, "/scoring/?check_if_running=true"))
    result = json.loads(ask(f"/scoring/{FLAGSHIP}?run_sync=true", {}))
    assert result["executed"] == result["total"] == 4
    known = json.loads((studies / "datastore_v2.json").read_text())["objects"]
    assert all(0 < known[name]["image"]["info"][key] <= 1 for name in ("slice0", "volume"))
