# SPDX-License-Identifier: Apache-2.0
"""Reader of the slices of MR images, in whatever files they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.config import PathLike
from monai.utils import MetaKeys

from monai_kd.data.readers.deferred_reader import DeferredReader
from monai_kd.data.readers.image_file import ImageFileReader
from monai_kd.data.readers.volume_file import SeveralVolumes
from monai_kd.data.writers.pictures import PLANES, axis_across

__all__ = ["MRIReader"]


class MRIReader(DeferredReader):
    """Read MR images so that their slices, or the frames of a series, lie along the last axis.

    =================================  ===============================================================================
    file                               comes as
    =================================  ===============================================================================
    picture, flat NIfTI or array       (x, y)
    several pictures of one size       (x, y, frames), in the order that they are given
    NIfTI volume, array of slices      (x, y, slices)
    NIfTI series (4D)                  (x, y, slices * frames), all frames of a slice one behind the other
    complex image, measured k-space    (2, x, y[, slices]), real and imaginary part
    =================================  ===============================================================================

    The formats are those of :class:`~monai_kd.data.ImageFileReader`; DICOM keeps the device's values, without a window.
    All of them have the metadata by which :class:`~monai_kd.transforms.ToInputGridd` brings a result back to the file's
    own axes; a picture's right is the patient's left and its bottom the patient's back, as in a radiological one.

    Args:
        slice_axis: "axial", "coronal" or "sagittal": the slices of a NIfTI volume are those that are closest to this
            plane. By default they lie along the file's own third axis, in which they were mostly acquired.
        dataset: name of the image in an HDF5 file, as :class:`~monai_kd.data.ArrayReader` takes it.
        max_voxels: how large an image may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Raises:
        ValueError: for another ``slice_axis``.

    >>> MRIReader(slice_axis="axial").verify_suffix("brain.nii.gz")
    True
    """

    def __init__(
        self, slice_axis: str | None = None, dataset: str | None = None, max_voxels: int | None = None
    ) -> None:
        super().__init__()
        if slice_axis is not None and slice_axis not in PLANES:
            raise ValueError(f"slice_axis must be one of {', '.join(PLANES)}, or none, got {slice_axis!r}")
        self.slice_axis = slice_axis
        # A series has no axis but its third along which its frames could follow one another.
        self._reader = ImageFileReader(
            all_volumes=slice_axis is None, dataset=dataset, windowed=False, magnitude=False, max_voxels=max_voxels
        )

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return self._reader.verify_suffix(filename)

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict]:
        """Read the files.

        Args:
            img: what :meth:`read` gave.

        Returns:
            array as in the table above; the first file's metadata.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when a file cannot be read, as :class:`~monai_kd.data.ImageFileReader` says it, or when several
                files are no pictures of one size.
        """
        image, meta = self._read(img[0])
        if len(img) > 1:
            frames = [image, *(self._read(name)[0] for name in img[1:])]
            for name, frame in zip(img, frames):
                if frame.shape != image.shape or len(meta[MetaKeys.SPATIAL_SHAPE]) != 2:
                    raise ValueError(
                        f"{name}: frames of one volume must be flat images of one size, got {frame.shape} beside "
                        f"{image.shape} of {img[0]}; make volumes of their own of them"
                    )
            image = np.stack(frames, axis=-1)
            meta[MetaKeys.SPATIAL_SHAPE] = np.array(image.shape[-3:])
        return image, meta

    def _read(self, name: PathLike) -> tuple[np.ndarray, dict]:
        try:
            image, meta = self._reader.get_data(self._reader.read(name))
        except SeveralVolumes as error:
            raise SeveralVolumes(f"{error}, or take slices of all along their third axis (slice_axis=null)") from error
        if MetaKeys.ORIGINAL_AFFINE not in meta:  # a picture's or a Figshare slice's
            meta[MetaKeys.AFFINE] = meta[MetaKeys.ORIGINAL_AFFINE] = np.diag([-1.0, -1, 1, 1])
        elif self.slice_axis is not None and "qform_code" in meta and image.ndim == 3:  # a NIfTI volume's
            last = axis_across(meta[MetaKeys.AFFINE], self.slice_axis)
            order = [axis for axis in range(3) if axis != last] + [last]
            image = image.transpose(order)
            meta[MetaKeys.AFFINE] = meta[MetaKeys.AFFINE][:, [*order, 3]]
        if np.iscomplexobj(image):  # a NIfTI file's; an array's parts are channels already
            image = np.stack([image.real, image.imag])
            meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = 0
        return image, meta
