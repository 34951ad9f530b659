# SPDX-License-Identifier: Apache-2.0
"""DICOM files opened without a word that pydicom says of them: it quotes values, and those are of patients."""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from monai.config import PathLike
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

__all__ = ["UnusableDicom", "begins_as_dicom", "is_dicom", "read_dicom", "speaking_for"]

_LARGEST_DEFLATED = 2**30  # bytes when inflated: one picture, whatever else the file holds
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_DAMAGED = "cannot be read as DICOM: it is damaged, or no DICOM file"
_NEEDED = ["SOPClassUID", "Modality", "Rows"]  # of which an object that is DICOM at all has one
_REPRESENTATIONS = (b"UL", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"OB", b"SQ")  # that a first element has


class UnusableDicom(ValueError):
    """A DICOM file that is damaged, cannot be decoded or holds something else than one grey picture."""


class _Silence:
    """Keep quiet what pydicom warns of and logs, while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outside = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._outside.enter_context(warnings.catch_warnings())
                # Wherever a warning is attributed to: to pydicom's modules or, as their caller, to this package's.
                warnings.filterwarnings("ignore", module=r"pydicom|monai_kd\.data|highdicom")
                for name in ("pydicom", "highdicom"):
                    logger = logging.getLogger(name)
                    logger.addFilter(_refuse)
                    self._outside.callback(logger.removeFilter, _refuse)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._outside.close()


_silence = _Silence()


def _refuse(record: logging.LogRecord) -> bool:
    return False


@contextmanager
def speaking_for(name: PathLike, what: str = _DAMAGED) -> Iterator[None]:
    """Replace whatever is said of a DICOM file in here, but by this package, by one line without its values.

    Args:
        name: what the line calls the file.
        what: what went wrong.

    Raises:
        UnusableDicom: in place of any error but those of this package, of the system (of opening files) and of memory.

    >>> with speaking_for("a.dcm", "cannot be read"):
    ...     raise KeyError("Anna")
    Traceback (most recent call last):
    monai_kd.data.readers.dicom_file.UnusableDicom: a.dcm: cannot be read; copy or save it again
    """
    with _silence:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            if type(error).__module__.startswith("monai_kd.") or getattr(error, "errno", None):
                raise
            raise UnusableDicom(f"{name}: {what}; copy or save it again") from None


def read_dicom(
    file: PathLike | BinaryIO, name: PathLike, tags: Sequence[str] | None = None, pixels: bool = True
) -> Dataset:
    """Read a DICOM file, also one without preamble and file meta information.

    Args:
        file: its path, or it itself, opened.
        name: what an error calls it.
        tags: keywords of the elements that are wanted, all by default. What is not read cannot be given away.
        pixels: read the pixels too.

    Raises:
        UnusableDicom: when it is no DICOM file, or damaged.
        OSError: when it cannot be opened.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(open(file, "rb")) if isinstance(file, (str, os.PathLike)) else file
        stack.enter_context(speaking_for(name))
        head = stream.read(1024)
        stream.seek(0)
        if not begins_as_dicom(head):
            raise UnusableDicom(f"{name}: {_DAMAGED}; copy or save it again")
        if _DEFLATED in head:
            _check_deflated(stream, name)
        known = None if tags is None else [*tags, *_NEEDED]
        dicom = dcmread(stream, stop_before_pixels=not pixels, force=True, specific_tags=known)
        if "SOPClassUID" not in dicom and "MediaStorageSOPClassUID" in dicom.file_meta:  # as in a DICOMDIR
            dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID
        if not any(keyword in dicom for keyword in _NEEDED):
            raise UnusableDicom(f"{name}: has no picture and no header of one: it is cut short, or no DICOM image")
        dicom.filename = str(name)
        _name_syntax(dicom)
        return dicom


def begins_as_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file, 132 or more, are those of DICOM, with or without preamble.

    >>> begins_as_dicom(bytes(128) + b"DICM"), begins_as_dicom(b"\\x08\\0\\x05\\0CS\\x0a\\0ISO_IR 100")
    (True, True)
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    group, element, length = struct.unpack("<HHL", head[:8])
    if group in (0x0200, 0x0800) and head[4:6] in _REPRESENTATIONS:  # most significant byte first
        return True
    # Groups 2 and 8 come first, with their lengths, character set, type, date or class.
    return group in (2, 8) and element < 0x100 and (head[4:6] in _REPRESENTATIONS or 0 < length <= 128)


def is_dicom(path: PathLike) -> bool:
    """Whether a file is DICOM by its content; what cannot be opened is not.

    >>> is_dicom("no such file")
    False
    """
    if not os.path.isfile(path):  # a pipe would wait
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
            if head[128:132] == b"DICM" or not begins_as_dicom(head):
                return head[128:132] == b"DICM"
        read_dicom(path, path, (), pixels=False)
        return True
    except (OSError, UnusableDicom):
        return False


def _check_deflated(stream: BinaryIO, name: PathLike) -> None:
    """pydicom inflates all at once, however much comes out."""
    content = stream.read()
    stream.seek(0)
    (length,) = struct.unpack("<L", content[140:144])  # of the group that comes before what is deflated
    inflate, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, io.BytesIO(content[144 + length :])
    pending = b""
    while not inflate.eof and (pending := pending or rest.read(2**16)):
        size += len(inflate.decompress(pending, 2**22))
        pending = inflate.unconsumed_tail
        if size > _LARGEST_DEFLATED:
            raise UnusableDicom(f"{name}: holds more than {_LARGEST_DEFLATED >> 30} GiB when inflated: save it plain")


def _name_syntax(dicom: Dataset) -> None:
    """Say how the pixels are stored of a file that leaves it out: as the header that was read is."""
    if "TransferSyntaxUID" in dicom.file_meta:
        return
    implicit = getattr(dicom, "is_implicit_VR", None) if not hasattr(dicom, "original_encoding") else None
    little: bool | None = getattr(dicom, "is_little_endian", None)
    if implicit is None:
        implicit, little = dicom.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dicom.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
