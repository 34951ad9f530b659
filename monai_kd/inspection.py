# SPDX-License-Identifier: Apache-2.0
"""What a bundle, a run or a file of somebody else would run, read as text: nothing of it is imported or executed.

A configuration of MONAI is code: ``$`` expressions, imports, and components by name. So are TorchScript, and pickles
that hold more than weights. ONNX files hold none.
"""

from __future__ import annotations

import configparser
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .components import problem_of

__all__ = ["Finding", "code_in_content", "find_code"]

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
            kind = problem_of(value, beside)
        elif key == "reader" and isinstance(value, str):  # MONAI finds it by its name, in any package, and calls it
            kind = problem_of(value, {})
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
