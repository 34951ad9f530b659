# SPDX-License-Identifier: Apache-2.0
"""Writers of what batch inference predicts, one set of files per input."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.utils import ImageMetaKey, ensure_tuple
from nibabel.arrayproxy import ArrayProxy
from PIL import Image
from pydicom import Dataset

from monai_kd.data.readers.volume_file import affine_in_millimetres
from monai_kd.data.writers.dicom_segmentation import check_highdicom, dicom_segmentation
from monai_kd.data.writers.output_options import check_output_options
from monai_kd.data.writers.overlay import CURE, class_colours, segmentation_overlay
from monai_kd.data.writers.pictures import PLANES, lies_on, nifti_grid, on_grid, save_files
from monai_kd.transforms import ROWS_FIRST

__all__ = ["SegmentationWriter", "in_a_name"]

_EXTENSIONS = (".nii.gz", ".nii", ".png")


class SegmentationWriter:
    """Write a segmentation in the manner of its input file, and say how large it is.

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

    Of several classes, ``<stem>_pred`` holds their numbers, 0 for none (in a picture of 8 bits, with a palette that
    shows them in colour); there are ``<stem>_prob_<label>`` and ``<stem>_<label>`` for each, the overlay has a colour
    for each and a legend, and DICOM-SEG a segment.

    Args:
        pred_key: key of the segmentation, a `MetaTensor` (1, x, y[, z]) on the input file's own grid, 0 outside. Its
            metadata name the input file.
        probability_key: key of the probabilities, 0..1, a `MetaTensor` of the same shape; of several classes with a
            channel for each, behind that of the background if there is one.
        probabilities: write them too.
        overlay: write the overlay too.
        label_name: what is segmented: the numbers are called after it. A list names the classes from 1 on.
        image_output: write ``<stem>_<label>`` too.
        planes: which sections the overlay of a volume shows, in this order: ``"axial"``, ``"coronal"``, ``"sagittal"``.
        view: ``"section"`` or ``"projection"``, for the overlay of a volume.
        format: ``"input"`` writes the segmentation in the manner of the input, ``"dicom_seg"`` as DICOM-SEG.
        segment: what DICOM-SEG says of it: ``category``, ``type`` and ``algorithm``; the name is ``label_name``. Of
            several classes, ``category`` and ``type`` may be a list with a code for each.
        postfix: what stands in the place of ``pred`` in ``<stem>_pred``.
        ext: its suffix, ``".nii.gz"``, ``".nii"`` or, of pictures only, ``".png"``. A picture's NIfTI has 0 and 1, one
            slice, pixels of 1 mm, and its right is the patient's left.
        dtype: NumPy's name of its numbers in NIfTI, such as ``"float32"``.

    Raises:
        ValueError: when there is no plane, or another one, another view, format, postfix, suffix or type, or what
            DICOM-SEG needs is missing.

    >>> writer = SegmentationWriter(label_name=["core", "edema"])
    >>> writer.names, writer.is_binary
    (['core', 'edema'], False)
    """

    def __init__(
        self,
        pred_key: str = "pred",
        probability_key: str = "prob",
        probabilities: bool = False,
        overlay: bool = False,
        label_name: str | Sequence[str] = "foreground",
        image_output: bool = False,
        planes: Sequence[str] = ("axial",),
        view: Literal["section", "projection"] = "section",
        format: Literal["input", "dicom_seg"] = "input",
        segment: Mapping[str, Any] | None = None,
        postfix: str = "pred",
        ext: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if isinstance(planes, str) or not planes or not set(planes) <= PLANES.keys():
            raise ValueError(f"planes must be a list of {', '.join(PLANES)}, got {planes!r}")
        if view not in ("section", "projection"):
            raise ValueError(f'view must be "section" or "projection", got {view!r}')
        if format not in ("input", "dicom_seg"):
            raise ValueError(f'format must be "input" or "dicom_seg", got {format!r}')
        names = ensure_tuple(label_name)
        if not 1 <= len(set(names)) == len(names) <= 255:
            raise ValueError(f"label_name must be a name, or up to 255 that differ, got {label_name!r}")
        if format == "dicom_seg":
            check_highdicom()
            if segment is None:
                raise ValueError("the format dicom_seg needs a segment: its category, type and algorithm")
            if ext is not None or dtype is not None:
                raise ValueError("the format dicom_seg has a suffix and numbers of its own; leave the others out")
        taken = {"prob", "overlay", *(in_a_name(name) for name in names), *(f"prob_{in_a_name(n)}" for n in names)}
        self.dtype = check_output_options(postfix, ext, dtype, _EXTENSIONS, "uif", taken) or np.dtype(np.uint8)
        self.postfix = postfix
        self.ext = ext
        self.pred_key = pred_key
        self.probability_key = probability_key
        self.probabilities = probabilities
        self.overlay = overlay
        self.label_name = label_name
        self.is_binary = isinstance(label_name, str)
        self.names = list(ensure_tuple(label_name))
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
            in millilitres for a NIfTI volume, empty for anything flat; of several classes for each of them.

        Raises:
            ValueError: when there is more than one channel, a number is of no class, or the shape (for NIfTI the
                affine, too) is not the input file's. A picture's shape is compared only for an overlay, because it is
                not read otherwise.
        """
        pred = sample[self.pred_key]
        source = str(pred.meta[ImageMetaKey.FILENAME_OR_OBJ])
        grid = nifti_grid(source)
        classes = self._classes(_channels(pred, source, grid)[0], source)
        probabilities = self._probabilities(sample, source, grid) if self.probabilities else {}

        files: dict[str, Image.Image | nib.Nifti1Image | Dataset] = {}
        if self.overlay:
            projection = self.view == "projection"
            files["_overlay.png"] = segmentation_overlay(source, classes, self.names, grid, self.planes, projection)
        for ending, prob in probabilities.items():
            files[ending] = _picture(65535 * prob.clip(0, 1), np.uint16) if grid is None else _on_grid(prob, grid)
        if grid is not None and self.image_output:
            for number, name in enumerate(self.names, start=1):
                files[f"_{in_a_name(name)}.nii.gz"] = _inside(classes == number, grid)
        if self.format == "dicom_seg":
            files[f"_{self.postfix}.dcm"] = dicom_segmentation(classes, source, self.label_name, **self.segment)
        else:
            ext = self.ext or (".png" if grid is None else ".nii.gz")
            files[f"_{self.postfix}{ext}"] = self._label_file(classes, source, grid, ext)
        return {"output": save_files(files, Path(stem)), **self._numbers(classes, grid)}

    def _classes(self, pred: np.ndarray, source: str) -> np.ndarray:
        """The number of each pixel's class."""
        if self.is_binary:
            return (pred != 0).astype(np.uint8)
        found = np.unique(pred)
        if not np.isin(found, range(len(self.names) + 1)).all():
            raise ValueError(
                f"{source}: expected the numbers of the classes, 0 to {len(self.names)} for {', '.join(self.names)}, "
                f"got {', '.join(f'{value:g}' for value in found[:5])}: apply argmax in the postprocessing"
            )
        return pred.astype(np.uint8)

    def _probabilities(
        self, sample: Mapping[str, Any], source: str, grid: nib.Nifti1Image | None
    ) -> dict[str, np.ndarray]:
        """The map of each class by the ending of its file's name; that of the background is left out."""
        suffix = ".png" if grid is None else ".nii.gz"
        if self.is_binary:
            return {f"_prob{suffix}": _channels(sample[self.probability_key], source, grid)[0]}
        number = len(self.names)
        maps = _channels(sample[self.probability_key], source, grid, (number, number + 1))[-number:]
        return {f"_prob_{in_a_name(name)}{suffix}": prob for name, prob in zip(self.names, maps)}

    def _label_file(
        self, classes: np.ndarray, source: str, grid: nib.Nifti1Image | None, ext: str
    ) -> Image.Image | nib.Nifti1Image:
        if ext != ".png":
            if grid is not None:
                return _on_grid(classes.astype(self.dtype), grid)
            flat = nib.Nifti1Image(classes.astype(self.dtype)[..., None], np.diag([-1.0, -1, 1, 1]))
            flat.header.set_xyzt_units("mm")
            return flat
        if grid is not None:
            raise ValueError(f"{source}: is a volume, which no .png holds: output_ext=.nii.gz, or leave it out")
        if self.dtype != np.uint8:
            raise ValueError(f"{source}: a .png of a mask has 8 bits: output_ext=.nii.gz, or leave output_dtype out")
        return self._label_picture(classes)

    def _label_picture(self, classes: np.ndarray) -> Image.Image:
        """0 and 255; of several classes their numbers, which a palette shows in colour."""
        if self.is_binary:
            return _picture(255 * classes, np.uint8)
        picture = _picture(classes, np.uint8)
        picture.putpalette([0, 0, 0, *(value for colour in class_colours(len(self.names)) for value in colour)])
        return picture

    def _numbers(self, classes: np.ndarray, grid: nib.Nifti1Image | None) -> dict[str, float | str]:
        numbers: dict[str, float | str] = {}
        for label, name in enumerate(self.names, start=1):
            count = int((classes == label).sum())
            millilitres: float | str = ""
            if grid is not None and classes.ndim == 3:
                millilitres = count * float(abs(np.linalg.det(affine_in_millimetres(grid)[:3, :3]))) / 1000
            numbers |= {f"{name}_pixels": count, f"{name}_fraction": count / classes.size, f"{name}_ml": millilitres}
        return numbers


def in_a_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", label)


def _picture(array: np.ndarray, dtype: type[np.generic]) -> Image.Image:
    """An array (x, y) = (column, row) as a picture, (row, column)."""
    return Image.fromarray(np.round(array.T).astype(dtype))


def _channels(
    tensor: MetaTensor, source: str, grid: nib.Nifti1Image | None, numbers: Sequence[int] = (1,)
) -> np.ndarray:
    """The channels of a tensor, (x, y[, z]); it must be on the grid of its NIfTI file, or flat for a picture."""
    array = tensor.detach().cpu().float().numpy()
    wanted = " or ".join(map(str, numbers))
    if grid is None:
        if array.ndim != 3 or len(array) not in numbers:
            channels = "one channel" if numbers == (1,) else f"{wanted} channels"
            raise ValueError(f"{source}: expected {channels} ({wanted}, x, y), got {array.shape}")
        if tensor.meta.get(ROWS_FIRST):
            array = array.swapaxes(1, 2)
    elif array.shape not in {(number, *grid.shape[:3]) for number in numbers}:
        shape = (numbers[0], *grid.shape[:3])
        raise ValueError(f"{source}: expected its shape {shape}, got {array.shape}: {CURE}")
    elif not lies_on(tensor, grid):
        raise ValueError(f"{source}: expected its affine {grid.affine.tolist()}, got {tensor.affine.tolist()}: {CURE}")
    return array


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
