# SPDX-License-Identifier: Apache-2.0
"""A teacher whose answers come with the batch, from files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.utils import CommonKeys as Keys
from monai.utils import ensure_tuple
from torch import Tensor

from monai_kd.losses.distillation import DistillationLoss
from monai_kd.names import check_known
from monai_kd.term_switches import running_switches

from .teacher import Teacher

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["FileTeacher"]

_ACTIVATIONS = ("logits", "sigmoid", "softmax", "values")
_LEAST = 1e-5  # about what 16 bits tell from 0
_UNLIKELY = math.log(_LEAST)


class FileTeacher(Teacher):
    """Answer with the soft labels that :class:`monai_kd.data.LoadSoftLabeld` has put into the batch.

    They become logits, but for ``values``, which stay what they are. A probability p becomes ``log(p / (1 - p))`` for
    ``sigmoid``, ``log p`` for ``softmax``, with p from 1e-5 to 1 - 1e-5. What an image lacks where it was padded or
    turned, of logits where all are exactly 0, counts as the first class, the background. Two classes of which a student
    with one channel predicts the second, as nnU-Net has them, become the difference of both, or, of ``sigmoid``, the
    second.

    Files have no layers: a term that looks at one is refused. The heads of deep supervision are none in this sense:
    on each one's coarser grid the answer is the mean of what the files hold there.

    Args:
        activation: what the files hold: ``logits``, probabilities by ``sigmoid`` or ``softmax``, or ``values`` that are
            of no class, such as grey levels.
        key: key of the batch.
        heads: the teacher's layers that give what the student's prediction, a list, has at each head, the finest first.

    Raises:
        ValueError: when there is no such activation.
    """

    def __init__(self, activation: str = "logits", key: str = "teacher", heads: Sequence[str] = ()) -> None:
        check_known(activation, _ACTIVATIONS, "teacher_activation")
        self.activation = activation
        self.key = key
        self.heads = tuple(heads)

    def check(self, loss: DistillationLoss) -> None:
        """Refuse terms that look at layers.

        Raises:
            ValueError: naming these terms.
        """
        known = {"", *self.heads}
        terms = loss.active_terms().items()
        looking = [name for name, term in terms if not {*ensure_tuple(term.teacher_layer)} <= known]
        if looking:
            raise ValueError(
                f"the terms {', '.join(looking)} look at layers of the teacher, and soft labels from files have none: "
                f"leave them out by {running_switches(looking)}, or let the teacher's network teach"
            )

    def __call__(self, engine: SupervisedTrainer) -> dict[str, Tensor]:
        """The soft labels of the engine's current batch under ``""``, (B, C, *spatial), or (B, C); and by head.

        Raises:
            ValueError: when the batch has none, or they have another size or other classes than what the student
                predicts, naming the first file.
        """
        batch: Any = engine.state.batch
        given = batch.get(self.key) if isinstance(batch, Mapping) else None
        if given is None:
            raise ValueError(
                f"the batch has no {self.key!r}: name each image's soft label in the datalist, or give teacher_dir"
            )
        values = given.as_tensor() if isinstance(given, MetaTensor) else given
        values = values.to(engine.state.device, torch.float32, non_blocking=engine.non_blocking)
        predicted = engine.state.output[Keys.PRED]
        predictions = list(predicted) if isinstance(predicted, (list, tuple)) else [predicted]
        answer = self._like(predictions[0], values)
        if answer.shape != predictions[0].shape:
            raise ValueError(
                f"{_file_of(given)}: this soft label gives {tuple(answer.shape[1:])} (classes, *size), where the "
                f"student predicts {tuple(predictions[0].shape[1:])}: make it for the same classes, on the image's grid"
            )
        coarser = [self._like(own, _means(values, own.shape[2:])) for own in predictions[1:]]
        return {**dict(zip(self.heads, [answer, *coarser])), "": answer}

    def _like(self, prediction: Tensor, values: Tensor) -> Tensor:
        """Logits with the classes of what the student predicts."""
        logits = self.logits(values)
        if prediction.shape[1] == 1 and logits.shape[1] == 2 and self.activation != "values":
            return logits[:, 1:] if self.activation == "sigmoid" else logits[:, 1:] - logits[:, :1]
        return logits

    def logits(self, values: Tensor) -> Tensor:
        """Logits of what the files hold, or the values.

        Args:
            values: (B, C, ...).
        """
        if self.activation == "values":
            return values
        if self.activation == "logits":
            return _with_background(values) if values.ndim > 2 else values
        if self.activation == "sigmoid":
            return values.clamp(_LEAST, 1 - _LEAST).logit()
        missing = (1 - values.sum(dim=1)).clamp(min=0)
        whole = torch.cat([values[:, :1] + missing[:, None], values[:, 1:]], dim=1)
        return whole.clamp(min=_LEAST).log()


def _with_background(logits: Tensor) -> Tensor:
    """Logits (B, C, *spatial) that say background where they are all 0, as padding leaves them."""
    background = torch.full((logits.shape[1],), 2 * _UNLIKELY, device=logits.device)
    background[0] = _UNLIKELY  # the likeliest of several classes, and still none of what is no class but a region
    missing = (logits == 0).all(dim=1, keepdim=True)
    return torch.where(missing, background.reshape(-1, *[1] * (logits.ndim - 2)), logits)


def _means(values: Tensor, size: Sequence[int]) -> Tensor:
    """Soft labels (B, C, *spatial) on a coarser grid."""
    pools: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    return pools[len(size) - 1](values, tuple(size))


def _file_of(values: Any) -> str:
    """The first file of a batch, where it is known."""
    names = getattr(values, "meta", {}).get("filename_or_obj", "the batch")
    return str(ensure_tuple(names)[0])
