# SPDX-License-Identifier: Apache-2.0
"""Several networks as one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

from monai_kd.names import check_known

__all__ = ["EnsembleNetwork"]

_AVERAGES = ("logits", "sigmoid", "softmax")
_TINY = 1e-7


class EnsembleNetwork(nn.Module):
    """Average what several networks predict: their logits, or their probabilities, which are given as logits again.

    Its layers are those of one member, so that features can be distilled.

    Args:
        networks: the members, of the same classes in the same order.
        average: ``logits``: their mean. ``sigmoid``, ``softmax``: the logits of the mean of these probabilities.
        features_from: whose layers a feature tap finds, counted from 0.
        trained_on: of each member the patients whom it has seen; None where nothing is known of one.
        out_of_fold: only members that have not seen a patient answer for this patient, as is right for a member's own
            training images: each has learned them by heart.
        names: what errors call the members.

    Raises:
        ValueError: when there is no member, no such average or no such index, or ``out_of_fold`` is wanted and nothing
            is known of a member.

    >>> two = EnsembleNetwork([nn.Identity(), nn.Flatten()], average="sigmoid")
    >>> two(torch.tensor([[2.0]]))
    tensor([[2.0000]])
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        average: str = "logits",
        features_from: int = 0,
        trained_on: Sequence[Collection[str] | None] | None = None,
        out_of_fold: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_known(average, _AVERAGES, "average")
        if not networks:
            raise ValueError("an ensemble needs one network or more, got none")
        if not 0 <= features_from < len(networks):
            raise ValueError(f"features_from must be from 0 to {len(networks) - 1}, got {features_from}")
        self.networks = nn.ModuleList(networks)
        self.average = average
        self.features_from = features_from
        self.out_of_fold = out_of_fold
        self.names = list(names or (f"member {number}" for number in range(len(networks))))
        known = [None] * len(networks) if trained_on is None else trained_on
        self.trained_on = [None if own is None else frozenset(own) for own in known]
        unknown = [name for name, own in zip(self.names, self.trained_on) if own is None]
        if out_of_fold and unknown:
            raise ValueError(
                f"out_of_fold needs to know who each member was trained on, but of {unknown[0]} nothing is known: keep "
                "the configuration beside its checkpoint"
            )

    @property
    def patients(self) -> frozenset[str]:
        """Whom its answers have learned of, as far as that is known.

        With ``out_of_fold`` those whom all members have seen: whom one has not seen may be answered for by this one.
        """
        known = [own for own in self.trained_on if own is not None]
        together = frozenset.intersection if self.out_of_fold else frozenset.union
        return together(*known) if known else frozenset()

    @property
    def tapped(self) -> nn.Module:
        """The member whose layers stand for those of the ensemble.

        Raises:
            ValueError: with ``out_of_fold``, where it may have seen the patient.
        """
        if self.out_of_fold:
            raise ValueError(
                "out_of_fold has no features: those of one member would be of patients whom it has seen; set the "
                "weight of the terms that look at layers to 0"
            )
        return self.networks[self.features_from]

    def members_for(self, patients: Sequence[str]) -> Tensor:
        """Who answers for some patients: (B, M), true where a member has not seen the patient.

        Raises:
            ValueError: when all members have seen a patient.
        """
        rows = [[patient not in own for own in self.trained_on if own is not None] for patient in map(str, patients)]
        for patient, row in zip(patients, rows):
            if not any(row):
                raise ValueError(
                    f"out_of_fold: all {len(self.networks)} members of the ensemble were trained on {patient}, so none "
                    "can answer: leave the patient out, or add a member that has not seen this one"
                )
        return torch.tensor(rows, dtype=torch.bool)

    def forward(self, *inputs: Tensor) -> Tensor:
        """
        Args:
            inputs: what each network takes, (B, C, *spatial) and others; with ``out_of_fold``, behind them what
                :meth:`members_for` gives.

        Returns:
            Logits of the members' shape.

        Raises:
            ValueError: when the members' outputs differ in shape.
        """
        members = inputs[-1] if self.out_of_fold else None
        images = inputs[:-1] if self.out_of_fold else inputs
        return self.combined(lambda network, own: [network(*own)], images, members)[0]

    def combined(
        self,
        answers: Callable[[nn.Module, Sequence[Tensor]], Sequence[Tensor]],
        images: Sequence[Tensor],
        members: Tensor | None = None,
    ) -> list[Tensor]:
        """The average of what the members say, of one tensor as of several.

        Args:
            answers: from a member and some images to tensors of logits (b, K, *spatial).
            images: what each network takes, (B, C, *spatial) and others.
            members: (B, M), who answers for which image; None for all.

        Returns:
            As many tensors, (B, K, *spatial).

        Raises:
            ValueError: when the members' outputs differ in shape.
        """
        means: list[Tensor] = []
        for number, network in enumerate(self.networks):
            rows = slice(None) if members is None else members[:, number].nonzero().flatten()
            if members is not None and not len(rows):  # type: ignore[arg-type]
                continue
            own = [self._averaged(logits) for logits in answers(network, [image[rows] for image in images])]
            means = means or [value.new_zeros(len(images[0]), *value.shape[1:]) for value in own]
            for mean, value in zip(means, own):
                if value.shape[1:] != mean.shape[1:]:
                    raise ValueError(
                        f"{self.names[number]} gives {tuple(value.shape[1:])} (classes, *size), where {self.names[0]} "
                        f"gives {tuple(mean.shape[1:])}: the members of an ensemble must predict the same classes"
                    )
                count = len(self.networks) if members is None else _count(members[rows], value)
                mean[rows] += value / count
        return [self._as_logits(mean) for mean in means]

    def _averaged(self, logits: Tensor) -> Tensor:
        if self.average == "logits":
            return logits
        return logits.float().sigmoid() if self.average == "sigmoid" else logits.float().softmax(1)

    def _as_logits(self, mean: Tensor) -> Tensor:
        if self.average == "logits":
            return mean
        return mean.clamp(_TINY, 1 - _TINY).logit() if self.average == "sigmoid" else mean.clamp(min=_TINY).log()


def _count(members: Tensor, like: Tensor) -> Tensor:
    """How many answer for each image, (B, 1, ...)."""
    return members.sum(1).reshape(-1, *[1] * (like.ndim - 1))
