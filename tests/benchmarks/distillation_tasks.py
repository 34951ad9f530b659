# SPDX-License-Identifier: Apache-2.0
"""Four systems in a small size for `distillation_step.py`: networks, batches, and their loss in two ways.

The terms of this package are those of the bundles. Beside them stand the same mathematics in plain PyTorch: what a
hand-written loop computes, and what torchdistill is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F

from monai_kd.losses import (
    AttentionTransferLoss,
    DistillationLoss,
    DistillationTerm,
    HintLoss,
    LayerwiseLoss,
    MultiTaskBCELoss,
    PooledFeatureLoss,
    SoftTargetLoss,
)
from monai_kd.networks import DCCNN, HybridClassifier, MeanOfLayers, MultiTaskViT, UNetViT, create_timm_model

Maps = Mapping[str, Tensor]  # layers' outputs by name, the prediction under ""
Part = Callable[[Maps, Maps], Tensor]  # of student and teacher

STAGES = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")
FINDINGS = 14


@dataclass
class Task:
    """A system: what is trained by whom on what, and by which loss.

    ``parts`` are the terms of ``loss`` by name in plain PyTorch. A part that projects the teacher's side does it by the
    term's own projector, so that all ways to train have the same.
    """

    student: nn.Module
    teacher: nn.Module
    loss: DistillationLoss
    task_loss: nn.Module
    batches: list[dict[str, Tensor]]
    parts: Mapping[str, Part]
    teacher_key: str = "image"
    projectors: Mapping[str, nn.Module] = field(default_factory=dict)


def flagship(batch_size: int, batches: int) -> Task:
    student = BasicUNet(2, in_channels=3, out_channels=1, features=(16, 32, 64, 128, 256, 16))
    teacher = UNetViT(features=(32, 64, 128, 256, 512, 32), vit="vit_tiny_patch16_224", vit_kwargs={"img_size": 96})
    projectors = {stage: nn.Conv2d(2 * c, c, kernel_size=1) for stage, c in zip(STAGES, (128, 64, 32, 16))}
    terms = {"logits": DistillationTerm(nn.MSELoss(), weight=0.5)}
    for stage, projector in projectors.items():
        loss = PooledFeatureLoss(8)
        terms[stage] = DistillationTerm(loss, stage, stage, teacher_projector=projector, weight=0.1)

    def pooled(stage: str) -> Part:
        return lambda s, t: F.mse_loss(
            F.adaptive_avg_pool2d(s[stage].float(), 8), F.adaptive_avg_pool2d(projectors[stage](t[stage].float()), 8)
        )

    parts = {"logits": lambda s, t: F.mse_loss(s[""], t[""]), **{stage: pooled(stage) for stage in STAGES}}
    images = [torch.randn(batch_size, 3, 96, 96) for _ in range(batches)]
    data = [{"image": image, "label": (image[:, :1] > 1).float()} for image in images]
    loss = DistillationLoss(terms, task_weight=0.5)
    return Task(student, teacher, loss, nn.BCEWithLogitsLoss(), data, parts, "image", projectors)


def classification(batch_size: int, batches: int) -> Task:
    student = create_timm_model("efficientnet_b0", num_classes=3)
    branches = ["vgg19", "vit_tiny_patch16_224"]
    teacher = HybridClassifier(branches, branch_kwargs=[{}, {"img_size": 128}])
    projector = nn.Conv2d(512, 80, kernel_size=1)
    layers = ("blocks.3", "branches.0.features.34")
    terms = {
        "soft_target": DistillationTerm(SoftTargetLoss(4.0), weight=0.9),
        "fusion": DistillationTerm(HintLoss(), *layers, teacher_projector=projector, weight=0.1),
    }

    def soft_target(s: Maps, t: Maps) -> Tensor:
        student, teacher = F.log_softmax(s[""] / 4, 1), F.log_softmax(t[""] / 4, 1)
        return 16 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)

    def fusion(s: Maps, t: Maps) -> Tensor:
        return F.mse_loss(s[layers[0]].float(), projector(t[layers[1]].float()))

    data = [
        {"image": torch.randn(batch_size, 3, 128, 128), "label": torch.arange(batch_size) % 3} for _ in range(batches)
    ]
    parts = {"soft_target": soft_target, "fusion": fusion}
    loss = DistillationLoss(terms, 0.1)
    return Task(student, teacher, loss, nn.CrossEntropyLoss(), data, parts, "image", {"fusion": projector})


def reconstruction(batch_size: int, batches: int) -> Task:
    student, teacher = DCCNN(n_convs=3, mask=_centre), DCCNN(n_convs=5, mask=_centre)
    layers = [[f"stages.{block}.cnn.{conv}" for block in range(5)] for conv in (1, 2)]
    terms = {"attention": DistillationTerm(LayerwiseLoss(AttentionTransferLoss()), *layers, weight=100.0)}

    def attention(maps: Tensor) -> Tensor:
        return F.normalize(maps.float().pow(2).mean(1).flatten(1), dim=1)

    def part(s: Maps, t: Maps) -> Tensor:
        return sum(F.mse_loss(attention(s[own]), attention(t[other])) for own, other in zip(*layers)) / 5

    images = [torch.rand(batch_size, 2, 96, 96) for _ in range(batches)]
    data = [{"image": image, "label": image[:, :1]} for image in images]
    return Task(student, teacher, DistillationLoss(terms), nn.L1Loss(), data, {"attention": part})


def _centre(size: int) -> Tensor:
    """A mask of the central quarter of the lines."""
    return ((torch.arange(size) - size // 2).abs() < size // 8).float()


def chest_xray(batch_size: int, batches: int) -> Task:
    small = {"embed_dim": 96, "depth": 6, "num_heads": 3}
    student, teacher = (MultiTaskViT("tiny", FINDINGS, image_size=128, vit_kwargs=kwargs) for kwargs in (small, {}))
    projector = nn.Linear(192, 96)
    layers = (student.block_layers, teacher.block_layers)
    terms = {
        "logits": DistillationTerm(nn.MSELoss()),
        "block_mean": DistillationTerm(_Widened(HintLoss(), projector), *layers, MeanOfLayers(), MeanOfLayers()),
    }

    def block_mean(s: Maps, t: Maps) -> Tensor:
        own, other = (torch.stack([maps[name] for name in names]).mean(0) for maps, names in zip((s, t), layers))
        return F.mse_loss(own.float(), projector(other.float()))

    images = [torch.randn(batch_size, 3, 128, 128) for _ in range(batches)]
    labels = (torch.randn(batch_size, FINDINGS + 1) > 1).float()
    data = [{"image": F.avg_pool2d(x, 4).repeat(1, 1, 4, 4), "image_hr": x, "label": labels} for x in images]
    parts = {"logits": lambda s, t: F.mse_loss(s[""], t[""]), "block_mean": block_mean}
    loss = DistillationLoss(terms)
    return Task(student, teacher, loss, MultiTaskBCELoss(), data, parts, "image_hr", {"block_mean": projector})


class _Widened(nn.Module):
    """A loss whose teacher's side is projected behind the term's own, fixed projector."""

    def __init__(self, loss: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.projector = projector

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return self.loss(student, self.projector(teacher))


TASKS = {
    "flagship": flagship,
    "classification": classification,
    "reconstruction": reconstruction,
    "chest_xray": chest_xray,
}
