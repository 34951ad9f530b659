# SPDX-License-Identifier: Apache-2.0
"""The app of a MONAI Label server. Only this module needs the package `monailabel`, and only that server imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import SqueezeDimd
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask

import monai_kd

__all__ = ["LabelApp", "MaskTask"]


class MaskTask(BundleInferTask):
    """Inference by a bundle that gives a mask on the grid of its input, of pictures as of volumes.

    MONAI Label would bring the mask to the input's size, which it has, keep the channel of a picture's, and write
    floating point numbers, which no picture can hold.

    Args:
        path: the bundle's folder.
        conf: what the server was told by `--conf`.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        super().__init__(path, conf, type="segmentation", add_post_restore=False, config={"result_dtype": "uint8"})

    def run_pre_transforms(self, data: dict[str, Any], transforms: Sequence[Callable]) -> dict[str, Any]:
        # MONAI's Spacingd takes every `image_...` for metadata; this one is the path, which is needed for the result.
        path = data.pop("image_path", None)
        return {**super().run_pre_transforms(data, transforms), "image_path": path}

    def post_transforms(self, data: Any = None) -> Sequence[Callable]:
        return [*super().post_transforms(data), SqueezeDimd(keys=self.key_pred)]


class LabelApp(MONAILabelApp):
    """Offer the bundles in the app's folder `model`, for inference and for training.

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

    def init_trainers(self) -> dict[str, BundleTrainTask]:
        return {name: BundleTrainTask(path, self.conf) for name, path in self.bundles.items()}
