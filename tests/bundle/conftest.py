"""The shipped configurations, made tiny by overrides, run in this process: `import monai` alone takes four seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
