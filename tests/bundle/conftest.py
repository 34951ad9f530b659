# SPDX-License-Identifier: Apache-2.0
"""The shipped configurations, made tiny by overrides, run in this process: `import monai` alone takes four seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ignite.distributed
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

import monai_kd
from monai_kd.cli import main
from monai_kd.data import CineGenerator

from .mri import SIZE
from .runs import as_words


@pytest.fixture(scope="session")
def workflow() -> Callable[..., ConfigWorkflow]:
    """Build and initialise the workflow over some of a bundle's configuration files."""

    def build(bundle: str, *files: str, **overrides: Any) -> ConfigWorkflow:
        root = Path(monai_kd.bundle_root(bundle))
        built = ConfigWorkflow(
            config_file=[str(root / "configs" / file) for file in files],
            meta_file=str(root / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="infer" if "inference.json" in files else "train",
            **overrides,
        )
        built.initialize()
        return built

    return build


@pytest.fixture(scope="module")
def bundle(request) -> Any:
    """What has the ``NAME`` of a bundle and settings that make it ``TINY``: the module that asks."""
    return request.module


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Cine frames of ten patients; a module whose bundle reads other images has data of its own."""
    generate = CineGenerator(image_size=SIZE, frames_per_patient=2)
    return generate(tmp_path_factory.mktemp("data") / "set", cases=10, seed=1)


@pytest.fixture(scope="module")
def volume(data) -> np.ndarray:
    """Three of those frames, of unlike size along their sides, as slices."""
    frames = [np.asarray(Image.open(data / "images" / f"SIM-000{n}-IM-0001-0001.png")).T for n in (1, 2, 3)]
    return np.stack(frames, axis=-1)[:, 2:46].astype(np.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of a module's runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(bundle, data, runs) -> Path:
    """A run of all three stages; a module that goes from bundle to bundle and back has each one's once."""
    folder = runs / bundle.NAME
    if (folder / "model.pt").is_file():
        return folder
    words = ["--dataset_dir", str(data), "--run", str(folder), "--stages", "teacher,student_alone,distill"]
    assert main(["train", bundle.NAME, *words, *as_words(**bundle.TINY)]) == 0
    return folder


@pytest.fixture
def distillation(bundle, workflow, data, run, tmp_path) -> Callable[..., ConfigParser]:
    """The configuration's parser for a distillation by the run's teacher."""

    def build(folder: str = "run", **settings: Any) -> ConfigParser:
        files = {"ckpt_dir": str(tmp_path / folder), "teacher_checkpoint": str(run / "teacher.pt")}
        overrides = {**bundle.TINY, **files, **settings}
        return workflow(bundle.NAME, "train.json", dataset_dir=str(data), **overrides).parser

    return build


@pytest.fixture
def one_process(monkeypatch) -> Iterator[None]:
    """This process as torchrun starts the only one of its kind."""
    process = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in process.items():
        monkeypatch.setenv(name, value)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    ignite.distributed.sync()  # or ignite would go on believing in the group
