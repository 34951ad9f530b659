# SPDX-License-Identifier: Apache-2.0
import csv
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.handlers import IgniteMetricHandler, from_engine
from scipy import ndimage

from monai_kd.handlers import CaseTable
from monai_kd.metrics import (
    ImageQuality,
    high_frequency_error_norm,
    mean_squared_error,
    peak_signal_to_noise_ratio,
    structural_similarity,
    visual_information_fidelity,
)

MEASURES = [
    peak_signal_to_noise_ratio,
    structural_similarity,
    high_frequency_error_norm,
    visual_information_fidelity,
    mean_squared_error,
]


def pair() -> tuple[np.ndarray, np.ndarray]:
    """A true volume of two slices, and another one close to it."""
    x, y, z = np.mgrid[:48, :44, :2].astype(float)
    true = 100 + 60 * np.sin(x / 3 + z) * np.cos(y / 4) + 30 * np.sin(x * y / 50)
    return true + 8 * np.sin(x * y / 7) - 4 * z, true


def batch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None, None]


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        # By scikit-image 0.26.0: peak_signal_noise_ratio, and structural_similarity with channel_axis=-1, both with
        # data_range=true.max().
        (peak_signal_to_noise_ratio, 29.760304350782928),
        (structural_similarity, 0.974356187003576),
    ],
)
def test_values_of_scikit_image(measure, value):
    pred, true = pair()
    assert measure(batch(pred), batch(true)).item() == pytest.approx(value, rel=1e-12)


def test_the_mean_squared_error_is_that_of_images_from_0_to_1():
    pred, true = pair()
    expected = np.mean((pred / true.max() - true / true.max()) ** 2)
    assert mean_squared_error(batch(pred), batch(true)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("number", "value"), [(0, 0.5659994337910969), (1, 0.5787074312375383)])
def test_visual_information_of_a_slice_is_that_of_sewar(number, value):
    # sewar 0.4.10: vifp(true * m, pred * m) with m = 255 / true.max().
    pred, true = (batch(array[..., number]) for array in pair())
    assert visual_information_fidelity(pred, true).item() == pytest.approx(value, rel=1e-9)
    assert visual_information_fidelity(0.01 * pred, 0.01 * true).item() == pytest.approx(value, rel=1e-9)


def test_visual_information_agrees_with_the_published_implementation():
    vifp = pytest.importorskip("sewar.full_ref").vifp
    pred, true = (array[..., 0] for array in pair())
    pred = ndimage.gaussian_filter(pred, 1) * 1.2  # blurred, with more contrast
    expected = vifp(true * 255 / true.max(), pred * 255 / true.max())
    assert visual_information_fidelity(batch(pred), batch(true)).item() == pytest.approx(expected, rel=1e-9)


def test_an_image_of_inverted_contrast_tells_nothing():
    _, true = pair()
    assert visual_information_fidelity(batch(true.max() - true), batch(true)).item() == 0


def test_similarity_and_noise_agree_with_the_published_implementation():
    metrics = pytest.importorskip("skimage.metrics")
    pred, true = pair()
    expected = metrics.structural_similarity(true, 0.8 * pred, channel_axis=-1, data_range=true.max())
    assert structural_similarity(batch(0.8 * pred), batch(true)).item() == pytest.approx(expected, rel=1e-12)
    expected = metrics.peak_signal_noise_ratio(true, 0.8 * pred, data_range=true.max())
    assert peak_signal_to_noise_ratio(batch(0.8 * pred), batch(true)).item() == pytest.approx(expected)


def test_similarity_is_that_of_uniform_windows_with_sample_variances():
    pred, true = (array / pair()[1].max() for array in pair())
    similarities = []
    for a, b in zip(np.moveaxis(pred, -1, 0), np.moveaxis(true, -1, 0)):
        windows = [np.lib.stride_tricks.sliding_window_view(image, (7, 7)).reshape(-1, 49) for image in (a, b)]
        covariances = [np.cov(x, y) for x, y in zip(*windows)]
        for (x, y), covariance in zip(zip(*windows), covariances):
            means = 2 * x.mean() * y.mean() + 0.01**2, x.mean() ** 2 + y.mean() ** 2 + 0.01**2
            spreads = 2 * covariance[0, 1] + 0.03**2, np.trace(covariance) + 0.03**2
            similarities.append(means[0] / means[1] * spreads[0] / spreads[1])
    assert structural_similarity(batch(pred), batch(true)).item() == pytest.approx(np.mean(similarities), rel=1e-12)


def test_every_case_has_a_data_range_of_its_own():
    pred, true = pair()
    alone = structural_similarity(batch(pred), batch(true)).item()
    both = [torch.cat([batch(array), batch(100 * array)]) for array in (pred, true)]
    assert structural_similarity(*both).flatten().tolist() == pytest.approx([alone, alone], rel=1e-12)
    assert structural_similarity(0 * batch(pred), 0 * batch(true)).isnan().all()


def test_noise_of_a_tenth_of_the_maximum_is_20_db():
    true = torch.zeros(2, 1, 8, 8, 3)
    true[:, :, 4, 4] = torch.tensor([1.0, 50.0])[:, None, None]  # each case has a data range of its own
    pred = true + 0.1 * true.amax(dim=(1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(peak_signal_to_noise_ratio(pred, true), torch.full((2, 1), 20.0, dtype=torch.float64))


def test_high_frequency_error_norm_is_a_ratio_of_squared_laplacians():
    pred, true = pair()
    error, edges = (
        sum(np.square(ndimage.laplace(image[..., z])).sum() for z in range(2)) for image in (true - pred, true)
    )
    assert high_frequency_error_norm(batch(pred), batch(true)).item() == pytest.approx(error / edges)
    assert high_frequency_error_norm(batch(true + 7), batch(true)).item() == pytest.approx(0)  # no edge is wrong
    assert high_frequency_error_norm(batch(0 * true), batch(true)).item() == pytest.approx(1)


@pytest.mark.parametrize(("measure", "best"), list(zip(MEASURES, (math.inf, 1, 0, 1))))
def test_equal_images_are_best_and_the_unit_does_not_count(measure, best):
    pred, true = map(batch, pair())
    assert measure(true, true).item() == pytest.approx(best)
    torch.testing.assert_close(measure(300 * pred, 300 * true), measure(pred, true), rtol=1e-5, atol=0)


@pytest.mark.parametrize("measure", MEASURES)
def test_cases_do_not_mix_and_a_flat_image_is_a_volume_of_one_slice(measure):
    pred, true = map(batch, pair())
    both = measure(torch.cat([pred, true / 2]), torch.cat([true, true]))
    torch.testing.assert_close(both, torch.cat([measure(pred, true), measure(true / 2, true)]))
    torch.testing.assert_close(measure(pred[..., 0], true[..., 0]), measure(pred[..., :1], true[..., :1]))


@pytest.mark.parametrize("measure", MEASURES)
def test_of_a_complex_image_the_magnitude_counts(measure):
    pred, true = (batch(array).abs() for array in pair())
    mask = torch.ones_like(pred)
    complex_pred = torch.cat([0.6 * pred, -0.8 * pred, mask], dim=1)
    torch.testing.assert_close(measure(complex_pred, true), measure(pred, true))


def test_empty_volume_has_no_value():
    empty = torch.zeros(1, 1, 48, 48, 2)
    for measure in MEASURES:
        assert measure(empty, empty).isnan().all()


@pytest.mark.parametrize(
    ("measure", "shape", "message"),
    [
        (peak_signal_to_noise_ratio, (1, 4, 8, 8), r"one channel, or two and a mask, got \(1, 4, 8, 8\)"),
        (high_frequency_error_norm, (8, 8), "expected images"),
    ],
)
def test_wrong_shapes(measure, shape, message):
    with pytest.raises(ValueError, match=message):
        measure(torch.ones(shape), torch.ones(shape))


@pytest.mark.parametrize(("measure", "smallest"), [(structural_similarity, 7), (visual_information_fidelity, 41)])
def test_slices_that_are_too_small_have_no_value(measure, smallest):
    true = torch.rand(2, 1, smallest, smallest + 1, 2, generator=torch.Generator().manual_seed(0))
    assert measure(true, true).isfinite().all()
    small = true[:, :, 1:]
    assert measure(small, small).shape == (2, 1) and measure(small, small).isnan().all()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"one shape, got .* \(1, 1, 8, 8\) and \(1, 1, 8, 9\)"):
        peak_signal_to_noise_ratio(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 9))


def test_values_per_case_in_a_table(tmp_path):
    pred, true = (torch.from_numpy(array)[None] for array in pair())

    def infer(engine, batch):
        return [{"pred": MetaTensor(factor * pred), "label": MetaTensor(true)} for factor in (1.0, 0.5)]

    engine = Engine(infer)
    engine.register_events(*IterationEvents)
    engine.state.metric_details = {}
    engine.network = torch.nn.Identity()
    handler = IgniteMetricHandler(
        metric_fn=ImageQuality(peak_signal_to_noise_ratio), output_transform=from_engine(["pred", "label"])
    )
    handler.attach(engine, "val_psnr")
    CaseTable(str(tmp_path)).attach(engine)
    engine.run([[{"image": MetaTensor(torch.zeros(1), meta={"filename_or_obj": name})} for name in "ab"]])

    expected = [peak_signal_to_noise_ratio(factor * pred[None], true[None]).item() for factor in (1, 0.5)]
    assert engine.state.metrics["val_psnr"] == pytest.approx(np.mean(expected))
    with open(tmp_path / "cases.csv", newline="") as file:
        assert [float(row["psnr"]) for row in csv.DictReader(file)] == pytest.approx(expected, abs=1e-6)
