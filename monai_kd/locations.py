# SPDX-License-Identifier: Apache-2.0
"""Where bundles lie, and where their runs and data go. Free of PyTorch and MONAI until a configuration is evaluated."""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import read_json
from .stage_names import is_run

__all__ = [
    "bundle_names",
    "bundle_root",
    "ckpt_dir",
    "data_dir",
    "identity",
    "is_bundle",
    "literal",
    "run_dir",
    "running_parser",
    "teacher_overlay",
]

_PACKAGE = Path(__file__).resolve().parent


def literal(text: str) -> str:
    r"""A text as Python writes it, for an expression of a configuration: MONAI reads an @ as a reference, even there.

    >>> print(literal("/data/anna@home"))
    '/data/anna\x40home'
    """
    return repr(text).replace("@", r"\x40")


def _bundles() -> Path:
    """The folder of the bundles: beside the package in a checkout, inside it in an installed wheel."""
    checkout, installed = _PACKAGE.parent / "bundle", _PACKAGE / "bundles"
    # Installed packages may well have an unrelated neighbour called `bundle`; ours holds bundles.
    return installed if any(installed.glob("*/configs/metadata.json")) else checkout


def bundle_names() -> list[str]:
    """Names of the bundles that this installation carries, sorted."""
    return sorted(path.parents[1].name for path in _bundles().glob("*/configs/metadata.json"))


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle's."""
    return (folder / "configs" / "metadata.json").is_file()


def identity(root: Path) -> str:
    """What tells a bundle from another one, wherever it lies and whatever it is called: metadata.json's ``identity``.

    A moved bundle keeps it; what the verb ``copy`` makes has its own. Without one it is the folder's name.
    """
    metadata = read_json(root / "configs" / "metadata.json")
    return str(metadata.get("identity", root.name))


def teacher_overlay(root: Path, verb: str, config: Mapping[str, Any]) -> Path | None:
    """The file that is laid over the configuration of ``evaluate`` or ``infer`` for a teacher, if any is.

    None where the teacher sees and gives what the student does: in the whole bundle, which has no such file, or by
    ``teacher_like_student`` in the configuration that trained it.
    """
    overlay = root / "configs" / f"{verb}_teacher.json"
    return overlay if overlay.is_file() and not config.get("teacher_like_student") else None


def bundle_root(name: str, last: str | None = None) -> str:
    """Absolute path of a bundle's directory.

    In a configuration that MONAI runs as a workflow, this is the folder whose configuration it is, wherever that was
    moved or copied to; for the configuration that a run keeps, the bundle in whose ``runs`` it lies. Elsewhere, and for
    any other bundle than the running one, it is the one that this installation carries. The current folder never
    matters.

    Args:
        name: one of :func:`bundle_names`, or the identity of another bundle (see :func:`identity`).
        last: where it lay when it was copied, or when a run kept its configuration: taken if nothing better is known.

    Raises:
        ValueError: when there is no such bundle.
    """
    for root in [*_running_bundles(), *([] if last is None else [Path(last)])]:
        if is_bundle(root) and identity(root) == name:
            return str(root)
    root = _bundles() / name
    if not is_bundle(root):
        raise ValueError(
            f"there is no bundle {name!r}; there are: {', '.join(bundle_names()) or 'none'}; the folder of another one "
            "can be given as bundle_root"
        )
    return str(root)


def _writable_root(root: str | os.PathLike) -> Path:
    """Where a bundle's runs and data go: the bundle itself, unless it lies in an installed package."""
    path = Path(root).resolve()
    if path.is_relative_to(_PACKAGE):
        return Path(os.environ.get("MONAI_KD_HOME", "~/.monai_kd")).expanduser().resolve() / path.name
    return path


def run_dir(root: str | os.PathLike, run: str = "default") -> str:
    """Absolute path of the folder that a run of the bundle in ``root`` writes to.

    ``<root>/runs/<run>``; for a bundle inside an installed package ``$MONAI_KD_HOME/<bundle>/runs/<run>``
    (``~/.monai_kd`` by default), because nothing is ever written into site-packages.
    """
    return str(_writable_root(root) / "runs" / run)


def data_dir(root: str | os.PathLike) -> str:
    """Absolute path where the bundle in ``root`` looks for its data set unless told otherwise."""
    return str(_writable_root(root) / "data")


def ckpt_dir(last: str) -> str:
    """In the configuration that a run keeps: the folder that it lies in, wherever the run was moved to.

    Args:
        last: where it lay when it was kept; taken where the running configuration is no kept one.
    """
    for folder in _running_folders():
        if folder.name != "configs" and is_run(folder):
            return str(folder)
    return last


def running_parser() -> Any:
    """MONAI's parser that is evaluating a configuration right now; None where none is.

    A stage keeps the configuration that made it, and a bundle's root is where its configuration lies, whoever started
    it: `python -m monai.bundle run`, MONAI's `load`, MONAI Label or this package's command line. MONAI gives an
    expression no name for the configuration that it stands in: a reference to the whole (``"@"``) contains the one who
    asks, which is a circle; a macro of the whole (``"%"``) makes all components a second time; and no id leads to
    the workflow, which alone knows the files and overrides. So the call stack is asked: the nearest `ConfigParser`.
    """
    if "monai.bundle" not in sys.modules:
        return None
    from monai.bundle import ConfigParser

    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back
    return None


def _running_folders() -> list[Path]:
    """The folders of the running configuration's first file and of its metadata, as far as they are known.

    The parser does not know the files that it was read from. The workflow that owns it does, and need not be on the
    call stack (``workflow.parser.get_parsed_content(...)``); so it is asked of Python who refers to the parser.
    """
    parser = running_parser()
    if parser is None:
        return []
    from monai.bundle import ConfigWorkflow
    from monai.utils import ensure_tuple

    folders: list[Path] = []
    for holder in gc.get_referrers(parser):  # an object, or its `__dict__` once somebody has looked at that
        known = vars(holder) if isinstance(holder, ConfigWorkflow) else holder
        if isinstance(known, dict) and known.get("parser") is parser and "config_root_path" in known:
            files = ensure_tuple(known.get("meta_file") or ())
            folders += [known["config_root_path"], *(Path(file).parent for file in files)]
    return [Path(os.path.abspath(folder)) for folder in folders]


def _running_bundles() -> list[Path]:
    """The bundles that the running configuration may belong to, the likeliest first."""
    bundles = []
    for folder in _running_folders():
        # A configuration lies in `configs`, and one that is kept somewhere in `runs`.
        bundles += [path.parent for path in (folder, *folder.parents) if path.name in ("configs", "runs")]
    return bundles
