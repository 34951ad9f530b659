# SPDX-License-Identifier: Apache-2.0
import json

from monai_kd.engines import describe_data, describe_model, generated_by

METADATA = {
    "name": "Masks",
    "version": "1.0",
    "description": "Outlines",
    "intended_use": "Research",
    "data_source": "Real slices",
    "references": ["A, 2026"],
}


def test_a_card_says_what_is_known_and_leaves_out_what_is_not():
    card = describe_model(METADATA, {"Size": "7 parameters."}, ["| dice |"], "make it", {"rate": 0.1, "split": None})
    parts = card.split("\n\n")
    assert parts[:4] == [
        "# Model card: Masks 1.0",
        "Outlines.",
        "**Intended use.** Research.",
        "**Size.** 7 parameters.",
    ]
    assert parts[4:6] == ["## Results on the test cases", "| dice |"]
    assert parts[-4:] == [
        "`make it` with these settings:",
        "- `rate`: `0.1`\n- `split`: `null`",
        "## References",
        "- A, 2026\n",
    ]
    assert "- few cases" in describe_model(METADATA, {}, [], "", {}, limits=["few cases"], origin="By hand.")


def test_what_a_model_was_trained_on_is_said(tmp_path):
    assert describe_data({"dataset_dir": tmp_path}, METADATA).startswith("Real slices. Licence: see `data_license.txt`")
    assert describe_data({"dataset_dir": "$@generator.once(@ckpt_dir)"}, METADATA).startswith("GENERATED images, no")
    assert "`own.json`" in describe_data({"dataset_dir": "", "datalist_file": "/x/own.json"}, METADATA)
    assert generated_by(tmp_path) is None
    (tmp_path / "generated.json").write_text(json.dumps({"generator": "Maker"}))
    assert describe_data({"dataset_dir": str(tmp_path)}, METADATA).startswith("GENERATED images by Maker, no patient's")
