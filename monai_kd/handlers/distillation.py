# SPDX-License-Identifier: Apache-2.0
"""Distillation as a handler on MONAI's `SupervisedTrainer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from monai.utils import ensure_tuple
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from monai_kd.losses.distillation import DistillationLoss
from monai_kd.networks.feature_tap import FeatureTap
from monai_kd.process_group import is_distributed
from monai_kd.term_switches import running_switches

from .cached_teacher import CachedTeacher
from .labelled_rows import labelled_rows, task_loss
from .live_teacher import LiveTeacher, tapped
from .teacher import Teacher
from .teacher_cache import TeacherCache

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["DistillationHandler", "check_layers"]


class DistillationHandler:
    """Add what a teacher knows to the loss of a `SupervisedTrainer`.

    MONAI's trainer computes ``engine.state.output["loss"]``, fires ``IterationEvents.LOSS_COMPLETED`` and then runs the
    backward pass, all under the same autocast. So it is enough to replace that loss when the event fires: no trainer
    is subclassed, and mixed precision, gradient accumulation and compilation stay MONAI's.

    A teacher's network answers right before the trainer applies the student, so that what it needs to compute is given
    back before the student's graph is kept: where the teacher is not much the larger one, a step's peak memory is the
    student's own.

    Every active term's value, and the task's own loss as ``task`` (unless no image has a label), are added to
    ``engine.state.output`` by name for logging. Under `torch.distributed` the projectors are synchronised like the
    student.

    Where the batch says by ``labelled`` that some of its images have no label (:class:`monai_kd.data.MixedDataset`),
    the task's loss, and a term that looks at the label, are those of the others alone: the mean over the labelled
    images of all processes, 0 if there is none. Every other term is that of all images.

    Args:
        teacher: any module that maps the images to a tensor. It is used in evaluation mode without gradients, and it is
            part of no checkpoint. Any other :class:`Teacher` is taken as it is.
        loss: the terms. Give its parameters to the optimiser (``monai_kd.engines.parameters``).
        teacher_keys: keys of the batch that the teacher reads, in the order of its arguments. ``"image"`` is the
            student's own input.
        teacher_inferer: how the teacher is applied, a MONAI inferer; plainly by default.
        teacher_preprocessing: array transforms that only the teacher's copy of each image (C, *spatial) goes through,
            such as the normalisation that it was trained with.
        cache: how the teacher's answers are kept, so that it is asked only once about the same image; they are not by
            default.

    Raises:
        ValueError: when a term's name is already a key of the trainer's output.
    """

    def __init__(
        self,
        teacher: nn.Module | Teacher,
        loss: DistillationLoss,
        teacher_keys: Sequence[str] = (Keys.IMAGE,),
        teacher_inferer: Inferer | None = None,
        cache: TeacherCache | None = None,
        teacher_preprocessing: Sequence[Callable[[Tensor], Any]] | None = None,
    ) -> None:
        taken = {Keys.IMAGE, Keys.LABEL, Keys.PRED, Keys.LOSS, "task"} & set(loss.terms)
        if taken:
            raise ValueError(
                f"a distillation term may not be called {sorted(taken)}: the trainer's output has it already"
            )
        if isinstance(teacher, nn.Module):
            layers, keys = loss.teacher_layers(), tuple(teacher_keys)
            teacher = LiveTeacher(teacher, layers, keys, teacher_inferer, teacher_preprocessing or ())
            if cache is not None and cache.mode != "off":
                teacher = CachedTeacher(teacher, loss, cache)
        teacher.check(loss)
        self.teacher = teacher
        self.loss = loss
        self._synchronised_loss: nn.Module = loss
        self._student: FeatureTap | None = None
        self._asked_for: Any = None  # the output of the iteration that the answer below is for
        self._answer: dict[str, Tensor] = {}
        self._give_back: Callable[[], None] = lambda: None  # the trainer's own inferer

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a `SupervisedTrainer`, or any engine that fires `IterationEvents` in its manner.
        """
        # Handlers are attached before `engine.network` exists, so the taps can only open when the run starts.
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.completed)
        self.teacher.attach(engine)

    def started(self, engine: SupervisedTrainer) -> None:
        """Open the taps on both networks."""
        self._close()
        self.loss.to(engine.state.device)
        self._synchronised_loss = _synchronised(self.loss)
        _check_layers("student", engine.network, self.loss)
        # The student also runs in validation, perhaps under a sliding window: none of that may be captured.
        self._student = FeatureTap(engine.network, self.loss.student_layers(), training_only=True)
        network = self.teacher.network
        if network is not None and self.loss.teacher_layers():
            _check_layers("teacher", tapped(network), self.loss)
        self.teacher.open(engine.state.device)
        if network is not None and hasattr(engine, "inferer"):
            self._ask_before(engine)

    def completed(self, engine: SupervisedTrainer) -> None:
        """Close the taps on both networks."""
        self._close()

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Replace the loss of the current iteration."""
        if self._student is None:
            raise RuntimeError("the distillation handler has not seen Events.STARTED: attach it before the run")
        output = engine.state.output
        student = {"": output[Keys.PRED], **self._student.pop()}
        labelled, label = labelled_rows(engine), _finest(output.get(Keys.LABEL))
        task = output[Keys.LOSS] if labelled is None else task_loss(engine, labelled)
        if self.loss.active_terms():
            answer = self._answer if self._asked_for is output else self.teacher(engine)
            self._asked_for, self._answer = None, {}
            output[Keys.LOSS], values = self._synchronised_loss(task, student, answer, label, labelled)
        else:  # neither teacher nor projectors have anything to do
            output[Keys.LOSS], values = self.loss(task, student, {})
        network = getattr(engine.network, "_orig_mod", engine.network)  # what torch.compile has wrapped
        if not self.loss.task_weight and isinstance(network, DistributedDataParallel):
            # Which waits for a gradient of every parameter, of those too that no term depends on.
            output[Keys.LOSS] = output[Keys.LOSS] + 0 * task
        output.update(values)
        if labelled is None or labelled.number:
            output["task"] = task.detach()

    def _ask_before(self, engine: SupervisedTrainer) -> None:
        """Have the teacher asked whenever the trainer is about to apply the student."""
        # MONAI fires no event there, and a hook on the student would run under the student's own autocast.
        apply = engine.inferer

        def ask_and_apply(*args: Any, **kwargs: Any) -> Any:
            output = engine.state.output
            if self._student is not None and self.loss.active_terms() and self._asked_for is not output:
                self._asked_for, self._answer = output, self.teacher(engine)
            return apply(*args, **kwargs)

        engine.inferer = ask_and_apply  # type: ignore[assignment]

        def give_back() -> None:
            # Another handler may have done the same since: then this stays in its place, and does nothing any more.
            if engine.inferer is ask_and_apply:
                engine.inferer = apply

        self._give_back = give_back

    def _close(self) -> None:
        if self._student is not None:
            self._student.remove()
            self._student = None
        self._give_back()
        self._asked_for, self._answer = None, {}
        self.teacher.close()


def check_layers(student: nn.Module, teacher: nn.Module, loss: DistillationLoss) -> None:
    """Refuse a layer that a network does not have, before any training has begun.

    Args:
        student: network of the student.
        teacher: network of the teacher, or another of the same definition: to make that one this early could give it
            other random weights.
        loss: whose active terms name layers of both.

    Raises:
        ValueError: naming the term, the layer, those that come closest to it, and how to leave the term out.
    """
    _check_layers("student", student, loss)
    _check_layers("teacher", tapped(teacher), loss)


def _check_layers(side: str, network: nn.Module, loss: DistillationLoss) -> None:
    for name, term in loss.active_terms().items():
        layers = [layer for layer in ensure_tuple(getattr(term, f"{side}_layer")) if layer]
        try:
            if layers:  # a network without tapped layers need have none
                FeatureTap(network, layers).remove()
        except ValueError as error:
            raise ValueError(
                f"{side}_layer of the term {name}: {error}; name one of these, or leave the term out by "
                f"{running_switches([name])}"
            ) from error


def _finest(label: Any) -> Any:
    """Of a label for each head of a network that of the first one, on the finest grid."""
    return label[0] if isinstance(label, (list, tuple)) else label


def _synchronised(loss: DistillationLoss) -> nn.Module:
    """``loss`` with its projectors averaged over the processes, where there are several processes and projectors."""
    if not is_distributed():
        return loss
    if not any(p.requires_grad for term in loss.active_terms().values() for p in term.parameters()):
        return loss
    # The projectors of terms that are switched off get no gradient, and the reducer has to know.
    return DistributedDataParallel(loss, find_unused_parameters=len(loss.active_terms()) < len(loss.terms))
