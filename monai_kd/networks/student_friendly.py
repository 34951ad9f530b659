# SPDX-License-Identifier: Apache-2.0
"""A teacher that is trained together with its student's blocks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["StudentFriendlyTeacher"]


class StudentFriendlyTeacher(nn.Module):
    """Join a teacher and the blocks of a student, so that the teacher learns what the student can follow.

    Both are N stages, in the order T_1 ... T_N and S_1 ... S_N. What T_i gives also goes through S_{i+1} ... S_N: that
    is branch i, for i = 1 ... N - 1. All branches share one set of student stages, and S_1 is in none.

    M. N. Gayathri, S. Ramanarayanan, M. A. Fahim, R. G. S., K. Ram, M. Sivaprakasam, "SFT-KD-Recon: Learning a
    Student-friendly Teacher for Knowledge Distillation in Magnetic Resonance Image Reconstruction", MIDL 2023, figure
    2, after D. Y. Park et al., "Learning Student-Friendly Teacher Networks for Knowledge Distillation", NeurIPS 2021.
    Train it with :class:`~monai_kd.losses.StudentFriendlyLoss`.

    The stages are the networks' own, so their weights train: afterwards ``teacher`` is the trained teacher, and
    ``branches``, a list of S_2 ... S_N, has the weights that initialise a student. They load into
    ``student.stages[1:]`` of any student of that kind.

    Args:
        teacher: a network with ``stages`` and ``prepare``, such as :class:`.DCCNN`, :class:`.DCUNet` or
            :class:`.VDSR`. Its ``prepare`` is called with the inputs and gives what the first stage is called with; the
            first of it is replaced from stage to stage, the rest goes to all stages.
        student: such a network with as many stages, of any architecture whose stages can follow the teacher's.

    Raises:
        TypeError: when a network has no ``stages``.
        ValueError: when the numbers of stages differ or are less than two.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        for network in (teacher, student):
            if not isinstance(getattr(network, "stages", None), nn.ModuleList):
                raise TypeError(f"expected a network with a ModuleList `stages`, {type(network).__name__} has none")
        stages: tuple[Any, Any] = teacher.stages, student.stages
        if len(stages[0]) != len(stages[1]) or len(stages[0]) < 2:
            raise ValueError(
                f"expected teacher and student with equally many stages, at least two, got {len(stages[0])} and "
                f"{len(stages[1])}; give both as many (`n_blocks`, or `n_stages` of VDSR)"
            )
        self.teacher: Any = teacher
        self.branches: nn.ModuleList = stages[1][1:]

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor | list[Tensor]:
        """
        Args:
            inputs: what the teacher takes: images (B, C, H, W), perhaps with a mask.
            named: the same by name.

        Returns:
            The teacher's prediction; in training mode a list of it and those of branches 1 ... N - 1, all of one shape.
        """
        if not self.training:
            return self.teacher(*inputs, **named)
        state, *context = self.teacher.prepare(*inputs, **named)
        states = []
        for stage in self.teacher.stages:
            state = stage(state, *context)
            states.append(state)
        predictions = [states.pop()]
        for i, state in enumerate(states):
            for stage in self.branches[i:]:
                state = stage(state, *context)
            predictions.append(state)
        return predictions
