# SPDX-License-Identifier: Apache-2.0
"""The cure changes PyTorch's table of operators for good, so it is tried in interpreters of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from monai_kd.networks import torchvision_operators

CURED_IMPORT = "import runpy, sys; timm = runpy.run_path(sys.argv[1])['import_timm']()"


def run_in_a_new_interpreter(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, torchvision_operators.__file__],
        env=dict(os.environ, **({} if folder is None else {"PYTHONPATH": str(folder)})),
        capture_output=True,
        text=True,
    )


@pytest.fixture
def unloadable(tmp_path: Path) -> Path:
    """Folder with a timm and a torchvision that fail as the real ones do beside the wrong PyTorch."""
    for package in ("timm", "torchvision"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "part.py").touch()
    (tmp_path / "timm" / "__init__.py").write_text("import timm.part, torchvision; part = timm.part")
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "import torch, torchvision.part\n"
        "for name in ('nms', 'qnms'):\n"
        "    torch.library.register_fake(f'torchvision::{name}')(lambda *args: None)\n"
        "part = torchvision.part\n"
    )
    return tmp_path


def test_real_timm_imports_without_a_warning() -> None:
    result = run_in_a_new_interpreter(f"{CURED_IMPORT}; print(timm.is_model('vit_base_patch16_224'))")
    assert (result.stdout.strip(), result.stderr) == ("True", "")


def test_torchvision_without_its_operators_is_cured(unloadable: Path) -> None:
    plain_import = "try: import timm\nexcept RuntimeError as error: print(error)\n"
    code = f"{plain_import}{CURED_IMPORT}; import timm as again; print(timm is again)"
    result = run_in_a_new_interpreter(code, unloadable)
    assert result.stdout.splitlines() == ["operator torchvision::nms does not exist", "True"]
    assert result.stderr == ""


def refuse_to_declare(*args: object) -> None:
    raise AssertionError("no operator may be declared here")


def test_healthy_installation_is_only_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = ModuleType("timm")
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.layers", ModuleType("timm.layers"))
    monkeypatch.setattr(torch.library, "define", refuse_to_declare)
    assert torchvision_operators.import_timm() is timm
    assert "timm.layers" in sys.modules


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::roi_pool is broken"), ImportError("no timm")])
def test_other_errors_are_raised_as_they_are(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(torchvision_operators.importlib, "import_module", fail)
    monkeypatch.setattr(torch.library, "define", refuse_to_declare)
    with pytest.raises(type(error)) as raised:
        torchvision_operators.import_timm()
    assert raised.value is error
