# SPDX-License-Identifier: Apache-2.0
"""What a user may choose of the file that a prediction is written to: its name's ending, format and numbers."""

from __future__ import annotations

import re
from collections.abc import Collection

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

__all__ = ["check_output_options"]


def check_output_options(
    postfix: str, ext: str | None, dtype: str | None, exts: Collection[str], kinds: str, taken: Collection[str]
) -> np.dtype | None:
    """Refuse what a writer cannot do.

    Args:
        postfix: of the file's name, behind ``_``.
        ext: its format; None leaves the writer its own.
        dtype: NumPy's name of its numbers; None leaves the writer its own.
        exts: the formats that the writer has.
        kinds: the kinds of numbers that hold the result, as `numpy.dtype.kind` names them.
        taken: postfixes of the writer's other files.

    Returns:
        The type of the numbers.

    Raises:
        ValueError: naming the option and what it may be.

    >>> check_output_options("seg", ".nii", "int16", [".nii"], "ui", ["prob"])
    dtype('int16')
    """
    if not isinstance(postfix, str) or not re.fullmatch(r"[\w.+-]+", postfix) or postfix in taken:
        others = ", ".join(sorted(taken))
        raise ValueError(f"output_postfix must be letters, digits and . + - _, and none of {others}, got {postfix!r}")
    if ext is not None and ext not in exts:
        raise ValueError(f"output_ext must be one of {', '.join(exts)}, or null for the input's, got {ext!r}")
    if dtype is None:
        return None
    try:
        numbers = np.dtype(dtype)
        nib.Nifti1Header().set_data_dtype(numbers)
    except (TypeError, HeaderDataError):
        numbers = np.dtype(object)
    if numbers.kind not in kinds:
        names = {"u": "unsigned integers", "i": "integers", "f": "floating-point numbers"}
        wanted = " or ".join(names[kind] for kind in kinds)
        raise ValueError(f"output_dtype must be {wanted} that NIfTI has, such as float32, got {dtype!r}")
    return numbers
