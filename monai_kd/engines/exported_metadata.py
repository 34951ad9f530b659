# SPDX-License-Identifier: Apache-2.0
"""What an exported file says about itself: enough to use it without its bundle, and without this project."""

from __future__ import annotations

import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from monai.utils import CommonKeys, ensure_tuple, ensure_tuple_rep

from monai_kd.files import read_json

from .evaluation import values_of
from .export import FORMATS, load_exported
from .model_card import describe_data, is_generated

__all__ = ["describe_network", "embedded_config", "latest_scores", "read_metadata"]

_PICTURES = "x is the column and y the row of a picture: an array (row, column) is transposed, before and after"
_VOLUMES = "x, y, z are the first three axes of a NIfTI file's array, turned to the orientation that is named"

_STEPS = {
    "LoadImage": "read as one channel of grey values; of colours, the luma 0.299 red + 0.587 green + 0.114 blue",
    "Magnitude": "take the magnitude",
    "ScaleIntensity": "scale linearly, the image's smallest value to {minv} and its largest to {maxv}",
    "ScaleIntensityRangePercentiles": "scale linearly, the image's percentile {lower} to {b_min} and its percentile "
    "{upper} to {b_max}, and clip there",
    "ScaleByMaximum": "divide by the image's largest magnitude",
    "CastToType": "cast to {dtype}, which cuts off what is behind the point",
    "ResizeInPlane": "resize x and y to {spatial_size} pixels, linearly between the centres of pixels; where one of "
    "them shrinks, an axis of n pixels that become m is smoothed before, by a Gaussian of the standard deviation "
    "(n / m - 1) / 2 pixels, at least 0, with 0 beyond the edge",
    "RepeatChannel": "repeat the channel {repeats} times",
    "NormalizeIntensity": "subtract {subtrahend} and divide by {divisor}, one number for all channels or one for each",
    "Orientation": "turn the axes to {axcodes}",
    "Spacing": "resample to voxels of {pixdim} mm, linearly; -1 keeps the image's own",
    "SpatialPad": "pad with 0 to at least {spatial_size} voxels, as much before as behind",
    "DivisiblePad": "pad with 0 to multiples of {k} voxels, as much before as behind",
    "ReduceResolution": "reduce every axis {reduction}, where a new pixel is the mean of those that it covers, and "
    "bring it back to the size that it had, {back}",
    "LowerResolution": "of k-space, whose centre is n // 2 of an axis of n, keep the round(n / {factor}) positions in "
    "the middle along x and along y both, and 0 elsewhere, and take the magnitude: as large, and less sharp",
    "Undersample": "{first}keep the acquired lines of k-space (`acquired_lines`, counted along {across}; the centre of "
    "n is n // 2), and 0 elsewhere; the channels are the real and the imaginary part{noise}",
    "Activations": "turn the logits into probabilities, by the `activation`",
    "Invert": "{rescale}bring the result back to the image's own size and orientation, linearly",
    "ToInputGrid": "bring the result back to the image's own grid, linearly",
    "AsDiscrete": "what is at or above {threshold} is foreground",
    "LargestComponent": "keep the largest component of voxels that are connected by their faces, and fill its holes",
}
"""What a transform does, for those who do not have it, by its name without the d of the dictionary form."""

_CHANGE_NOTHING = {"EnsureChannelFirst", "EnsureType", "CheckImage", "CopyItems", "LabelServerMask"}


def describe_network(
    config: Mapping[str, Any],
    bundle: Mapping[str, Any],
    licence: str,
    trained: Mapping[str, Any] | None = None,
    scores: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What an exported student has to say about itself, so that it can be used without its bundle.

    Args:
        config: the bundle's ``inference.json``, with the run's settings.
        bundle: its ``metadata.json``.
        licence: text of its licence.
        trained: the configuration that is kept beside the weights; none of the bundle's own weights, of whose training
            the metadata tell, and of weights of which nothing is known.
        scores: metrics of the weights on test cases, by name.

    Returns:
        All that ``bundle`` says, with the network's own size in ``network_data_format``, and ``bundle`` (its identity),
        ``license``; ``class_names``: the configuration's, or else what the metadata call the channels of the prediction
        (or the values 0 and 1 of a mask of one channel); ``input``: ``axes`` and ``axis_order``, ``size`` in pixels or
        voxels, ``value_range``, ``scaled_to`` and ``normalisation`` in numbers, ``spacing`` in mm, ``orientation``,
        ``window`` where one slides, and ``steps`` in words; ``output``: ``axes``, ``values``, ``activation``,
        ``threshold`` and ``steps``; ``preprocessing``: the configuration's transforms with the settings they refer to;
        ``model_ids``: the settings that the network was trained with; ``training_data`` in words, ``generated``:
        whether these are generated (null if not known), and ``metrics``. What the configuration itself says under
        ``described``, by ``input`` and ``output``, comes first.
    """
    parser = ConfigParser(dict(config))
    data_format = json.loads(json.dumps(bundle["network_data_format"]))
    image, prediction = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    if "class_names" in config:
        class_names = parser.get_parsed_content("class_names")  # they may be an expression of other settings
    else:
        class_names = prediction["channel_def"]
    preprocessing = _resolve(config["preprocessing"], parser)
    own = parser.get_parsed_content("described") if "described" in config else {}
    before = list(_applied(preprocessing, parser))
    taken = {**_describe_input(config, parser, image, before), **own.get("input", {})}
    for tensor in (image, prediction):
        if tensor["spatial_shape"]:
            tensor["spatial_shape"] = taken["size"]
    return {
        **bundle,
        "bundle": bundle.get("identity", bundle["name"]),
        "license": licence,
        "network_data_format": data_format,
        "class_names": class_names,
        "input": taken,
        "output": {**_describe_output(config, parser, prediction, before), **own.get("output", {})},
        "preprocessing": preprocessing,
        "model_ids": {key: config[key] for key in config["model_ids"]},
        **_describe_training(bundle, trained),
        "metrics": dict(scores or {}),
    }


def _describe_training(bundle: Mapping[str, Any], trained: Mapping[str, Any] | None) -> dict[str, Any]:
    if trained:
        return {"training_data": describe_data(trained, bundle), "generated": is_generated(trained)}
    unknown = "not known: there is no configuration beside the weights"
    return {"training_data": bundle.get("training_data", unknown), "generated": bundle.get("generated")}


def _describe_input(
    config: Mapping[str, Any],
    parser: ConfigParser,
    data_format: Mapping[str, Any],
    steps: list[tuple[str, Mapping[str, Any]]],
) -> dict[str, Any]:
    """Arguments of the transforms as facts; a transform that is there twice says it last."""
    arguments = dict(steps)
    scaling = arguments.get("ScaleIntensity", {})
    percentiles = arguments.get("ScaleIntensityRangePercentiles", {})
    normalisation = arguments.get("NormalizeIntensity")
    size = list(data_format["spatial_shape"])
    if "image_size" in config:
        size[:2] = [parser["image_size"]] * 2
    inferer: Any = parser.get_parsed_content("inferer") if "inferer" in config else None
    inferer = getattr(inferer, "inferer", inferer)
    windows = isinstance(inferer, SlidingWindowInferer)
    if windows:
        window = ensure_tuple(inferer.roi_size)  # its axes are the network's, where a bundle takes flat images too
        size = list(ensure_tuple_rep(inferer.roi_size, len(size) if len(window) == 1 else len(window)))
    mask: Any = parser.get_parsed_content("mask") if "Undersample" in arguments else None
    described = {
        "axes": _axes(size),
        "axis_order": _PICTURES if len(data_format["spatial_shape"]) == 2 else _VOLUMES,
        "dtype": data_format["dtype"],
        "channels": data_format["num_channels"],
        "size": size,
        "value_range": data_format["value_range"],
        "scaled_to": [scaling.get("minv", percentiles.get("b_min")), scaling.get("maxv", percentiles.get("b_max"))],
        "normalisation": normalisation and {key: normalisation[key] for key in ("subtrahend", "divisor")},
        "spacing": arguments.get("Spacing", {}).get("pixdim"),
        "orientation": arguments.get("Orientation", {}).get("axcodes"),
        "steps": _in_words(steps, **({} if mask is None else {"across": "xy"[mask.axis]})),
    }
    if windows:
        described["window"] = {"overlap": inferer.overlap, "weights": str(inferer.mode), "average_of": "logits"}
    if mask is not None:
        described["acquired_lines"] = mask(size[mask.axis]).nonzero().flatten().tolist()
    return described


def _axes(spatial_shape: Sequence[int]) -> str:
    return ", ".join(["batch", "channel", "x", "y", "z"][: 2 + len(spatial_shape)])


def _describe_output(
    config: Mapping[str, Any],
    parser: ConfigParser,
    data_format: Mapping[str, Any],
    before: list[tuple[str, Mapping[str, Any]]],
) -> dict[str, Any]:
    rescale = "multiply by the image's largest magnitude again, and " if "ScaleByMaximum" in dict(before) else ""
    # What undoes the preprocessing names it, and needs it not said a second time.
    alone = ConfigParser({**config, "preprocessing": "the preprocessing"})
    steps = list(_applied(_resolve(config.get("postprocessing", {}), alone), parser, CommonKeys.PRED))
    arguments = dict(steps)
    activation = [key for key in ("sigmoid", "softmax") if arguments.get("Activations", {}).get(key)]
    likely = 0.5 if activation == ["sigmoid"] and not data_format["spatial_shape"] else None  # as the writer has it
    return {
        "axes": _axes(data_format["spatial_shape"]) if data_format["spatial_shape"] else "batch, class",
        "values": "logits" if activation else "image",
        "activation": activation[0] if activation else "none",
        "threshold": arguments.get("AsDiscrete", {}).get("threshold", likely),
        "steps": _in_words(steps, rescale=rescale),
    }


def _applied(
    transforms: Mapping[str, Any], parser: ConfigParser, key: str = CommonKeys.IMAGE
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and arguments of each transform of a key, without those that are switched off."""
    for step in transforms.get("transforms", ()):
        if not isinstance(step, Mapping) or key not in ensure_tuple(step.get("keys", ())):
            continue
        disabled = step.get("_disabled_", False)
        if isinstance(disabled, str):
            parser["is_disabled"] = disabled
            disabled = parser.get_parsed_content("is_disabled")
        if not disabled:
            name = str(step.get("_target_", "")).rpartition(".")[-1].removesuffix("d")
            plain = {key: value if key == "_target_" else _evaluated(value, parser) for key, value in step.items()}
            yield name.removeprefix("Served").removesuffix("InPlace"), plain  # which do the same


def _evaluated(value: Any, parser: ConfigParser) -> Any:
    """What an expression gives, where that is a number or text, or several; any other value as it is."""
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    parser["evaluated"] = value
    found = parser.get_parsed_content("evaluated")
    return found if isinstance(found, (bool, int, float, str, list, tuple)) else value


def _in_words(steps: list[tuple[str, Mapping[str, Any]]], **known: str) -> list[str]:
    """What each transform does; one that is not known here by its name, as `preprocessing` has its arguments."""
    said = []
    for name, arguments in steps:
        if name not in _CHANGE_NOTHING:
            words = {**arguments, **_reduction(arguments), **_noise(arguments), **known}
            step = _STEPS.get(name, f"apply {name}").format_map(defaultdict(lambda: "(not set)", words))
            said.append(step.replace("$np.", ""))
    return said


def _reduction(arguments: Mapping[str, Any]) -> dict[str, str]:
    """How far and how `ReduceResolution` goes there and back, in words."""
    by, nearest = arguments.get("factor"), str(arguments.get("mode_back", "")).startswith("nearest")
    return {
        "reduction": f"to {arguments.get('spatial_size')} pixels" if by is None else f"by the factor {by}, n pixels to "
        f"round(n / {by})",
        "back": "by the nearest pixel" if nearest else "linearly between the centres of pixels",
    }


def _noise(arguments: Mapping[str, Any]) -> dict[str, str]:
    """What `Undersample` does beside leaving lines out."""
    std = arguments.get("noise_std", 0)
    return {
        "first": "take the magnitude, and " if arguments.get("magnitude") is True else "",
        "noise": f"; with Gaussian noise of {std} of the largest magnitude in each" if std else "",
    }


def embedded_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """``inference.json`` as a TorchScript file holds it for MONAI Deploy: with no folder of this machine."""
    return {**config, "bundle_root": "."} if "bundle_root" in config else dict(config)


def latest_scores(checkpoint: Path) -> dict[str, float]:
    """Metrics of a run's student on the test cases, where it was evaluated since it was trained; else none."""
    places = [checkpoint.parent / "evaluation" / name for name in ("summary.json", "distilled_student/summary.json")]
    since = checkpoint.stat().st_mtime
    found = [place for place in places if place.is_file() and place.stat().st_mtime >= since]
    if checkpoint.name != "model.pt" or not found:
        return {}
    newest = max(found, key=lambda place: place.stat().st_mtime)
    return {name: round(value, 4) for name, value in values_of(read_json(newest)).items()}


def read_metadata(file: str | os.PathLike) -> dict[str, Any]:
    """What an exported file says about itself."""
    if Path(file).suffix != FORMATS["onnx"]:
        return _torchscript_metadata(Path(file))
    network: Any = load_exported(file)
    return {name: json.loads(text) for name, text in network.metadata.items()}


def _torchscript_metadata(file: Path) -> dict[str, Any]:
    """What `save_net_with_metadata` wrote beside a network, which is code, and need not be loaded for this.

    Raises:
        ValueError: when it is no TorchScript file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/extra/metadata.json")]
            content = json.loads(archive.read(names[0])) if names else {}
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # zipfile has others for damaged files: of the system, of zlib, RuntimeError and more
        raise ValueError(f"{file} is no TorchScript file, or damaged ({error}); export or copy it again") from error
    return content if isinstance(content, dict) else {}


def _resolve(value: Any, parser: ConfigParser) -> Any:
    """A part of a configuration with the text of what it refers to in the place of ``@id``."""
    if isinstance(value, Mapping):
        return {key: _resolve(entry, parser) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolve(entry, parser) for entry in value]
    if isinstance(value, str) and value.startswith("@"):
        return _resolve(parser[value[1:].replace("::", "#")], parser)
    return value
