# SPDX-License-Identifier: Apache-2.0
"""The cases of a batch inference through the network, several at once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_kd.finite import check_finite

from .batch import plain_tensor
from .batch_case import Attempt, Case

__all__ = ["NetworkPass"]


class NetworkPass:
    """Give every case its prediction, and its explanation if there is an explainer.

    Args: see :class:`~monai_kd.engines.BatchInference`.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer,
        device: torch.device,
        amp: bool,
        batch_size: int,
        explainer: Callable[..., Tensor] | None = None,
        explainer_keys: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.inferer = inferer
        self.device = device
        self.amp = amp
        self.batch_size = batch_size
        self.explainer = explainer
        self.explainer_keys = tuple(explainer_keys)

    def predict(self, cases: Iterable[Case]) -> Iterator[Case]:
        """The cases in order, with ``pred``; a case whose prediction fails, or is no finite number, has a reason."""
        batch: list[Case] = []
        for case in cases:
            if case.reason:
                yield case
                continue
            if batch and (len(batch) == self.batch_size or batch[0].shape != case.shape):
                yield from self._predict_batch(batch)
                batch = []
            batch.append(case)
        if batch:
            yield from self._predict_batch(batch)

    def _predict_batch(self, batch: Sequence[Case]) -> Sequence[Case]:
        try:
            self._apply_network(batch)
        except Exception:  # one bad sample must not take its neighbours with it
            for case in batch:
                with Attempt(case):
                    self._apply_network([case])
        for case in batch:
            if not case.reason:
                with Attempt(case):
                    check_finite(case.sample[Keys.PRED])
        return batch

    def _apply_network(self, batch: Sequence[Case]) -> None:
        start = time.perf_counter()
        images = torch.stack([plain_tensor(case.sample[Keys.IMAGE]) for case in batch]).to(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=self.amp and self.device.type == "cuda"):
            predictions = self.inferer(images, self.network).float().cpu()
        explanations = [] if self.explainer is None else self._explain(batch, self.explainer)
        seconds = (time.perf_counter() - start) / len(batch)
        for case, explanation in zip(batch, explanations):
            case.sample["explanation"] = MetaTensor(explanation)
        for case, prediction in zip(batch, predictions):
            case.sample[Keys.PRED] = MetaTensor(prediction)  # as an evaluator gives it: Invertd skips plain tensors
            case.seconds += seconds

    def _explain(self, batch: Sequence[Case], explainer: Callable[..., Tensor]) -> list[Tensor]:
        # MONAI's class activation maps add up the scores of a whole batch, and take neither hooks nor gradients away.
        network = copy.deepcopy(self.network)
        for module in network.modules():  # what a hook for gradients gives on must not be changed in place
            if getattr(module, "inplace", False) is True:
                setattr(module, "inplace", False)
        with torch.enable_grad():
            maps = []
            for case in batch:
                keys = (Keys.IMAGE, *self.explainer_keys)
                image, *others = (plain_tensor(case.sample[key])[None].to(self.device) for key in keys)
                maps.append(torch.as_tensor(explainer(image, network, *others))[0].detach().float().cpu())
            return maps
