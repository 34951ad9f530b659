# SPDX-License-Identifier: Apache-2.0
"""What a bundle, a run or a file of somebody else would run, read as text: nothing of it is imported or executed.

A configuration of MONAI is code: ``$`` expressions, imports, and components by name. So are TorchScript, and pickles
that hold more than weights. ONNX files hold none.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

__all__ = ["Finding", "code_in_content", "find_code"]

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
    r"|def monai_kd\.(data\.mixed_dataset\.(labelled|mixed)_epoch|data\.soft_labels\.with_soft_labels"
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
# What `torch.load(weights_only=True)` takes.
_WEIGHTS = re.compile(
    r"collections (OrderedDict|Counter)|_codecs encode|(builtins|__builtin__) (set|complex|bytearray)"
    r"|torch(\.cuda|\.sparse|\.cuda\.sparse)? \w+(Storage|Tensor)|torch (Tensor|Size|device)"
    r"|torch (bfloat16|bool|bits\w+|complex\d+|u?int\d+|float\d\w*|per_\w+|q(u?)int\w+)"
    r"|torch\.storage (Typed|Untyped)Storage|torch\._utils _rebuild_\w+|torch\._tensor _rebuild_from_type_v2"
    r"|torch\.nn\.parameter Parameter|torch\.serialization _get_layout"
)
_SCRIPTED = re.compile(
    r"__torch__[\w.]* \w+|torch\.jit\._pickle \w+|torch\._utils _rebuild_\w+|collections OrderedDict"
)
# Operators of TorchScript that touch files, and all of others' libraries, which may do anything.
_OPERATOR = re.compile(
    r"\b(?:torch|ops\.aten)\.(?:from_file|save|load|_save\w*|_load\w*|hub|ops|classes)\b[\w.]*"
    r"|\bops\.(?!aten\.|prim\.|quantized\.|torchvision\.)\w+[\w.]*|__torch__\.torch\.classes\.[\w.]+"
)
_PLAIN_LOGGING = {
    "class": r"(logging\.)?(StreamHandler|Formatter|NullHandler)",
    "args": r"\((sys\.std(out|err),)?\)",
    "kwargs": r"\{\}",
}
_LARGEST = 64_000_000  # bytes of a text or pickle that is read as a whole


@dataclass(frozen=True)
class Finding:
    """Something that would run, or that could not be looked at.

    Args:
        file: where it stands.
        place: an id in a configuration, or a file in an archive; empty for the whole file.
        kind: what it is.
        text: the thing itself.
    """

    file: Path
    place: str
    kind: str
    text: str


def find_code(path: Path) -> list[Finding]:
    """What would run of a bundle, a run or a file.

    Args:
        path: a folder, whose configurations, checkpoints and programs are all looked at, or a file.

    Raises:
        FileNotFoundError: when there is nothing.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    # A link to a folder is not followed, and said to be one: it may lead anywhere, or back.
    files = [file for file in path.rglob("*") if file.is_symlink() or not file.is_dir()] if path.is_dir() else [path]
    files.sort()
    return [finding for file in files for finding in _inspect_file(file)]


def _inspect_file(file: Path) -> Iterator[Finding]:
    suffix = file.suffix.lower()
    if not file.is_file() or (file.is_symlink() and not file.exists()):
        yield Finding(file, "", "not a plain file", "not read")
        return
    try:
        if suffix in (".json", ".yaml", ".yml"):
            yield from _in_config(file)
        elif suffix in (".conf", ".ini", ".cfg"):
            yield from _in_logging(file)
        elif suffix == ".pt2":
            yield Finding(file, "", "program", "an exported network, which torch may read as pickles")
        elif zipfile.is_zipfile(file) and _starts_as_archive(file):
            yield from _in_archive(file)
        elif suffix in (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".ts", ".npy", ".npz") or _is_pickle(file):
            yield from _in_old_checkpoint(file)
        elif suffix in (".py", ".pyc", ".so", ".sh", ".dll", ".pyd"):
            yield Finding(file, "", "program", "runs where something imports or calls it")
    except Exception as error:  # whatever a hostile file does to a parser
        yield Finding(file, "", "unreadable", " ".join(f"{type(error).__name__}: {error}".split())[:200])


def _in_config(file: Path) -> Iterator[Finding]:
    text = _read(file)
    if file.suffix.lower() == ".json":
        content = json.loads(text)
    else:
        import yaml

        content = yaml.safe_load(text)
    yield from _in_content(content, file)


def code_in_content(content: Any) -> list[Finding]:
    """What would run of a part of a configuration.

    Args:
        content: settings by id.
    """
    return list(_in_content(content, Path()))


def _in_content(content: Any, file: Path) -> Iterator[Finding]:
    for place, key, value, beside in _entries(content, "", "", {}):
        kind = ""
        if isinstance(value, str) and value.startswith("$"):
            kind = "import" if re.match(r"\$\s*(import|from)\b", value) else "expression"
        elif isinstance(value, str) and value.startswith("%") and re.search(r"\.(json|ya?ml)", value, re.IGNORECASE):
            kind = "another file"
        elif key == "_target_":
            kind = _problem_of(value, beside)
        elif key == "reader" and isinstance(value, str):  # MONAI finds it by its name, in any package, and calls it
            kind = _problem_of(value, {})
        elif key == "_mode_" and value != "default" and (value != "callable" or "_target_" not in beside):
            kind = "mode that may start a debugger"
        elif key in ("_debug_", "allow_pickle") and value is not False:
            kind = "setting that starts a debugger" if key == "_debug_" else "setting that unpickles"
        if kind:
            yield Finding(file, place, kind, str(value))


def _entries(
    value: Any, place: str, key: str, beside: Mapping[Any, Any]
) -> Iterator[tuple[str, str, Any, Mapping[Any, Any]]]:
    """All parts of a configuration: where they stand, under which key, and the mapping that they are in."""
    yield place, key, value, beside
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in items:
        # MONAI takes "a#b" and "a::b" for b of a, and "+a" for more of a; entries of a list stand under the list's key.
        names = [part.lstrip("+") for part in re.split("#|::", str(name)) if not part.isdigit()]
        inner = beside if isinstance(value, list) else value
        yield from _entries(entry, f"{place}#{name}" if place else str(name), names[-1] if names else key, inner)


def _problem_of(target: object, settings: Mapping[Any, Any]) -> str:
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


def _in_logging(file: Path) -> Iterator[Finding]:
    """The classes and arguments of a logging configuration, which are expressions to Python."""
    parser = configparser.RawConfigParser()
    parser.read_string(_read(file))
    for section in parser.sections():
        for key, value in parser.items(section):
            if key in _PLAIN_LOGGING and not re.fullmatch(_PLAIN_LOGGING[key], value.strip()):
                yield Finding(file, f"{section}#{key}", "expression", value)


def _in_archive(file: Path) -> Iterator[Finding]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise ValueError("two parts of one name")
        is_script = any("/code/" in name for name in names)
        for name in names:
            if name.endswith(".debug_pkl"):  # where the code came from, for error messages
                continue
            if name.endswith((".pkl", ".py")) and archive.getinfo(name).file_size > _LARGEST:
                raise ValueError(f"{name} is too large for a text")
            with archive.open(name) as part:
                if name.endswith(".pkl"):
                    for held in _globals(part):
                        if not (_WEIGHTS.fullmatch(held) or (is_script and _SCRIPTED.fullmatch(held))):
                            yield Finding(file, name, "pickled object", held.replace(" ", "."))
                elif name.endswith(".py"):
                    for operator in dict.fromkeys(_OPERATOR.findall(part.read().decode("utf-8", "replace"))):
                        yield Finding(file, name, "operator that touches files", operator)
                elif name.endswith((".pt", ".pth", ".ckpt", ".pickle", "archive_format")):
                    yield Finding(file, name, "pickled object", "a file within this one, not read")
                elif name.endswith(".npy") and b"'O'" in part.read(200):
                    yield Finding(file, name, "pickled object", "an array of objects")


def _starts_as_archive(file: Path) -> bool:
    """Whether torch takes a file for an archive; one that only ends as one it reads as a pickle."""
    with open(file, "rb") as content:
        return content.read(4) == b"PK\x03\x04"


def _is_pickle(file: Path) -> bool:
    """Whether a file begins as pickles do, whatever it is called."""
    with open(file, "rb") as content:
        return re.match(rb"\x80[\x02-\x05]", content.read(2)) is not None


def _in_old_checkpoint(file: Path) -> Iterator[Finding]:
    """A checkpoint that is no archive: pickles, one behind another."""
    with open(file, "rb") as content:
        start = content.read(6)
        if start == b"\x93NUMPY":
            if b"'O'" in content.read(200):
                yield Finding(file, "", "pickled object", "an array of objects")
            return
        content.seek(0)
        for number in range(5):  # as torch wrote them: two numbers, a description, the content, and its keys
            try:
                for held in _globals(content):
                    if not _WEIGHTS.fullmatch(held):
                        yield Finding(file, "", "pickled object", held.replace(" ", "."))
            except Exception:
                if number == 0:
                    raise
                return  # behind the last pickle lie the weights


def _globals(content: IO[bytes]) -> Iterator[str]:
    """``module name`` of all that a pickle would import, as far as it says so in plain words."""
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name == "STACK_GLOBAL":
            # What lies on the stack may be another name than the last that was written; weights need no such thing.
            yield f"{' '.join(texts[-2:])} or another name, made while it is read"
        elif opcode.name.startswith("EXT"):
            yield f"an extension of pickle {argument}"
        elif isinstance(argument, str):
            texts.append(argument)


def _read(file: Path) -> str:
    if file.stat().st_size > _LARGEST:
        raise ValueError("too large for a text")
    return file.read_text(encoding="utf-8")
