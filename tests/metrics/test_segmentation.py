# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.handlers import IgniteMetricHandler, from_engine
from scipy.ndimage import binary_erosion, distance_transform_edt, label
from scipy.spatial.distance import cdist

from monai_kd.handlers import CaseTable
from monai_kd.metrics import CaseSurfaceDistance, CenterlineDice, ComponentCount, ConfusionRate, VolumeError

SPACING = (2.0, 1.0, 3.0)


def box(*slices: slice, size: int = 10) -> torch.Tensor:
    mask = torch.zeros(1, *[size] * len(slices))
    mask[(0, *slices)] = 1
    return mask


def on_grid(mask: torch.Tensor, spacing: tuple[float, ...] = SPACING) -> MetaTensor:
    """With axes turned by 0.3 and flipped, which changes no distance."""
    cos, sin = np.cos(0.3), np.sin(0.3)
    turn = np.array([[cos, -sin, 0, 5], [sin, cos, 0, 0], [0, 0, -1, 7], [0, 0, 0, 1]])
    return MetaTensor(mask, affine=torch.tensor(turn @ np.diag([*spacing, 1])))


CUBE, SHIFTED = box(*[slice(2, 5)] * 3), box(slice(3, 6), slice(2, 5), slice(2, 5))
EMPTY = torch.zeros_like(CUBE)


def surface_distances(a: torch.Tensor, b: torch.Tensor, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """From every surface voxel to the other mask's nearest, both ways, by brute force."""
    points = [np.argwhere(m & ~binary_erosion(m)) * spacing for m in (a[0].numpy() > 0, b[0].numpy() > 0)]
    distances = cdist(*points)
    return distances.min(axis=1), distances.min(axis=0)


def value(metric, pred: torch.Tensor, true: torch.Tensor) -> float:
    metric([pred], [true])
    return metric.aggregate().item()


@pytest.mark.parametrize("percentile", [None, 100, 95])
def test_distance_of_a_mask_shifted_by_one_voxel(percentile):
    distances = surface_distances(CUBE, SHIFTED, SPACING)
    # Two faces of nine voxels move by 2 mm; the centres of the cubes are no surface, so one voxel each is 1 mm away.
    expected = np.mean(np.concatenate(distances)) if percentile is None else 2.0
    assert value(CaseSurfaceDistance(percentile), CUBE, on_grid(SHIFTED)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(12, 9), (9, 8, 7)], ids=str)
def test_distance_agrees_with_brute_force(shape):
    a, b = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0)) > 0.8
    spacing = SPACING[: len(shape)]
    there, back = surface_distances(a, b, spacing)
    true = MetaTensor(b, affine=torch.diag(torch.tensor([*spacing, 1.0, 1.0][: len(shape) + 1])).double())
    assert value(CaseSurfaceDistance(), a, true) == pytest.approx(np.mean(np.concatenate([there, back])), rel=1e-5)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert value(CaseSurfaceDistance(95), a, true) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("percentile", [None, 95])
def test_empty_masks(percentile):
    diagonal = np.hypot.reduce([10 * mm for mm in SPACING])
    assert value(CaseSurfaceDistance(percentile), EMPTY, on_grid(EMPTY)) == 0
    assert value(CaseSurfaceDistance(percentile), EMPTY, on_grid(CUBE)) == pytest.approx(diagonal)
    assert value(CaseSurfaceDistance(percentile), CUBE, on_grid(EMPTY)) == pytest.approx(diagonal)
    assert value(CaseSurfaceDistance(percentile), CUBE, on_grid(CUBE)) == 0


def test_volume_error_in_millilitres():
    assert value(VolumeError(), CUBE, on_grid(box(*[slice(1, 5)] * 3))) == pytest.approx((64 - 27) * 6 / 1000)
    assert value(VolumeError(), CUBE, on_grid(EMPTY)) == pytest.approx(27 * 6 / 1000)
    assert value(VolumeError(), CUBE, on_grid(SHIFTED)) == 0


def test_rates_by_hand():
    assert value(ConfusionRate("sensitivity"), SHIFTED, on_grid(CUBE)) == pytest.approx(18 / 27)
    assert value(ConfusionRate("specificity"), SHIFTED, on_grid(CUBE)) == pytest.approx((973 - 9) / 973)
    assert np.isnan(ConfusionRate("sensitivity")([CUBE], [on_grid(EMPTY)]).item())


def test_the_mean_is_over_cases_and_leaves_out_those_without_a_value():
    metric = ConfusionRate("sensitivity")
    metric([SHIFTED, CUBE, CUBE], [on_grid(CUBE), on_grid(CUBE), on_grid(EMPTY)])
    assert metric.aggregate().item() == pytest.approx((18 / 27 + 1) / 2)


def test_a_batch_in_one_tensor_and_several_channels():
    pred, true = torch.cat([CUBE, EMPTY]), torch.cat([SHIFTED, EMPTY])
    metric = CaseSurfaceDistance(100)
    result = metric(torch.stack([pred, true]), on_grid(torch.stack([true, true])))
    torch.testing.assert_close(result, torch.tensor([[2.0, 0], [0, 0]]))
    volumes = VolumeError()(torch.stack([pred, EMPTY.expand(2, -1, -1, -1)]), on_grid(torch.stack([true, true])))
    torch.testing.assert_close(volumes, torch.tensor([[0.0, 0], [27 * 6 / 1000, 0]]))


def test_every_case_has_its_own_voxel_size_in_an_evaluation(tmp_path):
    """Cases of two voxel sizes, through MONAI's handlers into the table of cases."""
    cases = [(CUBE, on_grid(SHIFTED, (2, 1, 3))), (CUBE, on_grid(SHIFTED, (0.5, 1, 1)))]

    def step(engine: Engine, batch: int) -> list[dict]:
        pred, label = cases[batch]
        engine.state.batch = [{"image": MetaTensor(pred, meta={"filename_or_obj": f"{batch}.nii"})}]
        return [{"pred": pred, "label": label}]

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    engine.network = torch.nn.Linear(1, 1)
    metrics = {"val_hd_mm": CaseSurfaceDistance(100), "val_ml": VolumeError(), "val_rate": ConfusionRate("sensitivity")}
    for name, metric in metrics.items():
        IgniteMetricHandler(metric, output_transform=from_engine(["pred", "label"])).attach(engine, name)
    CaseTable(str(tmp_path)).attach(engine)
    engine.run([0, 1])
    assert engine.state.metrics["val_hd_mm"] == pytest.approx((2 + 0.5) / 2)
    with open(tmp_path / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["hd_mm"]) for row in rows] == [2, 0.5]
    assert [float(row["rate"]) for row in rows] == pytest.approx([2 / 3] * 2, abs=1e-6)


def test_a_mask_without_metadata_is_refused():
    for metric in (CaseSurfaceDistance(), VolumeError()):
        with pytest.raises(ValueError, match="must be a MetaTensor"):
            metric([CUBE], [CUBE])


@pytest.mark.parametrize("percentile", [0, 101])
def test_percentiles_out_of_range_are_refused(percentile):
    with pytest.raises(ValueError, match=f"above 0 and up to 100, or none for the mean, got {percentile}"):
        CaseSurfaceDistance(percentile)


def curve(seed: int) -> torch.Tensor:
    """A curve that goes on along x with every voxel, and aside by one voxel at most: it is its own centre line."""
    rng = np.random.default_rng(seed)
    y, z = 10 + np.cumsum(rng.integers(-1, 2, (2, 20)), axis=1).clip(-8, 8)
    mask = torch.zeros(1, 20, 20, 20)
    mask[0, np.arange(20), y, z] = 1
    return mask


def thinned(mask: np.ndarray) -> np.ndarray:
    """A skeleton by another algorithm: the outermost voxels go, as long as no end goes and nothing comes apart."""
    skeleton, full = mask.copy(), np.ones((3, 3, 3))
    order = np.argsort(distance_transform_edt(mask)[mask], kind="stable")
    for index in map(tuple, np.argwhere(mask)[order]):
        block = skeleton[tuple(slice(max(i - 1, 0), i + 2) for i in index)].copy()
        block[tuple(min(i, 1) for i in index)] = False
        if block.sum() > 1 and label(block, full)[1] == 1:
            skeleton[index] = False
    return skeleton


def centreline_dice_by_numpy(a: torch.Tensor, b: torch.Tensor, skeleton) -> float:
    a, b = a[0].numpy() > 0, b[0].numpy() > 0
    p, s = (skeleton(a) & b).sum() / skeleton(a).sum(), (skeleton(b) & a).sum() / skeleton(b).sum()
    return 2 * p * s / (p + s)


def test_centreline_dice_of_straight_lines_by_hand():
    line = box(slice(2, 8), slice(4, 5), slice(4, 5))  # six voxels
    thick = box(slice(2, 8), slice(3, 6), slice(3, 6))
    shorter = box(slice(2, 5), slice(4, 5), slice(4, 5))
    assert value(CenterlineDice(), line, line) == 1
    # The shorter line lies in the longer, half of which lies in the shorter: 2 * 1 * 0.5 / 1.5.
    assert value(CenterlineDice(), shorter, line) == pytest.approx(2 / 3)
    # A line in the middle of a thick vessel costs nothing, although it is a ninth of it.
    assert value(CenterlineDice(), line, thick) == 1


def tube(goes_astray_at: int = 32) -> torch.Tensor:
    """A smooth vessel of radius 2; from some point on it may lie eight voxels aside."""
    x = np.arange(32)
    y, z = 11 + 3 * np.sin(x / 6) + 8 * (x >= goes_astray_at), 11 + 4 * np.cos(x / 8)
    line = np.ones((32, 26, 26), bool)
    line[x, y.round().astype(int), z.round().astype(int)] = False
    return torch.tensor(distance_transform_edt(line) <= 2).float()[None]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_centreline_dice_of_thin_curves_needs_no_skeleton(seed):
    a, gaps = curve(seed), torch.rand(1, 20, 20, 20, generator=torch.Generator().manual_seed(seed)) > 0.7
    b = torch.where(gaps, curve(seed + 10), a)
    assert value(CenterlineDice(), a, b) == pytest.approx(centreline_dice_by_numpy(a, b, lambda mask: mask), abs=0.03)


@pytest.mark.parametrize("astray", [8, 20])
def test_centreline_dice_of_vessels_agrees_with_another_thinning(astray):
    expected = centreline_dice_by_numpy(tube(), tube(astray), thinned)
    assert 0.1 < expected < 0.8
    assert value(CenterlineDice(), tube(), tube(astray)) == pytest.approx(expected, abs=0.05)


def test_centreline_dice_of_empty_masks():
    assert value(CenterlineDice(), EMPTY, EMPTY) == 1
    assert value(CenterlineDice(), CUBE, EMPTY) == value(CenterlineDice(), EMPTY, CUBE) == 0
    assert value(CenterlineDice(), box(*[slice(0, 2)] * 3), SHIFTED) == 0


def test_centreline_dice_in_2d_and_of_one_slice():
    line, thick = box(slice(2, 8), slice(4, 5)), box(slice(2, 8), slice(3, 6))
    assert value(CenterlineDice(), line, thick) == 1
    assert value(CenterlineDice(), line[..., None], thick[..., None]) == 1


def test_components_touch_by_faces_edges_and_corners():
    mask = torch.zeros(1, 6, 6, 6)
    for voxel in ((0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3), (4, 4, 4), (4, 4, 2)):
        mask[(0, *voxel)] = 1
    assert value(ComponentCount(), mask, EMPTY) == 3
    assert value(ComponentCount("label"), EMPTY, mask) == 3
    assert value(ComponentCount(), EMPTY, mask) == 0
    assert value(ComponentCount(), mask[:, 0], mask[:, 0]) == 1
    with pytest.raises(ValueError, match='mask must be "pred" or "label", got \'truth\''):
        ComponentCount("truth")


def test_of_cases_without_a_value_there_is_no_mean():
    metric = ConfusionRate("sensitivity")
    metric([CUBE], [on_grid(EMPTY)])
    assert np.isnan(metric.aggregate().item())
