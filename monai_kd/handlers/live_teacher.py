# SPDX-License-Identifier: Apache-2.0
"""A teacher that is a network, asked about every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Compose
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from monai_kd.networks.feature_tap import FeatureTap
from monai_kd.networks.preprocessed import transformed

from .teacher import Teacher

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["LiveTeacher", "tapped"]


class LiveTeacher(Teacher):
    """A teacher's answer to a batch, from a forward pass in evaluation mode without gradients.

    Args:
        network: the teacher: any module that maps images to a tensor, a TorchScript module included.
        layers: names of the layers to give beside the prediction.
        keys: keys of the batch that the teacher reads, in the order of its arguments.
        inferer: how the teacher is applied; plainly by default.
        preprocessing: array transforms that each of its images (C, *spatial) goes through, and no other's.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        keys: Sequence[str],
        inferer: Inferer | None = None,
        preprocessing: Sequence[Callable[[Tensor], Any]] = (),
    ) -> None:
        # It is frozen, so it needs no synchronisation, and a process may ask it while another one has no need to.
        self.network: nn.Module = network.module if isinstance(network, DistributedDataParallel) else network
        self.layers = layers
        self.keys = keys
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.preprocessing = Compose(list(preprocessing)) if preprocessing else None
        self._tap: FeatureTap | None = None

    def open(self, device: torch.device) -> None:
        """Move the teacher to ``device`` and start to capture its layers."""
        self.close()
        self.network.to(device).eval()
        # TorchScript modules take no hooks below the top, and a teacher without tapped layers needs none.
        self._tap = FeatureTap(tapped(self.network), self.layers) if self.layers else None

    def close(self) -> None:
        """Take the hooks off. Harmless when there are none."""
        if self._tap is not None:
            self._tap.remove()
            self._tap = None

    def __call__(self, engine: SupervisedTrainer) -> dict[str, Tensor]:
        """The teacher's tensors for the engine's current batch by layer name, its prediction under ``""``."""
        return self.answer(self.inputs(engine))

    def answer(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The teacher's tensors for these images by layer name, its prediction under ``""``.

        Args:
            inputs: what the teacher reads, in the order of its arguments, on its device.
        """
        if self.network.training:  # looking is much cheaper than visiting every module in every step
            self.network.eval()
        image, *others = inputs
        with torch.no_grad():
            prediction = self.inferer(image, self.network, *others)
        return {"": prediction, **(self._tap.pop() if self._tap is not None else {})}

    def inputs(self, engine: SupervisedTrainer) -> list[Tensor]:
        """What the teacher reads of the engine's current batch, as plain tensors on the engine's device.

        Raises:
            ValueError: when the batch lacks a key.
        """
        return self.inputs_of(engine, engine.state.batch, engine.state.output.get(Keys.IMAGE))

    def inputs_of(self, engine: SupervisedTrainer, batch: Any, own: Tensor | None) -> list[Tensor]:
        """The same of another batch; ``own`` is its image as the trainer has prepared it for the student."""
        inputs = []
        for key in self.keys:
            # The trainer has prepared and moved its own image; other keys are still as the loader gave them.
            image = own if key == Keys.IMAGE else batch.get(key)
            if image is None:
                raise ValueError(
                    f"the teacher reads {key!r}, but the batch has only {sorted(batch)}; name an existing key in "
                    "teacher_keys, or add it in the preprocessing"
                )
            image = image.as_tensor() if isinstance(image, MetaTensor) else image
            image = image.to(engine.state.device, non_blocking=engine.non_blocking)
            if self.preprocessing is not None:
                image = transformed(image, self.preprocessing)
            inputs.append(image)
        if getattr(self.network, "out_of_fold", False):
            inputs.append(self._members(batch).to(engine.state.device))
        return inputs

    def _members(self, batch: Mapping[str, Any]) -> Tensor:
        """Who of an ensemble answers for each image: (B, M)."""
        if "patient" not in batch:
            raise ValueError("out_of_fold needs to know whose the images are: give them a `patient` in the datalist")
        return self.network.members_for(batch["patient"])  # type: ignore[operator]


def tapped(network: nn.Module) -> nn.Module:
    """The network whose layers a teacher's are: of one that is made of others, that which it says itself."""
    return network.tapped if hasattr(type(network), "tapped") else network  # type: ignore[return-value]
