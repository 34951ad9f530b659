# SPDX-License-Identifier: Apache-2.0
"""An exported network of pictures as others use it: by onnxruntime, NumPy and what the file says about itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def read(file: Path) -> dict[str, Any]:
    """What an ONNX file says about itself."""
    kept = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    return {name: json.loads(text) for name, text in kept.items()}


def apply(file: Path, pixels: np.ndarray) -> np.ndarray:
    """Probabilities (1, C, x, y) or (1, C) of a grey picture (row, column)."""
    told = read(file)
    wanted = told["input"]
    assert wanted["axes"] == "batch, channel, x, y" and "transposed" in wanted["axis_order"]
    image = pixels.T.astype(np.float32)
    low, high = wanted["scaled_to"]
    image = (image - image.min()) / (image.max() - image.min()) * (high - low) + low
    image = np.floor(image)  # the step `cast to uint8`
    image = resize(image, wanted["size"], smooth=True)
    channels = np.repeat(image[None], wanted["channels"], axis=0)
    mean, deviation = (np.reshape(wanted["normalisation"][key], (-1, 1, 1)) for key in ("subtrahend", "divisor"))
    batch = ((channels - mean) / deviation)[None].astype(wanted["dtype"])
    logits = onnxruntime.InferenceSession(file).run(None, {"image": batch})[0].astype(float)
    if told["output"]["activation"] == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def resize(image: np.ndarray, size: tuple[int, ...], smooth: bool = False) -> np.ndarray:
    """An array in another size, linearly between the centres of pixels; smoothed before where it shrinks."""
    shrinks = any(few < many for few, many in zip(size, image.shape))
    for axis, few in enumerate(size):
        many = image.shape[axis]
        image = np.moveaxis(image, axis, 0).astype(float)
        if smooth and shrinks:
            image = _gaussian(many, max(0.0, (many / few - 1) / 2)) @ image
        places = np.clip((np.arange(few) + 0.5) * many / few - 0.5, 0, many - 1)
        first = np.floor(places).astype(int)
        share = (places - first)[:, None]
        image = (1 - share) * image[first] + share * image[np.minimum(first + 1, many - 1)]
        image = np.moveaxis(image, 0, axis)
    return image


def _gaussian(many: int, deviation: float) -> np.ndarray:
    """The matrix of a convolution by a Gaussian's shares of pixels, cut off at four standard deviations."""
    reach = int(max(4 * deviation, 0.5) + 0.5)

    def below(place: float) -> float:
        return 0.5 * (1 + math.erf(place / (deviation * math.sqrt(2)))) if deviation else float(place > 0)

    kernel = np.array([below(at + 0.5) - below(at - 0.5) for at in range(-reach, reach + 1)])
    matrix = np.zeros((many, many + 2 * reach))
    for row in range(many):
        matrix[row, row : row + len(kernel)] = kernel
    return matrix[:, reach : reach + many]
