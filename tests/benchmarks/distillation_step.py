# SPDX-License-Identifier: Apache-2.0
"""Measure a distillation step by DistillationHandler against a hand-written PyTorch loop of the same mathematics.

    python tests/benchmarks/distillation_step.py [--out OUT.json] [--device cuda] [--width 32] [--image-size 256] ...

A small U-Net trains in three ways, from the same weights on the same batches, which are made beforehand: alone (MONAI's
SupervisedTrainer), distilled by hand, and distilled by the handler on SupervisedTrainer. Both distillations add to the
task's loss the mean squared differences of the logits and of four decoder stages, of which the teacher's are projected;
their losses must agree to rounding.

The three take turns, a few steps each, so that whatever else the machine does slows all alike, and the median of the
ratios within a turn counts. The processor's time leaves out what other processes take, so on a busy machine it is the
steadier clock for the CPU; with a CUDA device it says what Python takes. Peak memory is that of a process of its own
for each, above what the imports need: resident on the CPU, allocated on a CUDA device.

Target: the handler takes at most 1.03 times as long as the hand-written loop.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median, quantiles

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F

from monai_kd.engines import parameters, plain_batch
from monai_kd.handlers import DistillationHandler
from monai_kd.losses import DistillationLoss, DistillationTerm, HintLoss
from monai_kd.networks import UNetViT

TARGET = 1.03
STAGES = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")
TASK_WEIGHT, LOGITS_WEIGHT, STAGE_WEIGHT = 0.5, 0.5, 0.1

Settings = argparse.Namespace
Training = Callable[[], list[Tensor]]  # goes once through the batches and returns the losses


def make_batches(settings: Settings) -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    size = (settings.batch_size, 3, settings.image_size, settings.image_size)
    images = [torch.randn(size) for _ in range(settings.steps)]
    return [{"image": i.to(settings.device), "label": (i[:, :1] > 1).float().to(settings.device)} for i in images]


def make_student(settings: Settings) -> BasicUNet:
    torch.manual_seed(2)
    return BasicUNet(2, in_channels=3, out_channels=1, features=_features(settings.width)).to(settings.device)


def make_teacher(settings: Settings) -> UNetViT:
    torch.manual_seed(3)
    vit_size = {"img_size": settings.image_size}
    return UNetViT(features=_features(2 * settings.width), vit=settings.vit, vit_kwargs=vit_size).to(settings.device)


def make_projectors(settings: Settings) -> dict[str, nn.Conv2d]:
    torch.manual_seed(4)
    channels = {stage: settings.width * factor for stage, factor in zip(STAGES, (8, 4, 2, 1))}
    return {stage: nn.Conv2d(2 * c, c, kernel_size=1).to(settings.device) for stage, c in channels.items()}


def _features(width: int) -> tuple[int, ...]:
    return (width, 2 * width, 4 * width, 8 * width, 16 * width, width)


def student_alone(settings: Settings) -> Training:
    student = make_student(settings)
    return _with_trainer(settings, student, parameters(student))


def by_hand(settings: Settings) -> Training:
    student, teacher, projectors = make_student(settings), make_teacher(settings).eval(), make_projectors(settings)
    batches = make_batches(settings)
    student_maps, teacher_maps = _keep_stages(student), _keep_stages(teacher)
    optimizer = torch.optim.Adam(parameters(student, *projectors.values()))

    def train() -> list[Tensor]:
        losses = []
        student.train()
        for batch in batches:
            image, label = batch["image"].to(settings.device), batch["label"].to(settings.device)
            optimizer.zero_grad()
            with torch.no_grad():
                teacher_logits = teacher(image)
            logits = student(image)
            loss = TASK_WEIGHT * F.binary_cross_entropy_with_logits(logits, label)
            loss = loss + LOGITS_WEIGHT * F.mse_loss(logits, teacher_logits)
            for stage, projector in projectors.items():
                loss = loss + STAGE_WEIGHT * F.mse_loss(student_maps[stage], projector(teacher_maps[stage]))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    return train


def _keep_stages(network: nn.Module) -> dict[str, Tensor]:
    """What the decoder's stages gave when ``network`` ran last."""
    maps: dict[str, Tensor] = {}
    for stage in STAGES:
        network.get_submodule(stage).register_forward_hook(
            lambda layer, inputs, output, stage=stage: maps.__setitem__(stage, output)
        )
    return maps


def by_handler(settings: Settings) -> Training:
    student, teacher, projectors = make_student(settings), make_teacher(settings), make_projectors(settings)
    terms = {"logits": DistillationTerm(nn.MSELoss(), weight=LOGITS_WEIGHT)}
    for stage, projector in projectors.items():
        terms[stage] = DistillationTerm(HintLoss(), stage, stage, teacher_projector=projector, weight=STAGE_WEIGHT)
    loss = DistillationLoss(terms, task_weight=TASK_WEIGHT)
    return _with_trainer(settings, student, parameters(student, loss), DistillationHandler(teacher, loss))


def _with_trainer(
    settings: Settings, student: nn.Module, trained: list[nn.Parameter], *handlers: DistillationHandler
) -> Training:
    losses: list[Tensor] = []
    trainer = SupervisedTrainer(
        device=torch.device(settings.device),
        max_epochs=1,
        train_data_loader=make_batches(settings),
        network=student,
        optimizer=torch.optim.Adam(trained),
        loss_function=nn.BCEWithLogitsLoss(),
        prepare_batch=plain_batch,
        train_handlers=handlers,
        decollate=False,
        optim_set_to_none=True,
    )
    trainer.logger.setLevel(logging.WARNING)
    trainer.add_event_handler(
        IterationEvents.MODEL_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].detach())
    )

    def train() -> list[Tensor]:
        losses.clear()
        trainer.run()
        return list(losses)

    return train


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
VARIANTS = {"student alone": student_alone, "by hand": by_hand, "by handler": by_handler}


def peak_memory(variant: str, settings: Settings) -> float:
    """Peak memory of one variant's training in MiB, to be called in a process of its own."""
    torch.set_num_threads(settings.threads)
    before = _resident()
    VARIANTS[variant](settings)()
    if torch.device(settings.device).type == "cuda":
        return torch.cuda.max_memory_allocated(settings.device) / 2**20
    return _resident() - before


def _resident() -> float:
    kibibyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibyte / 2**20


def measure_memory(settings: Settings) -> dict[str, float]:
    # Fresh processes inherit their parent's peak on Linux: it has to be low still, so this comes before all else.
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for variant in VARIANTS:
        with ProcessPoolExecutor(1, context) as pool:
            peaks[variant] = pool.submit(peak_memory, variant, settings).result()
    return peaks


def measure_seconds(settings: Settings) -> dict[str, dict[str, list[float]]]:
    """Seconds per step by clock and variant, turn by turn, after a turn to warm up in which the losses are compared."""
    trainings = {variant: make(settings) for variant, make in VARIANTS.items()}
    losses = {variant: torch.stack(train()) for variant, train in trainings.items()}
    torch.testing.assert_close(losses["by handler"], losses["by hand"], rtol=1e-5, atol=0)
    seconds: dict[str, dict[str, list[float]]] = {clock: {variant: [] for variant in VARIANTS} for clock in CLOCKS}
    for turn in range(settings.turns):
        for variant in list(VARIANTS)[:: -1 if turn % 2 else 1]:
            start = {clock: read() for clock, read in CLOCKS.items()}
            trainings[variant]()
            if torch.device(settings.device).type == "cuda":
                torch.cuda.synchronize(settings.device)
            for clock, read in CLOCKS.items():
                seconds[clock][variant].append((read() - start[clock]) / settings.steps)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU (default 1)")
    parser.add_argument("--width", type=int, default=8, help="student's first channels; teacher's: double")
    parser.add_argument("--vit", default="vit_tiny_patch16_224", help="timm's name of the teacher's transformer")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="steps of each loop in a turn (default 4)")
    parser.add_argument("--turns", type=int, default=15, help="turns, at least 2 (default 15)")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)

    memory = measure_memory(settings)
    seconds = measure_seconds(settings)
    medians = {clock: {key: median(values) for key, values in of.items()} for clock, of in seconds.items()}
    ratios = {
        clock: [handler / hand for handler, hand in zip(of["by handler"], of["by hand"])]
        for clock, of in seconds.items()
    }

    print(f"{'loop':<14} {'wall (ms/step)':>15} {'processor (ms/step)':>20} {'peak (MiB)':>11}")
    for variant in VARIANTS:
        wall, processor = (1000 * medians[clock][variant] for clock in CLOCKS)
        print(f"{variant:<14} {wall:>15.1f} {processor:>20.1f} {memory[variant]:>11.0f}")
    for clock, values in ratios.items():
        low, middle, high = quantiles(values, n=4)
        print(f"handler / hand, {clock}: {middle:.4f} (quartiles {low:.4f} and {high:.4f}), target {TARGET} or less")
    if settings.out:
        results = {
            "settings": {key: value for key, value in vars(settings).items() if key != "out"},
            "seconds_per_step": medians,
            "peak_mebibytes": memory,
            "handler_by_hand": {clock: median(values) for clock, values in ratios.items()},
            "target": TARGET,
        }
        settings.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
