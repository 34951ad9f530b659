# SPDX-License-Identifier: Apache-2.0
"""Whether a validation can tell which weights are better."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from ignite.engine import Events
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.utils import CommonKeys as Keys
from torch import Tensor

from monai_kd.process_group import gathered

__all__ = ["ALIKE", "ValidationChoice"]

ALIKE = "labels_alike"
"""Name in the evaluator's state of what all labels are, in words; empty where they differ."""

_Ranges: TypeAlias = list[tuple[float, float]]


class ValidationChoice:
    """Whether the key metric of a validation chooses among the weights of a training.

    It does not where all labels are alike, of one class, or masks without a foreground: an area under the curve is
    undefined there, and an accuracy or an overlap is best for a network that says the same of every image. Nor does it
    where it had one value after every epoch. What would be kept then is the first epoch's, or whichever says one thing
    of everything.

    A metric that is NaN never counts as better, and any number is better than it; MONAI's evaluator would keep that of
    the first validation for good. Where the network gave NaN or infinite values the metric is made NaN: behind a
    threshold they are background, and a mean over cases leaves them out.

    Args:
        evaluator: what validates. Its labels are looked at in the first validation, until two of them differ; all
            processes take part in that.
        name: of the stage, for the warning.
    """

    def __init__(self, evaluator: SupervisedEvaluator, name: str) -> None:
        self._evaluator, self._name = evaluator, name
        self._ranges: _Ranges | None = []
        self._has_looked = False
        self._is_finite, self._best = True, (0.0, 0)
        evaluator.metric_cmp_fn = _with_numbers(evaluator.metric_cmp_fn)
        evaluator.add_event_handler(Events.STARTED, self._begin)
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._look_for_numbers)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._look)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._judge)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._take_back)

    @property
    def alike(self) -> str:
        """What all labels are, in words; empty where they differ, or have not been looked at yet."""
        return getattr(self._evaluator.state, ALIKE, "")

    def _begin(self, engine: Any) -> None:
        self._is_finite, self._best = True, (engine.state.best_metric, engine.state.best_metric_epoch)

    def _look_for_numbers(self, engine: Any) -> None:
        prediction = engine.state.output.get(Keys.PRED)
        if self._is_finite and isinstance(prediction, Tensor):
            self._is_finite = bool(prediction.isfinite().all())

    def _take_back(self, engine: Any) -> None:
        """What the evaluator has just made of predictions that are no numbers."""
        state = engine.state
        if all(gathered(self._is_finite)) or state.key_metric_name is None:
            return
        state.metrics[state.key_metric_name] = math.nan
        before, epoch = self._best
        state.best_metric, state.best_metric_epoch = (math.nan, state.epoch) if epoch == -1 else (before, epoch)
        if state.rank == 0:
            logging.getLogger("monai_kd").warning(
                f"{self._name}: in the validation after epoch {state.epoch} the network gave values that are no finite "
                f"numbers, so there is no {state.key_metric_name}; float16 may be too narrow for it (amp=false)"
            )

    def _look(self, engine: Any) -> None:
        if self._has_looked or self._ranges is None:
            return
        for label in _labels(engine.state.output):
            self._ranges = _joined(self._ranges, _ranges(label))
            if self._ranges is None:
                return

    def _judge(self, engine: Any) -> None:
        if self._has_looked:
            return
        self._has_looked = True
        ranges = gathered(self._ranges)
        alike = ranges[0]
        for others in ranges[1:]:
            alike = None if alike is None or others is None else _joined(alike, others)
        if not alike:
            return
        values = [f"{low:g}" for low, _ in alike]
        shown = values if len({*values}) > 1 else values[:1]
        setattr(engine.state, ALIKE, f"all validation labels are alike ({', '.join(shown)})")
        if engine.state.rank == 0:
            logging.getLogger("monai_kd").warning(
                f"{self._name}: {self.alike}, so {engine.state.key_metric_name} cannot tell which weights are better "
                "and the last ones will be kept; put images with other labels on the validation side"
            )

    def fault(self, epochs: Sequence[Mapping[str, float]]) -> str | None:
        """Why the best epoch is none, in words; None where it is one.

        Args:
            epochs: the rows of all epochs (`read_epochs`).
        """
        key = self._evaluator.state.key_metric_name
        if self.alike:
            return f"{self.alike}, from which {key} cannot tell the better weights"
        values = [row[key] for row in epochs if key in row]
        numbers = {value for value in values if not math.isnan(value)}
        if values and not numbers:
            return f"{key} was nan after every epoch"
        if len(values) > 1 and len(numbers) == 1 and not any(map(math.isnan, values)):
            return f"{key} was {values[0]:.4g} after every epoch"
        return None


def _with_numbers(is_better: Callable[[float, float], bool]) -> Callable[[float, float], bool]:
    def compare(current: float, best: float) -> bool:
        if math.isnan(current) or math.isnan(best):
            return math.isnan(best) and not math.isnan(current)
        return is_better(current, best)

    return compare


def _labels(output: Any) -> Iterator[Tensor | None]:
    """The label of each case: (), or (C, ...); None for what is no tensor."""
    for item in output if isinstance(output, list) else [output]:
        label = item.get(Keys.LABEL) if isinstance(item, Mapping) else None
        if isinstance(label, (bool, int, float)):  # as MONAI decollates classes
            yield torch.tensor(float(label))
        elif not isinstance(label, Tensor):
            yield None
        elif isinstance(output, list):
            yield label
        else:
            yield from label


def _ranges(label: Tensor | None) -> _Ranges | None:
    """Least and greatest value by channel."""
    if label is None or not label.numel():
        return None
    flat = label.reshape(label.shape[0] if label.ndim else 1, -1).double()
    return list(zip(flat.amin(dim=1).tolist(), flat.amax(dim=1).tolist(), strict=True))


def _joined(ranges: _Ranges, others: _Ranges | None) -> _Ranges | None:
    """Of two sets of labels together, either of which may be empty; None where they differ in anything."""
    if others is None or (ranges and others and len(ranges) != len(others)):
        return None
    pairs = zip(ranges or others, others or ranges, strict=True)
    joined = [(min(low, least), max(high, greatest)) for (low, high), (least, greatest) in pairs]
    return None if any(low != high for low, high in joined) else joined
