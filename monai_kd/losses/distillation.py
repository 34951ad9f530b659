# SPDX-License-Identifier: Apache-2.0
"""One distillation term, and the weighted sum of the task's loss and several terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Union

import torch
from torch import Tensor, nn

from monai_kd.losses.labels import LabelledRows, at_rows, call_with_label, looks_at_label, zero_of

__all__ = ["DistillationLoss", "DistillationTerm", "KeptAnswer", "LabelledRows", "at_rows", "zero_of"]

Layers = Union[str, Sequence[str]]
Features = Mapping[str, Tensor]


class KeptAnswer(dict[str, Tensor]):
    """A teacher's answer as :meth:`DistillationLoss.keep` made it: what the terms need, by names that say what it is.

    A term takes it in the place of the layers' outputs, and has the same value, up to rounding.
    """


class DistillationTerm(nn.Module):
    """Compare what the student and the teacher make of the same batch, at one pair of places.

    A term is ``loss(student_projector(s), teacher_projector(t))``, where ``s`` and ``t`` are the outputs of the named
    layers. A published method is a choice of loss, layers and projectors, hence a piece of configuration.

    What is kept of the teacher's side (:meth:`keep`) can be much smaller than its layers, if the parts say so:

    - a projector with a true attribute ``is_fixed`` does the same to a tensor at any time, so its outcome is kept;
    - a loss with ``reduce_teacher(teacher)`` is the same, up to rounding, with what this gives in the teacher's place.
      Its ``repr`` names what the reduction depends on. With a true ``reduces_linearly`` it averages over positions, and
      so may come before a 1 x 1 convolution that projects the teacher's side.

    Args:
        loss: called as ``loss(student, teacher)``; gives a scalar. Any of :mod:`monai_kd.losses`, or any PyTorch or
            MONAI loss of two tensors. If its ``forward`` has a parameter ``label``, it gets the batch's label by it.
        student_layer: dotted name of the student's layer. ``""`` is the network's prediction itself. A list of names
            hands the loss (or the projector) a list of tensors.
        teacher_layer: the same for the teacher.
        student_projector: module applied to the student's side, for instance a 1 x 1 convolution that aligns the number
            of channels. Its parameters train.
        teacher_projector: the same for the teacher's side. It trains too: only the teacher itself is frozen.
        weight: factor of this term in the total, >= 0. A term of weight 0 is not computed at all.

    Raises:
        ValueError: when ``weight`` is negative.

    >>> DistillationTerm(nn.MSELoss())({"": Tensor([1, 2])}, {"": Tensor([1, 4])})
    tensor(2.)
    """

    def __init__(
        self,
        loss: nn.Module,
        student_layer: Layers = "",
        teacher_layer: Layers = "",
        student_projector: nn.Module | None = None,
        teacher_projector: nn.Module | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"the weight of a distillation term must be 0 or more, got {weight}")
        self.loss = loss
        self.student_layer = student_layer
        self.teacher_layer = teacher_layer
        self.student_projector = student_projector
        self.teacher_projector = teacher_projector
        self.weight = weight

    def forward(
        self,
        student: Features,
        teacher: Features,
        label: Tensor | None = None,
        labelled: LabelledRows | None = None,
    ) -> Tensor:
        """
        Args:
            student: the student's tensors by layer name, its prediction under ``""``.
            teacher: the teacher's, in the same manner, or what :meth:`keep` made of them.
            label: the batch's label, for a loss that asks for it.
            labelled: the samples that have one, which alone such a loss sees; by default all.

        Returns:
            The term's value before weighting, a scalar.

        Raises:
            ValueError: when the loss asks for a label and there is none.
        """
        s = _pick(student, self.student_layer, self.student_projector)
        if isinstance(teacher, KeptAnswer):
            t = _kept(teacher, self._kept_name())
            t = t if self.teacher_projector is None or self._has_fixed_projector else self.teacher_projector(t)
        else:
            t = _pick(teacher, self.teacher_layer, self.teacher_projector)
        return call_with_label(self.loss, s, t, label, labelled)

    def keep(self, teacher: Features) -> KeptAnswer:
        """What this term needs of the teacher's answer, as small as it can be kept.

        Args:
            teacher: the teacher's tensors by layer name, its prediction under ``""``.
        """
        t = _pick(teacher, self.teacher_layer, self.teacher_projector if self._has_fixed_projector else None)
        if self._reduces:
            t = self.loss.reduce_teacher(t)  # type: ignore[operator]
        name = self._kept_name()
        return KeptAnswer({name: t} if isinstance(t, Tensor) else {f"{name}[{i}]": part for i, part in enumerate(t)})

    def _kept_name(self) -> str:
        """Layers and all that is done to them before they are kept. Terms that need the same have the same name."""
        projector = [repr(self.teacher_projector)] if self._has_fixed_projector else []
        return " | ".join([repr(self.teacher_layer), *projector, *([repr(self.loss)] if self._reduces else [])])

    @property
    def _has_fixed_projector(self) -> bool:
        return bool(getattr(self.teacher_projector, "is_fixed", False))

    @property
    def _reduces(self) -> bool:
        if not hasattr(self.loss, "reduce_teacher"):
            return False
        if self.teacher_projector is None or self._has_fixed_projector:
            return True
        return bool(getattr(self.loss, "reduces_linearly", False)) and _is_pointwise(self.teacher_projector)


class DistillationLoss(nn.Module):
    """``task_weight * task + sum(weight * term)``.

    Its parameters are the projectors': give them to the optimiser together with the student's
    (``monai_kd.engines.parameters``).

    Args:
        terms: terms by name. The name is what logs and TensorBoard show.
        task_weight: factor of the loss on the ground truth, >= 0.

    Raises:
        ValueError: when ``task_weight`` is negative.
        TypeError: when a term is not a :class:`DistillationTerm`.

    >>> loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss(), weight=0.5)})
    >>> loss(torch.tensor(7.0), {"": Tensor([1, 2])}, {"": Tensor([1, 4])})
    (tensor(8.), {'logits': tensor(2.)})
    """

    def __init__(self, terms: Mapping[str, DistillationTerm], task_weight: float = 1.0) -> None:
        super().__init__()
        if task_weight < 0:
            raise ValueError(f"task_weight must be 0 or more, got {task_weight}")
        for name, term in terms.items():
            if not isinstance(term, DistillationTerm):
                raise TypeError(f"term {name!r} must be a DistillationTerm, got {type(term).__name__}")
        self.terms = nn.ModuleDict(terms)
        self.task_weight = task_weight

    def active_terms(self) -> dict[str, DistillationTerm]:
        """The terms whose weight is not 0, by name."""
        return {name: term for name, term in self.terms.items() if term.weight != 0}  # type: ignore[misc]

    def student_layers(self) -> list[str]:
        """Names of the student's layers that the active terms look at, without the prediction, each once."""
        return _layer_names(term.student_layer for term in self.active_terms().values())

    def teacher_layers(self) -> list[str]:
        """Names of the teacher's layers that the active terms look at, without the prediction, each once."""
        return _layer_names(term.teacher_layer for term in self.active_terms().values())

    def keep(self, teacher: Features) -> KeptAnswer:
        """What the active terms need of the teacher's answer, as small as it can be kept.

        Args:
            teacher: the teacher's tensors by layer name, its prediction under ``""``.

        Returns:
            Tensors that :meth:`forward` takes in the place of ``teacher``.
        """
        kept = KeptAnswer()
        for term in self.active_terms().values():
            kept.update(term.keep(teacher))
        return kept

    def kept_names(self) -> list[str]:
        """What :meth:`keep` gives now, in words: they decide, among others, whether a kept answer is the one wanted."""
        return sorted({term._kept_name() for term in self.active_terms().values()})

    def forward(
        self,
        task_loss: Tensor,
        student: Features,
        teacher: Features,
        label: Tensor | None = None,
        labelled: LabelledRows | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Args:
            task_loss: the loss on the ground truth, a scalar.
            student: the student's tensors by layer name, its prediction under ``""``.
            teacher: the teacher's, in the same manner, or what :meth:`keep` made of them.
            label: the batch's label, for the terms whose loss asks for it.
            labelled: the samples that have one, where not all do.

        Returns:
            The total, with its graph, and every active term's value before weighting, detached, by name; none of a term
            that looks at the label where no sample has one.
        """
        # Multiplying by 1 would be harmless, but adding 0 * task would keep a NaN alive.
        total = self.task_weight * task_loss if self.task_weight else torch.zeros_like(task_loss)
        values = {}
        for name, term in self.active_terms().items():
            value = term(student, teacher, label, labelled)
            total = total + term.weight * value
            if labelled is None or labelled.number or not looks_at_label(term.loss):
                values[name] = value.detach()
        return total, values


def _pick(features: Features, layer: Layers, projector: nn.Module | None) -> Tensor | list[Tensor]:
    picked = features[layer] if isinstance(layer, str) else [features[name] for name in layer]
    return picked if projector is None else projector(picked)


def _kept(answer: KeptAnswer, name: str) -> Tensor | list[Tensor]:
    if name in answer:
        return answer[name]
    parts = [answer[f"{name}[{i}]"] for i in range(len(answer)) if f"{name}[{i}]" in answer]
    if not parts:
        raise ValueError(f"the kept answer has no {name}, but only {', '.join(answer) or 'nothing'}")
    return parts


def _is_pointwise(projector: nn.Module) -> bool:
    """Whether this is a 1 x 1 convolution: the same linear map at every position, with which averages commute."""
    return (
        isinstance(projector, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and set(projector.kernel_size) == set(projector.stride) == {1}
        and not any(projector.padding)
    )


def _layer_names(layers: Iterable[Layers]) -> list[str]:
    names: dict[str, None] = {}
    for layer in layers:
        names.update(dict.fromkeys([layer] if isinstance(layer, str) else layer))
    names.pop("", None)
    return list(names)
