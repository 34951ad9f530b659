# SPDX-License-Identifier: Apache-2.0
"""A frozen teacher that is asked only once about the same image."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_kd.losses.distillation import DistillationLoss, KeptAnswer

from .live_teacher import LiveTeacher
from .teacher import Teacher
from .teacher_cache import TeacherCache
from .teacher_identity import add_tensor, new_hash, teacher_identity, teacher_tensors
from .teacher_store import Answer, AnswerStore, FileStore

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["CachedTeacher"]

_METRICS = ("teacher_cache_hits", "teacher_cache_gb", "teacher_cache_saved_seconds")
_logger = logging.getLogger(__name__)


class CachedTeacher(Teacher):
    """Answer with what the teacher said about the very same images before, and ask it about the others.

    An answer's key is a hash of all that it depends on: the bytes of every image that the teacher would see, with their
    type and shape; the teacher's weights, modules and settings; how it is applied, and in which precision; and what is
    kept of its answer. So no shuffling, augmentation, number of workers or change of code can give a wrong answer:
    another image has another key. What no hash sees is looked at as well: one of the first answers, and the first known
    one of every epoch, is asked for again and compared.

    A known answer equals a new one up to rounding only, since the teacher may have given it in a batch of another size.

    Where this does not pay, or can't be relied on, it says so once and the teacher is asked every time.

    Args:
        teacher: whom to ask.
        loss: its terms say what is needed of an answer (:meth:`.DistillationLoss.keep`).
        cache: how answers are kept.
    """

    def __init__(self, teacher: LiveTeacher, loss: DistillationLoss, cache: TeacherCache) -> None:
        self.teacher = teacher
        self.network: nn.Module = teacher.network
        self.loss = loss
        self.cache = cache
        self._store: AnswerStore | None = None
        self._begin()

    @property
    def uncached(self) -> Teacher:
        """Whom it asks."""
        return self.teacher

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer. In every epoch its ``state.metrics`` get the share of the samples whose answer was
                known, the size of all that is kept, in 10^9 bytes, and the seconds that the teacher did not take.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def open(self, device: torch.device) -> None:
        """Make the teacher ready. Nothing is looked up before it is asked: its weights may still be loaded."""
        self.close()
        self._begin()
        self.teacher.open(device)

    def close(self) -> None:
        """Let go of the teacher, and of what is kept in memory. Harmless when it was done before."""
        self.teacher.close()
        if self._store is not None:
            self._store.close()
            self._store = None

    def __call__(self, engine: SupervisedTrainer) -> dict[str, Tensor]:
        """The teacher's answer to the engine's current batch, or what the terms need of it."""
        inputs = self.teacher.inputs(engine)
        if not self._is_aside:
            try:
                return self._answer(engine, inputs)
            except _NotReliable as reason:
                self._step_aside(str(reason))
        return self.teacher.answer(inputs)

    def _begin(self) -> None:
        self._is_aside = False
        self._is_sized = False  # whether the size of an answer is known
        self._is_inherited = False  # whether there are answers from before
        self._is_checked = self._is_epoch_checked = False
        self._identity, self._versions = b"", 0
        self._tensors: list[Tensor] = []
        self._epochs = self._asked = self._samples = self._hits = 0
        self._seconds = 0.0

    def _answer(self, engine: SupervisedTrainer, inputs: Sequence[Tensor]) -> KeptAnswer:
        question = self._question(inputs[0].device)
        keys = _keys(question, inputs)
        if self._store is None and not self._is_sized:
            self._use_store(lambda: self.cache.first_store(question))
        answers = [self._find(key) for key in keys]
        self._check_known(inputs, answers)
        missing = [row for row, answer in enumerate(answers) if answer is None]
        self._samples += len(keys)
        self._hits += len(keys) - len(missing)
        if not missing:
            return _batch(answers, inputs[0].device)
        fresh = self._ask(inputs, missing)
        if not self._is_sized:
            samples = len(keys) * engine.state.epoch_length * self.cache.processes
            self._size_up(fresh, len(missing), samples, question)
        self._check_fresh(inputs, missing, fresh)
        rows = {name: tensor.cpu() for name, tensor in fresh.items()}
        for number, row in enumerate(missing):
            answers[row] = {name: tensor[number] for name, tensor in rows.items()}
            self._keep(keys[row], answers[row])
        return fresh if len(missing) == len(keys) else _batch(answers, inputs[0].device)

    def _question(self, device: torch.device) -> bytes:
        """Hash of all that an answer depends on beside the images."""
        if not self._identity:
            self._tensors = [tensor for tensor in teacher_tensors(self.network) if not tensor.is_inference()]
            self._versions = _versions(self._tensors)
            self._identity = teacher_identity(self.network, self.teacher.inferer)
        elif self._versions != _versions(self._tensors):
            raise _NotReliable("the teacher's weights change while it teaches")
        autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        precision = f"{device.type} {autocast} {torch.get_float32_matmul_precision()} {self.cache.half}"
        kept = [name.encode() for name in self.loss.kept_names()]
        return new_hash(self._identity, precision.encode(), *kept).digest()

    def _ask(self, inputs: Sequence[Tensor], rows: Sequence[int]) -> KeptAnswer:
        start = time.perf_counter()
        whole = len(rows) == len(inputs[0])
        answer = self.loss.keep(self.teacher.answer(inputs if whole else [images[rows] for images in inputs]))
        if inputs[0].is_cuda:
            torch.cuda.synchronize(inputs[0].device)
        self._seconds += time.perf_counter() - start
        self._asked += len(rows)
        for name, tensor in answer.items():
            if tensor.ndim == 0 or len(tensor) != len(rows):
                raise _NotReliable(
                    f"what the teacher gives as {name}, {tuple(tensor.shape)}, is not an answer to each of {len(rows)} "
                    "images"
                )
        return answer

    def _check_known(self, inputs: Sequence[Tensor], answers: list[Answer | None]) -> None:
        """Ask again about one known image in every epoch: the answer may be that of other code."""
        row = next((row for row, answer in enumerate(answers) if answer is not None), None)
        if row is None or self._is_epoch_checked:
            return
        self._is_epoch_checked = True
        if _agree(_batch([answers[row]], inputs[0].device), self._ask(inputs, [row])):
            return
        if not self._is_inherited:
            raise _NotReliable("the teacher no longer says what it said about the same image")
        _logger.warning("teacher cache: the answers from before are not what the teacher says now, and are dropped")
        assert self._store is not None
        self._store.clear()
        self._is_inherited = False
        answers[:] = [None] * len(answers)

    def _check_fresh(self, inputs: Sequence[Tensor], rows: Sequence[int], fresh: KeptAnswer) -> None:
        """Ask about one image alone, once: some networks answer by what else is in the batch, or by chance."""
        if self._is_checked or len(rows) == 1:
            return
        self._is_checked = True
        if not _agree({name: tensor[:1] for name, tensor in fresh.items()}, self._ask(inputs, rows[:1])):
            raise _NotReliable("the teacher's answer to an image depends on the rest of the batch, or on chance")

    def _size_up(self, answer: KeptAnswer, count: int, samples: int, question: bytes) -> None:
        """Find out by the size of ``count`` answers whether to keep those to ``samples``, and if need be where."""
        self._is_sized = True
        nbytes = sum(_half_of(tensor, self.cache.half).nbytes for tensor in answer.values()) / count
        nbytes *= samples * (self.cache.views or 1)
        if not self.cache.has_room_for(nbytes):
            raise _NotReliable(
                f"the answers to all images take {nbytes / 1e9:.3g} GB, and teacher_cache_gb={self.cache.max_gb:g} has "
                "no room for a tenth of them"
            )
        if self._store is None:
            self._use_store(lambda: self.cache.store_of(nbytes, question))

    def _use_store(self, make: Callable[[], AnswerStore | None]) -> None:
        try:
            store = make()
        except OSError as error:
            raise _NotReliable(f"its file cannot be used ({error})") from error
        if isinstance(store, FileStore):
            if store.dropped:
                _logger.warning(f"teacher cache: {store.path} held {store.dropped}, which is dropped")
            self._is_inherited = len(store) > 0
            _logger.info(f"teacher cache: {len(store)} answers from before, {store.path}")
        self._store = store

    def _find(self, key: bytes) -> Answer | None:
        with contextlib.suppress(OSError):
            return None if self._store is None else self._store.get(key)
        return None

    def _keep(self, key: bytes, answer: Answer | None) -> None:
        if self._store is None or self._store.is_full or answer is None:
            return
        try:
            self._store.add(key, {name: _half_of(tensor, self.cache.half).clone() for name, tensor in answer.items()})
        except OSError as error:
            self._store.is_full = True
            _logger.warning(f"teacher cache: no more answers can be written ({error}); those that are kept serve on")

    def _step_aside(self, reason: str) -> None:
        self._is_aside = True
        _logger.warning(f"teacher cache: {reason}; from now on the teacher is asked every time")
        if self._store is not None:
            with contextlib.suppress(OSError):  # what is no use need not take room
                self._store.clear()
            self._store.close()
            self._store = None

    def _epoch_started(self) -> None:
        self._samples = self._hits = 0
        self._is_epoch_checked = False

    def _epoch_completed(self, engine: Engine) -> None:
        metrics = engine.state.metrics
        for name in _METRICS:
            metrics.pop(name, None)
        if self._is_aside or self._store is None or not self._samples:  # or no term is active
            return
        self._epochs += 1
        saved = self._hits * self._seconds / max(self._asked, 1)
        metrics.update(zip(_METRICS, (self._hits / self._samples, self._store.nbytes / 1e9, saved)))
        _logger.info(
            f"teacher cache: {self._hits} of {self._samples} answers were known, {self._store.nbytes / 1e9:.3g} GB are "
            f"kept{', which is all there is room for' if self._store.is_full else ''}, about {saved:.1f} s saved"
        )
        # Of several processes each gets an image again only when it is dealt to the same one.
        if not self._hits and self._epochs > (self.cache.views or 1) * self.cache.processes:
            self._step_aside("no image came again (views=8 lets the same eight forms of each come again)")


class _NotReliable(Exception):
    """Why answers can't be kept."""


def _keys(question: bytes, inputs: Sequence[Tensor]) -> list[bytes]:
    """Key of every sample of a batch."""
    count = len(inputs[0]) if inputs[0].ndim else 0
    if any(not images.ndim or len(images) != count for images in inputs):
        raise _NotReliable(f"the teacher's images {[tuple(images.shape) for images in inputs]} are no batch of samples")
    common, keys = new_hash(question), []
    batch = [images.detach().cpu() for images in inputs]
    for row in range(count):
        digest = common.copy()
        for images in batch:
            add_tensor(digest, images[row])
        keys.append(digest.digest())
    return keys


def _batch(answers: Sequence[Answer | None], device: torch.device) -> KeptAnswer:
    """One answer of those to single samples."""
    present = [answer for answer in answers if answer is not None]
    stacked = {name: torch.stack([answer[name] for answer in present]) for name in present[0]}
    return KeptAnswer({name: _whole_of(tensor.to(device)) for name, tensor in stacked.items()})


def _half_of(tensor: Tensor, half: bool) -> Tensor:
    """In float16 where that is wanted and has no value beyond its range."""
    if not (half and tensor.dtype in (torch.float32, torch.float64)):
        return tensor
    small = tensor.half()
    return small if bool(small.isfinite().all()) else tensor


def _whole_of(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _agree(known: Mapping[str, Tensor], asked: Mapping[str, Tensor]) -> bool:
    """Whether these are the same answers but for rounding, which may be coarse: a wrong answer is quite another one."""
    if known.keys() != asked.keys() or any(known[name].shape != asked[name].shape for name in asked):
        return False
    return all(
        bool((known[name].float() - asked[name].float()).norm() <= _tolerance(asked[name]) * asked[name].float().norm())
        for name in asked
    )


def _tolerance(tensor: Tensor) -> float:
    return 0.1 if tensor.dtype in (torch.float16, torch.bfloat16) else 0.02


def _versions(tensors: Sequence[Tensor]) -> int:
    """Grows whenever one of them is changed in place, as optimisers and loaders do."""
    return sum(tensor._version for tensor in tensors)
