# SPDX-License-Identifier: Apache-2.0
"""What a student of nnU-Net's plans needs to be told around it, for those who run it without nnU-Net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plans import MIRROR_AXES, class_names, configuration_of, has_regions

__all__ = ["channel_names", "describe_student"]

_INTENSITIES = ("mean", "std", "percentile_00_5", "percentile_99_5")
_SCHEMES = {
    "ZScoreNormalization": "subtract the channel's mean and divide by its standard deviation (at least 1e-8); where "
    "use_mask, both are of what lies inside of the box's nonzero mask, and the rest stays 0",
    "CTNormalization": "clip to percentile_00_5 and percentile_99_5, subtract mean, divide by std (at least 1e-8)",
    "NoNormalization": "nothing",
    "RescaleTo01Normalization": "scale linearly, the smallest value to 0 and the largest to 1",
    "RGBTo01Normalization": "divide by 255",
}


def channel_names(description: Mapping[str, Any]) -> dict[str, str]:
    """What the channels of a prediction are: the background and the classes, or the regions.

    >>> channel_names({"labels": {"background": 0, "kidney": 1}})
    {'0': 'background', '1': 'kidney'}
    """
    names = class_names(description) if has_regions(description) else ["background", *class_names(description)]
    return {str(number): name for number, name in enumerate(names)}


def describe_student(
    plans: Mapping[str, Any], description: Mapping[str, Any], step_size: float = 0.5, mirroring: bool = False
) -> dict[str, Any]:
    """Spacing, normalisation, patch and what becomes of the logits, in words and numbers.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        step_size: of the window, in windows.
        mirroring: whether the logits are averaged over mirrorings.

    Returns:
        What an exported file says of its ``input`` and ``output`` (``described`` of ``inference.json``).
    """
    chosen = plans["configurations"][configuration_of(plans)]
    regions, patch = has_regions(description), list(chosen["patch_size"])
    is_flat = len(patch) == 2
    axes = plans.get(MIRROR_AXES, range(len(patch))) or []
    mirroring = mirroring and bool(axes)
    mirrorings = "mirrorings"
    if MIRROR_AXES in plans:
        mirrorings += f" along the axes {', '.join(map(str, axes))} of the window"
    order = "the file's array read as (z, y, x), whose axes are then ordered by `transpose`"
    flat = "; the network sees the slices of the first axis one by one" if is_flat else ""
    spacing = "the axes 2 and 3" if is_flat else "all axes"
    steps = [
        "read the channels of a case, and order their axes by `transpose`",
        "crop all to the box of what is not 0 in any of them",
        "normalise each channel as `normalisation` says",
        f"resample {spacing} to `spacing`, by splines of order 3; thick slices apart, the nearest of them",
        "pad with 0 to at least the window, and slide it; add up its logits times the weights, and divide by their sum",
        *([f"in each window take the mean of the logits over all {mirrorings}, mirrored back"] if mirroring else []),
    ]
    back = [
        "resample the logits to the grid of the cropped image, linearly",
        "where sigmoid is above 0.5, write the region's number of `regions_class_order`, later over earlier ones"
        if regions
        else "the class of the largest logit",
        "put it into the uncropped image, 0 outside, and undo `transpose`",
    ]
    return {
        "input": {
            "axes": "batch, channel, y, x" if is_flat else "batch, channel, z, y, x",
            "axis_order": order + flat,
            "channels": len(description["channel_names"]),
            "size": patch,
            "value_range": [],
            "scaled_to": [None, None],
            "transpose": plans["transpose_forward"],
            "spacing": chosen["spacing"],
            "orientation": None,
            "normalisation": _normalisation(plans, chosen, description),
            "window": {
                "size": patch,
                "step": step_size,
                "mirrored": mirroring,
                "weights": "Gaussian of a standard deviation of an eighth of the window, its maximum 10",
                "average_of": "logits",
            },
            "steps": steps,
        },
        "output": {
            "values": "logits",
            "activation": "sigmoid" if regions else "softmax",
            "threshold": 0.5 if regions else None,
            "regions_class_order": description.get("regions_class_order"),
            "steps": back,
        },
    }


def _normalisation(
    plans: Mapping[str, Any], chosen: Mapping[str, Any], description: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """How each channel is normalised, in words and numbers."""
    intensities = plans.get("foreground_intensity_properties_per_channel") or {}
    described = []
    for number, (scheme, use_mask) in enumerate(zip(chosen["normalization_schemes"], chosen["use_mask_for_norm"])):
        own = intensities.get(str(number), {}) if scheme == "CTNormalization" else {}
        described.append(
            {
                "channel": description["channel_names"].get(str(number), str(number)),
                "scheme": scheme,
                "does": _SCHEMES.get(scheme, "as nnU-Net's class of this name"),
                "use_mask": use_mask,
                **{key: own[key] for key in _INTENSITIES if key in own},
            }
        )
    return described
