"""Writers of what batch inference predicts, one set of files per input."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.utils import ImageMetaKey
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from scipy import ndimage

from monai_kd.data.image_file import ImageFileReader

__all__ = ["SegmentationWriter"]

_OUTLINE = (255, 200, 0)  # amber: stands out from grey for colour-blind readers too
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # NIfTI's other units are mm and unknown, which is used as mm
_CURE = "undo first what the preprocessing did to the grid, with Invertd"


class SegmentationWriter:
    """Write a binary segmentation in the manner of its input file, and say how large it is.

    ===================  =================================  =====================================
    file                 for a picture or a Figshare slice  for a NIfTI image
    ===================  =================================  =====================================
    ``<stem>_pred``      ``.png``, 8-bit, 0 and 255         ``.nii.gz``, uint8, 0 and 1
    ``<stem>_prob``      ``.png``, 16-bit, p * 65535        ``.nii.gz``, float32
    ``<stem>_overlay``   ``.png``, 8-bit colour             ``.png``, 8-bit colour, one slice
    ===================  =================================  =====================================

    Pictures are as wide, as high and as upright as the input; NIfTI has its grid, affine and units. An overlay is the
    input in grey with the segmentation's outline in colour. That of a volume shows the axial slice with the largest
    segmentation, or the middle one if there is none, in radiological convention: anterior is up and the patient's left
    is on the right. Files get their names when they are complete, the segmentation last: where it is, the others are.

    Args:
        pred_key: key of the segmentation, a `MetaTensor` (1, x, y[, z]) on the input file's own grid, 0 outside. Its
            metadata name the input file.
        probability_key: key of the probabilities, 0..1, a `MetaTensor` of the same shape.
        probabilities: write them too.
        overlay: write the overlay too.
        label_name: what is segmented: the numbers are called after it.
    """

    def __init__(
        self,
        pred_key: str = "pred",
        probability_key: str = "prob",
        probabilities: bool = False,
        overlay: bool = False,
        label_name: str = "tumor",
    ) -> None:
        self.pred_key = pred_key
        self.probability_key = probability_key
        self.probabilities = probabilities
        self.overlay = overlay
        self.label_name = label_name

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
        is_nifti = source.lower().endswith((".nii", ".nii.gz"))
        grid = cast(nib.Nifti1Image, nib.load(source)) if is_nifti else None
        mask = _channel(pred, source, grid) != 0
        prob = _channel(sample[self.probability_key], source, grid) if self.probabilities else None

        files: dict[str, Image.Image | nib.Nifti1Image] = {}
        if self.overlay:
            files["_overlay.png"] = _overlay(source, mask, grid)
        if grid is None:  # arrays are (x, y) = (column, row), pictures (row, column)
            if prob is not None:
                files["_prob.png"] = Image.fromarray(np.round(65535 * prob.T.clip(0, 1)).astype(np.uint16))
            files["_pred.png"] = Image.fromarray(255 * mask.T.astype(np.uint8))
        else:
            if prob is not None:
                files["_prob.nii.gz"] = _on_grid(prob, grid)
            files["_pred.nii.gz"] = _on_grid(mask.astype(np.uint8), grid)
        return {"output": _save(files, Path(stem)), **self._numbers(mask, grid)}

    def _numbers(self, mask: np.ndarray, grid: nib.Nifti1Image | None) -> dict[str, float | str]:
        count = int(mask.sum())
        millilitres: float | str = ""
        if grid is not None and mask.ndim == 3:
            millimetres = _MILLIMETRES.get(grid.header.get_xyzt_units()[0], 1.0)
            millilitres = count * float(abs(np.linalg.det(grid.affine[:3, :3] * millimetres))) / 1000
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
    elif not np.allclose(tensor.affine, grid.affine, atol=1e-3):
        raise ValueError(f"{source}: expected its affine {grid.affine.tolist()}, got {tensor.affine.tolist()}: {_CURE}")
    return array[0]


def _on_grid(array: np.ndarray, grid: nib.Nifti1Image) -> nib.Nifti1Image:
    header = grid.header.copy()  # keeps units, qform and sform; the affine alone would lose their codes
    header.set_data_dtype(array.dtype)
    header["cal_min"] = header["cal_max"] = 0  # the display range of the input's grey values
    return type(grid)(array, grid.affine, header)


def _overlay(source: str, mask: np.ndarray, grid: nib.Nifti1Image | None) -> Image.Image:
    reader = ImageFileReader()
    image = reader.get_data(reader.read(source))[0]
    if image.shape[: mask.ndim] != mask.shape:
        raise ValueError(f"{source}: expected its shape {image.shape}, got {mask.shape}: {_CURE}")
    image = np.nan_to_num(image.reshape(*mask.shape, -1)[..., 0].astype(np.float64))
    if grid is not None:
        image, mask = _axial_slice(np.atleast_3d(image), np.atleast_3d(mask), grid.affine)
    low, high = np.percentile(image, (0.5, 99.5))
    grey = 255 * ((image - low) / (high - low or 1)).clip(0, 1)
    colour = np.repeat(grey.T[..., None].astype(np.uint8), 3, axis=-1)
    width = 1 if min(mask.shape) < 256 else 2
    colour[(mask & ~ndimage.binary_erosion(mask, iterations=width)).T] = _OUTLINE
    return Image.fromarray(colour)


def _axial_slice(image: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The axial slice with the largest segmentation, x towards the patient's left and y towards the back."""
    to_lps = ornt_transform(io_orientation(affine), axcodes2ornt("LPS"))
    image, mask = apply_orientation(image, to_lps), apply_orientation(mask, to_lps)
    sizes = mask.sum(axis=(0, 1))
    index = sizes.argmax() if sizes.any() else sizes.size // 2
    return image[..., index], mask[..., index]


def _save(files: Mapping[str, Image.Image | nib.Nifti1Image], stem: Path) -> Path:
    """Write ``<stem><ending>`` for each, under names of their own until they are complete; the path of the last."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=stem.parent, prefix=".writing-") as temporary:
        for ending, image in files.items():
            path = Path(temporary, stem.name + ending)
            image.save(path) if isinstance(image, Image.Image) else nib.save(image, path)
            written = path.replace(stem.parent / path.name)
    return written
