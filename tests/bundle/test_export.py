# SPDX-License-Identifier: Apache-2.0
"""The student of a bundle as a file of its own: written, compared, and used in the place of its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from monai.bundle import ConfigParser
from onnx import TensorProto, helper
from PIL import Image

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.cli import main
from monai_kd.data import FigshareGenerator
from monai_kd.engines import describe_network, read_metadata

from .runs import read_rows

NAME = "brain_tumor_segmentation"
TINY = {"image_size": 32, "num_workers": 0, "student_features": [2, 2, 4, 4, 4, 2], "threshold": 0.4}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return FigshareGenerator(image_size=48, slices_per_patient=2)(tmp_path_factory.mktemp("data") / "set", cases=24)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run that looks as if its student had been trained."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    config = ConfigParser.load_config_files([Path(monai_kd.bundle_root(NAME)) / "configs" / "train.json"])
    config.update({**TINY, "dataset_dir": str(data)})
    (folder / "model.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    network = ConfigParser(config).get_parsed_content("network_def")
    torch.save({"model": network.state_dict()}, folder / "model.pt")
    return folder


@pytest.mark.parametrize("format, file", [("onnx", "student.onnx"), ("torchscript", "student.ts")])
def test_an_exported_student_gives_what_the_run_gives(format, file, run, data, tmp_path, capsys):
    student = tmp_path / file
    assert main(["export", NAME, str(student), "--format", format, "--run", str(run)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "val_mean_dice: " in shown and "validation cases" in shown and " over " in shown
    described = read_metadata(student)
    assert described["model_ids"]["image_size"] == 32 and described["version"] == "0.1.0"
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
    assert not [text for text in json.dumps(described["preprocessing"]).split('"') if text.startswith("@")]
