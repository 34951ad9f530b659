# SPDX-License-Identifier: Apache-2.0
"""A teacher's answers from files, which go with their images through all that moves them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import CommonKeys, MetaKeys, ensure_tuple

from monai_kd.data.datalists.image_files import list_files
from monai_kd.data.datalists.nnunet import case_of
from monai_kd.data.readers.image_file import image_stem
from monai_kd.data.readers.soft_label import (
    SOFT_LABEL_SUFFIXES,
    SoftLabel,
    common_folders,
    folders_agree,
    folders_of,
    read_soft_label,
    read_soft_row,
)
from monai_kd.names import check_known
from monai_kd.transforms import ROWS_FIRST

__all__ = [
    "SOFT_LABEL",
    "FindSoftLabeld",
    "LoadSoftLabeld",
    "SameClasses",
    "check_soft_label",
]

SOFT_LABEL = "teacher"
"""Key of an item's soft label: the files before it is read, (C, *spatial) or (C,) behind."""

ACTIVATIONS = ("logits", "sigmoid", "softmax", "values")

_TABLE = "predictions.csv"
_RESULTS = ("_pred", "_prob", "_overlay", "_zerofilled")  # what `infer` adds to a name
_OF_FOLD = re.compile(r"fold_(\d+|all)|validation")  # where nnU-Net's training leaves what it said of cases held out
_EDGE = 1e-3  # how far a probability may lie outside of 0 to 1, and a sum from 1, by rounding


class FindSoftLabeld(MapTransform):
    """Find the files of an image's soft label, before either is read.

    Args:
        folder: where the soft labels of items that name none as ``teacher`` are found by the image's name: a map
            ``<stem><ending>.<ext>`` or ``<stem>.<ext>``, or the table ``predictions.csv``. A map in a sub-folder is of
            an image in such a folder (``T1/anna_prob.nii.gz`` for ``.../T1/anna.nii.gz``), but for nnU-Net's
            ``fold_0/validation``. One of a case of nnU-Net serves its channels (``case.npz`` for ``case_0000.nii.gz``).
        ending: what the names of maps have behind the image's; None for a table.

    Raises:
        FileNotFoundError: when the folder is not there.
    """

    finds_soft_labels = True

    def __init__(self, folder: str | os.PathLike | None = None, ending: str | None = "_prob") -> None:
        super().__init__(SOFT_LABEL)
        self.folder = None if folder is None else Path(folder)
        self.ending = ending
        self._files = {} if self.folder is None else _by_stem(self.folder, ending)
        self._root = common_folders(self._below(file) for files in self._files.values() for file in files)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with the image's file, or the files of its slices.

        Returns:
            the sample with those of its soft label.

        Raises:
            FileNotFoundError: when it has none, only one of another folder, or one that is not there.
            ValueError: when several files of the folder fit.
        """
        images = tuple(map(str, ensure_tuple(data[CommonKeys.IMAGE])))
        if SOFT_LABEL in data:
            files = tuple(map(str, ensure_tuple(data[SOFT_LABEL])))
        else:
            files = tuple(self._file_of(image) for image in images)
        missing = [file for file in files if not os.path.isfile(file)]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]}: there is no such soft label, that of {images[0]}: check the path, or leave it out"
            )
        return {**data, SOFT_LABEL: _Files(files, images[0], len(images) > 1)}

    def _file_of(self, image: str) -> str:
        names = [""] if self.ending is None else [image_stem(image), *_case(image)]
        named = next(filter(None, (self._files.get(name) for name in names)), [])
        found = self._in_the_same_folder(named, image)
        if self.ending is None and not found:
            found = named  # a table has images of many folders
        if len(found) > 1:
            shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            raise ValueError(f"{image}: several soft labels fit it: {shown}; leave one, or use a datalist")
        if named and not found:
            raise FileNotFoundError(
                f"{image}: the soft label of its name is of another folder: {named[0]}; give teacher_dir="
                f"{os.path.dirname(named[0])} if it is this image's, or name it as `{SOFT_LABEL}` in a datalist"
            )
        if not found:
            where = "" if self.folder is None else f" in teacher_dir={self.folder}"
            raise FileNotFoundError(
                f"{image}: has no soft label{where}: name its file as `{SOFT_LABEL}` in the datalist, or give "
                "teacher_dir=FOLDER, as `infer --teacher` writes it"
            )
        return found[0]

    def _below(self, file: str) -> str:
        """A soft label's path in the folder, without what says nothing about its image."""
        parts = Path(file).relative_to(self.folder or "").parts
        return os.path.join(*(part for part in parts[:-1] if not _OF_FOLD.fullmatch(part)), parts[-1])

    def _in_the_same_folder(self, files: Sequence[str], image: str) -> list[str]:
        """Those in the image's own folder, as far as they say it."""
        own = {file: folders_of(self._below(file)) for file in files}
        fitting = {file: len(folders) for file, folders in own.items() if folders_agree(folders, image, self._root)}
        return [file for file, length in fitting.items() if length == max(fitting.values())]


@dataclass(frozen=True)
class _Files:
    """The files of a soft label, of which image they are, and whether each is of one of its slices."""

    files: tuple[str, ...]
    image: str
    is_by_slice: bool


class LoadSoftLabeld(MapTransform):
    """Read what a teacher thinks of an image, and hold it to the image's grid and to what probabilities are.

    Args:
        activation: what the file holds: ``logits``, probabilities by ``sigmoid`` (each class by itself) or ``softmax``
            (one of the classes), or ``values`` that are of no class, such as grey levels.
        class_names: names of the classes, by channel, where an image has one soft label as a whole; none for maps.
        max_voxels: how large a map may be.

    Raises:
        ValueError: when there is no such activation.
    """

    def __init__(
        self, activation: str, class_names: Sequence[str] | None = None, max_voxels: int | None = None
    ) -> None:
        super().__init__(SOFT_LABEL)
        check_known(activation, ACTIVATIONS, "teacher_activation")
        self.activation = activation
        self.class_names = class_names
        self.max_voxels = max_voxels
        self._same_classes = SameClasses()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with the image (C, *spatial), not yet moved, and what :class:`FindSoftLabeld` found.

        Returns:
            the sample with its soft label: a MetaTensor (classes, *spatial) on the image's grid, or (classes,).

        Raises:
            ValueError: naming the file, when it lies on another grid, has other classes than one before, or its values
                are not what they should be.
        """
        found, image = data[SOFT_LABEL], data[CommonKeys.IMAGE]
        file = found.files[0]
        values = self._map(found, image) if self.class_names is None else self._row(file, found.image)
        check_soft_label(values, self.activation, file)
        self._same_classes.check(values, file)
        if self.class_names is not None:
            return {**data, SOFT_LABEL: torch.as_tensor(values)}
        meta = {**getattr(image, "meta", {}), "filename_or_obj": file}
        return {**data, SOFT_LABEL: MetaTensor(torch.as_tensor(values), meta=meta)}

    def _map(self, found: _Files, image: Any) -> np.ndarray:
        spatial = tuple(image.shape[1:])
        by_slice = found.is_by_slice and len(spatial) == 3
        maps = [read_soft_label(file, len(spatial) - by_slice, self.max_voxels) for file in found.files]
        if getattr(image, "meta", {}).get(ROWS_FIRST):
            maps = [
                own._replace(values=own.values.swapaxes(1, 2)) if _has_columns_first(own, file, image) else own
                for file, own in zip(found.files, maps)
            ]
        size = spatial[:-1] if by_slice else spatial
        for file, own in zip(found.files, maps):
            if own.values.shape[1:] != size or not (by_slice or _same_place(own.affine, image)):
                raise ValueError(
                    f"{file}: this soft label lies on another grid, {own.values.shape[1:]}, than its image "
                    f"{found.image}, {size}: bring it onto the image's own grid, affine included"
                )
        arrays = [own.values for own in maps]
        return np.stack(arrays, axis=-1) if by_slice else np.concatenate(arrays)

    def _row(self, file: str, image: str) -> np.ndarray:
        assert self.class_names is not None
        if file.lower().endswith(".csv"):
            return read_soft_row(file, image, self.class_names)
        values = np.load(file, allow_pickle=False).astype(np.float32).ravel() if file.endswith(".npy") else None
        if values is None or len(values) != len(self.class_names):
            raise ValueError(
                f"{file}: expected a CSV file, or .npy, with a number for each of {', '.join(self.class_names)}"
            )
        return values


def check_soft_label(values: np.ndarray, activation: str, file: str) -> None:
    """Hold a soft label to what probabilities are.

    Args:
        values: with the classes along the first axis.
        activation: as in :class:`LoadSoftLabeld`.
        file: which they are from.

    Raises:
        ValueError: naming the file, when they are not what they should be.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"{file}: this soft label holds NaN or infinite values: make it anew, or leave it out")
    if activation in ("logits", "values"):
        return
    if values.min() < -_EDGE or values.max() > 1 + _EDGE:
        raise ValueError(
            f"{file}: probabilities are from 0 to 1, got {values.min():.4g} to {values.max():.4g}: for logits say "
            "teacher_activation=logits"
        )
    if activation == "softmax":
        sums = values.sum(axis=0)
        if abs(sums - 1).max() > 10 * _EDGE:
            raise ValueError(
                f"{file}: the probabilities of {len(values)} classes must sum to 1, got {sums.min():.4g} to "
                f"{sums.max():.4g}: a channel is missing (the background's?), or it is teacher_activation=sigmoid"
            )


class SameClasses:
    """Hold each soft label to the number of classes that the first one had: they become one batch."""

    def __init__(self) -> None:
        self._first: tuple[int, str] | None = None

    def check(self, values: np.ndarray, file: str) -> None:
        """
        Args:
            values: with the classes along the first axis.
            file: which they are from.

        Raises:
            ValueError: naming both files, when there are more classes, or fewer.
        """
        self._first = self._first or (len(values), file)
        number, first = self._first
        if len(values) != number:
            raise ValueError(
                f"{file}: this soft label has {len(values)} channel(s), one for each class, and {first} has {number}: "
                "make both for the classes of the student"
            )


def _by_stem(folder: Path, ending: str | None) -> dict[str, list[str]]:
    """The soft labels of a folder by the name of the image that they are of; without an ending, tables by none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"teacher_dir={folder}: there is no such folder: make it by `infer --teacher`")
    files: dict[str, list[str]] = defaultdict(list)
    plain: dict[str, list[str]] = defaultdict(list)  # under the image's own name; it may be the image itself
    for path in list_files(folder).files:
        if ending is None and path.name == _TABLE:
            files[""].append(str(path))
        elif ending is not None and path.name.lower().endswith(SOFT_LABEL_SUFFIXES):
            stem = image_stem(path) if not path.name.lower().endswith(".npz") else path.stem
            if stem.endswith(ending):
                files[stem.removesuffix(ending)].append(str(path))
            elif not stem.endswith(_RESULTS):
                plain[stem].append(str(path))
    return {**plain, **files}


def _case(image: str) -> list[str]:
    """The name of nnU-Net's case that an image is a channel of; the number of a frame is none of a channel."""
    is_channel = image_stem(image).endswith("_0000") or Path(image).parent.name in ("imagesTr", "imagesTs")
    return [case_of(image)] if is_channel else []


def _has_columns_first(own: SoftLabel, file: str, image: Any) -> bool:
    """Whether a map has its axes the other way than the array that its image is.

    So have pictures, and the results of k-space whose slices stand first, which are written as NIfTI.
    """
    if file.lower().endswith(".png"):
        return True
    written = image.meta.get(MetaKeys.ORIGINAL_AFFINE)
    return own.affine is not None and written is not None and _is_along_x(own.affine) and _is_along_x(written)


def _is_along_x(affine: Any) -> bool:
    """Whether the first axis of an array runs from left to right."""
    return bool(abs(affine[0][0]) > abs(affine[1][0]))


def _same_place(affine: np.ndarray | None, image: Any) -> bool:
    """Whether a map lies where its image does, as far as both say it."""
    if affine is None or "qform_code" not in getattr(image, "meta", {}):
        return True
    own = np.asarray(image.affine, float)
    size = len(own) - 1
    theirs = np.eye(size + 1)
    theirs[:size, :size], theirs[:size, -1] = affine[:size, :size], affine[:size, 3]
    return bool(np.allclose(own, theirs, atol=1e-2 * min(1.0, *np.linalg.norm(own[:-1, :-1], axis=0))))
