# SPDX-License-Identifier: Apache-2.0
import json

from monai_kd.engines import describe_data, describe_licence, describe_model, generated_by, is_generated
from monai_kd.engines.model_card import generation_of
from monai_kd.files import write_json

METADATA = {
    "name": "Masks",
    "version": "1.0",
    "description": "Outlines",
    "intended_use": "Research",
    "data_source": "Real slices",
    "references": ["A, 2026"],
}


def test_a_card_says_what_is_known_and_leaves_out_what_is_not():
    commands, settings = ["make data", "make it"], {"rate": 0.1, "split": None}
    card = describe_model(METADATA, {"Size": "7 parameters."}, ["| dice |"], commands, settings)
    parts = card.split("\n\n")
    assert parts[:4] == [
        "# Model card: Masks 1.0",
        "Outlines.",
        "**Intended use.** Research.",
        "**Size.** 7 parameters.",
    ]
    assert parts[4:6] == ["## Results on the test cases", "| dice |"]
    assert parts[-5:] == [
        "```bash\nmake data\nmake it\n```",
        "All settings:",
        "- `rate`: `0.1`\n- `split`: `null`",
        "## References",
        "- A, 2026\n",
    ]
    assert "- few cases" in describe_model(METADATA, {}, [], [], {}, limits=["few cases"], origin="By hand.")


def test_what_a_model_was_trained_on_is_said(tmp_path):
    # A folder may be laid out as the bundle's data set and hold other images: it is not said to be that data set.
    layout = "Those of a folder that is laid out as the bundle's own data (Real slices). Where they are these, "
    assert describe_data({"dataset_dir": tmp_path}, METADATA).startswith(layout)
    assert describe_data({"dataset_dir": "$@generator.once(@ckpt_dir)"}, METADATA).startswith("GENERATED images, no")
    assert "`own.json`" in describe_data({"dataset_dir": "", "datalist_file": "/x/own.json"}, METADATA)
    assert describe_data({"datalist_file": "$@dataset_dir + '/own.json'"}, METADATA) == "Those of a data list."
    assert generated_by(tmp_path) is None
    (tmp_path / "generated.json").write_text(json.dumps({"generator": "Maker"}))
    assert describe_data({"dataset_dir": str(tmp_path)}, METADATA).startswith("GENERATED images by Maker, no patient's")


def test_the_licence_is_the_bundles_own(tmp_path):
    assert describe_licence(tmp_path, METADATA) == "None is stated: the bundle has no `LICENSE`."
    (tmp_path / "LICENSE").write_text("\n   Apache License\n   Version 2.0\n\n   TERMS\n")
    said = describe_licence(tmp_path, {**METADATA, "copyright": "Copyright A."})
    assert said == "Apache License, Version 2.0; see `LICENSE` of the bundle. Copyright A."


def test_generated_data_stay_so_wherever_they_lie_now(tmp_path):
    write_json(tmp_path / "generated.json", {"generator": "Maker", "cases": 3})
    image = str(tmp_path / "images" / "a" / "1.png")
    made = generation_of([{"image": [image, image]}, {"image": "/elsewhere/2.png"}])
    assert made == {"generator": "Maker", "cases": 3}
    assert generation_of([{"image": "/elsewhere/2.png"}]) is None and generation_of([]) is None
    for where in ({"dataset_dir": "/gone"}, {"dataset_dir": "", "datalist_file": "own.json"}):
        config = {**where, "trained_on": {"patients": ["a"], "generated": made}}
        assert is_generated(config) and describe_data(config, METADATA).startswith("GENERATED images by Maker")
        assert not is_generated({**where, "trained_on": {"patients": ["a"]}})
