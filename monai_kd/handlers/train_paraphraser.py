# SPDX-License-Identifier: Apache-2.0
"""The first step of factor transfer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_kd.losses.distillation import DistillationLoss
from monai_kd.process_group import is_distributed, number_of_processes, spread

from .live_teacher import LiveTeacher

__all__ = ["TrainParaphraser"]


class TrainParaphraser:
    """Train the terms' paraphrasers on the teacher's features before the student's first step.

    A paraphraser is a projector on the teacher's side with a ``reconstruction_loss(features)``, as
    :class:`~monai_kd.networks.Paraphraser` has. Without one in an active term there is nothing to do. Put it behind the
    handler that loads the teacher. A training that goes on has its paraphrasers in the loss's own state.

    Args:
        teacher: the network.
        loss: the loss of the :class:`DistillationHandler` on the same trainer.
        epochs: of the paraphrasers, over the trainer's data, >= 1.
        learning_rate: Adam's.
        teacher_inferer: how the teacher is applied; this and what follows as the :class:`DistillationHandler` has it.
        teacher_keys: keys of the batch that the teacher reads.
        teacher_preprocessing: array transforms of the teacher's own copy of each image.

    Raises:
        ValueError: when there is no epoch.
    """

    def __init__(
        self,
        teacher: nn.Module,
        loss: DistillationLoss,
        epochs: int = 5,
        learning_rate: float = 1e-3,
        teacher_inferer: Inferer | None = None,
        teacher_keys: Sequence[str] = (Keys.IMAGE,),
        teacher_preprocessing: Sequence[Callable[[Tensor], Any]] | None = None,
    ) -> None:
        if epochs < 1:
            raise ValueError(f"a paraphraser needs 1 epoch or more, got {epochs!r}")
        self.teacher = teacher
        self.loss = loss
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.teacher_inferer = teacher_inferer
        self.teacher_keys = tuple(teacher_keys)
        self.teacher_preprocessing = tuple(teacher_preprocessing or ())

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Train them, unless the trainer goes on."""
        terms = self.loss.active_terms()
        modules: dict[str, Any] = {
            name: term.teacher_projector
            for name, term in terms.items()
            if hasattr(term.teacher_projector, "reconstruction_loss")
        }
        if not modules or engine.state.epoch > 0:
            return
        device = engine.state.device
        layers = {name: str(terms[name].teacher_layer) for name in modules}
        for module in modules.values():
            module.to(device)
        parameters = [parameter for module in modules.values() for parameter in module.parameters()]
        optimiser = torch.optim.Adam(parameters, self.learning_rate)
        wanted = sorted({*layers.values()} - {""})
        teacher = LiveTeacher(
            self.teacher, wanted, self.teacher_keys, self.teacher_inferer, self.teacher_preprocessing
        )
        teacher.open(device)
        for parameter in parameters:
            parameter.requires_grad_(True)
        _spread_all(modules)
        try:
            for epoch in range(self.epochs):
                for name in ("sampler", "dataset"):  # other images for each process, and other forms of them
                    part: Any = getattr(engine.data_loader, name, None)
                    if hasattr(part, "set_epoch"):
                        part.set_epoch(epoch + 1)
                mean = self._epoch(engine, teacher, modules, layers, optimiser)
                logging.getLogger("monai_kd").info(f"paraphraser: epoch {epoch + 1}/{self.epochs}: loss {mean:.4g}")
        finally:
            teacher.close()
            for parameter in parameters:
                parameter.requires_grad_(False)
        _spread_all(modules)  # their statistics, which are of each process's own images

    def _epoch(
        self,
        engine: Any,
        teacher: LiveTeacher,
        modules: dict[str, Any],
        layers: dict[str, str],
        optimiser: torch.optim.Optimizer,
    ) -> float:
        losses: list[Tensor] = []
        for batch in engine.data_loader:
            image, *_ = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
            features = teacher.answer(teacher.inputs_of(engine, batch, image))
            terms = [module.reconstruction_loss(features[layers[name]].float()) for name, module in modules.items()]
            loss = torch.stack(terms).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            _average_gradients(modules)
            optimiser.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean()) if losses else float("nan")


def _spread_all(modules: dict[str, Any]) -> None:
    for module in modules.values():
        spread(module.state_dict().values())


def _average_gradients(modules: dict[str, Any]) -> None:
    """All processes take one step, by the images of all of them."""
    if is_distributed():
        for module in modules.values():
            for parameter in module.parameters():
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= number_of_processes()
