# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread

from monai_kd.data import PNEUMONIAS, VINDR_FINDINGS, ImageFileReader, XrayGenerator, chest_xray_datalist
from monai_kd.transforms import ReduceResolution

SEVEN = [
    "Aortic enlargement", "Cardiomegaly", "Consolidation", "ILD", "Nodule/Mass", "Pleural effusion", "Pneumothorax"
]  # fmt: skip


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


def pixels(path: Path | str) -> np.ndarray:
    """(row, column), as a viewer shows it."""
    image = ImageFileReader().get_data([path])[0].T
    return (image - image.min()) / np.ptp(image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return XrayGenerator(64)(tmp_path_factory.mktemp("generated") / "set", cases=40, seed=1)


def test_the_layout_is_vindrs(folder):
    train, test = sorted((folder / "train").iterdir()), sorted((folder / "test").iterdir())
    assert (len(train), len(test)) == (32, 8) and all(path.suffix == ".dicom" for path in (*train, *test))
    marks = rows(folder / "annotations" / "annotations_train.csv")
    assert list(marks[0]) == ["image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max"]
    assert {row["image_id"] for row in marks} == {path.stem for path in train}
    readers = {}
    for row in marks:
        readers.setdefault(row["image_id"], set()).add(row["rad_id"])
    assert {len(found) for found in readers.values()} == {3}
    consensus = rows(folder / "annotations" / "annotations_test.csv")
    assert "rad_id" not in consensus[0] and {row["image_id"] for row in consensus} == {path.stem for path in test}
    names = {row["class_name"] for row in marks}
    assert names == {*SEVEN, *PNEUMONIAS, "No finding"} and set(SEVEN) <= set(VINDR_FINDINGS)


def test_boxes_lie_in_the_image_and_where_something_was_found(folder):
    for row in rows(folder / "annotations" / "annotations_train.csv"):
        box = [row[name] for name in ("x_min", "y_min", "x_max", "y_max")]
        if row["class_name"] == "No finding":
            assert box == [""] * 4
        else:
            left, top, right, bottom = map(int, box)
            assert 0 <= left < right <= 64 and 0 <= top < bottom <= 64


def test_files_are_of_several_kinds_and_all_show_bright_bone(folder):
    files = [dcmread(path) for path in sorted(folder.glob("*/*.dicom"))]
    assert {file.PhotometricInterpretation for file in files} == {"MONOCHROME1", "MONOCHROME2"}
    assert {file.BitsStored for file in files} == {12, 14, 16}
    assert {"WindowCenter" in file for file in files} == {True, False}
    assert all((file.Rows, file.Columns, file.Modality) == (64, 64, "DX") for file in files)
    for path in folder.glob("*/*.dicom"):
        image = pixels(path)
        assert image[24:40, 30:34].mean() > image[24:40, 14:20].mean()  # the spine against a lung


def test_labels_come_in_fair_shares(folder):
    items = chest_xray_datalist(folder, SEVEN, fractions=(1, 0, 0))["training"]
    labels = np.stack([item["label"] for item in items])
    assert 0.4 < labels[:, -1].mean() < 0.8
    assert (labels[:, :-1].sum(axis=0) >= 2).all() and not labels[labels[:, -1] == 0].any()


def _difference(folder: Path, finding: str, reduce: bool = False) -> float:
    """How far images with one finding alone lie from normal ones, in standard deviations of normal ones."""
    items = chest_xray_datalist(folder, SEVEN, fractions=(1, 0, 0))["training"]
    images, labels = np.stack([pixels(item["image"]) for item in items]), np.stack([item["label"] for item in items])
    if reduce:
        images = ReduceResolution(8, mode_back="nearest")(torch.from_numpy(images)).numpy()
    rough = np.abs(np.diff(images[:, 16:44, 10:26], axis=2)).mean(axis=(1, 2))
    has = labels[:, SEVEN.index(finding)] == 1
    normal = rough[labels[:, -1] == 0]
    return (rough[has].mean() - normal.mean()) / normal.std()


def test_fine_signs_are_lost_at_a_low_resolution(folder):
    assert _difference(folder, "ILD") > 2 * max(1, _difference(folder, "ILD", reduce=True))


def test_same_seed_gives_the_same_bytes_and_a_small_set_begins_a_large_one(tmp_path):
    few = XrayGenerator(32)(tmp_path / "few", cases=3, seed=5)
    many = XrayGenerator(32)(tmp_path / "many", cases=6, seed=5)
    for path in few.glob("*/*.dicom"):
        assert path.read_bytes() == (many / path.relative_to(few)).read_bytes()
    begin, whole = (rows(root / "annotations" / "annotations_train.csv") for root in (few, many))
    assert whole[: len(begin)] == begin
    other = XrayGenerator(32)(tmp_path / "other", cases=3, seed=6)
    assert not {path.name for path in few.glob("*/*.dicom")} & {path.name for path in other.glob("*/*.dicom")}


def test_a_smaller_image_is_the_same_chest(tmp_path):
    large, small = (XrayGenerator(size)(tmp_path / str(size), cases=2) for size in (128, 64))
    for path in small.glob("train/*.dicom"):
        shrunk = pixels(large / "train" / path.name).reshape(64, 2, 64, 2).mean(axis=(1, 3))
        assert np.corrcoef(shrunk.ravel(), pixels(path).ravel())[0, 1] > 0.97


def test_a_generated_folder_is_replaced_and_says_what_it_is(tmp_path):
    XrayGenerator(32)(tmp_path, cases=6)
    XrayGenerator(32, "hard")(tmp_path, cases=2, seed=3)
    assert len(list(tmp_path.glob("*/*.dicom"))) == 2
    settings = json.loads((tmp_path / "generated.json").read_text())
    assert (settings["cases"], settings["seed"], settings["difficulty"]) == (2, 3, "hard")


def test_few_cases_are_a_data_set_without_test_images(tmp_path):
    splits = chest_xray_datalist(XrayGenerator(32)(tmp_path, cases=4), SEVEN)
    assert sum(map(len, splits.values())) == 4 and all(splits.values())


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="easy, hard, got 'medium'"):
        XrayGenerator(difficulty="medium")
    with pytest.raises(ValueError, match="expected image_size >= 32, got image_size=16"):
        XrayGenerator(16)
