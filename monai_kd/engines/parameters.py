# SPDX-License-Identifier: Apache-2.0
"""The parameters of several modules as one list for an optimiser."""

from __future__ import annotations

from torch import nn

__all__ = ["parameters"]


def parameters(*modules: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters of all modules: the student's and those of the distillation's projectors, say.

    Example:
        >>> from torch import nn
        >>> len(parameters(nn.Linear(2, 1), nn.Conv2d(4, 2, 1)))
        4
    """
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
