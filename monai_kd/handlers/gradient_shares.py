# SPDX-License-Identifier: Apache-2.0
"""Which share of the gradient each distillation term has when a training begins."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from monai_kd.losses.distillation import DistillationLoss
from monai_kd.process_group import gathered

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["GRADIENT_SHARE", "GradientShares"]

GRADIENT_SHARE = "gradient_share_"
"""Begins the name of a share among the trainer's metrics."""
_TASK = "task"


class GradientShares:
    """Say once, after the first steps of a training, which share of the gradient the task and every term have.

    A share is the norm of ``weight * term``'s gradient in the student's parameters, divided by the sum of all norms,
    each the mean over the steps and the processes. It goes to the log and, as ``gradient_share_<term>`` of the first
    epoch, to ``engine.state.metrics``, so to TensorBoard and the table of epochs. A term that has next to no share does
    nothing, whatever its value looks like: that is a warning, with the weight at which it would weigh as much as the
    task.

    The gradients are taken apart from the training's own (``torch.autograd.grad``), which stays what it is bit for bit.
    They take one more backward pass per term in each of those steps. A training that is resumed was measured when it
    began; a student under ``torch.compile``, whose graph serves one backward pass, is not measured.

    Args:
        loss: the loss of the :class:`DistillationHandler` on the same trainer.
        steps: number of steps to measure, >= 1.
        least: share under which a term is warned of, 0 to 1.

    Raises:
        ValueError: when ``steps`` or ``least`` is out of its range.
    """

    def __init__(self, loss: DistillationLoss, steps: int = 3, least: float = 0.01) -> None:
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, got {steps!r}")
        if not 0 <= least <= 1:
            raise ValueError(f"least must be a share from 0 to 1, got {least!r}")
        self.loss = loss
        self.steps = steps
        self.least = least
        self._norms: list[dict[str, float]] = []
        self._measures = False
        self._values: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._logger = logging.getLogger("monai_kd")

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _started(self, engine: SupervisedTrainer) -> None:
        self._close()
        if engine.state.epoch or not self.loss.active_terms() or hasattr(engine.network, "_orig_mod"):
            return

        # The values have their graphs only inside the loss: what it returns is their sum, and numbers for the log.
        def keep(name: str) -> Any:
            def hook(term: Any, inputs: Any, value: Tensor) -> None:
                self._values[name] = value

            return hook

        self._hooks = [term.register_forward_hook(keep(name)) for name, term in self.loss.active_terms().items()]
        self._hooks.append(self.loss.register_forward_hook(lambda loss, inputs, _: self._measure(engine, inputs[0])))
        self._measures = True

    def _measure(self, engine: SupervisedTrainer, task: Tensor) -> None:
        values, self._values = self._values, {}
        weighted = {_TASK: self.loss.task_weight * task} if self.loss.task_weight else {}
        weighted |= {name: self.loss.terms[name].weight * value for name, value in values.items()}  # type: ignore
        parameters = [parameter for parameter in engine.network.parameters() if parameter.requires_grad]
        # As the training's own backward pass has it, or small gradients would be 0 in half precision.
        scaler = getattr(engine, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        norms = {name: _gradient_norm(scale * value, parameters) / scale for name, value in weighted.items()}
        if all(map(math.isfinite, norms.values())):  # or the scale is still too high: the optimiser skips the step too
            self._norms.append(norms)
        if len(self._norms) == self.steps:
            self._remove_hooks()

    def _report(self, engine: SupervisedTrainer) -> None:
        self._remove_hooks()
        if not self._measures:
            return
        self._measures = False
        norms, self._norms = [step for own in gathered(self._norms) for step in own], []
        if not norms:
            return
        means = {name: sum(step[name] for step in norms) / len(norms) for name in norms[0]}
        total = sum(means.values()) or 1.0
        shares = {name: mean / total for name, mean in means.items()}
        engine.state.metrics.update({f"{GRADIENT_SHARE}{name}": share for name, share in shares.items()})
        if engine.state.rank:
            return
        words = ", ".join(f"{name} {100 * share:.3g}%" for name, share in shares.items())
        self._logger.info(f"shares of the gradient at the start (mean of {len(norms)} steps): {words}")
        for name, share in shares.items():
            if share < self.least and name != _TASK:
                self._logger.warning(self._advice(name, share, means))

    def _advice(self, name: str, share: float, means: Mapping[str, float]) -> str:
        weight: Any = self.loss.terms[name].weight
        has = f"at weight {weight:.3g} it has {100 * share:.2g}% of the gradient"
        words = f"the term {name!r} does next to nothing: {has}"
        if not means[name]:
            return f"{words}; no trained parameter reaches its layers, or student and teacher agree there"
        if _TASK not in means:
            return words
        return f"{words}; at {weight * means[_TASK] / means[name]:.2g} it would have as much as the task"

    def _forget(self, engine: SupervisedTrainer) -> None:
        # They belong to the first epoch's row alone.
        for name in [name for name in engine.state.metrics if name.startswith(GRADIENT_SHARE)]:
            del engine.state.metrics[name]

    def _close(self) -> None:
        self._remove_hooks()
        self._norms, self._measures = [], False

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._values = [], {}


def _gradient_norm(value: Tensor, parameters: list[torch.nn.Parameter]) -> float:
    """Norm of the gradient in all parameters together; 0 where none of them plays a part."""
    if not value.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    norms = [torch.linalg.vector_norm(gradient.float()) for gradient in gradients if gradient is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
