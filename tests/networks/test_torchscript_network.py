# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from monai_kd.losses import DistillationLoss, DistillationTerm
from monai_kd.networks import TorchScriptNetwork


class Heads(nn.Module):
    """One convolution to two channels, answered in the form of ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 2, 1)
        self.kind = kind


class TensorHeads(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ListHeads(Heads):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x), x]


class TupleHeads(Heads):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


class DictHeads(Heads):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"mask": self.conv(x), "image": x}


class NestedHeads(Heads):
    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [[self.conv(x)]]


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def saved(folder: Path, heads: type[Heads] = TensorHeads) -> tuple[Path, Heads]:
    network = heads("any")
    torch.jit.save(torch.jit.script(network), folder / "network.ts")
    return folder / "network.ts", network


@pytest.mark.parametrize("heads", [TensorHeads, ListHeads, TupleHeads, DictHeads])
def test_gives_the_first_tensor(tmp_path, heads):
    file, network = saved(tmp_path, heads)
    x = image(2, 1, 5, 4, 3)
    torch.testing.assert_close(TorchScriptNetwork(file)(x), network.conv(x))


@pytest.mark.parametrize("heads, output", [(ListHeads, 1), (TupleHeads, 1), (DictHeads, "image")])
def test_gives_the_wanted_tensor(tmp_path, heads, output):
    x = image(2, 1, 5, 4, 3)
    assert torch.equal(TorchScriptNetwork(saved(tmp_path, heads)[0], output=output)(x), x)


def test_gives_the_wanted_channel(tmp_path):
    file, network = saved(tmp_path)
    x = image(2, 1, 5, 4, 3)
    torch.testing.assert_close(TorchScriptNetwork(file, channel=1)(x), network.conv(x)[:, 1:])


def test_a_traced_network(tmp_path):
    x, network = image(1, 1, 5, 4, 3), TensorHeads("any")
    torch.jit.save(torch.jit.trace(network, x), tmp_path / "traced.pt")
    torch.testing.assert_close(TorchScriptNetwork(tmp_path / "traced.pt")(x), network(x))


def test_images_are_resized_for_the_network_and_back(tmp_path):
    network = TorchScriptNetwork(saved(tmp_path)[0], spatial_size=[6, 8, 4])
    seen = []
    network.network.forward = lambda x: seen.append(x.shape) or x
    x = torch.arange(12.0).reshape(1, 1, 12, 1, 1).expand(1, 1, 12, 5, 7)
    y = network(x)
    assert seen == [(1, 1, 6, 8, 4)] and y.shape == x.shape
    torch.testing.assert_close(y[:, :, 1:-1], x[:, :, 1:-1])  # a ramp stays a ramp, but for its ends


def test_weights_move_save_and_load_as_those_of_any_network(tmp_path):
    file, _ = saved(tmp_path)
    network, x = TorchScriptNetwork(file).to("cpu", torch.float64).eval(), image(1, 1, 5, 4, 3)
    assert [name for name, _ in network.named_parameters()] == ["network.conv.weight", "network.conv.bias"]
    assert network(x.double()).dtype == torch.float64 and not network.network.training
    other = TorchScriptNetwork(file)
    other.load_state_dict({name: torch.zeros_like(value) for name, value in other.state_dict().items()})
    assert not other(x).any()


def test_as_a_teacher(tmp_path):
    student, teacher = nn.Conv3d(1, 1, 1), TorchScriptNetwork(saved(tmp_path)[0], channel=1).eval()
    loss = DistillationLoss({"mask": DistillationTerm(nn.MSELoss())})
    x = image(2, 1, 5, 4, 3)
    prediction = student(x)
    with torch.no_grad():
        answer = teacher(x)
    total, _ = loss(torch.zeros(()), {"": prediction}, {"": answer})
    total.backward()
    assert student.weight.grad.any() and all(p.grad is None for p in teacher.parameters())


def test_files_that_are_missing_or_no_torchscript_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.ts: there is no such file"):
        TorchScriptNetwork(tmp_path / "missing.ts")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.ts").write_text("no network")
    for name in ("weights.pt", "text.ts"):
        with pytest.raises(ValueError, match=f"{name}: not a TorchScript file; write one by torch.jit.save"):
            TorchScriptNetwork(tmp_path / name)


class Particular(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != 8:
            raise ValueError(f"there is no mask for {x.shape[-1]} lines")
        return x + torch.ones(8, 8)


@pytest.mark.parametrize(
    "shape, cause",
    [((1, 1, 8, 7), "there is no mask for 7 lines"), ((1, 1, 7, 8), "The size of tensor a (7) must match")],
)
def test_images_that_it_cannot_take_are_refused_in_one_line(tmp_path, shape, cause):
    torch.jit.script(Particular()).save(tmp_path / "network.ts")
    network = TorchScriptNetwork(tmp_path / "network.ts")
    assert network(torch.ones(1, 1, 8, 8)).mean() == 2
    message = f"network.ts: cannot be applied to images {tuple(shape)}: {cause}"
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        network(torch.ones(shape))
    assert "\n" not in str(error.value)


def test_an_output_that_is_no_tensor_is_refused(tmp_path):
    with pytest.raises(TypeError, match="expected a tensor from the network, got list; choose it by `output`"):
        TorchScriptNetwork(saved(tmp_path, NestedHeads)[0])(image(1, 1, 2, 2, 2))
