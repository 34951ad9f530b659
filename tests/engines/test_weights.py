# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.engines import load_weights, read_weights, replace_weights
from monai_kd.engines.weights import read_progress


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"model": weights}], ids=["bare", "nested"])
def test_weights_of_a_checkpoint(wrap, tmp_path):
    torch.save(wrap({"weight": torch.full((1, 2), 3.0)}), tmp_path / "model.pt")
    network = nn.Linear(2, 1, bias=False)
    load_weights(network, tmp_path / "model.pt")
    assert (network.weight == 3).all()


def test_what_does_not_fit_is_named(tmp_path):
    torch.save({"weight": torch.zeros(1, 3)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt: these weights belong to another network: Error"):
        load_weights(nn.Linear(2, 1, bias=False), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="there is no trained network at .*other.pt; train one"):
        load_weights(nn.Linear(2, 1), tmp_path / "other.pt")
    (tmp_path / "model.pt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="model.pt is no checkpoint that torch can read, or damaged; copy it again"):
        load_weights(nn.Linear(2, 1), tmp_path / "model.pt")


def test_an_exported_network_is_named_with_what_takes_it(tmp_path):
    torch.jit.script(nn.Linear(2, 1)).save(str(tmp_path / "net.pt"))  # whatever it is called
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    for file, kind in (("net.pt", "TorchScriptNetwork"), ("net.onnx", "OnnxNetwork")):
        with pytest.raises(ValueError, match=f"{file} is an exported network, .*monai_kd.networks.{kind}"):
            read_weights(tmp_path / file)


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"model": weights}], ids=["bare", "nested"])
def test_replaced_weights_are_a_bare_state_dictionary_in_one_file(wrap, tmp_path):
    target = tmp_path / "models" / "model.pt"
    for value in (1.0, 2.0):
        torch.save(wrap({"weight": torch.full((1, 2), value)}), tmp_path / "trained.pt")
        replace_weights(target, tmp_path / "trained.pt")
        assert [path.name for path in target.parent.iterdir()] == ["model.pt"]
        written = torch.load(target, weights_only=True)
        assert written.keys() == {"weight"} and (written["weight"] == value).all()


def test_what_is_no_checkpoint_replaces_none(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt holds a list and no weights by name"):
        replace_weights(tmp_path / "models" / "model.pt", tmp_path / "list.pt")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("content", [{"modal": {"a": torch.ones(2)}}, {"model": {"a": torch.ones(2), "b": {}}}])
def test_what_stands_among_weights_and_is_none_is_named(content, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt holds '(modal|b)', a dict, where weights should be"):
        read_weights(tmp_path / "model.pt")


def test_a_weight_may_be_called_model(tmp_path):
    torch.save({"model": torch.ones(2)}, tmp_path / "model.pt")
    assert (read_weights(tmp_path / "model.pt")["model"] == 1).all()


_BROKEN = {"model": {}, "trainer": 1, "evaluator": {}, "state": {}, "scaler": {}}


@pytest.mark.parametrize("content", [[1], {"model": {}}, _BROKEN])
def test_what_no_training_left_is_nothing_to_go_on_with(content, tmp_path):
    torch.save(content, tmp_path / "teacher_resume.pt")
    with pytest.raises(ValueError, match="teacher_resume.pt is nothing that a training left to go on with: start anew"):
        read_progress(tmp_path / "teacher_resume.pt")
