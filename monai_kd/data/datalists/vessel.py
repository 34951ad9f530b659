# SPDX-License-Identifier: Apache-2.0
"""Data list of a vessel segmentation data set: angiograms and their voxel labels, matched by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.image_files import images_under
from monai_kd.data.datalists.patient import bids_subject, split_modality
from monai_kd.data.datalists.template import DatasetLayout, take_labelled
from monai_kd.data.datalists.unavailable import Datalist, Item
from monai_kd.data.readers.image_file import image_stem
from monai_kd.data.readers.volume_file import VOLUME_SUFFIXES

__all__ = ["vessel_datalist"]

_LABEL_WORD = r"(vessels?|masks?|labels?|gt|ground[-_]?truth|seg(mentation)?s?|annotations?)"
_LABEL_FOLDER = re.compile(rf"({_LABEL_WORD}[-_]?)+", re.IGNORECASE)
_LABEL_NAME = re.compile(rf"(^|[-_.]){_LABEL_WORD}([-_.]?{_LABEL_WORD})*$", re.IGNORECASE)
_STRIPPED = re.compile(r"[-_](brain|bet)$", re.IGNORECASE)  # what `infer brain_extraction` or HD-BET adds to a name
_BRAIN_MASK = re.compile(r"(^|[-_.])(brain|bet)[-_.]?mask$", re.IGNORECASE)  # which says nothing about vessels
_NO_NAME = re.compile(r"(image|angiogram|(tof)?[-_]?mra|tof)?", re.IGNORECASE)


def vessel_datalist(
    dataset_dir: PathLike,
    split: str = "seeded",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    datalist: PathLike | None = None,
    bundle: str = "vessel_segmentation",
    fold: int = 1,
    unlabelled_dir: PathLike | None = None,
) -> Datalist:
    """List angiograms with their voxel labels, split by patient.

    An item is ``{"image": file, "label": file, "patient": name}``. Every NIfTI (.nii, .nii.gz) and MetaImage (.mha,
    .mhd) file under ``dataset_dir`` is an angiogram or a label. A label lies in a folder ``labels`` (``masks``, ``gt``,
    ``segmentations``, ``vessels``), or its name ends in such a word (``anna_label.mha``, ``anna-vessels.nii.gz``); what
    comes before that is the angiogram's name, to which ``_brain`` or ``_bet`` may have been added when its skull was
    stripped; masks of the brain (``anna_brain_mask.nii.gz``, ``anna_bet_mask.nii.gz``) are neither.
    Where nothing comes before (``anna/label.nii.gz``), or the image is called ``image``, ``mra`` or ``tof``, the name
    is the folder's. Images without a label, such as the other scans of the TubeTK data set, are left out with a
    warning.

    A folder of the Medical Segmentation Decathlon or of nnU-Net (``dataset.json``, ``imagesTr``) is listed as such, by
    :class:`~monai_kd.data.datalists.nnunet.TaskFolder`.

    The patient is ``sub-<label>`` in BIDS names and folders, otherwise the name, without a modality that ends it
    (``anna_T1``) but with ``MRA``, unless a column ``patient`` in the folder's ``index.csv`` says it better.

    Args:
        dataset_dir: the folder. When it does not exist or holds no image, all three lists are :class:`UnavailableData`.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``. ``"index"`` takes the split of the folder's
            ``index.csv``; anything else is the path of such a CSV file, with the columns ``id`` (the name, or
            the file's without suffix), ``split`` (train, val or test) and, if wanted, ``patient``.
        seed: of the drawn split.
        fractions: shares of the images for training, validation and test in the drawn split.
        datalist: a Decathlon datalist (:func:`~monai_kd.data.load_datalist`) that is used instead. The patient comes
            from the image's name unless the list gives it.
        bundle: name of the bundle that asks, for the hint how to generate a data set.
        fold: of nnU-Net's own folds, from 1, where the folder is nnU-Net's.
        unlabelled_dir: folder of images without labels, for the list ``unlabelled`` that a distillation learns from as
            well; of no patient of the validation or test side.

    Raises:
        FileNotFoundError: when the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, no image has a label, several labels or several images with one
            have one name, or a patient would be on two sides.

    >>> vessel_datalist("data")["training"].reason.partition(" there:")[0]
    'data: no angiograms (.nii, .nii.gz, .mha, .mhd)'
    """
    layout = _Angiograms()
    return layout.datalist(dataset_dir, bundle, split, {"seeded": seed}, fractions, datalist, fold, unlabelled_dir)


class _Angiograms(DatasetLayout):
    """Angiograms and labels by the words in their names."""

    segments = True
    kind = f"angiograms ({', '.join(VOLUME_SUFFIXES)})"

    def items(self, folder: Path) -> list[Item]:
        paths = images_under(folder, VOLUME_SUFFIXES)
        paths = [path for path in paths if not _BRAIN_MASK.search(image_stem(path))]
        images = [path for path in paths if not _is_label(path, folder)]
        return _with_labels(images, [path for path in paths if _is_label(path, folder)], folder) if images else []

    def unlabelled(self, folder: Path) -> list[Item]:
        paths = [path for path in images_under(folder, VOLUME_SUFFIXES) if not _BRAIN_MASK.search(image_stem(path))]
        images = [path for path in paths if not _is_label(path, folder)]
        return [{CommonKeys.IMAGE: str(path), "patient": _patient(path, folder)} for path in images]

    def complete_unlabelled(self, item: Item, where: str) -> Item:
        return self.complete(item, where)

    def complete(self, item: Item, where: str) -> Item:
        path = Path(ensure_tuple(item[CommonKeys.IMAGE])[0])
        return {"patient": _patient(path, path.parents[1] if len(path.parents) > 1 else path.parent), **item}

    def ids(self, item: Item) -> Sequence[str]:
        path = Path(ensure_tuple(item[CommonKeys.IMAGE])[0])
        return [_name(path)] if _NO_NAME.fullmatch(_bare(path)) else [_name(path), image_stem(path)]


def _is_label(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    return bool(_LABEL_NAME.search(image_stem(path))) or any(map(_LABEL_FOLDER.fullmatch, folders))


def _name(path: Path) -> str:
    """What an angiogram and its label have in common."""
    name = _bare(path)
    return path.parent.name if _NO_NAME.fullmatch(name) else name


def _bare(path: Path) -> str:
    return _STRIPPED.sub("", _LABEL_NAME.sub("", image_stem(path)))


def _patient(path: Path, root: Path) -> str:
    """Whom an angiogram shows: all sessions and contrasts of a patient have to stay on one side."""
    name = _name(path)
    patient, modality = split_modality(name)
    # An angiogram's own word stays, because splits were drawn by such names: Normal001-MRA.
    return bids_subject(path, root) or (name if _NO_NAME.fullmatch(modality) else patient) or name


def _with_labels(images: Sequence[Path], labels: Sequence[Path], folder: Path) -> list[Item]:
    images_of, labels_of = _by_name(images), _by_name(labels)
    for name, files in images_of.items():
        if len(files) > 1 and name in labels_of:  # whose are the labels?
            raise ValueError(
                f"{folder}: several images are called {name!r}: {', '.join(files)}; leave one or use a datalist"
            )
    found = [
        ({CommonKeys.IMAGE: file, "patient": _patient(Path(file), folder)}, labels_of.get(name, []))
        for name, files in images_of.items()
        for file in files
    ]
    cure = "put the labels into a folder `labels` under the images' names, or name them <image>_label.nii.gz"
    return take_labelled(found, folder, "label", cure)


def _by_name(paths: Sequence[Path]) -> dict[str, list[str]]:
    files = defaultdict(list)
    for path in paths:
        files[_name(path)].append(str(path))
    return files
