# SPDX-License-Identifier: Apache-2.0
"""Writers of what batch inference predicts, one set of files per input."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.utils import ImageMetaKey
from nibabel.arrayproxy import ArrayProxy
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

from monai_kd.data.readers.volume_file import affine_in_millimetres
from monai_kd.data.writers.dicom_segmentation import check_highdicom, dicom_segmentation
from monai_kd.data.writers.pictures import (
    PLANES,
    grey_picture,
    lies_on,
    nifti_grid,
    on_grid,
    read_input,
    save_files,
    sections,
    stacked,
)

__all__ = ["SegmentationWriter"]

_COLOUR = (255, 200, 0)  # amber: stands out from grey for colour-blind readers too
_CURE = "undo first what the preprocessing did to the grid, with Invertd or ToInputGridd"


class SegmentationWriter:
    """Write a binary segmentation in the manner of its input file, and say how large it is.

    ===================  =================================  ======================================
    file                 for a picture or a slice           for NIfTI, MetaImage or a DICOM series
    ===================  =================================  ======================================
    ``<stem>_pred``      ``.png``, 8-bit, 0 and 255         ``.nii.gz``, uint8, 0 and 1
    ``<stem>_prob``      ``.png``, 16-bit, p * 65535        ``.nii.gz``, float32
    ``<stem>_<label>``   not written                        ``.nii.gz``, the input inside, 0 outside
    ``<stem>_overlay``   ``.png``, 8-bit colour             ``.png``, 8-bit colour, sections
    ===================  =================================  ======================================

    In the ``format`` ``"dicom_seg"`` the segmentation of a DICOM slice or series is ``<stem>_pred.dcm`` instead, as
    :func:`~monai_kd.data.writers.dicom_segmentation.dicom_segmentation` makes it.

    Pictures are as wide, as high and as upright as the input; NIfTI has its grid, affine and units, and of a file with
    several volumes the first is meant. ``<stem>_<label>`` has the input's data type, scaling and grey values, so it is
    ``<stem>_brain`` when the brain is segmented.

    An overlay is the input in grey with the segmentation's outline in colour. That of a volume shows the section with
    the largest segmentation, or the middle one if there is none, for each plane, side by side, with square pixels and
    in radiological convention: the patient's left is on the right; anterior is up in the axial section and on the left
    in the sagittal one. The view ``"projection"`` shows maximum-intensity projections instead of sections, and below
    them the same with the segmentation's projection in colour: there is no outline to be seen around thin vessels.
    Files get their names when they are complete, the segmentation last: where it is, the others are.

    Args:
        pred_key: key of the segmentation, a `MetaTensor` (1, x, y[, z]) on the input file's own grid, 0 outside. Its
            metadata name the input file.
        probability_key: key of the probabilities, 0..1, a `MetaTensor` of the same shape.
        probabilities: write them too.
        overlay: write the overlay too.
        label_name: what is segmented: the numbers are called after it.
        image_output: write ``<stem>_<label>`` too.
        planes: which sections the overlay of a volume shows, in this order: ``"axial"``, ``"coronal"``, ``"sagittal"``.
        view: ``"section"`` or ``"projection"``, for the overlay of a volume.
        format: ``"input"`` writes the segmentation in the manner of the input, ``"dicom_seg"`` as DICOM-SEG.
        segment: what DICOM-SEG says of it: ``category``, ``type`` and ``algorithm``; the name is ``label_name``.

    Raises:
        ValueError: when there is no plane, or another one, another view or format, or what DICOM-SEG needs is missing.
    """

    def __init__(
        self,
        pred_key: str = "pred",
        probability_key: str = "prob",
        probabilities: bool = False,
        overlay: bool = False,
        label_name: str = "foreground",
        image_output: bool = False,
        planes: Sequence[str] = ("axial",),
        view: Literal["section", "projection"] = "section",
        format: Literal["input", "dicom_seg"] = "input",
        segment: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(planes, str) or not planes or not set(planes) <= PLANES.keys():
            raise ValueError(f"planes must be a list of {', '.join(PLANES)}, got {planes!r}")
        if view not in ("section", "projection"):
            raise ValueError(f'view must be "section" or "projection", got {view!r}')
        if format not in ("input", "dicom_seg"):
            raise ValueError(f'format must be "input" or "dicom_seg", got {format!r}')
        if format == "dicom_seg":
            check_highdicom()
            if segment is None:
                raise ValueError("the format dicom_seg needs a segment: its category, type and algorithm")
        self.pred_key = pred_key
        self.probability_key = probability_key
        self.probabilities = probabilities
        self.overlay = overlay
        self.label_name = label_name
        self.image_output = image_output
        self.planes = planes
        self.view = view
        self.format = format
        self.segment = dict(segment or {})

    def __call__(self, sample: Mapping[str, Any], stem: str | os.PathLike) -> dict[str, Any]:
        """Write one sample's files.

        Args:
            sample: the segmentation, and the probabilities if they are to be written.
            stem: path of the files up to ``_pred``; its folder is made if need be.

        Returns:
            A row for a table: ``output`` (Path of the segmentation); ``<label_name>_pixels``, how many pixels or voxels
            lie inside; ``<label_name>_fraction``, their share of the image, 0..1; and ``<label_name>_ml``, their volume
            in millilitres for a NIfTI volume, empty for anything flat.

        Raises:
            ValueError: when there is more than one channel, or the shape (for NIfTI the affine, too) is not the input
                file's. A picture's shape is compared only for an overlay, because it is not read otherwise.
        """
        pred = sample[self.pred_key]
        source = str(pred.meta[ImageMetaKey.FILENAME_OR_OBJ])
        grid = nifti_grid(source)
        mask = _channel(pred, source, grid) != 0
        prob = _channel(sample[self.probability_key], source, grid) if self.probabilities else None

        files: dict[str, Image.Image | nib.Nifti1Image | Dataset] = {}
        if self.overlay:
            files["_overlay.png"] = _overlay(source, mask, grid, self.planes, self.view == "projection")
        if grid is None:  # arrays are (x, y) = (column, row), pictures (row, column)
            if prob is not None:
                files["_prob.png"] = Image.fromarray(np.round(65535 * prob.T.clip(0, 1)).astype(np.uint16))
            if self.format == "input":
                files["_pred.png"] = Image.fromarray(255 * mask.T.astype(np.uint8))
        else:
            if prob is not None:
                files["_prob.nii.gz"] = _on_grid(prob, grid)
            if self.image_output:
                files[f"_{self.label_name}.nii.gz"] = _inside(mask, grid)
            if self.format == "input":
                files["_pred.nii.gz"] = _on_grid(mask.astype(np.uint8), grid)
        if self.format == "dicom_seg":
            files["_pred.dcm"] = dicom_segmentation(mask, source, self.label_name, **self.segment)
        return {"output": save_files(files, Path(stem)), **self._numbers(mask, grid)}

    def _numbers(self, mask: np.ndarray, grid: nib.Nifti1Image | None) -> dict[str, float | str]:
        count = int(mask.sum())
        millilitres: float | str = ""
        if grid is not None and mask.ndim == 3:
            millilitres = count * float(abs(np.linalg.det(affine_in_millimetres(grid)[:3, :3]))) / 1000
        name = self.label_name
        return {f"{name}_pixels": count, f"{name}_fraction": count / mask.size, f"{name}_ml": millilitres}


def _channel(tensor: MetaTensor, source: str, grid: nib.Nifti1Image | None) -> np.ndarray:
    """The only channel of a tensor; it must be on the grid of its NIfTI file, or flat for a picture."""
    array = tensor.detach().cpu().float().numpy()
    if grid is None:
        if array.ndim != 3 or len(array) != 1:
            raise ValueError(f"{source}: expected one channel (1, x, y), got {array.shape}")
    elif array.shape != (1, *grid.shape[:3]):
        raise ValueError(f"{source}: expected its shape {(1, *grid.shape[:3])}, got {array.shape}: {_CURE}")
    elif not lies_on(tensor, grid):
        raise ValueError(f"{source}: expected its affine {grid.affine.tolist()}, got {tensor.affine.tolist()}: {_CURE}")
    return array[0]


def _on_grid(array: np.ndarray, grid: nib.Nifti1Image) -> nib.Nifti1Image:
    image = on_grid(array, grid)
    image.header["cal_min"] = image.header["cal_max"] = 0  # the display range of the input's grey values
    return image


def _inside(mask: np.ndarray, grid: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image of a NIfTI file inside the mask, as it is stored, and 0 outside."""
    proxy = cast(ArrayProxy, grid.dataobj)
    stored = proxy.get_unscaled().reshape(*mask.shape, -1)[..., 0]
    zero = -proxy.inter / proxy.slope  # how a grey value of 0 is stored
    if np.issubdtype(stored.dtype, np.integer):
        limits = np.iinfo(stored.dtype)
        zero = np.clip(round(zero), limits.min, limits.max)
    image = _on_grid(np.where(mask, stored, stored.dtype.type(zero)), grid)
    image.header.set_slope_inter(proxy.slope, proxy.inter)
    return image


def _overlay(
    source: str, mask: np.ndarray, grid: nib.Nifti1Image | None, planes: Sequence[str], projection: bool
) -> Image.Image:
    image = read_input(source)
    if image.shape[: mask.ndim] != mask.shape:
        raise ValueError(f"{source}: expected its shape {image.shape}, got {mask.shape}: {_CURE}")
    image = image.reshape(*mask.shape, -1)[..., 0]
    projection = projection and mask.ndim == 3
    if grid is not None:
        planes = planes if mask.ndim == 3 else ("axial",)
        image, layer = sections(image, mask, grid.affine, planes, projection)
        mask = layer > 0.5
    grey = grey_picture(image)
    if projection:
        coloured = grey.copy()
        coloured[mask.T] = (0.4 * grey[mask.T] + 0.6 * np.array(_COLOUR)).astype(np.uint8)
        return Image.fromarray(stacked(grey, coloured))
    width = 1 if min(mask.shape) < 256 else 2
    grey[(mask & ~ndimage.binary_erosion(mask, iterations=width)).T] = _COLOUR
    return Image.fromarray(grey)
