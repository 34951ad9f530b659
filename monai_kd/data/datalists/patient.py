# SPDX-License-Identifier: Apache-2.0
"""Whom an image shows, as far as its name and its folders tell."""

from __future__ import annotations

import re
from pathlib import PurePath

from monai.config import PathLike

from monai_kd.data.readers.image_file import image_stem

__all__ = ["bids_subject", "split_modality"]

# Of DTI, IXI has a file for each direction: IXI002-Guys-0828-DTI-00.
_MODALITY = re.compile(
    r"(?:^|[-_. ])(T1(?:c|ce|gd|n)?|T2(?:f|star)?|PD|PDT2|FLAIR|CT|MRA|DTI(?:-\d\d)?|DWI|ADC|SWI)w?$", re.IGNORECASE
)
_SUBJECT_FOLDER = re.compile(r"sub-[^_]+")
_SUBJECT_BEFORE_ENTITIES = re.compile(r"sub-[^_]+(?=_)")
_SUBJECT_ALONE = re.compile(r"sub-[^\W_]+")  # without hyphens, behind which the number of a frame may stand


def split_modality(name: str) -> tuple[str, str]:
    """What stands before the modality at the end of a name, and the modality; an empty text where none is.

    >>> split_modality("IXI002-Guys-0828-T2"), split_modality("sub-01_T1w"), split_modality("FLAIR")
    (('IXI002-Guys-0828', 'T2'), ('sub-01', 'T1'), ('', 'FLAIR'))
    >>> split_modality("anna")
    ('anna', '')
    """
    found = _MODALITY.search(name)
    return (name[: found.start()], found[1]) if found else (name, "")


def bids_subject(image: PathLike, root: PathLike | None = None) -> str:
    """The subject, ``sub-<label>``, of an image in BIDS names, whichever its session; an empty text where none is.

    Args:
        image: a file.
        root: of the data set, whose folders below it may name the subject where the file does not. Without, the name
            alone counts.

    >>> bids_subject("sub-01_ses-2_T1w.nii.gz"), bids_subject("data/sub-02/ses-1/scan.nii", "data")
    ('sub-01', 'sub-02')
    """
    stem = image_stem(image)
    found = _SUBJECT_BEFORE_ENTITIES.match(stem) or _SUBJECT_ALONE.fullmatch(split_modality(stem)[0])
    if found:
        return found[0]
    folders = () if root is None else PurePath(image).relative_to(root).parts[:-1]
    return next(filter(_SUBJECT_FOLDER.fullmatch, reversed(folders)), "")
