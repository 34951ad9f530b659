# SPDX-License-Identifier: Apache-2.0
"""Segmentations as DICOM-SEG objects that refer to the slices they were made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import cast

import numpy as np
from pydicom import Dataset

import monai_kd
from monai_kd.data.readers.dicom_file import UnusableDicom, is_dicom, read_dicom, speaking_for
from monai_kd.data.readers.dicom_folder import is_series
from monai_kd.data.readers.dicom_series import read_slices

__all__ = ["check_highdicom", "dicom_segmentation"]

_Codes = Sequence[str] | Sequence[Sequence[str]]

_MAY_BE_EMPTY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime")
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")


def check_highdicom() -> None:
    """Say what to install when highdicom, which builds DICOM-SEG, is not there.

    Raises:
        ValueError: when it is not.
    """
    if find_spec("highdicom") is None:
        raise ValueError('the format dicom_seg needs highdicom: pip install highdicom, or "monai_kd[dicom]"')


def dicom_segmentation(
    mask: np.ndarray, source: str, label: str | Sequence[str], category: _Codes, type: _Codes, algorithm: str
) -> Dataset:
    """Make a DICOM-SEG object (DICOM PS3.3, A.51) with binary segments on the slices of its source.

    Each slice with something in it is a frame, that refers to the source's slice; of an empty mask all slices are. The
    object belongs to the source's study and patient, in a series of its own.

    Args:
        mask: (column, row[, slice]) on the source's grid, slices in the order of
            :func:`~monai_kd.data.readers.dicom_series.read_slices`; what is not 0 is inside. Of several labels, the
            number of each pixel's label, from 1.
        source: path of a DICOM series or of a file with one slice.
        label: name of the segment, or of each.
        category: code of the segmented property's category: value, scheme and meaning, such as
            ``["91723000", "SCT", "Anatomical Structure"]``, of DICOM's context group 7150; a list of codes has one for
            each label.
        type: code of the segmented property itself, such as ``["12738006", "SCT", "Brain"]``.
        algorithm: what made it. The version is that of this package.

    Raises:
        ValueError: when the source is no DICOM, or there are not as many codes as labels.
        UnusableDicom: when its header does not do. It quotes no values of the header.
    """
    labels = [label] if isinstance(label, str) else list(label)
    categories, types = _each(category, len(labels)), _each(type, len(labels))
    if is_series(source):
        slices = read_slices(source, pixels=False, max_voxels=sys.maxsize)
    elif is_dicom(source):
        slices = [read_dicom(source, source, pixels=False)]
    else:
        raise ValueError(f"{source}: a DICOM-SEG refers to DICOM images, which this is none of: leave out the format")
    with speaking_for(source, "no DICOM-SEG can be made of its header, in which an element is malformed"):
        missing = [keyword for keyword in _NEEDED if not slices[0].get(keyword)]
        if missing:
            raise UnusableDicom(f"{source}: a DICOM-SEG refers to its image by {missing[0]}, which its header lacks")
        return _segmentation_of(slices, mask, labels, categories, types, algorithm)


def _each(codes: _Codes, number: int) -> list[Sequence[str]]:
    """A code for each of so many labels."""
    if isinstance(codes[0], str):
        return [cast(Sequence[str], codes)] * number
    if len(codes) != number:
        raise ValueError(f"expected one code for all segments, or one for each of the {number}, got {len(codes)}")
    return list(codes)


def _segmentation_of(
    slices: list[Dataset],
    mask: np.ndarray,
    labels: Sequence[str],
    categories: Sequence[Sequence[str]],
    types: Sequence[Sequence[str]],
    algorithm: str,
) -> Dataset:
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    first = slices[0]
    patient = {keyword: first[keyword].value for keyword in _PATIENT if keyword in first}
    for keyword in _PATIENT:  # highdicom would quote a name in a warning that it looks unusual
        setattr(first, keyword, "")
    for keyword in _MAY_BE_EMPTY:  # highdicom does not take a file without them
        if keyword not in first:
            setattr(first, keyword, None)
    if "PixelSpacing" in first and not first.get("SliceThickness"):  # nor read an object without it
        step = first.PixelSpacing[:1]
        if len(slices) > 1:
            step = np.subtract(slices[1].ImagePositionPatient, first.ImagePositionPatient)
        first.SliceThickness = round(float(np.linalg.norm(step)), 4)
    frames = mask.reshape(*mask.shape, *(1,) * (3 - mask.ndim)).T
    frames = frames != 0 if len(labels) == 1 else frames.astype(np.uint8)
    segmentation = Segmentation(
        source_images=slices,
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=[
            SegmentDescription(
                segment_number=number,
                segment_label=label,
                segmented_property_category=CodedConcept(*category),
                segmented_property_type=CodedConcept(*type),
                algorithm_type="AUTOMATIC",
                algorithm_identification=AlgorithmIdentificationSequence(
                    name=algorithm, family=codes.DCM.ArtificialIntelligence, version=monai_kd.__version__
                ),
            )
            for number, (label, category, type) in enumerate(zip(labels, categories, types), start=1)
        ],
        series_instance_uid=UID(),
        series_number=1000 + int(first.get("SeriesNumber") or 0),
        series_description=f"{', '.join(labels)} by {algorithm}"[:64],
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="monai_kd",
        manufacturer_model_name=algorithm,
        software_versions=monai_kd.__version__,
        device_serial_number="none",
        omit_empty_frames=bool(frames.any()),
    )
    for keyword, value in patient.items():
        setattr(segmentation, keyword, value)
    return segmentation
