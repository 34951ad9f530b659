# SPDX-License-Identifier: Apache-2.0
import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.utils import BlendMode
from torch import nn

from monai_kd.handlers.teacher_identity import add_tensor, new_hash, teacher_identity


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LeakyReLU(0.2), nn.Flatten())


def _identity(network: nn.Module, inferer=None) -> bytes:
    return teacher_identity(network, inferer or SimpleInferer())


def _changed(change) -> nn.Module:
    network = _network()
    change(network)
    return network


def test_a_teacher_that_is_made_anew_has_the_same_identity():
    assert _identity(_network()) == _identity(_network()) == _identity(copy.deepcopy(_network()).train())


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network[0].weight.data.mul_(1 + 1e-6),
        lambda network: network[1].running_var.add_(1e-6),
        lambda network: setattr(network[2], "negative_slope", 0.3),
        lambda network: setattr(network[1], "eps", 1e-4),
        lambda network: setattr(network[0], "gain", torch.ones(2)),
        lambda network: network.append(nn.Identity()),
        lambda network: network.register_buffer("mask", torch.ones(1), persistent=False),
        lambda network: network.__setitem__(3, nn.Flatten(2)),
        lambda network: network.to(torch.float64),
    ],
)
def test_whatever_changes_its_answers_changes_its_identity(change):
    assert _identity(_changed(change)) != _identity(_network())


def test_a_tensor_or_array_that_is_no_buffer_counts():
    def gain(value: float):
        return lambda network: setattr(network[0], "gain", torch.full((2,), value).numpy())

    first, second, again = (_identity(_changed(gain(value))) for value in (1.0, 1.5, 1.0))
    assert first == again != second


@pytest.mark.parametrize(
    "made",
    [
        lambda slope: functools.partial(nn.functional.leaky_relu, negative_slope=slope),
        lambda slope: functools.partial(nn.functional.leaky_relu, *[torch.ones(1), slope]),
        lambda slope: np.float32(slope),
        lambda slope: SimpleNamespace(slope=slope),
        lambda slope: BlendMode.GAUSSIAN if slope > 0.2 else BlendMode.CONSTANT,
    ],
)
def test_what_holds_a_setting_counts_by_what_it_holds(made):
    first, second, again = (
        _identity(_changed(lambda network: setattr(network[0], "own", made(slope)))) for slope in (0.1, 0.3, 0.1)
    )
    assert first == again != second


def test_an_activation_function_counts_and_one_that_is_the_same_does_not():
    def activation(function):
        return lambda network: setattr(network, "activation", function)

    first, second, again = (_identity(_changed(activation(f))) for f in (torch.relu, torch.tanh, torch.relu))
    assert first == again != second


def test_how_it_is_applied_counts():
    identities = {_identity(_network(), inferer) for inferer in (None, *map(_window, (4, 8)))}
    assert len(identities) == 3 and _identity(_network(), _window(4)) in identities


def _window(size: int) -> SlidingWindowInferer:
    return SlidingWindowInferer((size, size))


def test_a_torchscript_teacher_is_known_by_its_code():
    def traced(slope: float) -> torch.jit.ScriptModule:
        network = _changed(lambda network: setattr(network[2], "negative_slope", slope))
        return torch.jit.trace(network.eval(), torch.ones(1, 1, 4, 4))

    first, second, again = (_identity(traced(slope)) for slope in (0.2, 0.3, 0.2))
    assert first == again != second


def test_one_without_weights_is_another_one_each_time():
    assert _identity(nn.Flatten()) != _identity(nn.Flatten())


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(2, 3),
        torch.zeros(6),
        torch.zeros(3, 2, dtype=torch.int32),
        torch.zeros(3, 2, dtype=torch.bfloat16),
        -torch.zeros(3, 2),
        torch.tensor([[0.0, 0], [0, 0], [0, 1e-45]]),
    ],
)
def test_every_bit_type_and_shape_of_an_image_counts(other):
    def digest(tensor: torch.Tensor) -> bytes:
        hashed = new_hash()
        add_tensor(hashed, tensor)
        return hashed.digest()

    assert digest(other) != digest(torch.zeros(3, 2))
    assert digest(torch.arange(6.0).reshape(2, 3).T) == digest(torch.tensor([[0.0, 3], [1, 4], [2, 5]]))
