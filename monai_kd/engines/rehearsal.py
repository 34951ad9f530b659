# SPDX-License-Identifier: Apache-2.0
"""One batch through everything that is to be trained, before hours of training begin."""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_kd.handlers.distillation import DistillationHandler
from monai_kd.handlers.file_teacher import FileTeacher
from monai_kd.networks.ensemble_network import EnsembleNetwork
from monai_kd.networks.feature_tap import unwrapped

from .loaded_teacher import check_whom_it_has_seen, load_what_is_there
from .operations import count_operations
from .provenance import patients_of
from .run_config import running_config
from .stage import Stage

__all__ = ["rehearse"]

_LOOKED_AT = 32
_OTHER_SEED = 65_537  # than any that a training would be given


def rehearse(*stages: Stage) -> None:
    """Try every stage that is to train with one small batch: names, shapes and finite values.

    Weights that are there and that a stage starts with, such as a teacher's, are loaded as it will do. The batch goes
    through the network, the loss, the teacher and the distillation's terms. Where the last batch of an
    epoch holds one item only, that one is tried as well, since some terms compare items. No step is done, and random
    states, statistics of batch normalisation and modes are as before, so a training is the same with it and without. At
    the end, labels that show nothing but 0 are said. What each network costs is said, too: parameters,
    multiply-accumulates (of convolutions and products, as PyTorch counts them) and seconds for an image of the batch.

    It belongs into a configuration's ``run``, before its first stage.

    Args:
        stages: in the order in which they are to train. Those that are trained already are left out, once it is clear
            that it was on these data.

    Raises:
        ValueError: naming the stage, the part that the batch does not go through, and why; when the teacher is to
            teach with random weights; or when a stage starts from weights that know who validates or tests.
    """
    waiting = [stage for stage in stages if not stage.is_done]
    for stage in stages:
        if stage.is_done:  # which names the settings that differ, before a student of it can name patients alone
            stage.check_data()
    for stage in waiting:
        with _as_before(stage):
            _find_soft_labels(stage)
            check_whom_it_has_seen(stage, waiting)
            load_what_is_there(stage, waiting)
            for number, batch in enumerate(_batches(stage.trainer.data_loader)):
                _try(stage, batch, say_cost=number == 0)
    if waiting:
        with _as_before(waiting[0]):
            _look_at_labels(waiting[0])


def _batches(loader: Any) -> Iterator[Any]:
    """A batch of at most three items, as relations between images need, and of fewer if an epoch ends with such."""
    size, dataset = getattr(loader, "batch_size", None), _dataset(loader)
    if not isinstance(size, int) or not hasattr(dataset, "__getitem__"):
        return
    count = len(loader.sampler)
    # The last beside the first, for it may be one without a label.
    places = (0, len(dataset) - 1, len(dataset) // 2)
    items = [dataset[place] for place in places[: min(size, count)]] if count else []
    if items:
        yield loader.collate_fn(items)
    rest = 0 if loader.drop_last else count % size
    if 0 < rest < len(items):
        yield loader.collate_fn(items[:rest])


def _dataset(loader: Any) -> Any:
    return getattr(loader, "dataset", None)


def _find_soft_labels(stage: Stage) -> None:
    """Look whether every item has the soft label that a distillation from files needs: most are read much later.

    Where a network teaches, soft labels that items name are not read, which is said.
    """
    handlers = [handler for handler in stage.handlers if isinstance(handler, DistillationHandler)]
    waiting = [_dataset(stage.trainer.data_loader)] if handlers else []
    is_by_files, key = any(handler.teacher.network is None for handler in handlers), FileTeacher().key
    while waiting:
        dataset = waiting.pop()
        waiting += [*getattr(dataset, "datasets", ()), *([dataset.dataset] if hasattr(dataset, "dataset") else [])]
        if not is_by_files:
            items = getattr(dataset, "data", ())
            number = sum(isinstance(item, Mapping) and key in item for item in items)
            if number and stage.trainer.state.rank == 0:
                logging.getLogger("monai_kd").warning(
                    f"{stage.name}: {number} items name soft labels as `{key}`, which are not read: a network "
                    "teaches. For files to teach give teacher_activation, what they hold: logits, sigmoid, softmax or "
                    "values"
                )
                return
            continue
        if hasattr(dataset, "find_soft_labels"):
            dataset.find_soft_labels()
        first = next(iter(getattr(getattr(dataset, "transform", None), "transforms", ())), None)
        if first is not None and getattr(first, "finds_soft_labels", False):
            for item in dataset.data:
                first(item)


def _try(stage: Stage, batch: Any, say_cost: bool) -> None:
    trainer, network = stage.trainer, unwrapped(stage.trainer.network)
    device = trainer.state.device
    state = SimpleNamespace(output={}, batch=batch, device=device, epoch=1, iteration=1, metrics={})
    engine: Any = SimpleNamespace(
        state=state, network=network, non_blocking=False, loss_function=trainer.loss_function
    )
    handlers = [handler for handler in stage.handlers if isinstance(handler, DistillationHandler)]
    # The cache is for what the trained teacher says.
    handlers = [DistillationHandler(handler.teacher.uncached, handler.loss) for handler in handlers]
    amp = torch.autocast(device.type, enabled=bool(trainer.amp) and device.type == "cuda")
    with torch.no_grad(), amp, warnings.catch_warnings():
        warnings.filterwarnings("error", message="Using a target size")  # torch would broadcast, and mean another loss
        with _named(stage, "the preparation of a batch"):
            image, label, *others = trainer.prepare_batch(batch, device, False, **trainer.to_kwargs)
        _check_finite(stage, "the image", image)
        network.train()
        for handler in handlers:
            with _named(stage, "the distillation"):
                handler.started(engine)
        try:
            args, kwargs = others if others else ((), {})
            with _named(stage, "the network", image), count_operations() as counter:
                start = time.perf_counter()
                prediction = trainer.inferer(image, network, *args, **kwargs)
                seconds = time.perf_counter() - start
            with _named(stage, "the loss", prediction):
                task = trainer.loss_function(prediction, label).mean()
            state.output = {Keys.IMAGE: image, Keys.LABEL: label, Keys.PRED: prediction, Keys.LOSS: task}
            for handler in handlers:
                with _named(stage, "the teacher and the distillation's terms", image):
                    handler(engine)
        finally:
            for handler in handlers:
                handler.completed(engine)
    if say_cost:
        _say_cost(stage, network, image, counter.get_total_flops() / 2 / len(image), seconds / len(image))
    for name, value in state.output.items():
        _check_finite(stage, {Keys.PRED: "the network's output", Keys.LOSS: "the loss"}.get(name, name), value)
    for handler in handlers:
        _check_taught(stage, handler)
        _check_ensemble(stage, handler.teacher.network)


def _say_cost(stage: Stage, network: nn.Module, image: Tensor, operations: float, seconds: float) -> None:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = " x ".join(map(str, image.shape[1:]))
    counted = f"{operations / 1e9:.3g} G multiply-accumulates and " if operations else ""
    if stage.trainer.state.rank == 0:
        logging.getLogger("monai_kd").info(
            f"{stage.name}: {parameters:,} parameters, {counted}about {seconds:.2g} s for an image of {size}"
        )


@contextmanager
def _named(stage: Stage, part: str, tensor: Any = None) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError, AssertionError, UserWarning) as error:
        shape = f" of {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else ""
        reason = " ".join(str(error).split())
        raise ValueError(f"{stage.name}: a batch{shape} does not go through {part}: {reason}") from error


def _check_finite(stage: Stage, what: str, value: Any) -> None:
    values = value if isinstance(value, (list, tuple)) else [value]
    for tensor in values:
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{stage.name}: {what} of the first batch holds values that are not finite")


def _check_taught(stage: Stage, handler: DistillationHandler) -> None:
    """Refuse a teacher that no training and no file gives its weights: made twice, it would have other ones."""
    config, network = running_config() or {}, handler.teacher.network
    if network is None or not handler.loss.active_terms() or config.get("teacher_checkpoint", "") is not None:
        return
    if "teacher_def" not in config:
        return
    torch.manual_seed(_OTHER_SEED)
    again = ConfigParser(config).get_parsed_content("teacher_def")
    if not isinstance(again, nn.Module):
        return
    both = zip(network.named_parameters(), again.parameters())
    pairs = {name: (value.cpu(), other.cpu()) for (name, value), other in both}
    # What begins as all ones or zeros says nothing.
    equal = {name: torch.equal(*pair) for name, pair in pairs.items() if len(pair[0].unique()) > 1}
    drawn = [name for name, is_equal in equal.items() if not is_equal]
    if drawn and len(drawn) == len(equal):
        raise ValueError(
            f"{stage.name}: the teacher has random weights, since teacher_checkpoint is null and teacher_def loads "
            "none: name its checkpoint, or have it trained"
        )
    if drawn:
        logging.getLogger("monai_kd").warning(f"{stage.name}: some of the teacher's weights are random, as {drawn[0]}")


def _check_ensemble(stage: Stage, network: nn.Module | None) -> None:
    """Refuse an ensemble of which a member was trained on a patient who validates or tests here."""
    if not isinstance(network, EnsembleNetwork):
        return
    logger, datalist = logging.getLogger("monai_kd"), stage.datalist or {}
    held_out = patients_of(item for side in ("validation", "test") for item in datalist.get(side, ()))
    for name, patients in zip(network.names, network.trained_on):
        if patients is None:
            logger.warning(f"{name}: nothing says who it was trained on; none of them may validate or test here")
            continue
        seen = sorted(held_out & patients)
        shown = f"{', '.join(seen[:3])}{' ...' if len(seen) > 3 else ''}"
        if seen and not network.out_of_fold:
            raise ValueError(
                f"{name} was trained on {shown}, who validate or test here: validate and test on patients whom no "
                "member has seen, or let only those answer who have not seen a patient, by out_of_fold=true"
            )
        if seen:
            logger.warning(
                f"{name} was trained on {shown}, who validate or test here, and answers for others: what it has "
                "learned of them may reach the student; to be sure, test on patients whom no member has seen"
            )


def _look_at_labels(stage: Stage) -> None:
    dataset = _dataset(stage.trainer.data_loader)
    if not hasattr(dataset, "__getitem__") or not len(dataset):
        return
    looked_at = np.unique(np.linspace(0, len(dataset) - 1, _LOOKED_AT).astype(int)).tolist()
    for index in looked_at:
        item = dataset[index]
        for part in item if isinstance(item, list) else [item]:
            label = part.get(Keys.LABEL) if isinstance(part, dict) else None
            if not isinstance(label, (Tensor, np.ndarray)) or (label != 0).any():
                return
    logging.getLogger("monai_kd").warning(
        f"the labels of all {len(looked_at)} training items that were looked at are 0, nothing but background: "
        "look at the labels' files and at how they are read"
    )


@contextmanager
def _as_before(stage: Stage) -> Iterator[None]:
    """Leave random states, buffers and modes of the stage's network as they were."""
    network = unwrapped(stage.trainer.network)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    modes = [(module, module.training) for module in network.modules()]
    devices = [stage.trainer.state.device] if stage.trainer.state.device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        for module, training in modes:
            module.training = training
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
