# SPDX-License-Identifier: Apache-2.0
"""With a network of one level of a U-Net and a metric of its pixels."""

from __future__ import annotations

import copy
import json
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanAbsoluteError, MeanDice, from_engine
from monai.networks.nets.basic_unet import UpCat
from monai.transforms import AsDiscreted
from torch import Tensor, nn

from monai_kd.engines import batch, export, export_network, export_parity, load_exported, read_metadata

SHAPE = (1, 8, 12)
METADATA = {"bundle": "Grüße", "model_ids": {"image_size": 8, "names": ["a", "b"]}, "version": "1.0"}


class Level(nn.Module):
    """Convolve, halve, bring back, join: sizes that are odd need the padding of MONAI's U-Net."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.up = UpCat(2, 4, 4, 4, act="relu", norm="batch", bias=True, halves=False)
        self.out = nn.Conv2d(4, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):  # so that the averages of a batch would be other ones
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.out(self.up(nn.functional.max_pool2d(x, 2), x))


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def evaluator(network: nn.Module, count: int = 6, better: str = "dice") -> SupervisedEvaluator:
    """Its labels are what the network itself predicts, so any change makes it worse."""
    network.eval()
    data = []
    for number in range(count):
        image = images(*SHAPE, seed=number)
        with torch.no_grad():
            answer = network(image[None])[0]
        label = (answer > 0.05).float() if better == "dice" else answer
        data.append({"image": MetaTensor(image), "label": MetaTensor(label)})
    pair = from_engine(["pred", "label"])
    if better == "dice":
        metric, kwargs = MeanDice(output_transform=pair), {}
    else:
        metric, kwargs = MeanAbsoluteError(output_transform=pair), {"metric_cmp_fn": lambda new, best: new < best}
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=network,
        postprocessing=AsDiscreted("pred", threshold=0.05) if better == "dice" else None,
        key_val_metric={better: metric},
        **kwargs,
    )


@pytest.fixture(scope="module")
def network() -> Level:
    return Level()


@pytest.fixture(scope="module", params=["onnx", "torchscript"])
def exported(request, network, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("exported") / f"student{export.FORMATS[request.param]}"
    report = export_network(network, file, request.param, SHAPE, METADATA)
    assert report.file == file and report.difference < 1e-5 and report.samples == 3 and report.metric == ""
    return file


def test_the_file_gives_the_same_for_any_number_and_any_size(exported, network):
    loaded = load_exported(exported)
    network.eval()
    for shape in ((1, *SHAPE), (5, *SHAPE), (2, 1, 9, 7), (1, 1, 16, 5)):
        x = images(*shape)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), network(x), atol=1e-6, rtol=1e-5)


def test_the_file_is_one_and_says_what_it_is(exported):
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    metadata = read_metadata(exported)
    assert {name: metadata[name] for name in METADATA} == METADATA


def test_torchscript_lies_where_monai_deploy_looks(network, tmp_path):
    file, config = tmp_path / "student.v2.ts", {"preprocessing": {"_target_": "Compose"}, "note": "Grüße"}
    export_network(network, file, "torchscript", SHAPE, METADATA, config=config)
    with zipfile.ZipFile(file) as archive:  # in a folder of the file's own name, or it is not found
        kept = {name: json.loads(archive.read(f"student.v2/extra/{name}.json")) for name in ("inference", "metadata")}
    assert kept["inference"] == config
    assert {name: kept["metadata"][name] for name in METADATA} == METADATA


def test_the_network_stays_as_it_was(tmp_path):
    network = Level().train()
    before = copy.deepcopy(network.state_dict())
    export_network(network, tmp_path / "student.ts", "torchscript", SHAPE, evaluator=evaluator(copy.deepcopy(network)))
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert "forward" not in vars(network.up)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_network_that_gives_no_finite_numbers_is_not_exported(format, tmp_path):
    network = Level()
    nn.init.constant_(network.out.bias, float("nan"))
    file = tmp_path / f"student{export.FORMATS[format]}"
    with pytest.raises(FloatingPointError, match="the original: the network gave 96 of 96 values that are no finite"):
        export_network(network, file, format, SHAPE)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("better", ["dice", "error"])
def test_both_go_through_the_validation_cases(network, better, tmp_path):
    cases = evaluator(network, better=better)
    report = export_network(network, tmp_path / "student.ts", "torchscript", SHAPE, evaluator=cases)
    assert report.metric == better and report.samples == 6
    assert report.before == report.after == pytest.approx(float(better == "dice"), abs=1e-6)
    assert cases.network is network


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_a_file_that_gives_something_else_is_not_left(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_exported", lambda file: Wrong())
    with pytest.raises(ValueError, match="student.ts: the outputs differ by 1 of their size, more than 0.001"):
        export_network(network, tmp_path / "student.ts", "torchscript", SHAPE)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("better", ["dice", "error"])
def test_a_file_that_does_worse_is_not_left(network, better, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_exported", lambda file: Wrong())
    monkeypatch.setattr(export, "_CLOSE", 2)
    file, cases = tmp_path / "student.ts", evaluator(network, better=better)
    numbers = r"dice goes from 1.0000 to 0.0000" if better == "dice" else r"error goes from 0.0000 to 0\.\d+"
    with pytest.raises(ValueError, match=f"{numbers} on the validation cases, a loss of more than the tolerance 0.01"):
        export_network(network, file, "torchscript", SHAPE, evaluator=cases)
    assert not any(tmp_path.iterdir()) and cases.network is network
    assert export_network(network, file, "torchscript", SHAPE, evaluator=cases, tolerance=1).before != 0.5
    assert file.is_file()


def test_8_bit_integers_are_calibrated_on_the_validation_cases(network, tmp_path):
    file = tmp_path / "student.onnx"
    report = export_network(network, file, "int8", SHAPE, METADATA, evaluator(network), tolerance=0.2)
    assert 0 < report.difference < 0.2 and report.before == 1 and 0.8 < report.after <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]
    model = onnx.load(file)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    assert all(weight.data_type != onnx.TensorProto.FLOAT for weight in model.graph.initializer if len(weight.dims) > 1)
    # The images are in 0..1, and so is what the first activation is scaled for.
    scale = next(weight for weight in model.graph.initializer if weight.name == "image_scale")
    largest = max(float(images(*SHAPE, seed=number).max()) for number in range(6))
    assert onnx.numpy_helper.to_array(scale) * 255 == pytest.approx(largest, rel=1e-5)
    assert read_metadata(file)["version"] == "1.0"


def test_samples_are_few_and_spread_over_all_cases(network, monkeypatch):
    monkeypatch.setattr(export_parity, "_SAMPLES", 4)
    cases = evaluator(network, count=22)
    samples, name, value = export_parity.observe_network(network, cases)
    numbers = [next(n for n in range(22) if torch.equal(s[0], images(*SHAPE, seed=n))) for s in samples]
    assert numbers == [0, 4, 8, 12, 16, 20] and (name, value) == ("dice", 1)
    assert all(type(sample) is Tensor for sample in samples) and not network._forward_pre_hooks


def test_predictions_in_an_evaluation_keep_the_metadata_of_their_images():
    wrapped = export_parity._KeepMetadata(nn.Identity())
    x = MetaTensor(images(1, *SHAPE), meta={"filename_or_obj": "a.png"})
    assert wrapped(x).meta["filename_or_obj"] == "a.png" and isinstance(wrapped(x), MetaTensor)
    assert type(wrapped(batch.plain_tensor(x))) is Tensor


def test_wrong_calls_are_named(network, tmp_path):
    with pytest.raises(ValueError, match="format must be one of onnx, torchscript, int8, got 'tflite'"):
        export_network(network, tmp_path / "student.tflite", "tflite", SHAPE)
    with pytest.raises(ValueError, match="format onnx ends in .onnx, by which it is known; got .*student.pt"):
        export_network(network, tmp_path / "student.pt", "onnx", SHAPE)
    with pytest.raises(ValueError, match="int8 is calibrated on validation cases: give the data set"):
        export_network(network, tmp_path / "student.onnx", "int8", SHAPE)
    assert not any(tmp_path.iterdir())


def test_without_the_packages_the_cure_is_named(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'writing ONNX needs: pip install "monai_kd\[export\]"'):
        export_network(network, tmp_path / "student.onnx", "onnx", SHAPE)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_a_full_disk_ends_an_export_but_not_the_process(format, tmp_path, full_disk):
    network = nn.Conv2d(1, 40, 7).eval()
    with full_disk(), pytest.raises(OSError):
        export_network(network, tmp_path / f"student{export.FORMATS[format]}", format, SHAPE)
    assert not list(tmp_path.iterdir())
