"""The shipped configurations, made tiny by overrides, run in this process: `import monai` alone takes four seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ignite.distributed
import pytest
import torch
from monai.bundle import ConfigWorkflow

import monai_kd


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
