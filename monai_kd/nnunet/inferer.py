# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's sliding window over whole images, for any network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from .installed import nnunet, quietly
from .plans import STANDARD_TRAINER, NnunetPlans
from .recipe import NnunetRecipe

__all__ = ["NnunetInferer"]


class NnunetInferer(Inferer):
    """Apply a network by nnU-Net's predictor: overlapping windows of the plans' patch, blended by a Gaussian.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        mirroring: average over all mirrorings of a window that its trainer made, as ``nnUNetv2_predict`` does unless
            told ``--disable_tta``: up to 4 or 8 times the work.
        step_size: of the windows, as a share of the patch, above 0 up to 1.

    Raises:
        ValueError: when ``step_size`` is out of its range.
    """

    def __init__(
        self, plans: Mapping[str, Any], description: Mapping[str, Any], mirroring: bool = False, step_size: float = 0.5
    ) -> None:
        super().__init__()
        if not 0 < step_size <= 1:
            raise ValueError(f"step_size must be above 0 and up to 1, got {step_size}")
        self.plans = plans
        self.description = description
        self.mirroring = mirroring
        self.step_size = step_size
        self._predictors: dict[torch.device, Any] = {}

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """
        Args:
            inputs: images (B, C, z, y, x) as nnU-Net preprocesses them; a 2d configuration sees one slice after the
                other.
            network: from (b, C, *patch) to logits (b, K, *patch), in evaluation mode.
            args: further inputs of the network.
            kwargs: further inputs of the network by name.

        Returns:
            Logits (B, K, z, y, x) in float32.
        """
        device = inputs.device
        if device not in self._predictors:
            self._predictors[device] = self._predictor(device)
        predictor = self._predictors[device]
        predictor.network = _Applied(lambda window: network(window, *args, **kwargs))
        images = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        return torch.stack([predictor.predict_sliding_window_return_logits(image) for image in images]).float()

    def _predictor(self, device: torch.device) -> Any:
        known = NnunetPlans(self.plans, self.description)
        with quietly():
            predictor = nnunet("inference.predict_from_raw_data").nnUNetPredictor(
                tile_step_size=self.step_size,
                use_mirroring=self.mirroring,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )
        axes = NnunetRecipe(known).mirror_axes
        predictor.manual_initialization(
            None, known.manager, known.configuration, None, known.description, STANDARD_TRAINER, axes
        )
        return predictor


class _Applied(nn.Module):
    """A function as the module that the predictor wants, which moves it and sets its mode."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, window: Tensor) -> Any:
        return self.function(window)
