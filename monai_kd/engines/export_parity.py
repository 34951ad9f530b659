# SPDX-License-Identifier: Apache-2.0
"""An exported network beside the one that it was made of: the same images through both, and the same evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.utils.type_conversion import convert_to_dst_type
from torch import Tensor, nn

from monai_kd.finite import check_finite

from .batch import plain_tensor

__all__ = ["classes_of", "evaluate_network", "largest_difference", "observe_network"]

_SAMPLES = 32  # images, up to twice as many, that are compared and calibrated with


def observe_network(network: nn.Module, evaluator: SupervisedEvaluator) -> tuple[list[Tensor], str, float]:
    """Images that a network sees in an evaluation, spread evenly over it, and its key metric."""
    samples: list[Tensor] = []
    seen, stride = 0, 1

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen, stride
        for image in plain_tensor(inputs[0]).split(1):
            if seen % stride == 0:
                samples.append(image.clone())
            if len(samples) == 2 * _SAMPLES:
                samples[:] = samples[::2]
                stride *= 2
            seen += 1

    hook = network.register_forward_pre_hook(keep)
    try:
        value = evaluate_network(network, evaluator)
    finally:
        hook.remove()
    return samples, evaluator.state.key_metric_name or "", value


def evaluate_network(network: nn.Module, evaluator: SupervisedEvaluator) -> float:
    """The key metric of an evaluation with another network than the evaluator's own."""
    own: Any = evaluator.network
    evaluator.network = _KeepMetadata(network).eval()  # the mode that MONAI goes back to
    try:
        evaluator.run()
    finally:
        evaluator.network = own
    return float(evaluator.state.metrics[evaluator.state.key_metric_name])


def classes_of(evaluator: SupervisedEvaluator) -> list[float]:
    """The key metric of the last evaluation for each of its channels, where there are several; else nothing."""
    details = evaluator.state.metric_details.get(evaluator.state.key_metric_name)
    # Whole numbers are classes, predicted and true, of which a classification's metric keeps two for a case.
    if not isinstance(details, Tensor) or not details.is_floating_point() or details.ndim != 2 or details.shape[1] < 2:
        return []
    return details.nanmean(dim=0).tolist()


class _KeepMetadata(nn.Module):
    """A network whose predictions carry the metadata of their images, as those of PyTorch's own operations do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return convert_to_dst_type(self.network(plain_tensor(x), *args), x)[0]


def largest_difference(network: nn.Module, exported: nn.Module, samples: Sequence[Tensor]) -> float:
    """Largest relative difference over images one by one, and over two at once."""
    largest = 0.0
    with torch.no_grad():
        for images in [*samples, samples[0].repeat_interleave(2, dim=0)]:
            wanted, got = network(images), exported(images)
            check_finite(wanted, "the original")
            check_finite(got, "the exported file")
            largest = max(largest, float((got - wanted).norm() / wanted.norm().clamp_min(1e-12)))
    return largest
