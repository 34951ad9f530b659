# SPDX-License-Identifier: Apache-2.0
"""One torch thread per worker: two workers with two threads each are 2.7 times slower on two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import AbstractContextManager, contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from pydicom import Dataset  # noqa: E402
from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid  # noqa: E402

torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a file to one worker: what they share, such as a training, is then made once."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real images that some tests read; they are skipped where MONAI_KD_DATA does not point to one."""
    folder = os.environ.get("MONAI_KD_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MONAI_KD_DATA does not point to the real images")
    return Path(folder).resolve()


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Function that gives a block in which no file can grow beyond 4 KB, as on a disk that is almost full."""

    @contextmanager
    def full() -> Iterator[None]:
        resource = pytest.importorskip("resource")  # not on Windows
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


@pytest.fixture
def write_series() -> Callable[..., list[str]]:
    """Function that writes a volume (x, y, z) as DICOM slices under names in no order, and gives their identifiers.

    ``affine`` is from voxels to RAS; a tag that is a function gets the slice's number; None leaves a tag out.
    """

    def write(folder: Path, volume: np.ndarray, affine: np.ndarray | None = None, **tags: Any) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        lps = np.diag([-1, -1, 1, 1]) @ (np.diag([0.9, 0.7, 2.5, 1]) if affine is None else affine)
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        orientation = (lps[:3, :2] / spacing[:2]).T.ravel()
        series, study, frame = generate_uid(), generate_uid(), generate_uid()
        names = np.random.default_rng(0).permutation(volume.shape[2])
        identifiers = []
        for number in range(volume.shape[2]):
            dicom = Dataset()
            dicom.file_meta = FileMetaDataset()
            dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dicom.SOPClassUID, dicom.SOPInstanceUID, dicom.Modality = MRImageStorage, generate_uid(), "MR"
            dicom.SeriesInstanceUID, dicom.StudyInstanceUID, dicom.FrameOfReferenceUID = series, study, frame
            dicom.PatientName, dicom.PatientID, dicom.SeriesNumber = "Secret", "S3cret", 3
            dicom.ImageOrientationPatient = [round(value, 8) for value in orientation]
            dicom.ImagePositionPatient = [round(value, 5) for value in lps[:3] @ [0, 0, number, 1]]
            dicom.PixelSpacing = [round(spacing[1], 6), round(spacing[0], 6)]
            dicom.set_pixel_data(
                np.ascontiguousarray(volume[..., number].T), "MONOCHROME2", 16, generate_instance_uid=False
            )
            for name, value in tags.items():
                setattr(dicom, name, value(number) if callable(value) else value)
                if value is None:
                    delattr(dicom, name)
            dicom.save_as(folder / f"IM{names[number]}", enforce_file_format=True)
            identifiers.append(str(dicom.SOPInstanceUID))
        return identifiers

    return write
