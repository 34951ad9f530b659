# SPDX-License-Identifier: Apache-2.0
"""The student of a bundle as a file of its own: written, compared, and used in the place of its checkpoint."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnx
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from onnx import TensorProto, helper
from PIL import Image

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.cli import main
from monai_kd.data import FigshareGenerator
from monai_kd.engines import describe_network, read_metadata

from . import by_metadata
from .runs import read_rows

NAME = "brain_tumor_segmentation"
TINY = {"image_size": 32, "num_workers": 0, "student_features": [2, 2, 4, 4, 4, 2], "threshold": 0.4}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return FigshareGenerator(image_size=48, slices_per_patient=2)(tmp_path_factory.mktemp("data") / "set", cases=24)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    return _untrained(NAME, tmp_path_factory.mktemp("runs") / "tiny", **TINY, dataset_dir=str(data))


def _untrained(name: str, folder: Path, *overlays: str, **settings: Any) -> Path:
    """A run that looks as if its student had been trained."""
    config = {**Bundle(name).config("train.json", *overlays), **settings}
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    network = ConfigParser(config).get_parsed_content("network_def")
    torch.save({"model": network.state_dict()}, folder / "model.pt")
    return folder


@pytest.fixture(scope="module")
def exported(run, data, tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """The student in both formats, with what was said of each; ONNX takes seconds."""
    folder, found = tmp_path_factory.mktemp("exported"), {}
    for format, file in (("onnx", "student.onnx"), ("torchscript", "student.ts")):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert main(["export", NAME, str(folder / file), "--format", format, "--run", str(run)]) == 0
        found[format] = (folder / file, said.getvalue())
    return found


def _picture(shape: tuple[int, int]) -> np.ndarray:
    """A grey picture (row, column) of one bright disc off its centre."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[: shape[0], : shape[1]]
    disc = (row / shape[0] - 0.3) ** 2 + (column / shape[1] - 0.6) ** 2 < 0.04
    return (rng.integers(20, 90, shape) + 120 * disc).astype(np.uint8)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_an_exported_student_gives_what_the_run_gives(format, exported, run, data, tmp_path):
    student, shown = exported[format]
    assert "val_mean_dice: " in shown and "validation cases" in shown and " over " in shown
    described = read_metadata(student)
    assert described["model_ids"]["image_size"] == 32 and described["version"] == monai_kd.__version__
    assert "Apache License" in described["license"] and described["class_names"] == {"0": "background", "1": "tumor"}
    sizes = [step["spatial_size"] for step in described["preprocessing"]["transforms"] if "spatial_size" in step]
    assert sizes == [[32, 32]]

    # Neither the run nor its settings are named: the file has them.
    by_file, by_run = tmp_path / "by_file", tmp_path / "by_run"
    assert main(["infer", NAME, str(data), str(by_file), "--checkpoint", str(student), "--probabilities"]) == 0
    assert main(["infer", NAME, str(data), str(by_run), "--run", str(run), "--probabilities"]) == 0
    probabilities = sorted(path.name for path in by_run.glob("*_prob.png"))
    assert len(probabilities) == 24
    for name in probabilities:
        one, other = (np.asarray(Image.open(folder / name)).astype(int) for folder in (by_file, by_run))
        assert np.abs(one - other).max() <= 2 and one.std() > 0  # of 65535
    assert list(read_rows(by_file / "summary.csv")[0]) == list(read_rows(by_run / "summary.csv")[0])


@pytest.mark.parametrize("shape", [(48, 60), (20, 17), (131, 33)])
def test_onnx_and_its_metadata_alone_give_the_mask(shape, exported, run, tmp_path, monkeypatch):
    """By someone who has neither the bundle nor this project: onnxruntime, NumPy and PIL."""
    student = Path(shutil.copy(exported["onnx"][0], tmp_path))
    pixels = _picture(shape)
    Image.fromarray(pixels).save(tmp_path / "slice.png")
    out = tmp_path / "out"
    assert main(["infer", NAME, str(tmp_path / "slice.png"), str(out), "--run", str(run), "--probabilities"]) == 0
    wanted = np.asarray(Image.open(out / "slice_pred.png")) > 0
    probabilities = np.asarray(Image.open(out / "slice_prob.png")) / 65535

    told = by_metadata.read(student)
    assert told["output"]["axes"] == "batch, channel, x, y"
    found = by_metadata.resize(by_metadata.apply(student, pixels)[0, 0], pixels.T.shape).T
    np.testing.assert_allclose(found, probabilities, atol=2e-3)
    assert 0.05 < wanted.mean() < 0.95  # or any mask would do
    threshold = told["output"]["threshold"]
    assert np.all(np.abs(found - threshold)[(found >= threshold) != wanted] < 2e-3)
    assert told["class_names"] == {"0": "background", "1": "tumor"}
    assert told["generated"] is True and told["training_data"].startswith("GENERATED images by FigshareGenerator")
    assert told["metrics"] == {}
    monkeypatch.chdir(tmp_path)
    shown = _run_the_page_s_example()
    assert shown["told"] == told and shown["mask"].shape == (1, 1, 32, 32)


def _run_the_page_s_example() -> dict[str, Any]:
    """What docs/export.md shows of onnxruntime, in the current folder."""
    page = Path(__file__).resolve().parents[2] / "docs" / "export.md"
    example = page.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(example, page.name, "exec"), names)
    return names


def test_onnx_and_its_metadata_alone_give_the_class(tmp_path):
    name = "brain_tumor_classification"
    folder = _untrained(name, tmp_path / "run", image_size=32, student="resnet10t", dataset_dir=str(tmp_path))
    weights = torch.load(folder / "model.pt", weights_only=True)["model"]
    weights["fc.weight"] *= 30  # or all images were as likely to be of a class
    torch.save(weights, folder / "model.pt")
    student = tmp_path / "student.onnx"
    assert main(["export", name, str(student), "--run", str(folder)]) == 0
    pixels = _picture((48, 60))
    Image.fromarray(pixels).save(tmp_path / "slice.png")
    assert main(["infer", name, str(tmp_path / "slice.png"), str(tmp_path / "out"), "--run", str(folder)]) == 0
    (row,) = read_rows(tmp_path / "out" / "predictions.csv")
    found = by_metadata.apply(student, pixels)[0]
    told = by_metadata.read(student)
    assert told["output"]["axes"] == "batch, class" and told["output"]["activation"] == "softmax"
    assert [float(row[label]) for label in told["class_names"]] == pytest.approx(found.tolist(), abs=1e-3)
    assert row["predicted"] == told["class_names"][int(found.argmax())]
    assert np.ptp(found) > 0.01
    assert told["generated"] is False and "Figshare" in told["training_data"]


# nnU-Net reads several files of a case by itself, which MONAI Deploy has no operator for.
SEGMENTING = [name for name in monai_kd.bundle_names() if Bundle(name).segments and name != "nnunet_segmentation"]


@pytest.mark.parametrize("name", SEGMENTING)
def test_torchscript_and_what_it_holds_give_the_mask_as_monai_deploy_reads_it(name, tmp_path):
    """Its operator takes transforms and inferer from the file, and has its own for reading and writing images."""
    student, out = tmp_path / "student.ts", tmp_path / "out"
    words = ["--run", str(_untrained(name, tmp_path / "run", "demo.json"))]
    assert main(["export", name, str(student), "--format", "torchscript", *words, f"dataset_dir={tmp_path}/no"]) == 0
    values = np.random.default_rng(0).integers(0, 200, (36, 30, 33)).astype(np.float32)
    affine = np.array([[0, -1.5, 0, 20], [2, 0, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1]], dtype=float)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "volume.nii.gz")
    assert main(["infer", name, str(tmp_path / "volume.nii.gz"), str(out), *words, "--probabilities"]) == 0
    wanted = np.asarray(nib.load(out / "volume_prob.nii.gz").dataobj)

    parser = ConfigParser()
    with zipfile.ZipFile(student) as archive:
        parser.read_meta(json.loads(archive.read("student/extra/metadata.json")))
        parser.read_config(json.loads(archive.read("student/extra/inference.json")))
    parser["device"] = "cpu"
    parser.parse()
    assert parser["_meta_"]["network_data_format"].keys() == {"inputs", "outputs"}
    before, after = (parser.get_parsed_content(f"{when}processing") for when in ("pre", "post"))
    before.transforms = tuple(step for step in before.transforms if "LoadImage" not in type(step).__name__)
    given = {"affine": affine, "original_affine": affine, "original_channel_dim": "no_channel", "space": "RAS"}
    sample = before({"image": MetaTensor(torch.from_numpy(values), meta={**given, "spatial_shape": values.shape})})
    with torch.no_grad():
        predicted = parser.get_parsed_content("inferer")(sample["image"][None], torch.jit.load(student).eval())
    result = after({"image": sample["image"], "pred": predicted[0]})
    np.testing.assert_allclose(result["prob"][0].numpy(), wanted, atol=2e-5)
    assert result["pred"].shape == (1, *values.shape) and wanted.std() > 5e-4


def test_8_bit_integers_need_data(run, tmp_path, capsys):
    words = ["export", NAME, str(tmp_path / "student.onnx"), "--format", "int8", "--run", str(run)]
    assert main([*words, f"dataset_dir={tmp_path / 'none'}"]) == 2
    assert "no Figshare slices" in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_without_data_the_outputs_are_compared_and_that_is_said(run, tmp_path, capsys):
    student = tmp_path / "student.ts"
    words = ["export", NAME, str(student), "--format", "torchscript", "--run", str(run)]
    assert main([*words, f"dataset_dir={tmp_path / 'none'}"]) == 0
    assert "compared by random images alone; name a --dataset_dir" in capsys.readouterr().out
    student.unlink()
    assert main([*words, "--dataset_dir", str(tmp_path / "none")]) == 2
    assert "no Figshare slices" in capsys.readouterr().err and not student.exists()


def test_what_cannot_be_exported_is_named(run, tmp_path, capsys):
    assert main(["export", NAME, str(tmp_path / "a.onnx"), "--checkpoint", str(tmp_path / "none.pt")]) == 2
    assert "there is no trained network at" in capsys.readouterr().err
    assert main(["export", NAME, str(tmp_path / "a.pt"), "--run", str(run)]) == 2
    assert "ends in .onnx" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def _student(file: Path, **metadata) -> Path:
    info = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 1, "x", "y"])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["pred"])], "g", [info], [info])
    graph.output[0].name = "pred"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata.items()})
    onnx.save(model, file)
    return file


def test_an_exported_student_brings_settings_and_no_code(tmp_path):
    ids = {
        "image_size": 64,
        "threshold": "$__import__('os').getpid()",
        "student_features": ["@image_size", 2],
        "network_def": {"_target_": "os.system", "command": "true"},
        "output_dir": "elsewhere",
    }
    bundle = Bundle(NAME)
    assert bundle.settings_in(_student(tmp_path / "a.onnx", model_ids=ids), {}) == {"image_size": 64}
    assert bundle.settings_in(_student(tmp_path / "b.onnx"), {}) == {}
    for file in ("model.pt", "missing.onnx"):
        assert bundle.settings_in(tmp_path / file, {"image_size": 32}) == {}
    with pytest.raises(ValueError, match="c.onnx is of the bundle 'Another', not of 'brain_tumor_s"):
        bundle.settings_in(_student(tmp_path / "c.onnx", bundle="Another"), {})


def test_what_is_in_an_exported_network_cannot_be_changed(tmp_path, capsys):
    student = _student(tmp_path / "a.onnx", model_ids={"acceleration": 4, "image_size": 64})
    bundle = Bundle("mri_reconstruction")
    assert bundle.settings_in(student, {"acceleration": 4, "image_size": 48})["acceleration"] == 4
    words = ["infer", "mri_reconstruction", str(tmp_path), str(tmp_path / "out"), "--checkpoint", str(student)]
    assert main([*words, "--acceleration", "5"]) == 2
    assert "was exported with acceleration=4, and cannot do 5" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_that_are_null_and_files_that_are_in_the_network_come_back(tmp_path):
    ids = {"slice_axis": None, "mask_file": "/data/mask.npy", "image_size": 64}
    student, bundle = _student(tmp_path / "a.onnx", model_ids=ids), Bundle("mri_reconstruction")
    assert bundle.settings_in(student, {}) == ids
    assert bundle.settings_in(student, {"mask_file": "/data/mask.npy"}) == ids
    with pytest.raises(ValueError, match="was exported with mask_file=/data/mask.npy, and cannot do /other.npy"):
        bundle.settings_in(student, {"mask_file": "/other.npy"})


@pytest.mark.parametrize("name", monai_kd.bundle_names())
def test_published_weights_are_evaluated_as_they_infer(name):
    bundle = Bundle(name)
    inference = bundle.config("inference.json")
    _, settings = bundle.evaluation_of(None, None)
    train = {**bundle.config("train.json"), **settings}
    assert [key for key in inference["model_ids"] if train[key] != inference[key]] == []


def test_parts_of_a_folder(run, data, tmp_path):
    words = ["infer", NAME, str(data), str(tmp_path / "out"), "--run", str(run)]
    for part in ("1/2", "2/2"):
        assert main([*words, "--part", part]) == 0
    done = [len(read_rows(tmp_path / "out" / f"summary_part{part}of2.csv")) for part in (1, 2)]
    assert sum(done) == 24 and min(done) > 0
    assert main([*words, "--resume", "batch_inference#num_workers=2"]) == 0
    rows = read_rows(tmp_path / "out" / "summary.csv")
    assert len(rows) == 24 and read_rows(tmp_path / "out" / "failures.csv") == []
    assert main([*words, "--part", "3/2"]) == 2


@pytest.mark.parametrize("name", monai_kd.bundle_names())
def test_every_student_can_say_what_it_is(name):
    root = Path(monai_kd.bundle_root(name))
    config = ConfigParser.load_config_files([root / "configs" / "inference.json"])
    described = describe_network(config, json.loads((root / "configs" / "metadata.json").read_text()), "licence")
    assert json.loads(json.dumps(described)) == described
    assert isinstance(described["class_names"], (list, dict)) and described["class_names"]
    assert described["preprocessing"]["transforms"]
    steps = described["input"]["steps"] + described["output"]["steps"]
    assert steps and not [step for step in steps if step.startswith("apply ")]
    assert not [text for text in json.dumps(described["preprocessing"]).split('"') if text.startswith("@")]
