"""Data list of a vessel segmentation data set: angiograms and their voxel labels, matched by name."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalist import UnavailableData, explain_empty_sides, images_under, load_datalist, natural_order
from monai_kd.data.image_file import VOLUME_SUFFIXES, image_stem
from monai_kd.data.splits import SIDES, check_no_patient_leaks, read_index, split_by_index, split_by_patient

__all__ = ["vessel_datalist"]

Item = dict[str, Any]

_INDEX = "index.csv"
_LABEL_WORD = r"(vessels?|masks?|labels?|gt|ground[-_]?truth|seg(mentation)?s?|annotations?)"
_LABEL_FOLDER = re.compile(rf"({_LABEL_WORD}[-_]?)+", re.IGNORECASE)
_LABEL_NAME = re.compile(rf"(^|[-_.]){_LABEL_WORD}([-_.]?{_LABEL_WORD})*$", re.IGNORECASE)
_NO_NAME = re.compile(r"(image|angiogram|(tof)?[-_]?mra|tof)?", re.IGNORECASE)

logger = logging.getLogger(__name__)


def vessel_datalist(
    dataset_dir: PathLike,
    split: str = "seeded",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    datalist: PathLike | None = None,
    bundle: str = "vessel_segmentation",
) -> dict[str, list[Item]]:
    """List angiograms with their voxel labels, split by patient.

    An item is ``{"image": file, "label": file, "patient": name}``. Every NIfTI (.nii, .nii.gz) and MetaImage (.mha,
    .mhd) file under ``dataset_dir`` is an angiogram or a label. A label lies in a folder ``labels`` (``masks``, ``gt``,
    ``segmentations``, ``vessels``), or its name ends in such a word (``anna_label.mha``, ``anna-vessels.nii.gz``); what
    comes before that is the angiogram's name. Where nothing comes before (``anna/label.nii.gz``), or the image is
    called ``image``, ``mra`` or ``tof``, the name is the folder's. Images without a label, such as the other scans of
    the TubeTK data set, are left out with a warning.

    The patient is the name, unless a column ``patient`` in the folder's ``index.csv`` says it better.

    Args:
        dataset_dir: the folder. When it does not exist or holds no image, all three lists are :class:`UnavailableData`.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``. ``"index"`` takes the split of the folder's
            ``index.csv``; anything else is the path of such a CSV file, with the columns ``id`` (the name),
            ``split`` (train, val or test) and, if wanted, ``patient``.
        seed: of the drawn split.
        fractions: shares of the images for training, validation and test in the drawn split.
        datalist: a Decathlon datalist (:func:`~monai_kd.data.load_datalist`) that is used instead. The patient is the
            image's name unless the list gives it.
        bundle: name of the bundle that asks, for the hint how to generate a data set.

    Raises:
        FileNotFoundError: when the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, no image has a label, several labels have one name, or a
            patient would be on two sides.
    """
    if datalist is not None:
        splits = load_datalist(datalist, label_required=True)
        for items in splits.values():
            items[:] = [{"patient": _name(Path(ensure_tuple(item[CommonKeys.IMAGE])[0])), **item} for item in items]
        check_no_patient_leaks(splits)
        return explain_empty_sides(splits, datalist)

    folder = Path(dataset_dir)
    paths = sorted(images_under(folder, VOLUME_SUFFIXES), key=lambda path: natural_order(str(path)))
    images = [path for path in paths if not _is_label(path, folder)]
    if not images:
        reason = (
            f"{dataset_dir}: no angiograms ({', '.join(VOLUME_SUFFIXES)}) there: give dataset_dir=FOLDER, or generate "
            f"a data set by `python -m monai_kd generate {bundle} {dataset_dir}`"
        )
        return {side: UnavailableData(reason) for side in SIDES}
    index = folder / _INDEX if split in ("seeded", "index") else Path(split)
    if split != "seeded" and not index.is_file():
        raise FileNotFoundError(
            f'split must be "seeded", "index" or the path of a CSV index, and there is no file {str(index)!r}'
        )
    rows = read_index(index) if index.is_file() else {}
    items = _with_labels(images, [path for path in paths if _is_label(path, folder)], folder)
    items = [{**item, "patient": rows.get(item["patient"], {}).get("patient") or item["patient"]} for item in items]
    if split == "seeded":
        splits = split_by_patient(items, fractions, seed)
    else:
        splits = split_by_index(items, index, lambda item: [_name(Path(item[CommonKeys.IMAGE])), item["patient"]])
    check_no_patient_leaks(splits)
    return explain_empty_sides(splits, dataset_dir)


def _is_label(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    return bool(_LABEL_NAME.search(image_stem(path))) or any(map(_LABEL_FOLDER.fullmatch, folders))


def _name(path: Path) -> str:
    """What an angiogram and its label have in common."""
    name = _LABEL_NAME.sub("", image_stem(path))
    return path.parent.name if _NO_NAME.fullmatch(name) else name


def _with_labels(images: Sequence[Path], labels: Sequence[Path], folder: Path) -> list[Item]:
    labels_of = defaultdict(list)
    for label in labels:
        labels_of[_name(label)].append(str(label))
    items, without = [], []
    for image in images:
        found = labels_of[_name(image)]
        if len(found) > 1:
            raise ValueError(f"{image}: several labels fit it: {', '.join(found)}; leave one or use a datalist")
        if found:
            items.append({CommonKeys.IMAGE: str(image), CommonKeys.LABEL: found[0], "patient": _name(image)})
        else:
            without.append(str(image.relative_to(folder)))
    shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
    if not items:
        raise ValueError(
            f"{folder}: no image has a label: {shown}; put the labels into a folder `labels` under the images' names, "
            "or name them <image>_label.nii.gz, or use a datalist"
        )
    if without:
        logger.warning("%s: %d images have no label and are left out: %s", folder, len(without), shown)
    return items
