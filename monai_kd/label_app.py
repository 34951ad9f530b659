# SPDX-License-Identifier: Apache-2.0
"""The app of a MONAI Label server. Only this module needs the package `monailabel`, and only that server imports it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.dice import Dice
from monailabel.tasks.train.bundle import BundleTrainTask

import monai_kd
from monai_kd.engines import read_epochs

__all__ = ["DistillationTask", "LabelApp", "MaskTask", "Uncertainty"]

logger = logging.getLogger(__name__)

_UNCERTAINTY = "uncertainty"  # of an image, among what the datastore knows of it; of several bundles one for each


class MaskTask(BundleInferTask):
    """Inference by a bundle that gives a mask on the grid of its input, of pictures as of volumes.

    MONAI Label would bring the mask to the input's size, which it has.

    Args:
        path: the bundle's folder.
        conf: what the server was told by `--conf`.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        super().__init__(path, conf, type="segmentation", add_post_restore=False, config={"result_dtype": "uint8"})

    def writer(self, data: dict[str, Any], extension: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
        """Write the mask with the image's affine: ITK keeps no place of two axes, and makes others of sheared ones.

        Args:
            data: the sample, with the mask (x, y[, z]).
            extension: of the file; by default as the request says, or else the image's.
            dtype: of its numbers, as NumPy calls it; by default as the request says.

        Returns:
            Path of the file, and the answer's JSON.
        """
        written, answer = super().writer(data, extension, dtype)
        if isinstance(written, str) and written.lower().endswith((".nii", ".nii.gz")):
            values = np.asarray(nib.Nifti1Image.from_filename(written).dataobj)
            nib.save(nib.Nifti1Image(values, data[self.output_label_key].affine.cpu().double().numpy()), written)
        return written, answer


class DistillationTask(BundleTrainTask):
    """Training by a bundle that tells how far the latest one has come, by the table of its epochs."""

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> Any:
        """Train by the id ``run``, unless the request names another one."""
        # 3D Slicer sends it empty, and MONAI would then run whatever the configuration can run, the training twice.
        return super().__call__({**request, "run_id": request.get("run_id") or "run"}, datastore)

    def stats(self) -> dict[str, Any]:
        """``epoch``, ``metrics`` of that epoch, and ``stage``; nothing before the first epoch of the first training."""
        stage = "distillation"
        epochs = read_epochs(Path(self.bundle_path, "runs", "default", f"{stage}.csv"))
        if not epochs:
            return {}
        known = {name: value for name, value in epochs[-1].items() if math.isfinite(value)}  # JSON has no other
        return {"stage": stage, "epoch": int(known.pop("epoch")), "metrics": known}


class Uncertainty(ScoringMethod):
    """How unsure a student is of each image that has no final label, so that the least sure can be labelled first.

    The mean over the image of the entropy ``-p log2 p - (1 - p) log2 (1 - p)`` of the probabilities p: 0 to 1.

    Args:
        task: the inference by the student.
        key: under which name the datastore keeps it.
    """

    def __init__(self, task: MaskTask, key: str = _UNCERTAINTY) -> None:
        super().__init__(f"How unsure it is, from 0 to 1: {task.description}")
        self.task = task
        self.key = key

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score the images, those without a score first; at most ``max_samples`` of the request, 0 for all."""
        start = time.time()
        images = sorted(datastore.get_unlabeled_images(), key=lambda image: self.key in datastore.get_image_info(image))
        chosen = images[: request.get("max_samples", 0) or None]
        asked = {key: request[key] for key in ("device",) if key in request}
        scored = 0
        for image in chosen:
            try:
                _, data = self.task({**asked, "image": datastore.get_image_uri(image), "skip_writer": True})
            except (RuntimeError, ValueError, OSError) as error:  # of another kind, for another bundle of the app
                logger.warning(f"{image} cannot be scored: {error.__cause__ or error}")
                continue
            scored += 1
            p = torch.as_tensor(data["prob"]).double().clamp(0, 1)
            entropy = torch.special.entr(p) + torch.special.entr(1 - p)  # in nats
            datastore.update_image_info(image, {self.key: float(entropy.mean()) / math.log(2)})
        return {"total": len(images), "executed": scored, "latency": round(time.time() - start, 3)}


class LabelApp(MONAILabelApp):
    """Offer the bundles in the app's folder `model`, for inference, training and scoring.

    Args:
        app_dir: the app's folder.
        studies: folder or address of the images.
        conf: what the server was told by `--conf`.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        configs = sorted(Path(app_dir).glob("model/*/configs/inference.json"))
        self.bundles = {path.parents[1].name: str(path.parents[1]) for path in configs}
        super().__init__(
            app_dir,
            studies,
            conf,
            name="monai_kd",
            description="Small networks, taught by large ones, that outline what is in an image",
            version=monai_kd.__version__,
        )

    def init_infers(self) -> dict[str, MaskTask]:
        return {name: MaskTask(path, self.conf) for name, path in self.bundles.items()}

    def init_trainers(self) -> dict[str, DistillationTask]:
        return {name: DistillationTask(path, self.conf) for name, path in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        said = "The image that a student was least sure of when it was scored"
        least_sure = {key: Epistemic(key=key, desc=said) for key in map(self._key, self.bundles)}
        return {"random": Random(), "first": First(), **least_sure}

    def _key(self, bundle: str) -> str:
        """Name of a bundle's uncertainty, and of the strategy that goes by it."""
        return _UNCERTAINTY if len(self.bundles) == 1 else f"{_UNCERTAINTY}_{bundle}"

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {"dice": Dice(), **{name: Uncertainty(task, self._key(name)) for name, task in self._infers.items()}}

    def init_batch_infer(self) -> Callable[..., Any]:
        infer = super().init_batch_infer()

        def without_missing_gpus(request: Mapping[str, Any], *others: Any) -> Any:
            # MONAI Label spreads the images over all GPUs, and divides by their number even if that is 0.
            gpus = {} if torch.cuda.is_available() else {"multi_gpu": False}
            return infer({**request, **gpus}, *others)

        return without_missing_gpus
