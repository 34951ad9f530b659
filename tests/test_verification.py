# SPDX-License-Identifier: Apache-2.0
"""The checks of a bundle's files; what needs its networks is tested on every bundle in tests/bundle."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import monai_kd
from monai_kd import verification
from monai_kd.bundle import Bundle


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    root = Path(monai_kd.bundle_root("brain_tumor_segmentation"))
    shutil.copytree(root, tmp_path / "b", ignore=shutil.ignore_patterns("runs", "data", "models"))
    return Bundle(str(tmp_path / "b"))


def test_what_is_checked_has_a_title_each():
    checks = (*verification.CHECKS, *verification.EXPORTS)
    assert len({check.__doc__ for check in checks}) == len(checks)


def _edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "check, damage, message",
    [
        (verification._check_files, lambda root: (root / "LICENSE").unlink(), "missing: LICENSE"),
        (verification._check_files, lambda root: (root / "LICENSE").write_text(""), "empty: LICENSE"),
        (
            verification._check_files,
            lambda root: (root / "docs" / "a.png").write_bytes(bytes(100_001)),
            "100,000 bytes: .*a.png",
        ),
        (
            verification._check_metadata,
            lambda root: _edit(root / "configs" / "metadata.json", version="0.0.1"),
            "the version is 0.0.1, but the changelog's newest is",
        ),
        (
            verification._check_metadata,
            lambda root: _edit(root / "configs" / "metadata.json", task=""),
            "missing: task",
        ),
        (
            verification._check_paths,
            lambda root: _edit(root / "configs" / "train.json", dataset_dir="/home/me"),
            "train.json: dataset_dir names /home/me; start paths at @bundle_root",
        ),
        (verification._check_models, lambda root: _touch(root / "models" / "teacher.pt"), "found teacher.pt"),
    ],
)
def test_damage_is_named(
    bundle, check: Callable[[Bundle], None], damage: Callable[[Path], object], message, monkeypatch
):
    monkeypatch.setattr(verification, "LARGEST_MODEL", 100_000)
    check(bundle)
    damage(bundle.root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check(bundle)


def _touch(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
