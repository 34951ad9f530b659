# SPDX-License-Identifier: Apache-2.0
"""Metrics of binary masks, case by case: rates, distances in millimetres, volumes in millilitres, connectedness."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_hausdorff_distance,
    get_confusion_matrix,
)
from monai.utils import convert_to_numpy, convert_to_tensor
from scipy import ndimage
from skimage.morphology import skeletonize
from torch import Tensor

from .case_metric import CaseMetric

__all__ = ["CenterlineDice", "ComponentCount", "ConfusionRate", "CaseSurfaceDistance", "VolumeError"]


class ConfusionRate(CaseMetric):
    """Compute a rate of the confusion matrix, such as sensitivity TP / (TP + FN) or specificity TN / (TN + FP).

    MONAI's ``ConfusionMatrixMetric`` keeps the four counts of each case where a table of cases needs the rate. A case
    without a denominator, such as the sensitivity of an empty mask, has the value NaN.

    Args:
        metric_name: name as in ``ConfusionMatrixMetric``.

    >>> ConfusionRate("sensitivity")(torch.tensor([[[1, 0, 0]]]), torch.tensor([[[1, 1, 0]]]))
    tensor([[0.5000]])
    """

    def __init__(self, metric_name: str) -> None:
        super().__init__()
        self.metric_name = metric_name

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        y_pred, y = (convert_to_tensor(masks, track_meta=False) for masks in (y_pred, y))
        return compute_confusion_matrix_metric(self.metric_name, get_confusion_matrix(y_pred, y))


class CaseSurfaceDistance(CaseMetric):
    """Compute the symmetric distance in mm between the surfaces of the predicted and the true mask.

    It is the mean over the surface voxels of both masks of the distance to the other one's nearest, or the larger of
    the two directions' percentiles: 100 is the Hausdorff distance, 95 its usual robust form. Both are MONAI's; its
    handlers cannot be told the voxel size of each case, so here it is taken from the true mask's affine.

    Two empty masks are 0 apart. If only one is empty, there is no distance: the diagonal of the image counts, more than
    any distance in it, so that a missed organ is neither left out of the mean nor makes it infinite.

    Args:
        percentile: above 0, up to 100; none for the mean.

    Raises:
        ValueError: when ``percentile`` is out of its range.

    >>> mask = MetaTensor(torch.zeros(1, 1, 3, 3, 3))  # of 1 mm
    >>> mask[..., 0] = 1
    >>> CaseSurfaceDistance()(mask.flip(-1), mask)
    tensor([[2.]])
    """

    def __init__(self, percentile: float | None = None) -> None:
        super().__init__()
        if percentile is not None and not 0 < percentile <= 100:
            raise ValueError(f"percentile must be above 0 and up to 100, or none for the mean, got {percentile}")
        self.percentile = percentile

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        spacings = _spacings(y)
        y_pred, y = (convert_to_tensor(masks, track_meta=False) for masks in (y_pred, y))
        values = [
            [self._distance(pred[None, None], true[None, None], spacing) for pred, true in zip(preds, trues)]
            for preds, trues, spacing in zip(y_pred, y, spacings)
        ]
        return torch.tensor(values, device=y_pred.device)

    def _distance(self, pred: Tensor, true: Tensor, spacing: list[float]) -> float:
        if not pred.any() or not true.any():
            diagonal = math.hypot(*(size * mm for size, mm in zip(true.shape[2:], spacing)))
            return diagonal if pred.any() or true.any() else 0.0
        # MONAI warns of an argument that it passes on to itself.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            if self.percentile is None:
                distance = compute_average_surface_distance(
                    pred, true, include_background=True, symmetric=True, spacing=spacing
                )
            else:
                distance = compute_hausdorff_distance(
                    pred, true, include_background=True, percentile=self.percentile, spacing=spacing
                )
        return distance.item()


class VolumeError(CaseMetric):
    """Compute the absolute difference in ml between the volumes of the predicted and the true mask.

    The volume of a voxel is taken from the true mask's affine.

    >>> mask = MetaTensor(torch.ones(1, 1, 10, 10, 10))  # of 1 mm
    >>> VolumeError()(0 * mask, mask)
    tensor([[1.]])
    """

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        millilitres = [math.prod(spacing) / 1000 for spacing in _spacings(y)]
        predicted, true = (convert_to_tensor(masks, track_meta=False).flatten(2).sum(2) for masks in (y_pred, y))
        return (predicted - true).abs() * torch.tensor(millilitres, device=y_pred.device)[:, None]


class CenterlineDice(CaseMetric):
    """Compute clDice: how far the centre lines of the predicted and of the true vessels lie within the other mask.

    ``2 p s / (p + s)`` with ``p = |skeleton(pred) & true| / |skeleton(pred)|`` and ``s = |skeleton(true) & pred| /
    |skeleton(true)|``. It counts a vessel by its length and not by its thickness, and a gap where it is.

    S. Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR 2021,
    equations 1 and 2. Skeletons are scikit-image's: Zhang's in 2D, Lee's in 3D. MONAI has the loss only, whose soft
    skeleton is neither thin nor connected. Two empty masks have the value 1, an empty and another one 0.

    >>> mask = torch.zeros(1, 1, 5, 5)
    >>> mask[..., 2, :] = 1
    >>> CenterlineDice()(mask, mask)
    tensor([[1.]])
    """

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        preds, trues = (convert_to_numpy(masks) != 0 for masks in (y_pred, y))
        values = [[_centerline_dice(pred, true) for pred, true in zip(*channels)] for channels in zip(preds, trues)]
        return torch.tensor(values, device=y_pred.device)


class ComponentCount(CaseMetric):
    """Count the connected components of a mask: the fewer a vessel tree falls into, the better it holds together.

    Voxels that share a face, an edge or a corner are connected. There is no background channel.

    Args:
        mask: ``"pred"`` counts those of the predicted mask, ``"label"`` those of the true one, to compare with.

    Raises:
        ValueError: for another mask.

    >>> ComponentCount()(torch.tensor([[[1, 0, 1]]]), torch.tensor([[[1, 1, 1]]]))
    tensor([[2.]])
    """

    def __init__(self, mask: Literal["pred", "label"] = "pred") -> None:
        super().__init__()
        if mask not in ("pred", "label"):
            raise ValueError(f'mask must be "pred" or "label", got {mask!r}')
        self.mask = mask

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        masks = convert_to_numpy(y_pred if self.mask == "pred" else y) != 0
        neighbours = np.ones((3,) * (masks.ndim - 2))
        counts = [[ndimage.label(channel, neighbours)[1] for channel in case] for case in masks]
        return torch.tensor(counts, dtype=torch.float32, device=y_pred.device)


def _centerline_dice(pred: np.ndarray, true: np.ndarray) -> float:
    if not pred.any() or not true.any():
        return float(pred.any() == true.any())
    precision, sensitivity = (float(mask[_skeleton(lines)].mean()) for lines, mask in ((pred, true), (true, pred)))
    total = precision + sensitivity
    return 2 * precision * sensitivity / total if total else 0.0


def _skeleton(mask: np.ndarray) -> np.ndarray:
    skeleton = skeletonize(mask)
    return skeleton if skeleton.any() else mask  # Lee's thinning takes all of a block of 2 x 2 x 2


def _spacings(y: Tensor) -> list[list[float]]:
    """Voxel size in mm of each case of a batch (B, C, *spatial)."""
    if not isinstance(y, MetaTensor):
        raise ValueError("the true mask must be a MetaTensor, whose affine gives a voxel's size; keep its metadata")
    rank = y.ndim - 2
    affines = y.affine.reshape(-1, *y.affine.shape[-2:]).expand(len(y), -1, -1)  # one for all, or one each
    return [affine_to_spacing(affine, rank).tolist() for affine in affines]
