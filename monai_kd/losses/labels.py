# SPDX-License-Identifier: Apache-2.0
"""How a distillation loss that looks at the label gets it, and what it does where an image has none."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple, Union

import torch
from torch import Tensor, nn

__all__ = ["LabelledRows", "at_rows", "call_with_label", "looks_at_label", "zero_of"]

Side = Union[Tensor, Sequence[Tensor]]


class LabelledRows(NamedTuple):
    """Which samples of a batch have a label of their own, where not all of them do.

    Args:
        rows: their numbers (N,).
        factor: of what is averaged over them, so that the mean over all processes is that over all of their samples.
        number: how many all processes have.
    """

    rows: Tensor
    factor: float = 1.0
    number: int = 1


def at_rows(side: Side, rows: Tensor) -> Side:
    """Some samples of a tensor (B, ...), or of each of several."""
    return side[rows] if isinstance(side, Tensor) else [part[rows] for part in side]


def zero_of(side: Side) -> Tensor:
    """0 with the graph of a tensor, or of each of several: other processes may wait for its gradients."""
    return torch.stack([part[:0].sum() for part in ([side] if isinstance(side, Tensor) else side)]).sum()


def looks_at_label(loss: nn.Module) -> bool:
    """Whether a loss looks at the label: its ``forward`` has such a parameter, or ``looks_at_label`` decides.

    So what wraps another loss says it for that one, which may not want the label that it can pass on.
    """
    said = getattr(loss, "looks_at_label", None)
    return _label_of(loss) is not None if said is None else bool(said)


def call_with_label(
    loss: nn.Module, student: Side, teacher: Side, label: Tensor | None, labelled: LabelledRows | None = None
) -> Tensor:
    """``loss(student, teacher)``, with ``label=label`` as well where the loss looks at it.

    Most losses don't, PyTorch's and MONAI's among them: they are called as ever, with all samples. One that does sees
    only the samples that have a label; without any its value is 0.

    Raises:
        ValueError: when the loss cannot do without a label and there is none.
    """
    if not looks_at_label(loss):
        return loss(student, teacher)
    if label is None and (wanted := _label_of(loss)) and wanted.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(loss).__name__} looks at the label, but the batch has none: give its images a label, or leave the "
            "term out (weight 0)"
        )
    if labelled is None or label is None:
        return loss(student, teacher, label=label)
    if not len(labelled.rows):
        return zero_of(student) + zero_of(teacher)
    s, t = at_rows(student, labelled.rows), at_rows(teacher, labelled.rows)
    return labelled.factor * loss(s, t, label=label[labelled.rows])


def _label_of(loss: nn.Module) -> inspect.Parameter | None:
    return inspect.signature(getattr(loss, "forward", loss)).parameters.get("label")
