# SPDX-License-Identifier: Apache-2.0
"""What every bundle must satisfy: the rules of MONAI's bundles and of its model zoo that need no network connection."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import monai_kd

from .bundle import Bundle
from .contract import broken_promises
from .files import read_json
from .stage_names import MODELS

__all__ = ["CHECKS", "EXPORTS", "LARGEST_MODEL", "check_run"]

LARGEST_MODEL = 16_000_000
"""Bytes of a student that can travel with its bundle."""


def _check_files(bundle: Bundle) -> None:
    """the bundle has all its files, and none that is too large to travel."""
    configs = ["metadata.json", "logging.conf", "train.json", "inference.json", "train_teacher.json"]
    configs += ["student_alone.json", "evaluate.json", "multi_gpu_train.json", "demo.json"]
    texts = ["LICENSE", "docs/README.md", "docs/data_license.txt"]
    missing = [name for name in texts + [f"configs/{name}" for name in configs] if not (bundle.root / name).is_file()]
    if missing:
        raise FileNotFoundError(f"missing: {', '.join(missing)}")
    empty = [name for name in texts if not _size(bundle.root / name)]
    if empty:
        raise ValueError(f"empty: {', '.join(empty)}")
    # Runs and data do not travel, and models are checked for themselves.
    travelling = [path for folder in ("configs", "docs") for path in (bundle.root / folder).rglob("*")]
    large = [str(path) for path in travelling if _size(path) > LARGEST_MODEL]
    if large:
        raise ValueError(f"more than {LARGEST_MODEL:,} bytes: {', '.join(large)}")


def _check_metadata(bundle: Bundle) -> None:
    """metadata.json names versions, changes, task, licence and the network's input and output."""
    metadata = bundle.metadata
    wanted = ["version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"]
    wanted += ["task", "description", "authors", "copyright", "data_source", "intended_use", "network_data_format"]
    missing = [key for key in wanted if not metadata.get(key)]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    newest = max(metadata["changelog"], key=lambda version: [int(number) for number in re.findall(r"\d+", version)])
    if metadata["version"] != newest:
        raise ValueError(f"the version is {metadata['version']}, but the changelog's newest is {newest}")
    wanted = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"]
    for side in ("inputs", "outputs"):
        for tensor, described in metadata["network_data_format"][side].items():
            missing = [key for key in wanted if key not in described]
            if missing:
                raise ValueError(f"network_data_format: {side} {tensor} lacks {', '.join(missing)}")


def _check_paths(bundle: Bundle) -> None:
    """no configuration names a path of somebody's machine."""
    for path in sorted((bundle.root / "configs").glob("*.json")):
        for key, value in read_json(path).items():
            found = re.search(r'"(/[^"]+|~[^"]*|[A-Za-z]:\\[^"]*)"', json.dumps(value))
            if found and key != "bundle_root":  # which a copy states, and every workflow may override
                raise ValueError(f"{path.name}: {key} names {found.group(1)}; start paths at @bundle_root")


def _check_contract(bundle: Bundle) -> None:
    """it has the ids that the verbs rely on (docs/contract.md), and they fit each other."""
    from monai.bundle import ConfigParser

    files = {"train.json": ["train.json"], "evaluate.json": ["train.json", "evaluate.json"]}
    configs = {}
    for name in ("metadata.json", "train.json", "evaluate.json", "inference.json"):
        configs[name] = ConfigParser(bundle.config(*files.get(name, [name])))
        configs[name].resolve_macro_and_relative_ids()
    broken = broken_promises(configs)
    if broken:
        raise ValueError("; ".join(broken))


def _check_root(bundle: Bundle) -> None:
    """its configurations find their own folder, wherever the bundle lies."""
    from monai.bundle import ConfigWorkflow

    for file in ("train.json", "inference.json"):
        workflow = ConfigWorkflow(bundle.config_file(file), logging_file=False, initialize=[])
        root = workflow.parser.get_parsed_content("bundle_root")
        if Path(root).resolve() != bundle.root:
            raise ValueError(
                f"{file}: bundle_root is {root}; write $monai_kd.bundle_root({bundle.identity!r}), the identity that "
                "metadata.json has"
            )


def _check_properties(bundle: Bundle) -> None:
    """train.json and inference.json have MONAI's bundle properties."""
    for file in ("train.json", "inference.json"):
        missing = bundle.workflow(file, overrides={}).check_properties()
        if missing:
            raise ValueError(f"{file} lacks {', '.join(missing)}")


def _check_network(bundle: Bundle) -> None:
    """the network takes and gives what metadata.json says."""
    from monai.bundle import verify_net_in_out

    verify_net_in_out(
        "network_def", bundle.config_file("metadata.json"), bundle.config_file("inference.json"), device="cpu"
    )


def _check_models(bundle: Bundle) -> None:
    """models/ holds at most the student, which fits the network and is small enough to travel."""
    files = sorted(path.name for path in (bundle.root / "models").glob("*"))
    if not {*files} <= {"model.pt", "model_trt.ts"}:  # the latter is the student, too: what inference_trt.json reads
        raise ValueError(f"only model.pt may lie in models/, found {', '.join(files)}")
    if "model.pt" in files:
        path = bundle.root / "models" / "model.pt"
        network = bundle.workflow("inference.json", overrides={}).network_def
        monai_kd.engines.load_weights(network, path)
        broken = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"model.pt has weights that are no finite numbers, such as {broken[0]}")
        if _size(path) > LARGEST_MODEL:
            raise ValueError(f"model.pt has {_size(path):,} bytes; at most {LARGEST_MODEL:,} can travel along")


def _check_load(bundle: Bundle) -> None:
    """MONAI's load gives the network with the weights of the file."""
    from monai.bundle import load

    with _with_weights(bundle) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI tells everybody that a configuration is code
        network: Any = load(folder.name, bundle_dir=str(folder.parent), workflow_type="inference", device="cpu")
        loaded = network.state_dict()
        weights = monai_kd.engines.read_weights(folder / "models" / "model.pt")
    # It passes over names that it does not know, so what it gives may be untrained.
    differing = [name for name in loaded if not _same(loaded[name], weights.get(name))]
    if differing:
        raise ValueError(
            f"{len(differing)} of {len(loaded)} weights are not those of models/model.pt, such as {differing[0]}; the "
            "file must be a bare state dictionary of network_def, as `publish` writes it: publish the student again"
        )


def _same(loaded: Any, kept: Any) -> bool:
    """Whether a tensor is the kept one, but for its precision."""
    import torch

    return kept is not None and torch.equal(loaded.to(torch.float64), kept.to(torch.float64))


def _check_torchscript(bundle: Bundle) -> None:
    """the network exports to TorchScript by MONAI's ckpt_export."""
    from monai.bundle import ckpt_export

    with _with_weights(bundle) as folder:
        ckpt_export(**_to_export(bundle, folder, "model.ts"))


def _check_onnx(bundle: Bundle) -> None:
    """the network exports to ONNX by MONAI's onnx_export, where onnx is installed."""
    from monai.bundle import onnx_export

    if importlib.util.find_spec("onnxscript") is None:
        return
    with _with_weights(bundle) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch copies what it has deprecated itself
        as_one_file = {"external_data": False, "verbose": False}
        onnx_export(**_to_export(bundle, folder, "model.onnx"), use_trace=True, converter_kwargs=as_one_file)


def _to_export(bundle: Bundle, folder: Path, file: str) -> dict[str, Any]:
    return {
        "net_id": "network_def",
        "filepath": str(folder / file),
        "ckpt_file": str(folder / "models" / "model.pt"),
        "meta_file": bundle.config_file("metadata.json"),
        "config_file": bundle.config_file("inference.json"),
    }


@contextlib.contextmanager
def _with_weights(bundle: Bundle) -> Iterator[Path]:
    """A temporary copy of a bundle's configurations and weights; untrained weights where there are none."""
    import torch

    with TemporaryDirectory() as temporary:
        folder = Path(temporary, bundle.root.name)
        shutil.copytree(bundle.root / "configs", folder / "configs")
        (folder / "models").mkdir()
        if (bundle.root / "models" / "model.pt").is_file():
            shutil.copy(bundle.root / "models" / "model.pt", folder / "models")
        else:
            network = bundle.workflow("inference.json", overrides={}).network_def
            torch.save(network.state_dict(), folder / "models" / "model.pt")
        yield folder


def check_run(bundle: Bundle, run: Path) -> None:
    """Hold what is completed in a run to the bundle, to the settings and the teacher that made it, and to its network.

    Raises:
        FileNotFoundError: when nothing is completed.
        ValueError: naming what does not fit.
    """
    from monai_kd.finite import check_finite_weights

    done = [name for name, _ in MODELS.values() if (run / name).is_file()]
    if not done:
        raise FileNotFoundError(f"the run {run} has completed nothing")
    for name in done:
        monai_kd.engines.check_origin(run / name)
    for name in done:
        weights = run / name
        files, settings = bundle.evaluation_of(str(run), str(weights))
        parser = bundle.workflow(*files, overrides={**settings, "device": "cpu"}).parser
        network = parser.get_parsed_content("teacher" if name == "teacher.pt" else "network_def")
        monai_kd.engines.load_weights(network, weights)
        check_finite_weights(network, str(weights))


def _size(path: Path) -> int:
    return path.stat().st_size


CHECKS: tuple[Callable[[Bundle], None], ...] = (
    _check_files,
    _check_metadata,
    _check_paths,
    _check_contract,
    _check_root,
    _check_properties,
    _check_network,
    _check_models,
)
"""Each raises an error where a bundle fails; its docstring is what the bundle satisfies."""

EXPORTS: tuple[Callable[[Bundle], None], ...] = (_check_load, _check_torchscript, _check_onnx)
"""The checks that take longest, and make sense where the others pass."""
