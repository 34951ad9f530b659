# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from monai_kd.transforms import CartesianMask


@pytest.mark.parametrize("acceleration", [*range(2, 13), 2.5])
@pytest.mark.parametrize("size", [150, 217, 256])
def test_number_of_lines_and_centre(acceleration: float, size: int) -> None:
    mask = CartesianMask(acceleration)(size)
    assert mask.shape == (size,) and mask.dtype == torch.bool
    assert mask.sum() == int(size / acceleration)
    assert mask[size // 2 - 5 : size // 2 + 5].all()


def test_the_choice_never_changes() -> None:
    lines = [6, 24, 32, 37, 46, 52, 55, 63, 65, 67, 69, *range(70, 80), 80, 83, 89, 90, 96, 98, 99, 114, 120]
    assert CartesianMask(acceleration=5, seed=7)(150).nonzero().flatten().tolist() == lines


def test_the_seed_and_the_acceleration_change_the_choice() -> None:
    masks = [CartesianMask(acceleration, seed)(150) for acceleration in (4, 5) for seed in (0, 1)]
    assert len({tuple(mask.tolist()) for mask in masks}) == 4


def test_the_density_is_a_gaussian_on_a_constant() -> None:
    size, acceleration, seeds = 100, 10, 2000
    chosen = np.stack([CartesianMask(acceleration, seed, centre_lines=0)(size).numpy() for seed in range(seeds)])
    distance = np.arange(size) - size // 2
    density = np.exp(-(distance**2) / 200) + 1 / 20
    # Sampling without replacement, one line after the other, by NumPy's own generator.
    generator = np.random.default_rng(0)
    expected = np.zeros(size)
    for _ in range(seeds):
        expected[generator.choice(size, 10, replace=False, p=density / density.sum())] += 1 / seeds
    blocks = [values.reshape(10, 10).sum(1) for values in (chosen.mean(0), expected)]
    np.testing.assert_allclose(*blocks, atol=0.1)


def test_with_few_lines_all_are_central() -> None:
    assert CartesianMask(12)(100).nonzero().flatten().tolist() == list(range(46, 54))
    assert CartesianMask(4)(16).nonzero().flatten().tolist() == [6, 7, 8, 9]
    assert CartesianMask(1)(16).all()


def test_without_a_single_line_there_is_no_mask() -> None:
    with pytest.raises(ValueError, match="11 lines are too few for an acceleration of 12"):
        CartesianMask(12)(11)


@pytest.mark.parametrize("name, value", [("acceleration", 0.5), ("centre_lines", -1)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        CartesianMask(**{name: value})  # type: ignore[arg-type]


def _network(**kwargs: float) -> nn.Module:
    """A network that has the mask as a submodule."""
    return nn.ModuleDict({"mask": CartesianMask(**kwargs), "layer": nn.Linear(1, 1)})


def test_a_checkpoint_brings_its_masks_back_to_whatever_shares_the_object(tmp_path) -> None:
    trained = _network()
    trained["mask"](20)
    trained["mask"].masks[20] = torch.arange(20) % 4 == 0  # as if another NumPy had drawn it
    torch.save({"model": trained.state_dict()}, tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    network = _network()
    rule_of_a_transform = network["mask"]
    assert network.load_state_dict(content["model"], strict=True).missing_keys == []
    assert torch.equal(rule_of_a_transform(20), torch.arange(20) % 4 == 0)
    assert torch.equal(rule_of_a_transform(24), CartesianMask()(24))


@pytest.mark.parametrize("other", [{"acceleration": 5}, {"seed": 1}, {"centre_lines": 2}])
def test_masks_for_another_setting_are_left_aside(other: dict[str, float]) -> None:
    trained, network = _network(sizes=(60,)), _network(**other)
    network.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(network["mask"](60), CartesianMask(**other)(60))


def test_a_checkpoint_without_masks_loads() -> None:
    network = _network(sizes=(20,))
    network.load_state_dict({"layer.weight": torch.ones(1, 1), "layer.bias": torch.ones(1)}, strict=True)
    assert torch.equal(network["mask"](20), CartesianMask()(20))


def test_a_copy_has_masks_of_its_own() -> None:
    mask = CartesianMask(sizes=(20,))
    other = copy.deepcopy(mask)
    other.masks[20] = torch.zeros(20, dtype=torch.bool)
    assert torch.equal(mask(20), CartesianMask()(20))


def test_torchscript_knows_the_listed_sizes() -> None:
    scripted = torch.jit.script(CartesianMask(sizes=(20,)))
    assert torch.equal(scripted(20), CartesianMask()(20))
    with pytest.raises(Exception, match=r"there is no mask for 24 lines; list its size in CartesianMask\(sizes"):
        scripted(24)
