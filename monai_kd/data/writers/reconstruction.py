# SPDX-License-Identifier: Apache-2.0
"""Writer of the MR images that batch inference reconstructs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import CommonKeys as Keys
from monai.utils import ImageMetaKey, MetaKeys
from nibabel.affines import voxel_sizes
from PIL import Image
from torch import Tensor

from monai_kd.data.writers.output_options import check_output_options
from monai_kd.data.writers.pictures import (
    PLANES,
    axis_across,
    grey_picture,
    lies_on,
    nifti_grid,
    on_grid,
    save_files,
    side_by_side,
    with_square_pixels,
)
from monai_kd.transforms import MASK_KEY

__all__ = ["ReconstructionWriter"]

_ERROR_GAIN = 5
_HORIZONTAL_FIRST = "LRAPSI"  # of two axes, the one that comes first here goes to the right
_CURE = "undo first what the preprocessing did to the grid, with ToInputGridd"

Measure = Callable[[Tensor, Tensor], Tensor]


class ReconstructionWriter:
    """Write a reconstructed MR image beside the zero-filled one, on the grid and in the grey scale of its input file.

    ============================  ====================================================================================
    file                          holds
    ============================  ====================================================================================
    ``<stem>_zerofilled.nii.gz``  the image that the network got
    ``<stem>_error.nii.gz``       the prediction's absolute error, where the truth is known
    ``<stem>_overlay.png``        the middle slice of, side by side: the truth, the zero-filled image, the prediction,
                                  five times the error; all in one window; without truth the two in the middle
    ``<stem>_pred.nii.gz``        the prediction
    ============================  ====================================================================================

    NIfTI is float32, of complex images the magnitude. A NIfTI input gives its grid, affine and units; a picture or an
    array has pixels of 1 mm, and its right is the patient's left. Overlays have square pixels and are in radiological
    convention as far as the slice allows it. Files get their names when they are complete, the prediction last: where
    it is, the others are.

    The truth is the fully sampled image that the input file holds. It is known unless the image's metadata have the
    mask of a measured k-space (:data:`~monai_kd.transforms.MASK_KEY`).

    Args:
        measures: from a prediction and the truth, (B, 1, x, y[, z]), to one number for each image, by name, such as
            ``{"psnr": monai_kd.metrics.peak_signal_to_noise_ratio}``.
        overlay: write the overlay too.
        pred_key: key of the prediction, (C, x, y[, z]): one channel, or real and imaginary part.
        image_key: key of the image that the network got, a `MetaTensor` like that, whose metadata name the input file.
            A third channel is a mask and left aside.
        truth_key: key of the fully sampled image.
        slice_axis: "axial", "coronal" or "sagittal": which slice of a NIfTI volume an overlay shows, as
            :class:`~monai_kd.data.MRIReader` took it apart. By default one along the file's own third axis.
        postfix: what stands in the place of ``pred`` in ``<stem>_pred``.
        ext: its suffix, ``".nii.gz"`` or ``".nii"``.
        dtype: NumPy's name of its numbers, floating-point ones.

    Raises:
        ValueError: for another ``slice_axis``, postfix, suffix or type.
    """

    def __init__(
        self,
        measures: Mapping[str, Measure] | None = None,
        overlay: bool = False,
        pred_key: str = Keys.PRED,
        image_key: str = Keys.IMAGE,
        truth_key: str = Keys.LABEL,
        slice_axis: str | None = None,
        postfix: str = "pred",
        ext: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if slice_axis is not None and slice_axis not in PLANES:
            raise ValueError(f"slice_axis must be one of {', '.join(PLANES)}, or none, got {slice_axis!r}")
        taken = {"zerofilled", "error", "overlay"}
        self.dtype = check_output_options(postfix, ext, dtype, (".nii.gz", ".nii"), "f", taken) or np.dtype(np.float32)
        self.postfix = postfix
        self.ext = ext or ".nii.gz"
        self.measures = dict(measures or {})
        self.overlay = overlay
        self.pred_key = pred_key
        self.image_key = image_key
        self.truth_key = truth_key
        self.slice_axis = slice_axis

    def __call__(self, sample: Mapping[str, Any], stem: str | os.PathLike) -> dict[str, Any]:
        """Write one sample's files.

        Args:
            sample: the images, all on the input file's own grid and in its grey scale: what the preprocessing did to
                them must be undone.
            stem: path of the files up to ``_pred``; its folder is made if need be.

        Returns:
            A row for a table: ``output`` (Path of the prediction) and for each measure ``<name>`` of the prediction and
            ``<name>_zerofilled``; empty where the truth is not known, or is the input itself because nothing was left
            out of k-space, or where the measure has no value (NaN).

        Raises:
            ValueError: when the images are not on the input file's grid.
        """
        zero_filled = sample[self.image_key]
        source = str(zero_filled.meta[ImageMetaKey.FILENAME_OR_OBJ])
        grid = nifti_grid(source)
        images = {"zerofilled": zero_filled, "pred": sample[self.pred_key]}
        if self.truth_key in sample and MASK_KEY not in zero_filled.meta:
            images["truth"] = sample[self.truth_key]
        arrays = {name: _magnitude(image) for name, image in images.items()}
        for array in arrays.values():
            _check_grid(array, zero_filled, grid, source)
        if "truth" in arrays:
            truth, tolerance = arrays["truth"], 1e-5 * arrays["truth"].max()
            if np.allclose(truth, arrays["zerofilled"], rtol=0, atol=tolerance):
                del arrays["truth"]  # nothing was left out of k-space: this is the input
            else:
                arrays["error"] = np.abs(arrays["pred"] - truth)

        files: dict[str, Image.Image | nib.Nifti1Image] = {}
        affine = np.asarray(zero_filled.affine, dtype=float)
        if self.overlay:
            shown = [arrays[name] for name in ("truth", "zerofilled", "pred", "error") if name in arrays]
            axis = -1 if self.slice_axis is None or grid is None else axis_across(affine, self.slice_axis)
            files["_overlay.png"] = _overlay(shown, affine, axis, has_error="error" in arrays)
        for name in ("zerofilled", "error"):
            if name in arrays:
                files[f"_{name}.nii.gz"] = _on_grid(arrays[name], affine, grid)
        files[f"_{self.postfix}{self.ext}"] = _on_grid(arrays["pred"].astype(self.dtype), affine, grid)
        return {"output": save_files(files, Path(stem)), **self._numbers(arrays)}

    def _numbers(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float | str]:
        row: dict[str, float | str] = {f"{name}{of}": "" for name in self.measures for of in ("", "_zerofilled")}
        if "truth" in arrays:
            tensors = {name: torch.from_numpy(array)[None, None] for name, array in arrays.items()}
            for name, measure in self.measures.items():
                for of, image in (("", "pred"), ("_zerofilled", "zerofilled")):
                    value = measure(tensors[image], tensors["truth"]).item()
                    row[f"{name}{of}"] = "" if math.isnan(value) else round(value, 6)
        return row


def _magnitude(image: Tensor) -> np.ndarray:
    """The only channel of an image, or the magnitude of its first two, as float32."""
    array = image.detach().cpu().float().numpy()
    return array[0] if len(array) == 1 else np.linalg.norm(array[:2], axis=0)


def _check_grid(array: np.ndarray, image: MetaTensor, grid: nib.Nifti1Image | None, source: str) -> None:
    shape = tuple(int(size) for size in image.meta[MetaKeys.SPATIAL_SHAPE])
    if array.shape != shape:
        raise ValueError(f"{source}: expected its shape {shape}, got {array.shape}: {_CURE}")
    if grid is not None and not lies_on(image, grid):
        raise ValueError(f"{source}: expected its affine {grid.affine.tolist()}, got {image.affine.tolist()}: {_CURE}")


def _on_grid(array: np.ndarray, affine: np.ndarray, grid: nib.Nifti1Image | None) -> nib.Nifti1Image:
    if grid is None:
        image = nib.Nifti1Image(array.reshape(*array.shape, *(1,) * (3 - array.ndim)), affine)
        image.header.set_xyzt_units("mm")
        return image
    return on_grid(array.reshape(grid.shape), grid)


def _overlay(arrays: list[np.ndarray], affine: np.ndarray, axis: int, has_error: bool) -> Image.Image:
    planes = [_upright(array, affine, axis) for array in arrays]
    if has_error:  # without the largest errors, which would darken the other panels
        planes[-1] = np.minimum(_ERROR_GAIN * planes[-1], np.percentile(planes[0], 99.5))
    return Image.fromarray(grey_picture(side_by_side(planes, 0)))


def _upright(array: np.ndarray, affine: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice across an axis: x to the patient's left or back, y to the back or the feet, square pixels."""
    axes = list(range(array.ndim))
    if array.ndim == 3:
        array = array.take(array.shape[axis] // 2, axis)
        axes.pop(axis)
    spacing = voxel_sizes(affine)[axes]
    plane = with_square_pixels(array, spacing, spacing.min())
    codes = [nib.aff2axcodes(affine)[index] for index in axes]
    if _HORIZONTAL_FIRST.index(codes[1]) // 2 < _HORIZONTAL_FIRST.index(codes[0]) // 2:
        plane, codes = plane.T, codes[::-1]
    return plane[tuple(slice(None, None, -1 if code in ("R", "A", "S") else None) for code in codes)]
