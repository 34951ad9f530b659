# SPDX-License-Identifier: Apache-2.0
"""One of the trainings that a distillation consists of: the teacher's, the student's alone, or the distillation."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Events
from ignite.handlers import ProgressBar
from monai.data.utils import set_rnd
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader, LrScheduleHandler, ValidationHandler
from monai.utils import set_determinism
from torch import nn

from monai_kd.files import remove_unfinished
from monai_kd.finite import check_finite_weights
from monai_kd.folder_lock import held_by_this_process
from monai_kd.networks.feature_tap import unwrapped
from monai_kd.process_group import wait_for_all

from .epoch_clock import EpochClock
from .epoch_table import drop_epochs, read_epochs
from .provenance import Datalist
from .run_config import running_config
from .schedules import check_schedule
from .stage_log import StageLog
from .stage_origin import StageOrigin
from .stage_progress import StageProgress
from .validation_choice import ValidationChoice
from .weight_average import WeightAverage
from .weights import write_checkpoint

__all__ = ["Stage"]


class Stage:
    """Run one trainer so that its result is reproducible, kept and never half done.

    - Before the start, and at that of every epoch, all random states are set from ``(seed, epoch)``. Two stages with
      the same seed therefore see the same batches and augmentations, whatever ran before, and a resumed run continues
      exactly as it would have gone on.
    - The last epoch is validated, too, where the interval of a ``ValidationHandler`` among ``handlers`` would miss it.
    - The weights that score best in validation are written to ``checkpoint`` as ``{"model": state_dict}``, or as
      ``weights`` says; the last ones, with a warning, where validation cannot choose (`ValidationChoice`).
    - At the start and after every epoch, what is needed to go on is written beside it (``<name>_resume.pt``). It is
      removed when the stage is completed, so a checkpoint without such a neighbour is a finished one.
    - One line an epoch goes to the log, with the averages of the loss and of every term: to the console and
      to ``<name>.log`` in the folder of the checkpoint. The same numbers go to ``<name>.csv`` (`read_epochs`) and to
      TensorBoard (``tensorboard/<name>``). On a terminal a progress bar is shown as well.
    - The configuration that makes the checkpoint is kept beside it (``model.json`` for ``model.pt``), and the
      checkpoint holds a hash of it and of the teacher. What is resumed has the settings that it was begun with.
    - The folder is locked, so no other process trains in it.

    Under `torch.distributed` the first process writes.

    Args:
        name: what the log calls this stage.
        trainer: a MONAI trainer; it runs ``evaluator`` by a `ValidationHandler`.
        evaluator: the evaluator whose key metric chooses the best weights.
        checkpoint: path of the best weights. Its folder is the run's folder, made if need be.
        seed: seed of this stage, >= 0.
        resume: continue after the last completed epoch if the stage was interrupted; do nothing if it was completed.
        skip_if_trained: do nothing when the stage is completed already, as is wanted of a teacher that several students
            share.
        state: further objects with a ``state_dict`` that training changes (a scheduler, the distillation loss with its
            projectors), by name. The network, the optimiser and the gradient scaler are known from the trainer.
        data_ids: ids of the configuration that decide what is learned from which data, such as those of the split. A
            completed stage is used again, and an interrupted one goes on, only where they are what they were.
        datalist: the items by side, ``training`` and others, with ``patient`` or else ``image``. Who is trained on is
            kept with the configuration, so that none of them validates or tests when the checkpoint is used again. So
            are the patients of its teacher, and of weights that a handler loads at the start: they may not validate or
            test here either.
        weights: the modules that the checkpoint holds, by name, where that is not the network as ``model``: parts of
            it, such as a teacher and the student's blocks that were trained with it.
        handlers: the trainer's own handlers, since it does not tell them: `rehearse` tries those that distil.
        scheduler: one of PyTorch's, which sets the learning rate after every batch.
        scheduler_epoch_level: after every epoch instead.
        weight_momentum: validate and keep a `WeightAverage` of this momentum in place of the last weights.

    Raises:
        FileExistsError: by ``run``, when another process trains in the folder.
        ValueError: when no checkpoint is named, when the trainer is to run for no epoch, or for something that is no
            number of epochs, when the optimiser has none of the network's parameters, or when workers that stay would
            never hear which epoch it is; by ``run``, when what it uses again or starts from has learned of who
            validates or tests here, or when an epoch is not as long as in what it goes on with.
    """

    def __init__(
        self,
        name: str,
        trainer: SupervisedTrainer,
        evaluator: SupervisedEvaluator,
        checkpoint: str | os.PathLike | None,
        seed: int = 0,
        resume: bool = False,
        skip_if_trained: bool = False,
        state: Mapping[str, Any] | None = None,
        data_ids: Sequence[str] = (),
        datalist: Datalist | None = None,
        weights: Mapping[str, nn.Module] | None = None,
        handlers: Sequence[Any] = (),
        scheduler: Any = None,
        scheduler_epoch_level: bool = False,
        weight_momentum: float | None = None,
    ) -> None:
        if checkpoint is None:
            raise ValueError(
                f"{name}: no checkpoint is named, so it could not be kept; name one, or leave this stage out"
            )
        epochs = trainer.state.max_epochs
        if not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"{name}: max_epochs must be a whole number from 1, got {epochs!r}")
        own = {id(parameter) for parameter in trainer.network.parameters()}
        if not any(id(parameter) in own for group in trainer.optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                f"{name}: the optimiser has none of the network's parameters, so nothing would be trained; give it "
                "those (in a bundle, all stages share train#optimizer: it asks for the parameters of their `trained`)"
            )
        loader: Any = trainer.data_loader
        if getattr(loader, "persistent_workers", False) and hasattr(loader.dataset, "set_epoch"):
            raise ValueError(
                f"{name}: persistent_workers would keep {type(loader.dataset).__name__} at the images of its first "
                "epoch, since workers that stay do not hear of the next ones; leave it out"
            )
        self.name = name
        self.trainer = trainer
        self.evaluator = evaluator
        self.checkpoint = Path(checkpoint)
        self.seed = seed
        self.resume = resume
        self.skip_if_trained = skip_if_trained
        self.state = {"optimizer": trainer.optimizer, **(state or {})}
        self.datalist = datalist
        self.weights = weights
        self.handlers = tuple(handlers)
        if scheduler is not None:
            self.state["step_scheduler"] = scheduler
            course = LrScheduleHandler(scheduler, print_lr=False, epoch_level=scheduler_epoch_level)
            course.attach(trainer)
            self.handlers += (course,)
        self._check_schedules()
        self._average = None if weight_momentum is None else self._averaging(weight_momentum)
        self.logger = logging.getLogger("monai_kd")
        self._told: StageLog | None = None
        self._origin = StageOrigin(self.checkpoint, data_ids, datalist, distils="distillation" in self.state)
        self._progress = StageProgress(self.resume_file, trainer, evaluator, self.state)
        self._choice = ValidationChoice(evaluator, name)
        self._clock = EpochClock()
        self._clock.attach(trainer)
        trainer.add_event_handler(Events.STARTED, self._started)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._set_random_states)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        # `disable=None` is tqdm's own way to stay silent where there is no terminal.
        ProgressBar(desc=name, disable=None if self._writes else True).attach(trainer)

    def _check_schedules(self) -> None:
        state = self.trainer.state
        for handler in self.handlers:
            scheduler = getattr(handler, "lr_scheduler", None)
            if scheduler is None or not state.epoch_length or not state.max_epochs:
                continue
            try:
                check_schedule(scheduler, handler.epoch_level, state.max_epochs, state.epoch_length)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error

    def _averaging(self, momentum: float) -> WeightAverage:
        if self.weights is not None:
            raise ValueError(f"{self.name}: weight_momentum is for a checkpoint of one network, not {[*self.weights]}")
        average = WeightAverage(self._network, momentum)
        average.attach(self.trainer)
        self.state["average"] = average.network
        self.evaluator.network = average.network
        self.evaluator.add_event_handler(Events.STARTED, average.synchronise)
        return average

    @property
    def _is_validated(self) -> bool:
        return any(isinstance(handler, ValidationHandler) for handler in self.handlers)

    @property
    def resume_file(self) -> Path:
        """Where an unfinished stage keeps what it needs to go on."""
        return self.checkpoint.with_name(f"{self.name}_resume.pt")

    @property
    def epoch_table(self) -> Path:
        """Where the numbers of every epoch are written."""
        return self.checkpoint.with_name(f"{self.name}.csv")

    @property
    def is_trained(self) -> bool:
        """Whether this stage was completed, in this process or another."""
        return self.checkpoint.is_file() and not self.resume_file.is_file()

    @property
    def starts_from(self) -> list[Path]:
        """The checkpoints that its handlers load at the start: that of its teacher, or of what it goes on from."""
        return [Path(handler.load_path) for handler in self.handlers if isinstance(handler, CheckpointLoader)]

    @property
    def is_done(self) -> bool:
        """Whether :meth:`run` has nothing to train."""
        state = self.trainer.state
        return self.is_trained and (self.skip_if_trained or self.resume or state.epoch == state.max_epochs)

    def run(self) -> None:
        """Train, unless that was done before and need not be done again."""
        is_done = self.is_done
        wait_for_all()  # or one process would see what another has just made or removed
        if is_done:
            self.check_data()
            config = running_config()
            if config is not None and self.resume and not self.skip_if_trained:
                self._origin.check_same_settings(self.checkpoint, config)
            self._say_trained_already(config)
            return
        if self.skip_if_trained and (running_config() or {}).get("teacher_preprocessing"):
            raise ValueError(
                f"teacher_preprocessing is for a teacher that comes with its weights, but {self.checkpoint} is to be "
                "trained here, on images as the student sees them: leave it out, or name the teacher's weights"
            )
        folder = self.checkpoint.parent
        folder.mkdir(parents=True, exist_ok=True)
        if not self._writes:
            self._run()
            return
        with held_by_this_process(folder, "another training", "name another --run"):
            self._run_alone(folder)

    def _run_alone(self, folder: Path) -> None:
        remove_unfinished(folder)
        self._told = StageLog(folder, self.name, self.resume)
        with self._told.written():
            self._run()

    def check_data(self) -> None:
        """Refuse to use again, or to go on with, what was trained on other data than these."""
        config = running_config()
        if config is not None:
            self._origin.check_data(config)

    def _say_trained_already(self, config: Mapping[str, Any] | None) -> None:
        """A shared teacher need not be what this configuration would make; where it is not, that is said."""
        said = f"trained already, {self.checkpoint}"
        others = ""
        if config is not None and self.skip_if_trained and self._writes:
            others = self._origin.other_settings(self, config)
        if others:
            self.logger.warning(f"{self.name}: {said}, {others}")
        else:
            self._log(said)

    def _run(self) -> None:
        state = self.trainer.state
        self._origin.check_patients(self.starts_from)
        if self.resume and self.resume_file.is_file():
            config = running_config()
            if config is not None:
                self._origin.check_data(config)
                self._origin.check_same_settings(self.resume_file, config)
            self._progress.load()
            self.logger.info(f"{self.name}: going on after epoch {state.epoch} of {state.max_epochs}")
            if state.epoch == state.max_epochs:
                self._progress.give_back()  # which is not started any more, and these may be what is kept
        if state.epoch < state.max_epochs:
            if state.epoch_length == 0:
                raise ValueError(
                    f"{self.name}: an epoch has no batch, because there are fewer training items than make one: lower "
                    "batch_size, or give more data"
                )
            self._log(f"{state.max_epochs} epochs of {state.epoch_length} iterations, in {self.checkpoint.parent}")
            self._set_random_states(self.trainer)  # handlers may draw, or train something, before the first epoch
            self.trainer.run()
        if self._writes:
            fault = self._choice.fault(read_epochs(self.epoch_table))
            if fault is not None or not self.checkpoint.is_file():
                self.logger.warning(f"{self.name}: {fault or 'there was no validation'}, so the last weights are kept")
                self._save_weights()
            self.resume_file.unlink(missing_ok=True)
        wait_for_all()  # no process may look for the checkpoint before it is there
        self._log(f"done, {self.checkpoint}")

    def _started(self, engine: Any) -> None:
        # The last handler of this event: what loads the teacher or weights to start from replaces nothing of this.
        if not self._progress.give_back() and self._average is not None:
            self._average.restart()
        config = running_config()
        if self._writes and engine.state.epoch == 0:
            # What an earlier run left must not be taken for this run's from now on: neither the weights under the
            # configuration that follows, nor, if this process ends here, what there was to go on with.
            self.resume_file.unlink(missing_ok=True)
            self.checkpoint.unlink(missing_ok=True)
        if self._writes and config is not None:
            begun = [self.checkpoint] if engine.state.epoch else []
            self._origin.begin(config, self.handlers, [*self.starts_from, *begun])
        if self._writes:
            drop_epochs(self.epoch_table, engine.state.epoch)
        if self._writes and engine.state.epoch == 0:
            self._progress.save(self._origin.signed(self._network))

    def _set_random_states(self, engine: Any) -> None:
        # The process number makes augmentation differ between processes; the order of the data is the sampler's.
        seed = int(np.random.SeedSequence([self.seed, engine.state.epoch, engine.state.rank]).generate_state(1)[0])
        set_determinism(seed)
        dataset: Any = getattr(engine.data_loader, "dataset", None)
        set_rnd(dataset, seed)
        if hasattr(dataset, "set_epoch"):  # one whose items have random states of their own in every epoch
            dataset.set_epoch(engine.state.epoch)

    def _epoch_completed(self, engine: Any) -> None:
        state, validation = engine.state, self.evaluator.state
        if not math.isfinite(state.metrics.get("loss", 0.0)):
            raise FloatingPointError(
                f"{self.name}: the loss is {state.metrics['loss']} in epoch {state.epoch}; a lower learning rate or "
                "smaller weights of the distillation terms may help"
            )
        check_finite_weights(self._kept, f"{self.name}, epoch {state.epoch}")  # the last step may have spoilt them
        if state.epoch == state.max_epochs and validation.epoch < state.epoch and self._is_validated:
            self.evaluator.run(state.epoch)  # what the end of the learning rate's course gives is not to be passed over
        if self._writes:
            if validation.best_metric_epoch == state.epoch:
                self._save_weights()
            validated = validation.epoch == state.epoch
            # Before the progress: a stage that ends in between trains this epoch again, and its row is not missing.
            metrics = {**state.metrics, **(validation.metrics if validated else {})}
            self._told.report(self.trainer, validation, metrics, self._clock)  # type: ignore[union-attr]
            self._progress.save(self._origin.signed(self._network))

    def _save_weights(self) -> None:
        weights = {"model": self._kept} if self.weights is None else self.weights
        write_checkpoint(self.checkpoint, {name: self._origin.signed(module) for name, module in weights.items()})

    @property
    def _network(self) -> nn.Module:
        return unwrapped(self.trainer.network)

    @property
    def _kept(self) -> nn.Module:
        return self._network if self._average is None else self._average.network

    @property
    def _writes(self) -> bool:
        return self.trainer.state.rank == 0

    def _log(self, message: str) -> None:
        if self._writes:
            self.logger.info(f"{self.name}: {message}")
