# SPDX-License-Identifier: Apache-2.0
"""What a teacher's answers depend on, beside the images: its weights, its architecture and how it is applied."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from .teacher_store import KEY_BYTES

__all__ = ["add_tensor", "new_hash", "teacher_identity", "teacher_tensors"]

_MANGLED = re.compile(r"___torch_mangle_\d+\.")  # tells classes of one process apart
_OWN = frozenset({*vars(nn.Module()), "training"})  # what every module has
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def new_hash(*parts: bytes) -> hashlib.blake2b:
    """A hash of these parts so far. BLAKE2b takes 0.6 ms for an image of 3 x 224 x 224, and is in the standard library.

    A shorter or faster hash would do against chance; this one does against everything.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest


def teacher_identity(network: nn.Module, inferer: Inferer) -> bytes:
    """Hash of a teacher: its modules' classes and settings, its weights and buffers, and the inferer's settings.

    A module's settings are those of its attributes that are numbers, words, types, functions, arrays, or lists,
    dictionaries or records of them. A module without weights, such as one that wraps another runtime, can't be told
    from another one, so its identity is another one each time.
    """
    digest = new_hash(repr(network).encode(), _text(inferer).encode())
    for name, module in network.named_modules():
        digest.update(f"{name}: {_architecture(module)}\n".encode())
    tensors = teacher_tensors(network)
    for tensor in tensors:
        add_tensor(digest, tensor)
    if not tensors:
        digest.update(os.urandom(KEY_BYTES))
    return digest.digest()


def teacher_tensors(network: nn.Module) -> list[Tensor]:
    """All parameters and buffers, those too that are in no checkpoint."""
    return list(chain(network.parameters(), network.buffers()))


def add_tensor(digest: hashlib.blake2b, tensor: Tensor) -> None:
    """Add type, shape and content of a tensor to a hash."""
    plain = tensor.detach().cpu().contiguous()
    digest.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)


def _architecture(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):  # its class says nothing
        try:
            return f"{module.original_name} {_MANGLED.sub('', str(module.graph))}"
        except RuntimeError:  # it is called by none of the usual names
            return module.original_name
    return f"{_name(type(module))}({_settings(vars(module), ignored=_OWN)})"


def _settings(attributes: Mapping[str, Any], ignored: Iterable[str] = ()) -> str:
    return ", ".join(f"{name}={_text(attributes[name])}" for name in sorted(attributes.keys() - set(ignored)))


def _text(value: Any) -> str:
    """A value in words; of an object that is none of the known kinds, its class."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        digest = new_hash()
        add_tensor(digest, torch.as_tensor(value))
        return digest.hexdigest()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_text(value[key])}' for key in sorted(value, key=repr))}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, functools.partial):
        return f"partial({_text(value.func)}, {_text(value.args)}, {_text(value.keywords)})"
    if isinstance(value, (Inferer, SimpleNamespace)) or (is_dataclass(value) and not isinstance(value, type)):
        return f"{_name(type(value))}({_settings(vars(value))})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return _name(value if hasattr(value, "__qualname__") else type(value))


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
