# SPDX-License-Identifier: Apache-2.0
"""Where DICOM slices lie: the series in a folder or a zip file, and what is damaged among them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from monai.config import PathLike
from pydicom import Dataset
from pydicom.uid import UID

from monai_kd.data.readers.dicom_file import UnusableDicom, begins_as_dicom, read_dicom, speaking_for

__all__ = ["DicomSeries", "Files", "find_series", "is_container", "is_series", "is_zip", "open_files", "scan"]

Files = dict[str, Callable[[int | None], BinaryIO]]
"""What opens each file of a folder or a zip file, given how many bytes of it are wanted at most."""

_HEADER = ["SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Rows"]
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"  # the storage class of DICOM-SEG
_LARGEST_ZIP = 4 * 2**30  # bytes when unpacked: more than a study has, less than would fill the memory
_LARGEST_MEMBER = 2**29  # bytes of a slice
_BOMB = (2**28, 200)  # bytes when unpacked, and how many times as many as packed: no images are packed so well
_SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")
_HEAD = 2**22  # bytes in which a header has its size

logger = logging.getLogger(__name__)


class DicomSeries(NamedTuple):
    """Slices that belong together, or one slice.

    Attributes:
        path: what readers take: the folder, the zip file or the only slice; where a folder or a zip file has several
            series, a name below it that is no file.
        files: the files that it is read from.
        uid: the series' identifier.
        damaged: files beside the slices that seem to be slices, but cannot be read.
    """

    path: str
    files: list[str]
    uid: str
    damaged: tuple[str, ...] = ()


def is_zip(path: PathLike) -> bool:
    """Whether a path names a zip file that is there.

    >>> is_zip("no such file.zip")
    False
    """
    return str(path).lower().endswith(".zip") and os.path.isfile(path)


def is_container(path: Path) -> bool:
    """Whether a path names a folder or a zip file."""
    return path.is_dir() or is_zip(path)


def is_series(name: PathLike) -> bool:
    """Whether a path names a folder, a zip file, or one of several series in them, as :func:`find_series` does."""
    path = Path(name)
    is_below = path.name.startswith(_mark(path.parent)) and not path.exists()
    return is_container(path) or (is_below and is_container(path.parent))


def find_series(container: PathLike) -> list[DicomSeries]:
    """List the DICOM series whose slices lie in a folder, without its sub-folders, or anywhere in a zip file.

    Suffixes do not matter. Objects without pixels, such as reports, and segmentations are left out. A series of one
    slice in a folder is that file; in a zip file, which is of volumes, it is left out. No name says who the patient is,
    unless the folder or the zip file does: several series are told apart by their numbers, or, where two have the same
    or none, by a hash of their identifiers.

    A file that cannot be read, but lies among slices and is named as they are, belongs to their series, which is then
    not read: a volume without it would be another one. Where there is no series beside it, it is an item of its own.

    Raises:
        UnusableDicom: when a zip file is damaged, encrypted or too large, or when only a damaged slice is in it.
    """
    with open_files(Path(container)) as files:
        found, damaged, left_out = scan(Path(container), files)
    of_series = {name for series in found for name in series.damaged}
    if is_zip(container):
        several = [series for series in found if len(series.files) > 1]
        if damaged and not several:
            raise UnusableDicom(f"{container}: a file in it cannot be read as DICOM: copy or save it again")
        left_out += len(found) - len(several)
        found = [series._replace(files=[str(container)], damaged=()) for series in several]
    else:
        found += [DicomSeries(name, [name], "") for name in damaged if name not in of_series]
    if left_out:
        logger.info("%s: DICOM objects that are no image or no volume, left out: %d", container, left_out)
    return found


@contextmanager
def open_files(container: Path) -> Iterator[Files]:
    """What opens each file of a folder or a zip file. Nothing is unpacked onto the disk.

    Names in a zip file may be those of patients, so no error gives them away.

    Raises:
        UnusableDicom: when a zip file is damaged, encrypted or too large, or its content is found to be so later.
    """
    if not is_zip(container):
        paths = [path for path in sorted(container.iterdir()) if path.is_file() or _is_broken_link(path)]
        yield {str(path): partial(_open, path) for path in paths if not path.name.startswith(".")}
        return
    try:
        with zipfile.ZipFile(container) as archive:
            members = [member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member)]
            size = sum(member.file_size for member in members)  # of which zipfile reads no byte more
            if size > _LARGEST_ZIP:
                raise UnusableDicom(
                    f"{container}: holds {size / 2**30:.0f} GiB when unpacked, at most {_LARGEST_ZIP / 2**30:.0f} are "
                    "read from a zip file: unpack it and give the folder"
                )
            if size > _BOMB[0] and size > _BOMB[1] * sum(member.compress_size for member in members):
                raise UnusableDicom(
                    f"{container}: holds {size:,} bytes when unpacked, over {_BOMB[1]} times as many as packed: no "
                    "images are packed so well; unpack it and give the folder"
                )
            if any(member.flag_bits & 1 for member in members):
                raise UnusableDicom(f"{container}: is encrypted: save it without a password, or give the folder")
            # Not `archive.open`: such a file has a name, which pydicom may log.
            yield {member.filename: partial(_in_memory, archive, member) for member in members}
    except (ValueError, MemoryError) as error:  # what this package says of it
        if type(error).__module__.startswith("monai_kd."):
            raise
        raise UnusableDicom(f"{container}: cannot be read as a zip file: copy or save it again") from None
    except PermissionError:
        raise UnusableDicom(f"{container}: cannot be opened: allow reading it") from None
    except Exception:  # BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError of an unusual compression
        raise UnusableDicom(f"{container}: cannot be read as a zip file: copy or save it again") from None


def scan(container: Path, files: Files) -> tuple[list[DicomSeries], list[str], int]:
    """The series in a folder or a zip file, with their files' names there.

    Returns:
        The series; the files that seem to be slices but cannot be read; how many DICOM objects are no images.
    """
    names: dict[str, list[str]] = defaultdict(list)
    numbers: dict[str, str] = {}
    unread: dict[str, bytes] = {}
    left_out = 0
    for name, open_file in files.items():
        header = _read_header(open_file)
        if isinstance(header, bytes):
            unread[name] = header
        elif "Rows" in header and header.get("SOPClassUID") != _SEGMENTATION:
            uid = str(header.get("SeriesInstanceUID") or "")
            names[uid].append(name)
            numbers[uid] = str(header.get("SeriesNumber") or "")
        else:
            left_out += 1
    damaged = _among_slices(unread, [name for members in names.values() for name in members])
    several = [uid for uid in names if len(names[uid]) > 1]
    shared = Counter(numbers[uid] for uid in several)

    def path_of(uid: str) -> str:
        if uid not in several:
            return names[uid][0]
        if len(several) == 1:
            return str(container)
        is_unique = re.fullmatch(r"\d{1,7}", numbers[uid]) and shared[numbers[uid]] == 1
        label = numbers[uid] if is_unique else hashlib.blake2b(uid.encode(), digest_size=4).hexdigest()
        return str(container / f"{_mark(container)}{label}")

    def damaged_of(uid: str) -> tuple[str, ...]:
        folders = {os.path.dirname(name) for name in names[uid]} if uid in several else set()
        return tuple(name for name in damaged if os.path.dirname(name) in folders)

    return [DicomSeries(path_of(uid), names[uid], uid, damaged_of(uid)) for uid in names], damaged, left_out


def _open(path: Path, size: int | None) -> BinaryIO:
    return open(path, "rb")


def _in_memory(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int | None) -> BinaryIO:
    if size is None and member.file_size > _LARGEST_MEMBER:
        size_of = f"a file in it has {member.file_size:,} bytes, at most {_LARGEST_MEMBER:,} are read from a zip file"
        raise UnusableDicom(f"{archive.filename}: {size_of}: unpack it and give the folder")
    with archive.open(member) as file:
        return io.BytesIO(file.read(-1 if size is None else size))


def _read_header(open_file: Callable[[int | None], BinaryIO]) -> Dataset | bytes:
    """A file's header, or, where there is none that can be read, the first bytes, none if it cannot be opened."""
    head = b""
    for size in (_HEAD, None):
        try:
            with open_file(size) as file:
                head = file.read(1024)
                if not begins_as_dicom(head):
                    return head
                file.seek(0)
                header = read_dicom(file, "", _HEADER, pixels=False)
                with speaking_for(""):  # values are made, and complained of, when they are asked for first
                    _ = [header.get(keyword) for keyword in _HEADER]
                    of_image = "Image" in UID(str(header.get("SOPClassUID") or "")).name
        except Exception:  # damaged, a link to nothing, or not allowed
            continue
        if "Rows" in header or not of_image:  # an image that is cut short has lost it
            return header
    return head


def _among_slices(unread: dict[str, bytes], slices: list[str]) -> list[str]:
    """Which of the files that are not read seem to be slices: what they are called, or what they hold, says so."""
    kinds = {(os.path.dirname(name), _suffix(name)) for name in slices}
    found = []
    for name, head in unread.items():
        named = _suffix(name) in _SLICE_SUFFIXES or (os.path.dirname(name), _suffix(name)) in kinds
        if head[128:132] == b"DICM" or (named and not _is_text(head) and os.path.basename(name) != "DICOMDIR"):
            found.append(name)
    return found


def _suffix(name: str) -> str:
    """A suffix that begins with a letter: 1.2.840 is a whole name."""
    found = re.search(r"\.[a-z][a-z0-9]{0,4}$", os.path.basename(name), re.IGNORECASE)
    return found[0].lower() if found else ""


def _is_text(head: bytes) -> bool:
    return bool(head) and not re.search(rb"[\x00-\x08\x0e-\x1f]", head)


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    """What a Mac adds to a zip file, and what begins with a dot."""
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in member.filename.split("/"))


def _is_broken_link(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _mark(container: Path) -> str:
    """What the names of the series in a folder or a zip file begin with."""
    name = container.absolute().name
    return f"{name[:-4] if name.lower().endswith('.zip') else name}_series_"
