# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.fixture
def write_slice(tmp_path):
    """Function that writes a tiny Figshare slice into the temporary folder: None leaves a key out."""

    def write(name="1.mat", group="cjdata", folder=tmp_path, **changes) -> str:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {
            "image": np.arange(12, dtype=np.int16).reshape(4, 3),  # 4 columns, 3 rows
            "tumorMask": np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], np.uint8),
            "tumorBorder": np.array([[2.0, 1.0, 4.0, 1.0, 4.0, 3.0, 2.0, 3.0]]),
            "label": np.array([[2.0]]),
            "PID": "MR040240B",
            **changes,
        }
        with h5py.File(path, "w") as file:
            target = file.create_group(group) if group else file
            for key, value in values.items():
                if isinstance(value, str):
                    value = np.array([[ord(letter)] for letter in value], np.uint16)
                if value is not None:
                    target[key] = value
        return str(path)

    return write
