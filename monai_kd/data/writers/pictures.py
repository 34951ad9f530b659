# SPDX-License-Identifier: Apache-2.0
"""What the writers share: inputs as grey pictures, and files that get their names when they are complete."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.utils import MetaKeys, convert_to_numpy
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

from monai_kd.data.readers.dicom_file import speaking_for
from monai_kd.data.readers.image_file import ImageFileReader
from monai_kd.data.readers.volume_file import affine_in_millimetres, is_volume, load_volume
from monai_kd.files import put_in_place, temporary_folder
from monai_kd.transforms import PLACED, ROWS_FIRST, upright

__all__ = [
    "PLANES",
    "axis_across",
    "grey_picture",
    "lies_on",
    "nifti_grid",
    "on_grid",
    "read_input",
    "read_picture",
    "save_files",
    "sections",
    "side_by_side",
    "stacked",
    "with_square_pixels",
]

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""For each plane the axis that it cuts across, in LPS order."""

_GAP = 8  # pixels between the parts of a picture


def lies_on(image: MetaTensor, grid: nib.Nifti1Image) -> bool:
    """Whether an image, whose affine is in mm, lies where a file does, within a thousandth of a voxel or of 1 mm."""
    wanted = affine_in_millimetres(grid)
    return np.allclose(image.affine, wanted, rtol=1e-5, atol=1e-3 * min(1.0, voxel_sizes(wanted).min()))


def nifti_grid(source: str) -> nib.Nifti1Image | None:
    """The NIfTI image that an input is, a MetaImage or a DICOM series as one; none when it is a picture or a slice."""
    return load_volume(source, sys.maxsize) if is_volume(source) else None  # it has been read before, by a limit


def on_grid(array: np.ndarray, grid: nib.Nifti1Image) -> nib.Nifti1Image:
    """An array as a NIfTI image with the affine, the units and the codes of another one of its shape."""
    header = grid.header.copy()  # the affine alone would lose the codes of qform and sform
    header.set_data_dtype(array.dtype)
    return type(grid)(array, grid.affine, header)


def read_input(source: str, is_flat: bool) -> np.ndarray:
    """Grey values (x, y[, z]) of an input file, of the first volume if there are several, as float64 without NaN.

    Args:
        source: path of the file.
        is_flat: whether it was read as a picture, which of arrays only this says.
    """
    # It has been read before, by a limit.
    reader = ImageFileReader(first_volume=True, max_voxels=sys.maxsize, flat_arrays=is_flat)
    array, meta = reader.get_data(reader.read(source))
    array = array.swapaxes(0, 1) if meta.get(ROWS_FIRST) else array
    return np.nan_to_num(array.astype(np.float64))


def read_picture(source: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values (x, y) of a flat input as a network of pictures sees it, and its pixels' spacing in mm, if it says.

    Raises:
        ValueError: when the input is not flat.
    """
    reader = ImageFileReader(first_volume=True, flat=True, max_voxels=sys.maxsize)
    array, meta = reader.get_data(reader.read(source))
    if array.ndim != 2:
        raise ValueError(f"{source}: an overlay is of a flat image, got shape {array.shape}; infer without overlay")
    affine = torch.tensor(np.array(meta.pop(MetaKeys.AFFINE, np.eye(4))))
    image = upright(MetaTensor(torch.from_numpy(array.astype(np.float64))[None], affine=affine, meta=meta))
    spacing = affine_to_spacing(convert_to_numpy(image.affine), 3)[:2] if PLACED in meta else None
    return np.nan_to_num(convert_to_numpy(image)[0]), spacing


def axis_across(affine: np.ndarray, plane: str) -> int:
    """The axis of a volume that a plane of :data:`PLANES` cuts across, or the one that is closest to it.

    >>> axis_across(np.diag([1, 1, 2, 1]), "coronal")
    1
    """
    return int(np.flatnonzero(io_orientation(affine)[:, 0] == PLANES[plane])[0])


def with_square_pixels(image: np.ndarray, spacing: np.ndarray, pixel: float) -> np.ndarray:
    """A flat image with pixels of ``spacing`` as one with pixels of one length, interpolated linearly.

    >>> with_square_pixels(np.ones((4, 4)), np.array([1.0, 2.0]), pixel=1.0).shape
    (4, 8)
    """
    return ndimage.zoom(image.astype(np.float64), spacing / pixel, order=1, mode="nearest", grid_mode=True)


def sections(
    image: np.ndarray,
    layer: np.ndarray,
    affine: np.ndarray,
    planes: Sequence[str] = ("axial",),
    projection: bool = False,
    place: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sections of an image and a layer in radiological convention, side by side at one scale, with square pixels.

    The patient's left is on the right, anterior is up in axial and on the left in sagittal sections, superior is up.

    Args:
        image: (x, y[, z]).
        layer: what is laid over the image, on its grid, not negative. A section is where it sums to most, or in the
            middle where it is empty.
        affine: from their grid to RAS.
        planes: names of :data:`PLANES`.
        place: what a section shows most of, on the same grid; by default the layer.
        projection: show the maximum along each line of sight instead of a section, as is usual of vessels.

    Returns:
        Both (x, y), x to the right and y down, interpolated linearly.
    """
    image, layer, place = np.atleast_3d(image), np.atleast_3d(layer), np.atleast_3d(layer if place is None else place)
    to_lps = ornt_transform(io_orientation(affine), axcodes2ornt("LPS"))
    spacing = voxel_sizes(affine @ inv_ornt_aff(to_lps, image.shape))
    image, layer, place = (apply_orientation(array, to_lps) for array in (image, layer, place))
    pixel = min(np.delete(spacing, PLANES[plane]).min() for plane in planes)

    pairs = []
    for plane in planes:
        axis = PLANES[plane]
        if projection:
            cuts = [array.max(axis) for array in (image, layer)]
        else:
            sizes = place.sum(axis=tuple({0, 1, 2} - {axis}))
            index = sizes.argmax() if sizes.any() else sizes.size // 2
            cuts = [np.take(array, index, axis) for array in (image, layer)]
        cuts = [with_square_pixels(cut, np.delete(spacing, axis), pixel) for cut in cuts]
        pairs.append(cuts if plane == "axial" else [cut[:, ::-1] for cut in cuts])
    images, layers = zip(*pairs)
    return side_by_side(images, min(cut.min() for cut in images)), side_by_side(layers, 0)


def side_by_side(cuts: Sequence[np.ndarray], background: float) -> np.ndarray:
    """Join arrays (x, y) along x, centred along y, with a gap between them.

    >>> side_by_side([np.ones((5, 3)), np.ones((4, 7))], background=0).shape
    (17, 7)
    """
    height = max(cut.shape[1] for cut in cuts)
    padded = []
    for number, cut in enumerate(cuts):
        above = (height - cut.shape[1]) // 2
        below = height - cut.shape[1] - above
        padded.append(np.pad(cut, ((_GAP if number else 0, 0), (above, below)), constant_values=background))
    return np.concatenate(padded)


def stacked(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Two pictures (row, column, 3) of one width with a black gap between them.

    >>> stacked(np.ones((5, 4, 3)), np.ones((6, 4, 3))).shape
    (19, 4, 3)
    """
    return np.concatenate([above, np.zeros_like(above[:1]).repeat(_GAP, axis=0), below])


def grey_picture(image: np.ndarray) -> np.ndarray:
    """A flat image (x, y) as grey (row, column, 3), uint8; black and white are its percentiles 0.5 and 99.5.

    >>> grey_picture(np.array([[0.0, 0.0], [5.0, 9.0]]))[..., 0].tolist()
    [[0, 142], [0, 255]]
    """
    low, high = np.percentile(image, (0.5, 99.5))
    grey = 255 * ((image - low) / (high - low or 1)).clip(0, 1)
    return np.repeat(grey.T[..., None].astype(np.uint8), 3, axis=-1)


def save_files(files: Mapping[str, Image.Image | nib.Nifti1Image | Dataset], stem: Path) -> Path:
    """Write ``<stem><ending>`` for each, under names of their own until they are complete; the path of the last."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(stem.parent) as temporary:
        for ending, image in files.items():
            path = temporary / (stem.name + ending)
            if isinstance(image, nib.Nifti1Image):
                nib.save(image, path)
            elif isinstance(image, Dataset):
                with speaking_for(path, "cannot be written as DICOM"):  # pydicom would quote the patient's values
                    image.save_as(path)
            else:
                image.save(path)
            put_in_place(path, stem.parent / path.name)
    return stem.parent / path.name
