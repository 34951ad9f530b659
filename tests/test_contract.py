# SPDX-License-Identifier: Apache-2.0
"""The contract of a bundle; that every shipped one keeps it is what `verify` says of it in tests/bundle."""

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_kd.bundle import Bundle
from monai_kd.contract import CONTRACT, broken_promises, contract_page

FILES = {
    "metadata.json": ["metadata.json"],
    "train.json": ["train.json"],
    "evaluate.json": ["train.json", "evaluate.json"],
    "inference.json": ["inference.json"],
}


@pytest.fixture
def configs() -> dict[str, ConfigParser]:
    bundle = Bundle("brain_tumor_segmentation")
    parsers = {name: ConfigParser(bundle.config(*files)) for name, files in FILES.items()}
    for parser in parsers.values():
        parser.resolve_macro_and_relative_ids()
    return parsers


def test_the_page_says_what_the_code_says():
    page = Path(__file__).resolve().parents[1] / "docs" / "contract.md"
    assert page.read_text() == contract_page()
    assert all(f"`{entry.key}`" in contract_page() for entry in CONTRACT)


def test_what_is_missing_is_named_with_its_meaning(configs):
    assert broken_promises(configs) == []
    for entry in CONTRACT:
        if entry.needed:
            removed = {**configs, entry.file: _without(configs[entry.file], entry.key)}
            assert any(f"{entry.file} lacks {entry.key} (" in promise for promise in broken_promises(removed)), entry


def _without(parser: ConfigParser, key: str) -> ConfigParser:
    copied = ConfigParser(parser.get())
    *sections, last = key.split("#")
    section: Any = {**copied.get()}
    copied = ConfigParser(section)
    for name in sections:
        section[name] = {**section[name]}
        section = section[name]
    del section[last]
    return copied


@pytest.mark.parametrize(
    "file, key, value, promise",
    [
        ("train.json", "image_size", 3, "model_ids: image_size is not the same in train.json and inference.json"),
        ("inference.json", "model_ids", ["image_size"], "model_ids lacks network_def"),
        ("inference.json", "exported_ids", ["spacing"], "exported_ids: spacing is none of the model_ids"),
        ("inference.json", "free_ids", ["spacing"], "free_ids: spacing is none of the model_ids"),
        ("train.json", "teacher_training#stage#data_ids", ["weather"], "data_ids: train.json has no weather"),
        ("train.json", "number_words", {"weather": ["wet"]}, "number_words: train.json has no weather"),
        ("evaluate.json", "compared_metrics", {"dice": "up"}, 'compared_metrics must give "higher" or "lower"'),
        ("train.json", "run", ["$@train#stage.run()"], "run of train.json lacks $@teacher_training#stage.run()"),
    ],
)
def test_what_does_not_fit_is_named(file, key, value, promise, configs):
    configs[file][key] = value
    assert any(broken.startswith(promise) for broken in broken_promises(configs))
