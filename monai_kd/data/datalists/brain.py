# SPDX-License-Identifier: Apache-2.0
"""Data list of a brain extraction data set: head volumes and their brain masks, matched by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.image_files import images_under
from monai_kd.data.datalists.patient import bids_subject, split_modality
from monai_kd.data.datalists.template import DatasetLayout, take_labelled
from monai_kd.data.datalists.unavailable import Datalist, Item
from monai_kd.data.readers.image_file import image_stem
from monai_kd.data.readers.volume_file import VOLUME_SUFFIXES

__all__ = ["brain_extraction_datalist"]

_MASK_FOLDER = re.compile(r"(brain[-_]?)?(masks?|labels?)", re.IGNORECASE)
_MASK_NAME = re.compile(r"(^|[-_.])((desc-)?brain[-_]?|bet[-_.])?mask$", re.IGNORECASE)
_CONTRASTS = ("T1", "T2", "PD", "PDT2", "T2STAR", "FLAIR", "CT")
_MASK_OF_TOOL = re.compile(r"[-_.]bet[-_.]mask$", re.IGNORECASE)  # HD-BET's


def brain_extraction_datalist(
    dataset_dir: PathLike,
    split: str = "seeded",
    repeat: int = 1,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    modalities: str | Sequence[str] | None = None,
    datalist: PathLike | None = None,
    bundle: str = "brain_extraction",
    fold: int = 1,
    unlabelled_dir: PathLike | None = None,
) -> Datalist:
    """List head volumes with their brain masks, split by patient.

    An item is ``{"image": file, "label": the mask's file, "patient": name, "modality": "T1"}``. Every NIfTI (.nii,
    .nii.gz) and MetaImage (.mha, .mhd) file under ``dataset_dir`` is an image or a mask, told by its name:

    - A mask lies in a folder ``mask`` (``masks``, ``labels``), or its name ends in ``_mask``, ``_brainmask`` or
      ``_desc-brain_mask``; what comes before that is the image's name.
      A mask that HD-BET made (``_bet_mask``) is taken where there is no other one.
    - The modality ends the name (``anna_T1``, ``sub-01_T1w``) or is the name of a folder (``T1``, ``IXI-T2``). A mask
      that names a modality belongs to images of this modality, one that names none to all of the patient's.
    - The patient is the name without modality and mask or, where nothing remains (``anna/T1.nii.gz``), the folder.
    - In BIDS names and folders the patient is ``sub-<label>``. A mask must have no entity (``ses-``, ``run-``,
      ``space-``) that its image lacks, and of several such masks that with most of them is taken. Below
      ``derivatives`` lie masks only.

    A folder of the Medical Segmentation Decathlon or of nnU-Net (``dataset.json``, ``imagesTr``) is listed as such, by
    :class:`~monai_kd.data.datalists.nnunet.TaskFolder`; each channel is an image of its own, of this modality.

    So all modalities and sessions of a patient are on one side of the split. Images without a mask are left out with a
    warning. A column ``patient`` in the folder's ``index.csv`` says better who the patients are.

    Args:
        dataset_dir: the folder. When it does not exist or holds no image, all three lists are :class:`UnavailableData`.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``. ``"rsv"`` does so anew for each ``repeat``:
            repeated random subsampling validation. ``"index"`` takes the split of the folder's ``index.csv``; anything
            else is the path of such a CSV file, with the columns ``id`` (the image's name without suffix, or the
            patient), ``split`` (train, val or test) and, if wanted, ``patient``.
        repeat: number of the repetition, from 1, for ``"rsv"``.
        seed: of the drawn splits.
        fractions: shares of the images for training, validation and test in the drawn splits. (0.8, 0, 0.2) is usual
            with ``"rsv"``, but leaves no patients to choose the best epoch by; the default takes them from the 80 %.
        modalities: use images of these alone, such as "T1".
        datalist: a Decathlon datalist (:func:`~monai_kd.data.load_datalist`) that is used instead. Patient and
            modality come from the image's name unless the list gives them.
        bundle: name of the bundle that asks, for the hint how to generate a data set.
        fold: of nnU-Net's own folds, from 1, where the folder is nnU-Net's.
        unlabelled_dir: folder of images without labels, for the list ``unlabelled`` that a distillation learns from as
            well; of no patient of the validation or test side.

    Raises:
        FileNotFoundError: when the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, no image has a mask, several masks fit one image equally well,
            or a patient would be on two sides.

    >>> brain_extraction_datalist("data")["training"].reason.partition(" there:")[0]
    'data: no head volumes (.nii, .nii.gz, .mha, .mhd)'
    """
    if repeat < 1:
        raise ValueError(f"repeat counts from 1, got {repeat}")
    seeds: dict[str, int | list[int]] = {"seeded": seed, "rsv": [seed, repeat]}
    return _Heads(modalities).datalist(dataset_dir, bundle, split, seeds, fractions, datalist, fold, unlabelled_dir)


class _Heads(DatasetLayout):
    """Heads and masks by patient, modality and BIDS entities in their names."""

    segments = several_channels = True
    kind = f"head volumes ({', '.join(VOLUME_SUFFIXES)})"

    def __init__(self, modalities: str | Sequence[str] | None) -> None:
        self.modalities = None if modalities is None else {_modality(name) for name in ensure_tuple(modalities)}

    def items(self, folder: Path) -> list[Item]:
        names = [_Name.of(path, folder) for path in images_under(folder, VOLUME_SUFFIXES)]
        images = [name for name in names if name.is_image]
        return _with_masks(images, [name for name in names if name.is_mask], folder) if images else []

    def unlabelled(self, folder: Path) -> list[Item]:
        names = [_Name.of(path, folder) for path in images_under(folder, VOLUME_SUFFIXES)]
        return self.choose([_item(name) for name in names if name.is_image], folder)

    def complete_unlabelled(self, item: Item, where: str) -> Item:
        return self.complete(item, where)

    def complete(self, item: Item, where: str) -> Item:
        """Patient and modality by the name of the (first) image, unless the list says them."""
        path = Path(ensure_tuple(item[CommonKeys.IMAGE])[0])
        name = _Name.of(path, path.parents[1] if len(path.parents) > 1 else path.parent)
        return {"patient": name.patient, "modality": name.modality, **item}

    def choose(self, items: list[Item], source: PathLike) -> list[Item]:
        if self.modalities is None or not items:
            return items
        chosen = [item for item in items if _modality(item["modality"]) in self.modalities]
        if not chosen:
            wanted = ", ".join(sorted(self.modalities))
            found = ", ".join(sorted({item["modality"] or "unnamed" for item in items}))
            raise ValueError(f"{source}: no image of {wanted}, found the modalities {found}")
        return chosen

    def ids(self, item: Item) -> Sequence[str]:
        return [image_stem(item[CommonKeys.IMAGE]), item["patient"]]


class _Name(NamedTuple):
    """What a file's name and folders say."""

    path: Path
    name: str  # that an image and its mask have in common
    patient: str
    modality: str
    entities: frozenset[str]
    is_image: bool
    is_mask: bool

    @classmethod
    def of(cls, path: Path, root: Path) -> _Name:
        folders = path.relative_to(root).parts[:-1]
        stem = image_stem(path)
        name = _MASK_NAME.sub("", stem)
        is_mask = name != stem or any(_MASK_FOLDER.fullmatch(folder) for folder in folders)
        name, found = _split_contrast(name)
        is_bids = name.startswith("sub-")
        name, *entities = name.split("_") if is_bids else [name]
        subject = name if is_bids else bids_subject(path, root)
        patient = subject or split_modality(name)[0] or (folders[-1] if folders else name)
        if name.lower() in ("", "image") and folders:
            entities = [folder for folder in folders if subject and folder.startswith("ses-")]
            name = patient = subject or folders[-1]
        # A BIDS data set holds other scans as well, but an anatomical one always names its modality.
        is_other = "derivatives" in folders or (is_bids and not found and bool(entities))
        of_folders = (_split_contrast(folder)[1] for folder in reversed(folders))
        modality = _modality(found or next(filter(None, of_folders), ""))
        return cls(path, name, patient, modality, frozenset(entities), not (is_mask or is_other), is_mask)

    def fits(self, image: _Name) -> bool:
        """Whether this mask can be that image's."""
        return self.entities <= image.entities and self.modality in ("", image.modality)

    @property
    def closeness(self) -> int:
        """In how many ways this mask says which images it is for."""
        return len(self.entities) + bool(self.modality)


def _item(name: _Name) -> Item:
    return {CommonKeys.IMAGE: str(name.path), "patient": name.patient, "modality": name.modality}


def _split_contrast(name: str) -> tuple[str, str]:
    """A name and its modality, if it is one of those that lie on each other, so that a mask may be of all of them."""
    before, modality = split_modality(name)
    return (before, modality) if modality.upper() in _CONTRASTS else (name, "")


def _modality(name: str) -> str:
    return name.upper().removesuffix("W")


def _with_masks(images: Iterable[_Name], masks: Iterable[_Name], folder: Path) -> list[Item]:
    masks_of: dict[str, list[_Name]] = defaultdict(list)
    for mask in masks:
        masks_of[mask.name].append(mask)
    found = []
    for image in images:
        fitting = [mask for mask in masks_of[image.name] if mask.fits(image)]
        fitting = [mask for mask in fitting if not _MASK_OF_TOOL.search(image_stem(mask.path))] or fitting
        most = max((mask.closeness for mask in fitting), default=0)
        found.append((_item(image), [str(mask.path) for mask in fitting if mask.closeness == most]))
    cure = "put the masks into a folder `mask` under the images' names, or name them <image>_mask.nii.gz"
    return take_labelled(found, folder, "mask", cure)
