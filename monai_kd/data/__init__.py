# SPDX-License-Identifier: Apache-2.0
"""Readers, writers, data lists, splits by patient and generated data sets."""

from __future__ import annotations

from monai_kd.data.datalists.brain import brain_extraction_datalist
from monai_kd.data.datalists.chest_xray import PNEUMONIAS, VINDR_FINDINGS, chest_xray_datalist
from monai_kd.data.datalists.decathlon import load_datalist
from monai_kd.data.datalists.figshare import figshare_datalist
from monai_kd.data.datalists.folds import cross_validated
from monai_kd.data.datalists.image_items import find_images, image_items
from monai_kd.data.datalists.mri import mri_datalist
from monai_kd.data.datalists.splits import (
    SIDES,
    UNLABELLED,
    assign_folds,
    check_no_patient_leaks,
    patient_family,
    split_by_patient,
    split_by_patient_and_class,
)
from monai_kd.data.datalists.unavailable import UnavailableData, require
from monai_kd.data.datalists.unlabelled import unlabelled_items
from monai_kd.data.datalists.vessel import vessel_datalist
from monai_kd.data.generators.base import GENERATED, DatasetGenerator
from monai_kd.data.generators.cine import CineGenerator
from monai_kd.data.generators.figshare import FigshareGenerator
from monai_kd.data.generators.head import HeadGenerator
from monai_kd.data.generators.kidney import KidneyGenerator
from monai_kd.data.generators.vessel import VesselGenerator
from monai_kd.data.generators.xray import XrayGenerator
from monai_kd.data.mixed_dataset import LABELLED, MixedDataset, RepeatedDataset, labelled_epoch, mixed_epoch
from monai_kd.data.moved_soft_labels import with_soft_labels
from monai_kd.data.readers.array_file import ArrayReader
from monai_kd.data.readers.dicom import DicomReader
from monai_kd.data.readers.dicom_folder import find_series
from monai_kd.data.readers.dicom_series import read_dicom_series
from monai_kd.data.readers.figshare import (
    TUMOR_CLASSES,
    FigshareReader,
    border_to_mask,
    read_figshare_folds,
    read_figshare_header,
)
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, ImageFileReader
from monai_kd.data.readers.mri import MRIReader
from monai_kd.data.seeded_dataset import SeededDataset
from monai_kd.data.slice_dataset import SliceDataset
from monai_kd.data.soft_labels import SOFT_LABEL, FindSoftLabeld, LoadSoftLabeld
from monai_kd.data.writers.classification import ClassificationWriter
from monai_kd.data.writers.reconstruction import ReconstructionWriter
from monai_kd.data.writers.segmentation import SegmentationWriter

__all__ = [
    "GENERATED",
    "IMAGE_SUFFIXES",
    "PNEUMONIAS",
    "SIDES",
    "LABELLED",
    "SOFT_LABEL",
    "TUMOR_CLASSES",
    "UNLABELLED",
    "VINDR_FINDINGS",
    "ArrayReader",
    "CineGenerator",
    "ClassificationWriter",
    "DatasetGenerator",
    "DicomReader",
    "FigshareGenerator",
    "FigshareReader",
    "FindSoftLabeld",
    "HeadGenerator",
    "ImageFileReader",
    "KidneyGenerator",
    "LoadSoftLabeld",
    "MRIReader",
    "MixedDataset",
    "RepeatedDataset",
    "ReconstructionWriter",
    "SeededDataset",
    "SegmentationWriter",
    "SliceDataset",
    "UnavailableData",
    "VesselGenerator",
    "XrayGenerator",
    "assign_folds",
    "border_to_mask",
    "brain_extraction_datalist",
    "chest_xray_datalist",
    "check_no_patient_leaks",
    "cross_validated",
    "figshare_datalist",
    "find_images",
    "find_series",
    "image_items",
    "labelled_epoch",
    "load_datalist",
    "mixed_epoch",
    "mri_datalist",
    "patient_family",
    "read_dicom_series",
    "read_figshare_folds",
    "read_figshare_header",
    "require",
    "split_by_patient",
    "split_by_patient_and_class",
    "unlabelled_items",
    "vessel_datalist",
    "with_soft_labels",
]
