# SPDX-License-Identifier: Apache-2.0
"""How a distillation loss that looks at the label gets it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Union

from torch import Tensor, nn

__all__ = ["call_with_label"]

Side = Union[Tensor, Sequence[Tensor]]


def call_with_label(loss: nn.Module, student: Side, teacher: Side, label: Tensor | None) -> Tensor:
    """``loss(student, teacher)``, with ``label=label`` as well where the loss's ``forward`` has such a parameter.

    Most losses don't, PyTorch's and MONAI's among them: they are called as ever.

    Raises:
        ValueError: when the loss cannot do without a label and there is none.
    """
    wanted = inspect.signature(getattr(loss, "forward", loss)).parameters.get("label")
    if wanted is None:
        return loss(student, teacher)
    if label is None and wanted.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(loss).__name__} looks at the label, but the batch has none: give its images a label, or leave the "
            "term out (weight 0)"
        )
    return loss(student, teacher, label=label)
