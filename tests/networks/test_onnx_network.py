# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from monai_kd.networks import OnnxNetwork


def double(file: Path, inputs: tuple[str, ...] = ("image",)) -> Path:
    """A network that doubles its input, or adds up its two inputs, written node by node."""
    shape = ["batch", 1, "x", "y"]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs]
    node = helper.make_node("Add", [inputs[0], inputs[-1]], ["pred"])
    pred = helper.make_tensor_value_info("pred", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "double", infos, [pred])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"bundle": "doubles"})
    onnx.save(model, file)
    return file


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(1, 1, 3, 4), (5, 1, 2, 2)])
def test_gives_what_the_file_computes(tmp_path, shape):
    network = OnnxNetwork(double(tmp_path / "network.onnx")).to("cpu").eval()
    assert isinstance(network, nn.Module) and not list(network.parameters())
    x = image(*shape)
    y = network(x)
    assert y.dtype == torch.float32 and torch.equal(y, 2 * x)


def test_images_that_are_no_single_precision_or_not_in_one_piece(tmp_path):
    network = OnnxNetwork(double(tmp_path / "network.onnx"))
    x = image(2, 1, 3, 4)
    assert torch.equal(network(x.double().requires_grad_()), 2 * x)
    assert torch.equal(network(x.transpose(2, 3)), 2 * x.transpose(2, 3))


def test_the_prediction_is_nobody_elses(tmp_path):
    network = OnnxNetwork(double(tmp_path / "network.onnx"))
    first = network(torch.ones(1, 1, 2, 2))
    network(torch.zeros(1, 1, 2, 2))
    assert (first.add_(1) == 3).all()


def test_uses_as_many_threads_as_pytorch(tmp_path):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        options = OnnxNetwork(double(tmp_path / "network.onnx")).session.get_session_options()
    finally:
        torch.set_num_threads(threads)
    assert options.intra_op_num_threads == 3


def test_a_device_that_onnxruntime_does_not_have_is_the_cpu(tmp_path):
    network = OnnxNetwork(double(tmp_path / "network.onnx"), device="cuda:0")
    assert network.session.get_providers()[-1] == "CPUExecutionProvider"


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 1, 3)])
def test_images_that_it_cannot_take_are_refused_in_one_line(tmp_path, shape):
    network = OnnxNetwork(double(tmp_path / "network.onnx"))
    with pytest.raises(ValueError, match=r"network.onnx: expected images \(\*, 1, \*, \*\).*got") as error:
        network(image(*shape))
    assert str(shape) in str(error.value) and "\n" not in str(error.value)


def test_metadata(tmp_path):
    assert OnnxNetwork(double(tmp_path / "network.onnx")).metadata == {"bundle": "doubles"}


def test_files_that_will_not_do_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.onnx: there is no such file"):
        OnnxNetwork(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="text.onnx: not an ONNX model that onnxruntime can read"):
        OnnxNetwork(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match="expected a network with one input, got image, mask"):
        OnnxNetwork(double(tmp_path / "two.onnx", ("image", "mask")))


def test_without_onnxruntime_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "monai_kd\[export\]"'):
        OnnxNetwork(double(tmp_path / "network.onnx"))
