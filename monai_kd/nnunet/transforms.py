# SPDX-License-Identifier: Apache-2.0
"""From the files of a case to what the network sees, and from its logits back to the files' grid, by nnU-Net's code."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey

from monai_kd.data.readers.image_file import ImageFileReader
from monai_kd.transforms.check_image import check_resampled

from .cases import channels_of
from .installed import nnunet
from .plans import NnunetPlans, class_names, drawing_order

__all__ = ["ClassMasks", "ClassMasksd", "NnunetPreprocess", "NnunetPreprocessd", "NnunetSegmentationd"]

_PROPERTIES = "nnunet_properties"  # of the file, as JSON: MONAI's collation leaves a text as it is
_READERS = ("SimpleITKIO", "NibabelIO")  # which keep the file's own axes


class NnunetPreprocess(Transform):
    """Read the channels of a case and transpose, crop, normalise and resample them by nnU-Net's preprocessor.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        max_voxels: how large a file may be (:func:`~monai_kd.data.readers.limits.check_size`).
    """

    def __init__(
        self, plans: Mapping[str, Any], description: Mapping[str, Any], max_voxels: int | None = None
    ) -> None:
        self.max_voxels = max_voxels
        self.plans = plans
        self.description = description
        self._known: NnunetPlans | None = None

    def __call__(self, path: str | os.PathLike) -> MetaTensor:
        """
        Args:
            path: the file of the first channel, ``<case>_0000.nii.gz``; the others lie beside it.

        Returns:
            Image (C, z, y, x) in nnU-Net's order of the axes, with what its code needs to undo the preprocessing.

        Raises:
            FileNotFoundError: when a channel is missing.
            ValueError: when a file is damaged, complex, or so large or small by its header that no grid fits, when the
                channels differ in shape or voxel size, or the plans' reader is not for NIfTI.
        """
        image, _, properties = self.case(path)
        meta = {ImageMetaKey.FILENAME_OR_OBJ: os.fspath(path), _PROPERTIES: json.dumps(properties, default=_as_list)}
        return MetaTensor(torch.from_numpy(np.asarray(image, np.float32)), meta=meta)

    def case(self, path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """A case as nnU-Net's preprocessor gives it.

        Args:
            path: as above.

        Returns:
            Image (C, z, y, x), the segmentation (1, z, y, x) of a case without a label, which is -1 outside of what
            was scanned and else 0, and nnU-Net's properties.

        Raises:
            FileNotFoundError: as above.
            ValueError: as above.
        """
        self._known = self._known or NnunetPlans(self.plans, self.description)
        manager = self._known.manager
        reader = manager.plans["image_reader_writer"]
        if reader not in _READERS:
            raise ValueError(f"the plans read images by {reader}; supported are {' and '.join(_READERS)}, for NIfTI")
        files = channels_of(path, self.description)
        for file in files:
            self._check(file, self._known, reader)
        preprocessor = self._known.configuration.preprocessor_class(verbose=False)
        try:
            return preprocessor.run_case(files, None, manager, self._known.configuration, self._known.description)
        except (AssertionError, RuntimeError) as error:  # which has no words where the channels do not fit
            reason = str(error) or "its channels differ in shape or voxel size, or are no NIfTI files"
            raise ValueError(f"{files[0]}: {reason}") from error

    def _check(self, file: str, known: NnunetPlans, reader: str) -> None:
        """Refuse what nnU-Net's readers would make something else of in silence.

        ITK takes the voxels that a damaged file lacks for 0, and both take the real part of complex ones.
        """
        own = ImageFileReader(magnitude=False, max_voxels=self.max_voxels)
        voxels, meta = own.get_data(own.read(file))
        if np.iscomplexobj(voxels):
            raise ValueError(f"{file}: holds complex numbers, expected grey values: save their magnitude")
        header: Any = nib.load(file)
        sizes = np.ones(3)
        of_file = header.header.get_zooms()[:3] if reader == "NibabelIO" else np.linalg.norm(meta["affine"], axis=0)[:3]
        sizes[: len(of_file)] = of_file  # nibabel knows no units, ITK does
        shape = (*voxels.shape, 1)[:3]
        order = [2 - axis for axis in known.manager.transpose_forward]  # of nnU-Net's axes (z, y, x)
        target = [float(step) for step in known.configuration.spacing]
        target = [-1.0] * (3 - len(target)) + target  # slices stay as they are
        check_resampled(file, [shape[axis] for axis in order], sizes[order], target, self.max_voxels)


class NnunetPreprocessd(MapTransform):
    """Dictionary form of :class:`NnunetPreprocess`.

    Args:
        keys: keys of the paths.
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        max_voxels: how large a file may be.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        max_voxels: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = NnunetPreprocess(plans, description, max_voxels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: a sample with paths.
        """
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transform(sample[key])
        return sample


class NnunetSegmentationd(MapTransform):
    """Resample logits to the file's own grid and choose the classes, by nnU-Net's code.

    Args:
        keys: keys of the logits (K, z, y, x); of each becomes the segmentation (1, x, y, z), a `MetaTensor` with the
            file's affine, that holds the numbers of the classes.
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        reference: key of the image that they were made of.
        probability_key: where probabilities (K, x, y, z) go, in the order of the segmentation's numbers, with the
            background's first where there are no regions; None for none, which is faster.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        reference: str = "image",
        probability_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.plans = plans
        self.description = description
        self.reference = reference
        self.probability_key = probability_key
        self._known: NnunetPlans | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: a sample with the logits, and the image with its metadata.
        """
        self._known = self._known or NnunetPlans(self.plans, self.description)
        sample = dict(data)
        meta = sample[self.reference].meta
        file = str(meta[ImageMetaKey.FILENAME_OR_OBJ])
        for key in self.key_iterator(sample):
            result = self._on_file(sample[key], json.loads(meta[_PROPERTIES]))
            segmentation, probabilities = result if isinstance(result, tuple) else (result, None)
            sample[key] = _as_file(segmentation[None], file)
            if probabilities is not None:
                if self._known.labels.has_regions:
                    probabilities = probabilities[drawing_order(self.description)]
                sample[self.probability_key] = _as_file(probabilities, file)
        return sample

    def _on_file(self, logits: torch.Tensor, properties: dict[str, Any]) -> Any:
        assert self._known is not None
        export = nnunet("inference.export_prediction")
        return export.convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.as_tensor().float().cpu() if isinstance(logits, MetaTensor) else logits.float().cpu(),
            self._known.manager,
            self._known.configuration,
            self._known.labels,
            properties,
            return_probabilities=self.probability_key is not None,
            num_threads_torch=torch.get_num_threads(),
        )


class ClassMasks(Transform):
    """Make a mask of every foreground class, or of every region, from the numbers of the classes.

    Args:
        description: what ``dataset.json`` says: the labels.

    >>> masks = ClassMasks({"labels": {"background": 0, "all": [1, 2], "core": [2]}})
    >>> masks(torch.tensor([[0, 1, 2]])).tolist()
    [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.members = [np.atleast_1d(description["labels"][name]).tolist() for name in class_names(description)]

    def __call__(self, numbers: torch.Tensor) -> torch.Tensor:
        """
        Args:
            numbers: (1, *spatial) of classes.

        Returns:
            Masks (K, *spatial), 0 and 1, in the order of :func:`~monai_kd.nnunet.plans.class_names`.
        """
        masks = [torch.isin(numbers[0], torch.tensor(own).to(numbers.dtype)) for own in self.members]
        stacked = torch.stack(masks).to(torch.float32)
        return MetaTensor(stacked, meta=numbers.meta) if isinstance(numbers, MetaTensor) else stacked


class ClassMasksd(MapTransform):
    """Dictionary form of :class:`ClassMasks`.

    Args:
        keys: keys of the segmentations.
        description: what ``dataset.json`` says: the labels.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(self, keys: KeysCollection, description: Mapping[str, Any], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ClassMasks(description)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: a sample with segmentations (1, *spatial).
        """
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transform(sample[key])
        return sample


def _as_file(array: Any, file: str) -> MetaTensor:
    """An array (C, z, y, x) in the order of the axes that nibabel gives a NIfTI file, with its affine."""
    header: Any = nib.load(file)
    values = torch.from_numpy(np.ascontiguousarray(np.asarray(array, np.float32).transpose(0, 3, 2, 1)))
    values = values.reshape(len(values), *header.shape[:3])  # a flat file has two axes
    return MetaTensor(values, affine=torch.as_tensor(header.affine), meta={ImageMetaKey.FILENAME_OR_OBJ: file})


def _as_list(value: Any) -> Any:
    return np.asarray(value).tolist()
