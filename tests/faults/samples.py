# SPDX-License-Identifier: Apache-2.0
"""A small whole file of every format that is read, with what reads it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import torch
from monai.data import save_net_with_metadata
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from torch import nn

import monai_kd
from monai_kd.command_line.trust import check_script
from monai_kd.data import (
    FigshareGenerator,
    FigshareReader,
    ImageFileReader,
    MRIReader,
    chest_xray_datalist,
    figshare_datalist,
    find_series,
    image_items,
    load_datalist,
    read_figshare_folds,
    read_figshare_header,
)
from monai_kd.data.datalists.nnunet import is_task_folder
from monai_kd.files import read_json
from monai_kd.inspection import find_code
from monai_kd.transforms import CheckImaged

__all__ = ["SECRETS", "Sample", "make_samples"]

SECRETS = ("Hemmelig", "P4711", "19470815")
"""Name, ID and birth date of the patient in every DICOM file."""


@dataclass
class Sample:
    """Files that belong together.

    Attributes:
        files: their content by name.
        main: the one by whose name they are read, or nothing for the folder.
        read: called with its path; gives something that is compared with what the whole files give.
        damaged: which of the files are damaged; all by default.
        checks_length: whether a file that was cut off must not be taken for a whole one.
    """

    files: dict[str, bytes]
    main: str
    read: Callable[[str], Any]
    damaged: tuple[str, ...] = ()
    checks_length: bool = True
    whole: Any = field(default=None, init=False)


def _images(reader: Any = ImageFileReader, **options: Any) -> Callable[[str], Any]:
    chain = Compose(
        [LoadImaged("image", reader=reader, **options), EnsureChannelFirstd("image"), CheckImaged("image")]
    )
    return lambda path: chain({"image": path})["image"].numpy()


def _picture(mode: str, format: str, **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    values = (np.add.outer(np.arange(24), np.arange(20)) * 5 + rng.integers(0, 20, (24, 20))).astype(np.uint8)
    picture = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values)
    file = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(file, format, **options)
    return file.getvalue()


def _volume() -> np.ndarray:
    rng = np.random.default_rng(1)
    return (np.arange(12 * 11 * 10).reshape(12, 11, 10) + rng.integers(0, 50, (12, 11, 10))).astype(np.int16)


def _nifti(shape: tuple[int, ...] = (12, 11, 10), compressed: bool = False) -> bytes:
    image = nib.Nifti1Image(np.resize(_volume(), shape), np.diag([1.5, 1, 2, 1]))
    content = image.to_bytes()
    if not compressed:
        return content
    import gzip

    return gzip.compress(content, mtime=0)


def _meta_image(data: str, compressed: bool = False) -> tuple[bytes, bytes]:
    import zlib

    voxels = _volume().tobytes(order="F")
    voxels = zlib.compress(voxels) if compressed else voxels
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", f"CompressedData = {compressed}"]
    lines += ["DimSize = 12 11 10", "ElementSpacing = 1 1 2", "Offset = 0 0 0", "ElementType = MET_SHORT"]
    header = "\n".join([*lines, f"ElementDataFile = {data}", ""]).encode()
    return header, voxels


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _hdf5(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as hdf5:
        for name, array in arrays.items():
            hdf5.create_dataset(name, data=array, compression="gzip" if array.size > 500 else None)
    return file.getvalue()


def _kspace() -> np.ndarray:
    image = _volume()[:, :, :4].astype(float)
    transformed = np.fft.fftn(np.fft.ifftshift(image, (0, 1)), axes=(0, 1), norm="ortho")
    return np.fft.fftshift(transformed, (0, 1)).astype(np.complex64)


def _dicom(number: int, series: str, kind: str, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    dicom = Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = syntax
    dicom.SOPClassUID, dicom.SOPInstanceUID, dicom.Modality = kind, generate_uid(entropy_srcs=[str(number)]), "MR"
    dicom.SeriesInstanceUID, dicom.StudyInstanceUID, dicom.SeriesNumber = series, series, 3
    dicom.PatientName, dicom.PatientID, dicom.PatientBirthDate = SECRETS
    for keyword in ("ReferringPhysicianName", "PatientComments", "InstitutionName", "StudyDescription"):
        setattr(dicom, keyword, f"{SECRETS[0]}^{SECRETS[1]}")
    dicom.ImageOrientationPatient, dicom.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.0 * number]
    dicom.PixelSpacing, dicom.RescaleSlope, dicom.RescaleIntercept = [1, 1], 2, -5
    for keyword, value in tags.items():
        setattr(dicom, keyword, value)
    plain = syntax != RLELossless
    if not plain:
        dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pixels = np.ascontiguousarray(_volume()[..., number].T).astype(np.uint16)
    dicom.set_pixel_data(pixels, "MONOCHROME2", 16, generate_instance_uid=False)
    if not plain:
        dicom.compress(syntax, generate_instance_uid=False)
    file = io.BytesIO()
    dicom.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def _read_series(folder: str) -> Any:
    """As a batch does: each series is an item of its own, and so is what cannot be read."""
    found = image_items(folder, series=True)
    for item in found:
        if item.get("unreadable"):
            raise ValueError(item["unreadable"])
    if len(found) != 1 or len(found[0]["files"]) not in (1, 6):
        raise ValueError(f"{folder}: its files are not taken for one series")
    return _images()(found[0]["image"])


def _series_of_zip(path: str) -> Any:
    series = find_series(path)
    if len(series) != 1:
        raise ValueError(f"{path}: its files are not taken for one series")
    return _images()(series[0].path)


class _Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def _readers(folder: Path) -> dict[str, Sample]:
    """Files of images."""
    series, volume = generate_uid(entropy_srcs=["series"]), _volume()
    slices = {f"IM{number}": _dicom(number, series, MRImageStorage) for number in range(6)}
    plain, compressed = _meta_image("a.raw"), _meta_image("LOCAL", compressed=True)
    xray: dict[str, Any] = {"WindowCenter": 600, "WindowWidth": 900, "PixelPaddingValue": 3}
    kind = DigitalXRayImageStorageForPresentation
    FigshareGenerator(image_size=32, slices_per_patient=1)(folder, cases=3, seed=1)
    mat = (folder / "1.mat").read_bytes()
    fastmri = {"kspace": np.moveaxis(_kspace(), -1, 0), "reconstruction_esc": np.ones((4, 8, 8), np.float32)}
    one = {
        "png": (_picture("L", "PNG"), ".png", _images()),
        "png16": (_picture("I;16", "PNG"), ".png", _images()),
        "png_colour": (_picture("RGBA", "PNG"), ".png", _images()),
        "png_mask": (_picture("P", "PNG"), ".png", _images(key="mask")),
        "jpg": (_picture("L", "JPEG"), ".jpg", _images()),
        "jpg_progressive": (_picture("RGB", "JPEG", progressive=True), ".jpg", _images()),
        "bmp": (_picture("L", "BMP"), ".bmp", _images()),
        "tif": (_picture("L", "TIFF"), ".tif", _images()),
        "tif_lzw": (_picture("I;16", "TIFF", compression="tiff_lzw"), ".tif", _images()),
        "dicom": (_dicom(1, series, kind, **xray), ".dcm", _images()),
        "dicom_deflated": (_dicom(1, series, kind, DeflatedExplicitVRLittleEndian), ".dcm", _images()),
        "dicom_rle": (_dicom(1, series, kind, RLELossless), ".dcm", _images()),
        "nii": (_nifti(), ".nii", _images()),
        "nii_gz": (_nifti(compressed=True), ".nii.gz", _images()),
        "nii_4d": (_nifti((6, 5, 4, 3)), ".nii", _images(MRIReader)),
        "mha": (b"".join(compressed), ".mha", _images()),
        "npy": (_npy(volume), ".npy", _images()),
        "npy_complex": (_npy(_kspace()), ".npy", _images(MRIReader)),
        "h5": (_hdf5(volfs=volume.astype(np.float32)), ".h5", _images(MRIReader)),
        "h5_kspace": (_hdf5(kspace=_kspace(), mask=np.ones((12, 11))), ".h5", _images(MRIReader)),
        "h5_fastmri": (_hdf5(**fastmri), ".h5", _images(MRIReader)),
        "mat": (mat, ".mat", _images(FigshareReader)),
        "mat_mask": (mat, ".mat", _images(FigshareReader, key="mask")),
        "mat_header": (mat, ".mat", read_figshare_header),
        "mat_folds": ((folder / "cvind.mat").read_bytes(), ".mat", read_figshare_folds),
    }
    samples = {name: Sample({f"a{end}": content}, f"a{end}", read) for name, (content, end, read) in one.items()}
    samples["mhd"] = Sample(dict(zip(("a.mhd", "a.raw"), plain)), "a.mhd", _images())
    samples["dicom_series"] = Sample(slices, "", _read_series)
    samples["dicom_zip"] = Sample({"a.zip": _zipped(slices)}, "a.zip", _series_of_zip)
    return samples


def _tables(folder: Path) -> dict[str, Sample]:
    """Tables and lists of data sets, with the images that they are about."""
    picture, mat = _picture("L", "PNG"), {f"{n}.mat": (folder / f"{n}.mat").read_bytes() for n in (1, 2, 3)}
    names = [f"p{number}" for number in range(4)]
    pictures = {f"images/{name}.png": picture for name in names}
    rows = [f"{name},patient{name},{side}" for name, side in zip(names, ("train", "train", "val", "test"))]
    index = "\n".join(["id,patient,split", *rows, ""]).encode()
    finding = [f"{name},R1,{what}" for name, what in zip(names, ("Cardiomegaly", "No finding", "ILD", "Cardiomegaly"))]
    labels = "\n".join(["image_id,rad_id,class_name", *finding, ""]).encode()
    items = [{"image": f"images/{name}.png", "label": f"images/{name}.png", "patient": name} for name in names]
    decathlon = json.dumps({"training": items[:2], "validation": items[2:3], "test": items[3:]}).encode()
    folds = (folder / "cvind.mat").read_bytes()
    nnunet = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "brain": 1}, "file_ending": ".nii.gz"}
    cases = {name: _nifti(compressed=True) for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")}
    findings = ("Cardiomegaly", "ILD")
    return {
        "table_index": Sample(
            {**mat, "cvind.mat": folds, "index.csv": b"id,patient,split\n1,a,train\n2,b,val\n3,c,test\n"},
            "",
            lambda path: figshare_datalist(path, split="index"),
            ("index.csv",),
            checks_length=False,
        ),
        "table_labels": Sample(
            {**pictures, "annotations.csv": labels, "index.csv": index},
            "",
            lambda path: chest_xray_datalist(path, findings, label_table=str(Path(path, "annotations.csv"))),
            ("annotations.csv", "index.csv"),
            checks_length=False,
        ),
        "table_decathlon": Sample(
            {**pictures, "list.json": decathlon}, "list.json", load_datalist, ("list.json",), checks_length=False
        ),
        "table_nnunet": Sample(
            {**cases, "dataset.json": json.dumps({**nnunet, "numTraining": 1}).encode()},
            "",
            lambda path: is_task_folder(path) and monai_kd.data.brain_extraction_datalist(path),
            ("dataset.json",),
            checks_length=False,
        ),
    }


def _networks() -> dict[str, Sample]:
    """Files of weights and networks, and configurations."""
    weights, older, script = io.BytesIO(), io.BytesIO(), io.BytesIO()
    state = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    torch.save({"model": state}, weights)
    torch.save({"model": state}, older, _use_new_zipfile_serialization=False)
    save_net_with_metadata(torch.jit.script(_Twice()), script, meta_values={"bundle": "x", "model_ids": {}})
    config = Path(monai_kd.bundle_root("brain_tumor_segmentation"), "configs", "inference.json").read_bytes()

    def read(path: str) -> Any:
        find_code(Path(path))
        return {name: value.shape for name, value in monai_kd.engines.read_weights(path).items()}

    def inspect(path: str) -> Any:
        find_code(Path(path))
        check_script(Path(path), trusted=False)

    def read_config(path: str) -> Any:
        find_code(Path(path))
        return read_json(path)

    samples = {
        "weights": Sample({"a.pt": weights.getvalue()}, "a.pt", read),
        "weights_older": Sample({"a.pt": older.getvalue()}, "a.pt", read, checks_length=False),
        "script": Sample({"a.ts": script.getvalue()}, "a.ts", inspect, checks_length=False),
        "config": Sample({"a.json": config}, "a.json", read_config, checks_length=False),
    }
    return samples


def make_samples(folder: Path) -> dict[str, Sample]:
    """All of them by name; a folder is needed to make them in."""
    return {**_readers(folder), **_tables(folder), **_networks()}
