"""Readers, writers, data lists, splits by patient and generated data sets."""

from __future__ import annotations

from monai_kd.data.array_file import ArrayReader
from monai_kd.data.brain_datalist import brain_extraction_datalist
from monai_kd.data.chest_xray_datalist import VINDR_FINDINGS, chest_xray_datalist
from monai_kd.data.cine_generator import CineGenerator
from monai_kd.data.classification_writer import ClassificationWriter
from monai_kd.data.datalist import UnavailableData, figshare_datalist, find_images, image_items, load_datalist, require
from monai_kd.data.dataset_generator import GENERATED, DatasetGenerator
from monai_kd.data.dicom import DicomReader
from monai_kd.data.dicom_series import find_series, read_dicom_series
from monai_kd.data.figshare import (
    TUMOR_CLASSES,
    FigshareReader,
    border_to_mask,
    read_figshare_folds,
    read_figshare_header,
)
from monai_kd.data.figshare_generator import FigshareGenerator
from monai_kd.data.head_generator import HeadGenerator
from monai_kd.data.image_file import IMAGE_SUFFIXES, ImageFileReader
from monai_kd.data.mri_datalist import mri_datalist
from monai_kd.data.mri_reader import MRIReader
from monai_kd.data.reconstruction_writer import ReconstructionWriter
from monai_kd.data.slice_dataset import SliceDataset
from monai_kd.data.splits import SIDES, assign_folds, check_no_patient_leaks, patient_family, split_by_patient
from monai_kd.data.vessel_datalist import vessel_datalist
from monai_kd.data.vessel_generator import VesselGenerator
from monai_kd.data.writers import SegmentationWriter
from monai_kd.data.xray_generator import XrayGenerator

__all__ = [
    "GENERATED",
    "IMAGE_SUFFIXES",
    "SIDES",
    "TUMOR_CLASSES",
    "VINDR_FINDINGS",
    "ArrayReader",
    "CineGenerator",
    "ClassificationWriter",
    "DatasetGenerator",
    "DicomReader",
    "FigshareGenerator",
    "FigshareReader",
    "HeadGenerator",
    "ImageFileReader",
    "MRIReader",
    "ReconstructionWriter",
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
    "figshare_datalist",
    "find_images",
    "find_series",
    "image_items",
    "load_datalist",
    "mri_datalist",
    "patient_family",
    "read_dicom_series",
    "read_figshare_folds",
    "read_figshare_header",
    "require",
    "split_by_patient",
    "vessel_datalist",
]
