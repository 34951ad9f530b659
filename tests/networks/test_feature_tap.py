# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import weakref

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from monai_kd.networks import FeatureTap


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
        self.head = nn.Linear(3, 1)
        self.unused = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


class Twins(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class DistributedWithoutProcesses(DistributedDataParallel):
    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def test_gives_the_outputs_of_nested_layers_in_the_order_of_the_names() -> None:
    network, x = Nested(), torch.ones(4, 2)
    tap = FeatureTap(network, ["head", "encoder.0", "head"])
    prediction = network(x)
    features = tap.pop()
    assert list(features) == ["head", "encoder.0"]
    assert features["head"] is prediction
    torch.testing.assert_close(features["encoder.0"], network.encoder[0](x), rtol=0, atol=0)


def test_features_carry_their_graph() -> None:
    network = Nested()
    tap = FeatureTap(network, ["encoder.0"])
    network(torch.ones(1, 2))
    tap.pop()["encoder.0"].sum().backward()
    assert network.encoder[0].weight.grad is not None and network.head.weight.grad is None


def test_no_graph_outlives_a_pop() -> None:
    network = Nested()
    tap = FeatureTap(network, ["encoder.0"])
    network(torch.ones(1, 2))
    feature = tap.pop()["encoder.0"]
    alive = weakref.ref(feature)
    assert alive() is not None
    del feature
    assert alive() is None


def test_empty_name_is_the_network_itself() -> None:
    network = nn.Linear(2, 1)
    tap = FeatureTap(network, [""])
    assert network(torch.ones(1, 2)) is tap.pop()[""]


def test_layer_that_runs_twice_gives_its_last_output() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 3.0)
    network = nn.Sequential(layer, layer)
    tap = FeatureTap(network, ["0", "1"])
    network(torch.ones(1, 1))
    features = tap.pop()
    assert features["0"].item() == features["1"].item() == 9.0


def test_in_place_activation_after_the_layer_shows() -> None:
    network = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    tap = FeatureTap(network, ["0"])
    network(torch.tensor([-1.0, 2.0]))
    assert tap.pop()["0"].tolist() == [0.0, 2.0]


def test_training_only_follows_the_networks_mode() -> None:
    network = Nested()
    tap = FeatureTap(network, ["encoder.0"], training_only=True)
    network.train()
    network.encoder.eval()  # a frozen block of a network in training
    x = torch.ones(1, 2)
    network(x)
    network.eval()
    network(torch.zeros(5, 2))
    torch.testing.assert_close(tap.pop()["encoder.0"], network.encoder[0](x), rtol=0, atol=0)
    network(x)
    with pytest.raises(RuntimeError, match="in training mode"):
        tap.pop()


def test_captures_in_evaluation_mode_by_default() -> None:
    network = Nested().eval()
    tap = FeatureTap(network, ["head"])
    network(torch.ones(1, 2))
    assert tap.pop()["head"].shape == (1, 1)


@pytest.mark.parametrize("layers", [["unused"], ["head", "unused"]])
def test_layer_that_did_not_run_is_named(layers: list[str]) -> None:
    network = Nested()
    tap = FeatureTap(network, layers)
    network(torch.ones(1, 2))
    with pytest.raises(RuntimeError, match=r"layers \['unused'\] since the last pop"):
        tap.pop()


def test_second_pop_without_a_run_fails() -> None:
    network = Nested()
    tap = FeatureTap(network, ["head"])
    network(torch.ones(1, 2))
    tap.pop()
    with pytest.raises(RuntimeError, match="'head'"):
        tap.pop()


def test_no_layers_give_nothing() -> None:
    assert FeatureTap(Nested(), []).pop() == {}


def test_unknown_layer_names_the_closest_and_the_choices_at_its_level() -> None:
    with pytest.raises(ValueError, match=r"no layer 'encodr.0'; closest names: encoder.0.*encoder, head, unused"):
        FeatureTap(Nested(), ["head", "encodr.0"])
    with pytest.raises(ValueError, match=r"no layer 'encoder.7'; .*; layers of layer 'encoder': 0, 1$"):
        FeatureTap(Nested(), ["encoder.7"])


def test_failed_construction_leaves_no_hook() -> None:
    network = Nested()
    with pytest.raises(ValueError, match="no layer 'tail'"):
        FeatureTap(network, ["head", "tail"])
    assert not network.head._forward_hooks


def test_layer_that_gives_several_tensors_is_named_with_its_type() -> None:
    network = nn.Sequential(Twins())
    FeatureTap(network, ["0"])
    with pytest.raises(TypeError, match="layer '0' must give one tensor, got tuple"):
        network(torch.ones(1))


def test_remove_takes_every_hook_off_and_can_be_repeated() -> None:
    network = Nested()
    tap = FeatureTap(network, ["head", "encoder.1"])
    network(torch.ones(1, 2))
    tap.remove()
    tap.remove()
    assert not network.head._forward_hooks and not network.encoder[1]._forward_hooks
    network(torch.ones(1, 2))
    with pytest.raises(RuntimeError, match="nothing was captured"):
        tap.pop()


def test_taps_on_one_layer_do_not_disturb_each_other() -> None:
    network = Nested()
    kept, removed = FeatureTap(network, ["head"]), FeatureTap(network, ["head"])
    removed.remove()
    network(torch.ones(1, 2))
    assert kept.pop()["head"].shape == (1, 1)


def test_meta_tensors_pass_as_they_are() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Identity())
    tap = FeatureTap(network, ["0"])
    network(MetaTensor(torch.ones(1, 2), affine=2 * torch.eye(4)))
    feature = tap.pop()["0"]
    assert isinstance(feature, MetaTensor) and feature.affine[0, 0] == 2


@pytest.mark.parametrize("wrapper", [nn.DataParallel, DistributedWithoutProcesses])
def test_parallel_wrappers_are_seen_through(wrapper: type[nn.Module]) -> None:
    wrapped = wrapper(Nested())
    tap = FeatureTap(wrapped, ["encoder.0"], training_only=True)
    wrapped(torch.ones(1, 2))
    assert tap.pop()["encoder.0"].shape == (1, 3)
    wrapped.eval()
    wrapped(torch.ones(1, 2))
    with pytest.raises(RuntimeError, match="nothing was captured"):
        tap.pop()


def test_compiled_network_is_seen_through() -> None:
    network = Nested()
    compiled = torch.compile(network, backend="eager")
    tap = FeatureTap(compiled, ["encoder.0"], training_only=True)
    x = torch.ones(1, 2)
    for _ in range(2):
        compiled(x)
        torch.testing.assert_close(tap.pop()["encoder.0"], network.encoder[0](x))
    tap.remove()
    compiled(x)
    with pytest.raises(RuntimeError, match="nothing was captured"):
        tap.pop()
