# SPDX-License-Identifier: Apache-2.0
"""What an exported file says about itself, by a small configuration."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from monai_kd.engines import describe_network, embedded_config, latest_scores, read_metadata

CONFIG: dict[str, Any] = {
    "imports": ["$import numpy as np"],
    "image_size": 8,
    "is_3d": False,
    "level": 0.4,
    "pair": ["@image_size", "@image_size"],
    "model_ids": ["image_size", "pair"],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "_disabled_": "$not @is_3d"},
            {"_target_": "ScaleIntensityd", "keys": ["image", "label"], "minv": 0, "maxv": 255},
            {"_target_": "CastToTyped", "keys": "image", "dtype": "$np.uint8"},
            {"_target_": "somewhere.ResizeInPlaned", "keys": "image", "spatial_size": "@pair"},
            {"_target_": "Flipd", "keys": "image", "spatial_axis": 0},
            {"_target_": "ScaleIntensityd", "keys": "label", "minv": 7, "maxv": 9},
            {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": [1.5, 2], "divisor": 4},
        ],
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing"},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": "@level"},
        ],
    },
}
IMAGE = {"spatial_shape": [4, 4], "dtype": "float32", "num_channels": 3, "value_range": [-1, 1]}
MASK = {"spatial_shape": [4, 4], "channel_def": {"0": "background", "1": "tumor"}}
BUNDLE: dict[str, Any] = {
    "name": "N",
    "version": "1.2",
    "copyright": "C",
    "data_source": "Real slices",
    "eval_metrics": {},
    "network_data_format": {"inputs": {"image": IMAGE}, "outputs": {"pred": MASK}},
}


def test_what_the_file_says_is_the_configurations():
    described = describe_network(CONFIG, BUNDLE, "L")
    assert json.loads(json.dumps(described)) == described
    assert {key: described[key] for key in ("bundle", "name", "version", "license", "copyright")} == {
        "bundle": "N",
        "name": "N",
        "version": "1.2",
        "license": "L",
        "copyright": "C",
    }
    assert described["class_names"] == {"0": "background", "1": "tumor"}
    assert described["preprocessing"]["transforms"][5]["spatial_size"] == [8, 8]
    assert described["model_ids"] == {"image_size": 8, "pair": ["@image_size", "@image_size"]}
    formats = described["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [8, 8]
    assert BUNDLE["network_data_format"]["inputs"]["image"]["spatial_shape"] == [4, 4]


@pytest.mark.parametrize("names", [["x", "y"], "$[*@first, 'y']"])
def test_names_of_classes_may_be_an_expression(names):
    assert describe_network({**CONFIG, "first": ["x"], "class_names": names}, BUNDLE, "L")["class_names"] == ["x", "y"]


def test_the_input_is_told_in_numbers_and_in_words():
    told = describe_network(CONFIG, BUNDLE, "L")["input"]
    assert told["axes"] == "batch, channel, x, y" and "an array (row, column) is transposed" in told["axis_order"]
    assert (told["size"], told["channels"], told["dtype"]) == ([8, 8], 3, "float32")
    assert told["value_range"] == [-1, 1]
    assert told["scaled_to"] == [0, 255]
    assert told["normalisation"] == {"subtrahend": [1.5, 2], "divisor": 4}
    assert told["spacing"] is None and told["orientation"] is None  # that transform is switched off
    assert [step.split(",")[0] for step in told["steps"]] == [
        "read as one channel of grey values; of colours",
        "scale linearly",
        "cast to uint8",
        "resize x and y to [8",
        "apply Flip",
        "subtract [1.5",
    ]
    assert told["steps"][1] == "scale linearly, the image's smallest value to 0 and its largest to 255"


def test_the_input_of_a_network_of_volumes_has_spacing_orientation_and_window():
    percentiles = {"lower": 1, "upper": 9, "b_min": 0, "b_max": 1}
    steps = [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [2, 2, 3]},
        {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", **percentiles},
    ]
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8], "overlap": 0.25, "mode": "gaussian"}
    config = {"model_ids": [], "preprocessing": {"transforms": steps}, "inferer": inferer}
    image = {**IMAGE, "spatial_shape": [4, 4, 4]}
    formats = {"inputs": {"image": image}, "outputs": {"pred": {**MASK, "spatial_shape": [4, 4, 4]}}}
    described = describe_network(config, {**BUNDLE, "network_data_format": formats}, "L")
    told = described["input"]
    assert told["axes"] == described["output"]["axes"] == "batch, channel, x, y, z" and "NIfTI" in told["axis_order"]
    assert (told["spacing"], told["orientation"], told["scaled_to"]) == ([2, 2, 3], "RAS", [0, 1])
    assert told["normalisation"] is None
    assert told["size"] == [16, 16, 8]
    assert told["window"] == {"overlap": 0.25, "weights": "gaussian", "average_of": "logits"}
    assert told["steps"][-1].endswith("the image's percentile 1 to 0 and its percentile 9 to 1, and clip there")


def test_the_output_says_what_comes_after_the_network():
    told = describe_network(CONFIG, BUNDLE, "L")["output"]
    assert told["axes"] == "batch, channel, x, y"
    assert (told["values"], told["activation"], told["threshold"]) == ("logits", "sigmoid", 0.4)
    assert told["steps"] == [
        "turn the logits into probabilities, by the `activation`",
        "bring the result back to the image's own size and orientation, linearly",
        "what is at or above 0.4 is foreground",
    ]


@pytest.mark.parametrize("activation, threshold", [("sigmoid", 0.5), ("softmax", None)])
def test_findings_have_a_threshold_and_classes_none(activation, threshold):
    steps = [{"_target_": "Activationsd", "keys": "pred", activation: True}]
    classes = {"inputs": {"image": IMAGE}, "outputs": {"pred": {"spatial_shape": [], "channel_def": {"0": "a"}}}}
    described = describe_network(
        {**CONFIG, "postprocessing": {"transforms": steps}}, {**BUNDLE, "network_data_format": classes}, "L"
    )
    told = described["output"]
    assert (told["axes"], told["activation"], told["threshold"]) == ("batch, class", activation, threshold)
    assert described["network_data_format"]["outputs"]["pred"]["spatial_shape"] == []


def test_a_network_that_gives_images_has_neither_activation_nor_threshold():
    told = describe_network({**CONFIG, "postprocessing": {"transforms": []}}, BUNDLE, "L")["output"]
    assert (told["values"], told["activation"], told["threshold"], told["steps"]) == ("image", "none", None, [])


def test_lines_of_kspace_that_are_acquired_are_listed():
    mask = {"_target_": "monai_kd.transforms.CartesianMask", "acceleration": 4, "centre_lines": 2}
    steps = [{"_target_": "monai_kd.transforms.Undersampled", "keys": "image", "mask": "@mask"}]
    config = {"image_size": 16, "mask": mask, "model_ids": [], "preprocessing": {"transforms": steps}}
    told = describe_network(config, BUNDLE, "L")["input"]
    assert told["size"] == [16, 16] and told["acquired_lines"] == [3, 7, 8, 11]
    assert "(`acquired_lines`, counted along y; the centre of n is n // 2)" in told["steps"][0]
    told = describe_network({**config, "mask": {**mask, "axis": 0}}, BUNDLE, "L")["input"]
    assert told["steps"][0].startswith("keep the acquired lines of k-space (`acquired_lines`, counted along x;")


def test_a_scale_that_is_undone_behind_the_network_is_said():
    before = [{"_target_": "monai_kd.transforms.ScaleByMaximumd", "keys": "image"}]
    config = {**CONFIG, "preprocessing": {"transforms": before}}
    said = "multiply by the image's largest magnitude again, and bring the result back to the image's own size"
    assert any(step.startswith(said) for step in describe_network(config, BUNDLE, "L")["output"]["steps"])


def test_generated_data_are_told_from_real_ones(tmp_path):
    def told(trained: dict[str, Any], **bundle: Any) -> tuple[Any, Any]:
        described = describe_network(CONFIG, {**BUNDLE, **bundle}, "L", trained)
        return described["training_data"], described["generated"]

    generated = tmp_path / "generated.json"
    generated.write_text(json.dumps({"generator": "Maker"}))
    text, is_generated = told({"dataset_dir": str(tmp_path)})
    assert is_generated is True and text.startswith("GENERATED images by Maker")
    text, is_generated = told({"dataset_dir": str(tmp_path / "slices")})
    assert is_generated is False and "laid out as the bundle's own data (Real slices)" in text
    assert told({})[1] is None and told({})[0].startswith("not known")
    assert told({}, training_data="Real ones", generated=False) == ("Real ones", False)


def test_metrics_are_those_of_the_weights(tmp_path):
    assert describe_network(CONFIG, BUNDLE, "L", {}, {"dice": 0.5})["metrics"] == {"dice": 0.5}
    weights = tmp_path / "model.pt"
    weights.touch()
    assert latest_scores(weights) == {}
    summary = tmp_path / "evaluation" / "summary.json"
    summary.parent.mkdir()
    summary.write_text(json.dumps({"dice": {"mean": 0.81234, "cases": 3}, "accuracy": {"value": 0.5}, "parameters": 9}))
    assert latest_scores(weights) == {"dice": 0.8123, "accuracy": 0.5}
    newer = summary.stat().st_mtime + 10
    os.utime(weights, (newer, newer))  # trained again since
    assert latest_scores(weights) == {}
    (tmp_path / "teacher.pt").touch()
    assert latest_scores(tmp_path / "teacher.pt") == {}


def test_an_embedded_configuration_names_no_folder_of_this_machine():
    config = {"bundle_root": "$monai_kd.bundle_root('b', '/home/anna/b')", "size": 8}
    assert embedded_config(config) == {"bundle_root": ".", "size": 8}
    assert embedded_config({"size": 8}) == {"size": 8}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.ts").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="a.ts is no TorchScript file, or damaged"):
        read_metadata(tmp_path / "a.ts")


@pytest.mark.parametrize(
    "step, words",
    [
        (
            {"_target_": "m.ReduceResolutiond", "spatial_size": "@image_size", "mode_back": "nearest"},
            "reduce every axis to 8 pixels, where a new pixel is the mean of those that it covers, and bring it "
            "back to the size that it had, by the nearest pixel",
        ),
        (
            {"_target_": "m.ReduceResolutiond", "factor": 2},
            "reduce every axis by the factor 2, n pixels to round(n / 2), where a new pixel is the mean of those that "
            "it covers, and bring it back to the size that it had, linearly between the centres of pixels",
        ),
        (
            {"_target_": "m.LowerResolutiond", "factor": 4},
            "of k-space, whose centre is n // 2 of an axis of n, keep the round(n / 4) positions in the middle along x "
            "and along y both, and 0 elsewhere, and take the magnitude",
        ),
        ({"_target_": "Orientationd", "axcodes": "$'RAS'[:@image_size - 5]"}, "turn the axes to RAS"),
        ({"_target_": "Spacingd", "pixdim": "$[1] * 3"}, "resample to voxels of [1, 1, 1] mm, linearly; -1 keeps"),
    ],
)
def test_steps_have_values_and_no_expressions(step, words):
    config = {**CONFIG, "preprocessing": {"_target_": "Compose", "transforms": [{**step, "keys": "image"}]}}
    described = describe_network(config, BUNDLE, "L")["input"]
    assert described["steps"][0].startswith(words)
    assert "$" not in json.dumps([described["orientation"], described["spacing"]])
