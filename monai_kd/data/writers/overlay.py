# SPDX-License-Identifier: Apache-2.0
"""Segmentations over the images that they are of, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from monai_kd.data.writers.pictures import grey_picture, read_input, sections, stacked

__all__ = ["CURE", "class_colours", "segmentation_overlay"]

CURE = "undo first what the preprocessing did to the grid, with Invertd or ToInputGridd"
"""What to do about a segmentation that is on another grid than its image."""

# Amber stands out from grey for colour-blind readers too; the others are those of M. Okabe and K. Ito.
_COLOURS = ((255, 200, 0), (86, 180, 233), (213, 94, 0), (0, 158, 115), (204, 121, 167), (0, 114, 178), (240, 228, 66))


def class_colours(number: int) -> list[tuple[int, int, int]]:
    """Colours that tell classes apart, red, green and blue of each: as many as are asked for, the first is amber.

    >>> class_colours(2)
    [(255, 200, 0), (86, 180, 233)]
    """
    more = matplotlib.colormaps["tab20"](range(20), bytes=True)[:, :3].tolist()
    colours = [*_COLOURS, *((red, green, blue) for red, green, blue in more)]
    return [colours[index % len(colours)] for index in range(number)]


def segmentation_overlay(
    source: str,
    classes: np.ndarray,
    names: Sequence[str],
    grid: nib.Nifti1Image | None,
    planes: Sequence[str],
    projection: bool,
) -> Image.Image:
    """The input in grey with each class's outline in its colour, and with a legend below where there are several.

    Args:
        source: path of the input file.
        classes: number of the class of each pixel or voxel, (x, y[, z]), 0 for none.
        names: of the classes from 1 on.
        grid: of a volume; none of a picture.
        planes: sections that are shown of a volume, at the place where most of it belongs to a class.
        projection: show maximum-intensity projections of a volume, and below them the same with the classes coloured.

    Raises:
        ValueError: when the classes are not on the input's grid.
    """
    image = read_input(source, is_flat=classes.ndim == 2)
    if image.shape[: classes.ndim] != classes.shape:
        raise ValueError(f"{source}: expected its shape {image.shape}, got {classes.shape}: {CURE}")
    image = image.reshape(*classes.shape, -1)[..., 0]
    projection = projection and classes.ndim == 3
    layers = [classes == number for number in range(1, len(names) + 1)]
    if grid is not None:
        planes = planes if classes.ndim == 3 else ("axial",)
        pairs = [sections(image, layer, grid.affine, planes, projection, classes != 0) for layer in layers]
        image, layers = pairs[0][0], [layer > 0.5 for _, layer in pairs]
    grey = grey_picture(image)
    coloured = grey.copy()
    width = 1 if min(image.shape) < 256 else 2
    for layer, colour in zip(layers, class_colours(len(names))):
        if projection:
            coloured[layer.T] = (0.4 * grey[layer.T] + 0.6 * np.array(colour)).astype(np.uint8)
        else:
            coloured[(layer & ~ndimage.binary_erosion(layer, iterations=width)).T] = colour
    picture = Image.fromarray(stacked(grey, coloured) if projection else coloured)
    return _with_legend(picture, names) if len(names) > 1 else picture


def _with_legend(picture: Image.Image, names: Sequence[str]) -> Image.Image:
    """A picture with the names of the classes below it, each behind a square of its colour: nothing is covered."""
    size = max(10, min(picture.height // 24, 32))
    font, line = ImageFont.load_default(size), size + size // 4
    width = 2 * size + int(max(font.getlength(name) for name in names))
    legend = Image.new("RGB", (max(picture.width, width), picture.height + line * len(names) + size // 4))
    legend.paste(picture)
    draw = ImageDraw.Draw(legend)
    for number, (name, colour) in enumerate(zip(names, class_colours(len(names)))):
        left, top = size // 4, picture.height + size // 4 + number * line
        draw.rectangle((left, top + size // 4, left + size // 2, top + 3 * size // 4), colour)
        draw.text((left + size, top), name, colour, font)
    return legend
