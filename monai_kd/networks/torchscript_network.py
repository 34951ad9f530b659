# SPDX-License-Identifier: Apache-2.0
"""Any network that is stored as TorchScript."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TorchScriptNetwork"]

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


class TorchScriptNetwork(nn.Module):
    """Apply a network from a TorchScript file, so that any network of any origin can be the teacher, or the student.

    It gives one tensor, whatever the stored network gives, and can hide the size that the network wants. Only what it
    predicts can be distilled: torch has no hooks on the layers of TorchScript.

    Args:
        file: what ``torch.jit.save`` wrote.
        output: key or index of the wanted tensor, where the network gives a dictionary, list or tuple. The first one by
            default.
        channel: the wanted channel, counted from 0; all of them by default. A network with two channels from a softmax,
            background and foreground, becomes one with the foreground's probability by 1.
        spatial_size: size to which images are resized, linearly, before the network; its output is resized back. Left
            as they are by default.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no TorchScript.
    """

    def __init__(
        self,
        file: str | os.PathLike,
        output: str | int | None = None,
        channel: int | None = None,
        spatial_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not os.path.isfile(file):
            raise FileNotFoundError(f"{file}: there is no such file: check the path of the TorchScript network")
        try:
            self.network = torch.jit.load(os.fspath(file), map_location="cpu")
        except RuntimeError as error:
            raise ValueError(
                f"{file}: not a TorchScript file; write one by torch.jit.save(torch.jit.script(network), file)"
            ) from error
        self.file = os.fspath(file)
        self.output = output
        self.channel = channel
        self.spatial_size = None if spatial_size is None else tuple(spatial_size)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images (B, C, *spatial), with one to three spatial axes where they are resized.

        Returns:
            What the network gives, logits or probabilities: (B, channels, *spatial), or (B, 1, *spatial) with
            ``channel``.

        Raises:
            TypeError: when the wanted output is no tensor.
            ValueError: when the network cannot be applied to such images, with what it says itself.
        """
        images = x if self.spatial_size is None else _resize(x, self.spatial_size)
        try:
            answer = self.network(images)
        except (RuntimeError, torch.jit.Error) as error:
            trace = str(error).strip()
            if "TorchScript" not in trace:
                raise
            cause = trace.rpartition("\n")[2].rpartition("Error: ")[2]  # the last line of a page
            raise ValueError(f"{self.file}: cannot be applied to images {tuple(images.shape)}: {cause}") from error
        y = self._wanted(answer)
        if self.channel is not None:
            y = y[:, [self.channel]]
        return y if self.spatial_size is None else _resize(y, x.shape[2:])

    def _wanted(self, answer: Any) -> Tensor:
        if self.output is not None:
            answer = answer[self.output]
        elif isinstance(answer, Mapping):
            answer = next(iter(answer.values()))
        elif isinstance(answer, (list, tuple)):
            answer = answer[0]
        if not isinstance(answer, Tensor):
            raise TypeError(f"expected a tensor from the network, got {type(answer).__name__}; choose it by `output`")
        return answer


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode=_LINEAR[x.ndim])
