# SPDX-License-Identifier: Apache-2.0
"""Soft labels from files for nnU-Net's samples: on the grid of its preprocessed cases, moved by its own loader."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.utils import CommonKeys as Keys
from torch import Tensor

from monai_kd.data.readers.soft_label import read_soft_label
from monai_kd.data.readers.volume_file import affine_in_millimetres
from monai_kd.data.soft_labels import ACTIVATIONS, SOFT_LABEL, FindSoftLabeld, SameClasses, check_soft_label
from monai_kd.data.writers.segmentation import in_a_name
from monai_kd.files import whole_file
from monai_kd.names import check_known

from .plans import NnunetPlans, class_names

__all__ = ["MovedSoftLabels", "NnunetSoftLabels", "nnunet_soft_labels"]


class NnunetSoftLabels:
    """What a teacher thinks of whole cases, read from files and brought onto nnU-Net's preprocessed grid.

    A case's file is ``<case>.npz``, as ``nnUNetv2_predict --save_probabilities`` writes it, or another of those that
    :class:`~monai_kd.data.FindSoftLabeld` finds by the case's name; or, for each class, ``<case>_prob_<class>.nii.gz``,
    as ``infer --teacher`` writes them. It lies on the case's own grid. nnU-Net's order of the axes, its cropping and
    its resampling of probabilities follow, once for each file: the result is kept as an array that is read in parts.

    Args:
        activation: as in :class:`~monai_kd.data.LoadSoftLabeld`.
        folder: where the files are (``teacher_dir``); None where each case names its own as ``teacher``.
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        kept_in: folder of the arrays, in float32.
        max_voxels: how large a file may be.

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: when there is no such activation.
    """

    def __init__(
        self,
        activation: str,
        folder: str | os.PathLike | None,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        kept_in: str | os.PathLike,
        max_voxels: int | None = None,
    ) -> None:
        check_known(activation, ACTIVATIONS, "teacher_activation")
        self.activation = activation
        self.folder = folder
        self.plans = plans
        self.description = description
        self.kept_in = Path(kept_in)
        self.max_voxels = max_voxels
        self._find = FindSoftLabeld(folder)
        self._same_classes = SameClasses()

    def of(self, item: Mapping[str, Any], properties: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
        """The soft label of a case.

        Args:
            item: with the case's name and its ``image``, whose grid is that of the files.
            properties: what nnU-Net has kept of the case's preprocessing.
            shape: of the preprocessed case, (z, y, x) in nnU-Net's order of the axes.

        Returns:
            (K, z, y, x), a channel for each class of the student, as a read-only map of a file.

        Raises:
            FileNotFoundError: when the case has no soft label.
            ValueError: naming the file, when it lies on another grid, or its values are not what they should be.
        """
        files = self.files(item)
        states = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
        key = hashlib.sha256(repr((states, shape, self.activation)).encode()).hexdigest()[:16]
        kept = self.kept_in / f"{item['case']}_{key}.npy"
        if not kept.is_file():
            values = self._resampled(self._read(files, item), files[0], properties, shape)
            self.kept_in.mkdir(parents=True, exist_ok=True)
            with whole_file(kept) as written:
                np.save(written, values)
        answer = np.load(kept, mmap_mode="r")
        self._same_classes.check(answer, files[0])
        return answer

    def files(self, item: Mapping[str, Any]) -> list[str]:
        """The files that are the soft label of a case.

        Args:
            item: as above.

        Raises:
            FileNotFoundError: when it has none.
        """
        if self.folder is not None and SOFT_LABEL not in item:
            stem = os.path.join(self.folder, f"{item['case']}_prob_")
            by_class = [f"{stem}{in_a_name(name)}.nii.gz" for name in class_names(self.description)]
            if all(map(os.path.isfile, by_class)):
                return by_class
        wanted: dict[Any, Any] = {SOFT_LABEL: item[SOFT_LABEL]} if SOFT_LABEL in item else {}
        named_after = os.path.join(os.path.dirname(item[Keys.IMAGE]), f"{item['case']}.nii.gz")
        return list(self._find({**wanted, Keys.IMAGE: named_after})[SOFT_LABEL].files)

    def _read(self, files: list[str], item: Mapping[str, Any]) -> np.ndarray:
        """Soft labels (K, x, y, z) on the case's own grid."""
        grid: Any = nib.load(item[Keys.IMAGE])
        maps = []
        for file in files:
            is_flat = len(grid.shape) == 2 and not file.lower().endswith(".npz")  # in which nnU-Net has (C, 1, y, x)
            own = read_soft_label(file, 2 if is_flat else 3, self.max_voxels)
            values = own.values[..., None] if is_flat else own.values
            size = (*grid.shape, 1)[:3]
            there = own.affine is None or np.allclose(own.affine, affine_in_millimetres(grid), atol=1e-2)
            if values.shape[1:] != size or not there:
                raise ValueError(
                    f"{file}: this soft label lies on another grid, {values.shape[1:]}, than its case {item['case']}, "
                    f"{size}: bring it onto the case's own grid, affine included"
                )
            maps.append(values)
        together = np.concatenate(maps)
        if len(files) > 1 and self.activation == "softmax":  # of the background no file is written
            together = np.concatenate([(1 - together.sum(axis=0, keepdims=True)).clip(0), together])
        check_soft_label(together, self.activation, files[0])
        return together

    def _resampled(
        self, values: np.ndarray, file: str, properties: Mapping[str, Any], shape: tuple[int, ...]
    ) -> np.ndarray:
        """From (K, x, y, z) on the case's own grid to nnU-Net's."""
        known = NnunetPlans(self.plans, self.description)
        forward = known.manager.transpose_forward
        values = values.transpose(0, 3, 2, 1).transpose(0, *(axis + 1 for axis in forward))
        if values.shape[1:] != tuple(properties["shape_before_cropping"]):
            raise ValueError(
                f"{file}: this soft label has the size {values.shape[1:]}, and its case was preprocessed with "
                f"{tuple(properties['shape_before_cropping'])}: preprocess the data set anew by nnUNetv2_preprocess"
            )
        values = values[(slice(None), *(slice(*box) for box in properties["bbox_used_for_cropping"]))]
        own = [properties["spacing"][axis] for axis in forward]
        planned = known.configuration.spacing
        wanted = planned if len(planned) == len(own) else [own[0], *planned]
        resample = known.configuration.resampling_fn_probabilities
        return np.asarray(resample(np.ascontiguousarray(values), shape, own, wanted), np.float32)


def nnunet_soft_labels(activation: str | None, *arguments: Any, **settings: Any) -> NnunetSoftLabels | None:
    """Soft labels where ``activation`` says what files hold; None where a network teaches. Arguments as there."""
    return None if activation is None else NnunetSoftLabels(activation, *arguments, **settings)


class MovedSoftLabels:
    """Let nnU-Net's loader of one sample crop and move a case's soft label with its image.

    nnU-Net's spatial transforms know targets that are numbers (``regression_target``), and do to them what they do to
    the image; transforms of grey values leave them alone. Images and labels stay what they are without.

    Args:
        loader: nnU-Net's, with a batch of one.
        soft_labels: of whole cases.
        items: the cases by name.
    """

    def __init__(self, loader: Any, soft_labels: NnunetSoftLabels, items: Mapping[str, Mapping[str, Any]]) -> None:
        from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

        self._crop = crop_and_pad_nd
        self._soft_labels = soft_labels
        self._items = items
        self._is_flat = loader.patch_size_was_2d
        self._load_case, self._get_bbox, self._transforms = loader._data.load_case, loader.get_bbox, loader.transforms
        loader._data.load_case, loader.get_bbox, loader.transforms = self.load_case, self.get_bbox, self.move
        self._whole: Any = None
        self._box: list[tuple[int, int]] = []
        self.latest: Tensor = torch.empty(0)
        """Of the latest sample: (K, *patch)."""

    def load_case(self, identifier: str) -> Any:
        """As nnU-Net's data set does it."""
        case = self._load_case(identifier)
        data, properties = case[0], case[-1]
        self._whole = self._soft_labels.of(self._items[identifier], properties, tuple(data.shape[1:]))
        return case

    def get_bbox(self, *arguments: Any, **settings: Any) -> Any:
        """As nnU-Net's loader does it."""
        lower, upper = self._get_bbox(*arguments, **settings)
        self._box = list(zip(lower, upper))
        return lower, upper

    def move(self, image: Tensor, segmentation: Tensor) -> dict[str, Any]:
        """As nnU-Net's transforms do it."""
        cropped = torch.from_numpy(np.array(self._crop(self._whole, [list(side) for side in self._box], 0)))
        cropped = cropped[:, 0] if self._is_flat else cropped
        moved = self._transforms(image=image, segmentation=segmentation, regression_target=cropped)
        self.latest = moved["regression_target"]
        return moved
