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

from monai_kd.data.pictures import grey_picture, nifti_grid, read_input, save_files, sections

__all__ = ["ClassificationWriter"]

_COLOURS = "inferno"  # lightness rises evenly, for colour-blind readers too
_OPACITY = 0.6


class ClassificationWriter:
    """Say which class an image is predicted to be of, and show what the prediction looks at.

    With ``overlay`` there is a file ``<stem>_overlay.png``: the input in grey, as wide, as high and as upright as it
    is, the explanation over it in colour, and class and probability in a corner. The map is stretched to the whole
    range of colours: its smallest value leaves the grey as it is, its largest is yellow.

    Args:
        class_names: names of the classes, in the order of the probabilities.
        overlay: write the overlay.
        pred_key: key of the probabilities (C,), which sum to 1.
        explanation_key: key of the map (1, x, y) of what speaks for the class, on any grid that covers the whole image.
        image_key: key of the image, a `MetaTensor` whose metadata name the input file. It and the map are needed for
            the overlay only.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        overlay: bool = False,
        pred_key: str = Keys.PRED,
        explanation_key: str = "explanation",
        image_key: str = Keys.IMAGE,
    ) -> None:
        self.class_names = list(class_names)
        self.overlay = overlay
        self.pred_key = pred_key
        self.explanation_key = explanation_key
        self.image_key = image_key

    def __call__(self, sample: Mapping[str, Any], stem: str | os.PathLike) -> dict[str, Any]:
        """Write one sample's overlay, if it is wanted.

        Args:
            sample: the probabilities, and the image and the explanation for the overlay.
            stem: path of the file up to ``_overlay``; its folder is made if need be.

        Returns:
            A row for a table: ``output`` (Path of the overlay, or ""), ``predicted`` (name of the likeliest class), and
            the probability of every class by its name, rounded to six digits.

        Raises:
            ValueError: when there are no probabilities of C classes, when the explanation is not (1, x, y), or when an
                overlay is wanted of a volume.
        """
        probabilities = sample[self.pred_key].detach().cpu().double().numpy()
        if probabilities.shape != (len(self.class_names),) or abs(probabilities.sum() - 1) > 1e-3:
            raise ValueError(
                f"expected the probabilities of {len(self.class_names)} classes, which sum to 1, got shape "
                f"{probabilities.shape} and sum {probabilities.sum():.4g}; apply softmax in the postprocessing"
            )
        best = probabilities.argmax()
        predicted = self.class_names[best]
        output: Path | str = ""
        if self.overlay:
            source = str(sample[self.image_key].meta[ImageMetaKey.FILENAME_OR_OBJ])
            picture = _overlay(source, sample[self.explanation_key].detach().cpu().float().numpy())
            _write_corner(picture, f"{predicted}\n{probabilities[best]:.3f}")
            output = save_files({"_overlay.png": picture}, Path(stem))
        numbers = {name: round(float(value), 6) for name, value in zip(self.class_names, probabilities)}
        return {"output": output, "predicted": predicted, **numbers}


def _overlay(source: str, explanation: np.ndarray) -> Image.Image:
    """The input in grey, the map over it in colour."""
    image, grid = read_input(source), nifti_grid(source)
    columns, rows = image.shape[:2]
    if image.size != columns * rows:
        raise ValueError(f"{source}: an overlay is of a flat image, got shape {image.shape}; infer without overlay")
    image = image.reshape(columns, rows)
    if explanation.ndim != 3 or len(explanation) != 1:
        raise ValueError(f"{source}: expected an explanation (1, x, y), got {explanation.shape}")
    heat = explanation[0] - explanation.min()
    heat = heat / (heat.max() or 1)
    # In a size, Pillow names an array's last axis first.
    heat = np.asarray(Image.fromarray(heat).resize((rows, columns), Image.Resampling.BILINEAR))
    if grid is not None:
        image, heat = sections(image, heat, grid.affine)
    opacity = _OPACITY * heat.T[..., None]
    colours = 255 * matplotlib.colormaps[_COLOURS](heat.T)[..., :3]
    return Image.fromarray(np.round((1 - opacity) * grey_picture(image) + opacity * colours).astype(np.uint8))


def _write_corner(picture: Image.Image, text: str) -> None:
    size = max(8, picture.height // 24)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).multiline_text((size // 4, 0), text, "white", font, stroke_width=1, stroke_fill="black")
