"""One torch thread per worker: two workers with two threads each are 2.7 times slower on two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real images that some tests read; they are skipped where MONAI_KD_DATA does not point to one."""
    folder = os.environ.get("MONAI_KD_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MONAI_KD_DATA does not point to the real images")
    return Path(folder).resolve()
