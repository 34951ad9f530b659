# SPDX-License-Identifier: Apache-2.0
"""Which components a configuration of somebody else may make: by what their sources say, without importing them."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["problem_of"]

_TRUSTED = ("monai", "torch", "timm", "monai_kd")
# Where that is defined what a configuration may make: constructors that keep what they are given.
_CONSTRUCTORS = re.compile(
    r"class torch\.(nn\.(modules\.\w+|parameter|parallel\.(distributed|data_parallel))|optim\.\w+"
    r"|utils\.data\.(dataset|dataloader|sampler|distributed))\.\w+"
    r"|class monai\.(losses|metrics|inferers|engines|transforms|networks\.(nets|blocks|layers|schedulers))(\.\w+)+"
    r"|class monai\.(optimizers\.novograd|utils\.enums"
    r"|data\.(dataset|dataloader|grid_dataset|image_reader|iterable_dataset|samplers|thread_buffer)"
    r"|handlers\.(average_precision|checkpoint_loader|confusion_matrix|decollate_batch|earlystop_handler"
    r"|garbage_collector|hausdorff_distance|ignite_metric|lr_schedule_handler|mean_dice|mean_iou"
    r"|metric_logger|panoptic_quality|postprocessing|regression_metrics|roc_auc|stats_handler"
    r"|surface_distance|validation_handler))\.\w+"
    r"|class timm\.(models|layers|loss|optim|scheduler)\.\w+\.\w+"
    r"|class monai_kd\.(losses|metrics|networks|transforms|handlers|engines|data|nnunet)(\.\w+)+"
    # Functions of this package that bundles name: they read data, or make networks and data sets.
    r"|def monai_kd\.data\.datalists\.(\w+\.\w+_datalist|folds\.cross_validated)"
    r"|def monai_kd\.(data\.mixed_dataset\.(labelled|mixed)_epoch|data\.moved_soft_labels\.with_soft_labels"
    r"|engines\.batch\.plain_batch|handlers\.distillation\.check_layers"
    r"|metrics\.(batch_scores\.hard_dice|bootstrap\.score_intervals)"
    r"|networks\.(student_unet\.student_unet|timm_models\.create_timm_model)"
    r"|nnunet\.(cases\.nnunet_datalist|unlabelled\.(nnunet_epoch|unlabelled_samples)|soft_labels\.nnunet_soft_labels"
    r"|ensemble\.nnunet_teacher))"
)
# Of these, what itself loads code, looks for it by a name, downloads from a given place, or writes.
_POWERFUL = re.compile(
    r"(.*\.)?((Rand)?(Lambda|TorchVision|TorchIO|CuCIM)d?|Save(Image|Classification)d?"
    r"|(Persistent|CacheNTrans|LMDB|GDS|NPZDictItem|CSV|CSVIterable)Dataset|PatchInferer|ZarrAvgMerger"
    r"|PerceptualLoss|\w+PerceptualSimilarity|Bert\w+|Transchex|TextEncoder|CellSamWrapper|HoVerNet"
    r"|GaussianMixtureModel|FlexUNetEncoderRegister|TorchScriptNetwork|BundleNetwork|FileStore|StageLog|GrowingTable)"
)
# Of torch's own, what is written in C: values, types, and tensors of numbers.
_VALUES = re.compile(
    r"torch\.(device|Generator|Size|tensor|zeros|ones|full|arange|linspace|eye|half|float\d*|bfloat16|double|bool|short"
    r"|long|u?int\d*|complex\d+|strided|channels_last(_3d)?|contiguous_format|preserve_format)"
)
# A name of a reader, or of more, that comes as the first argument of this class is looked for and run.
_IMAGE_LOADER = re.compile(r"class monai\.transforms\.io\.\w+\.LoadImaged?")
_RUNS = "component that loads, downloads or runs"
_FOREIGN = "component of another package"


def problem_of(target: object, settings: Mapping[Any, Any]) -> str:
    """What is to be said of a component; nothing of one of the trusted packages that only makes an object.

    Args:
        target: its name.
        settings: what it is made with.
    """
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "component by something else than its name"
    module, _, name = target.rpartition(".")
    if module and module.split(".")[0] not in _TRUSTED:
        return _FOREIGN
    # A setting that stands elsewhere in the file, by the path of its key, is not seen here.
    is_whole = settings.get("_target_") == target and settings.get("_mode_", "default") == "default"
    if target == "timm.create_model":
        known = {"_target_", "_desc_", "model_name", "num_classes", "in_chans", "img_size", "drop_rate", "global_pool"}
        # Other settings, and names such as "hf-hub:...", make timm download and read files.
        model = str(settings.get("model_name", ""))
        return "" if is_whole and settings.keys() <= known and re.fullmatch(r"[\w.]+", model) else _RUNS
    if _VALUES.fullmatch(target):
        return ""
    modules = [module] if module else _short_names().get(name, [])  # MONAI's short names: any module that has it
    homes = {home for module in modules for home in _homes(module, name, frozenset())}
    if not homes or _ELSEWHERE in homes:
        return _FOREIGN
    for home in homes:
        is_private = "._" in home.removeprefix("class torch.optim._")  # whose newer optimizers stand in private modules
        if is_private or not _CONSTRUCTORS.fullmatch(home) or _POWERFUL.fullmatch(home):
            return _RUNS
    return _RUNS if not is_whole and settings and any(map(_IMAGE_LOADER.fullmatch, homes)) else ""


_ELSEWHERE = "elsewhere"


def _homes(module: str, name: str, seen: frozenset[str]) -> set[str]:
    """Where that is defined which a module calls by a name: ``class`` or ``def``, and the dotted name.

    Sources are read, as an import would run them. `torch.os` is none of torch's, nor is what another package defines.
    """
    if module.split(".")[0] not in _TRUSTED:
        return {_ELSEWHERE}
    file = _source(module)
    if file is None or module in seen:
        return set()
    text, found = file.read_text(encoding="utf-8"), set[str]()
    if name not in text and "import *" not in text:
        return set()
    for node in _statements(str(file)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            found.add(f"{'class' if isinstance(node, ast.ClassDef) else 'def'} {module}.{name}")
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                if alias.name == "*":
                    found |= _homes(origin, name, seen | {module}) - {_ELSEWHERE}
                elif name == (alias.asname or alias.name):
                    found |= _homes(origin, alias.name, seen | {module}) or {_ELSEWHERE}
        elif isinstance(node, ast.Import) and any(name == (alias.asname or alias.name) for alias in node.names):
            found.add(_ELSEWHERE)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names = [part for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
            if any(part.id == name for part in names):
                other = node.value.id if isinstance(node.value, ast.Name) else name
                found |= (_homes(module, other, seen) if other != name else set()) or {_ELSEWHERE}
    return found


@cache
def _statements(file: str) -> list[ast.stmt]:
    """Those of a module that run when it is imported, also behind conditions."""
    found, waiting = [], list[ast.AST](ast.parse(Path(file).read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            found.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            waiting += ast.iter_child_nodes(node)
    return found


@cache
def _root(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # finds a package without importing it
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _source(module: str) -> Path | None:
    package, *rest = module.split(".")
    root = _root(package)
    if root is None:
        return None
    place = root.joinpath(*rest)
    return next((file for file in (place / "__init__.py", place.with_name(f"{place.name}.py")) if file.is_file()), None)


@cache
def _short_names() -> dict[str, list[str]]:
    """The modules that define a name, of those in which MONAI looks for it: all whose own name begins as its."""
    found: dict[str, list[str]] = {}
    for root in filter(None, map(_root, ("monai", "monai_kd"))):
        for file in root.rglob("*.py"):
            parts = file.relative_to(root.parent).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = file.read_text(encoding="utf-8")
            for own, others in re.findall(r"^[ \t]*(?:class|def) (\w+)|^((?:\w+ = )+)\w+$", text, re.MULTILINE):
                for name in {own, *others.split(" = ")} - {""}:
                    found.setdefault(name, []).append(module)
    return found
