# SPDX-License-Identifier: Apache-2.0
"""Writer of the classes that batch inference predicts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from monai.utils import CommonKeys as Keys
from monai.utils import ImageMetaKey
from PIL import Image, ImageDraw, ImageFont

from monai_kd.data.writers.pictures import grey_picture, read_picture, save_files, with_square_pixels

__all__ = ["ClassificationWriter"]

_COLOURS = "inferno"  # lightness rises evenly, for colour-blind readers too
_OPACITY = 0.6


class ClassificationWriter:
    """Say which class, or which classes, an image is predicted to be of, and show what the prediction looks at.

    With ``overlay`` there is a file ``<stem>_overlay.png``: the input in grey as the network saw it, in its own size,
    the explanation over it in colour, and class and probability in a corner. The map is stretched to the whole
    range of colours: its smallest value leaves the grey as it is, its largest is yellow. Several maps come side by
    side.

    Args:
        class_names: names of the classes, in the order of the probabilities.
        overlay: write the overlay.
        multi_label: the classes do not exclude each other, and those at or above 0.5 are predicted, joined by ``|``.
        pred_key: key of the probabilities (C,), which sum to 1 unless they are ``multi_label``.
        explanation_key: key of the maps (M, x, y) of what speaks for the class, on a grid that covers the whole image.
        image_key: key of the image, a `MetaTensor` whose metadata name the input file. It and the map are needed for
            the overlay only.

    >>> import torch
    >>> ClassificationWriter(["benign", "malignant"])({"pred": torch.tensor([0.25, 0.75])}, "anna")
    {'output': '', 'predicted': 'malignant', 'benign': 0.25, 'malignant': 0.75}
    """

    def __init__(
        self,
        class_names: Sequence[str],
        overlay: bool = False,
        multi_label: bool = False,
        pred_key: str = Keys.PRED,
        explanation_key: str = "explanation",
        image_key: str = Keys.IMAGE,
    ) -> None:
        self.class_names = list(class_names)
        self.overlay = overlay
        self.multi_label = multi_label
        self.pred_key = pred_key
        self.explanation_key = explanation_key
        self.image_key = image_key

    def __call__(self, sample: Mapping[str, Any], stem: str | os.PathLike) -> dict[str, Any]:
        """Write one sample's overlay, if it is wanted.

        Args:
            sample: the probabilities, and the image and the explanation for the overlay.
            stem: path of the file up to ``_overlay``; its folder is made if need be.

        Returns:
            A row for a table: ``output`` (Path of the overlay, or ""), ``predicted`` (name of the likeliest class, or
            names of the likely ones), and the probability of every class by its name, rounded to six digits.

        Raises:
            ValueError: when there are no probabilities of C classes, when the explanation is not (M, x, y), or when an
                overlay is wanted of a volume.
        """
        probabilities = sample[self.pred_key].detach().cpu().double().numpy()
        self._check(probabilities)
        likely = np.flatnonzero(probabilities >= 0.5) if self.multi_label else [probabilities.argmax()]
        output: Path | str = ""
        if self.overlay:
            source = str(sample[self.image_key].meta[ImageMetaKey.FILENAME_OR_OBJ])
            picture = _overlay(source, sample[self.explanation_key].detach().cpu().float().numpy())
            between = " " if self.multi_label else "\n"
            lines = [f"{self.class_names[index]}{between}{probabilities[index]:.3f}" for index in likely]
            _write_corner(picture, "\n".join(lines))
            output = save_files({"_overlay.png": picture}, Path(stem))
        numbers = {name: round(float(value), 6) for name, value in zip(self.class_names, probabilities)}
        return {"output": output, "predicted": "|".join(self.class_names[index] for index in likely), **numbers}

    def _check(self, probabilities: np.ndarray) -> None:
        number = len(self.class_names)
        if self.multi_label:
            wanted, activation = f"{number} probabilities, each from 0 to 1", "sigmoid"
            right = bool(np.all((probabilities >= 0) & (probabilities <= 1)))
        else:
            wanted, activation = f"the probabilities of {number} classes, which sum to 1", "softmax"
            right = abs(probabilities.sum() - 1) <= 1e-3
        if probabilities.shape != (number,) or not right:
            raise ValueError(
                f"expected {wanted}, got shape {probabilities.shape} and sum {probabilities.sum():.4g}; apply "
                f"{activation} in the postprocessing"
            )


def _overlay(source: str, explanation: np.ndarray) -> Image.Image:
    """The input in grey, each map over it in colour."""
    image, spacing = read_picture(source)
    if explanation.ndim != 3 or not len(explanation):
        raise ValueError(f"{source}: expected an explanation (M, x, y), got {explanation.shape}")
    return Image.fromarray(np.concatenate([_coloured(image, heat, spacing) for heat in explanation], axis=1))


def _coloured(image: np.ndarray, heat: np.ndarray, spacing: np.ndarray | None) -> np.ndarray:
    """An image (x, y) in grey, a map over it in colour, as pixels (row, column, 3), square ones by their spacing."""
    heat = heat - heat.min()
    heat = heat / (heat.max() or 1)
    # In a size, Pillow names an array's last axis first.
    heat = np.asarray(Image.fromarray(heat).resize(image.shape[::-1], Image.Resampling.BILINEAR))
    if spacing is not None:
        image, heat = (with_square_pixels(each, spacing, spacing.min()) for each in (image, heat))
    opacity = _OPACITY * heat.T[..., None]
    colours = 255 * matplotlib.colormaps[_COLOURS](heat.T)[..., :3]
    return np.round((1 - opacity) * grey_picture(image) + opacity * colours).astype(np.uint8)


def _write_corner(picture: Image.Image, text: str) -> None:
    size = max(8, picture.height // 24)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).multiline_text((size // 4, 0), text, "white", font, stroke_width=1, stroke_fill="black")
