# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from monai_kd.data import figshare_datalist
from monai_kd.data.generators.figshare import FigshareGenerator


def read_as_matlab(path: Path) -> dict[str, np.ndarray]:
    """A slice as a script for the real data set sees it: arrays back in MATLAB's orientation."""
    with h5py.File(path) as file:
        return {name: data[()].T for name, data in file["cjdata"].items()}


def test_slice_has_the_layout_of_the_real_files(tmp_path):
    FigshareGenerator(64)(tmp_path, cases=1)
    head = (tmp_path / "1.mat").read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file") and head[124:128] == b"\x00\x02IM" and head[512:516] == b"\x89HDF"
    with h5py.File(tmp_path / "1.mat") as file:
        layout = {name: (data.dtype, data.attrs["MATLAB_class"]) for name, data in file["cjdata"].items()}
        shapes = {name: data.shape for name, data in file["cjdata"].items()}
        assert file["cjdata"].attrs["MATLAB_class"] == b"struct"
    assert layout == {
        "PID": (np.uint16, b"char"),
        "image": (np.int16, b"int16"),
        "label": (np.float64, b"double"),
        "tumorBorder": (np.float64, b"double"),
        "tumorMask": (np.uint8, b"uint8"),
    }
    points = shapes.pop("tumorBorder")
    assert points[0] == 1 and points[1] % 2 == 0
    assert shapes == {"PID": (8, 1), "image": (64, 64), "label": (1, 1), "tumorMask": (64, 64)}


def test_grey_values_are_a_scanners_and_not_8_bit(tmp_path):
    FigshareGenerator(64)(tmp_path, cases=1)
    image = read_as_matlab(tmp_path / "1.mat")["image"]
    assert image.min() >= 0 and image.max() > 500


def test_cvind_has_one_fold_per_slice_and_keeps_a_pid_whole(tmp_path):
    FigshareGenerator(32, slices_per_patient=2)(tmp_path, cases=20)
    with h5py.File(tmp_path / "cvind.mat") as file:
        assert file["cvind"].shape == (1, 20)
        folds = file["cvind"][0]
    pids = ["".join(map(chr, read_as_matlab(tmp_path / f"{i + 1}.mat")["PID"].flat)) for i in range(20)]
    assert set(folds) == {1, 2, 3, 4, 5}
    assert len(set(zip(pids, folds))) == len(set(pids))


def test_cvind_deals_whole_patients_out_evenly(tmp_path):
    FigshareGenerator(32, slices_per_patient=2)(tmp_path, cases=60)
    splits = [figshare_datalist(tmp_path, split="cvind", fold=fold) for fold in range(1, 6)]
    assert [len(split["test"]) for split in splits] == [12] * 5
    assert all({item["class"] for item in split["test"]} == {1, 2, 3} for split in splits)
    by_pid = figshare_datalist(tmp_path, split="cvind", fold=2, group_by="pid")
    assert [item["image"] for item in by_pid["test"]] == [item["image"] for item in splits[1]["test"]]


def test_every_fourth_patient_has_two_pids_with_different_letters(tmp_path):
    FigshareGenerator(32, slices_per_patient=2)(tmp_path, cases=8)
    slices = [read_as_matlab(tmp_path / f"{i + 1}.mat") for i in range(8)]
    assert ["".join(map(chr, s["PID"].flat)) for s in slices] == [
        *["SIM00001"] * 2, *["SIM00002"] * 2, *["SIM00003"] * 2, "SIM00004B", "SIM00004C",
    ]  # fmt: skip
    assert [int(s["label"].item()) for s in slices] == [1, 1, 2, 2, 3, 3, 1, 1]


@pytest.mark.parametrize("label", [1, 2, 3])
def test_mask_is_the_filled_border(tmp_path, label):
    FigshareGenerator(256, slices_per_patient=1)(tmp_path, cases=label)
    slice_ = read_as_matlab(tmp_path / f"{label}.mat")
    scale = 8  # MATLAB's pixel 1 covers 0.5 to 1.5, so its left edge is at 0 when 0.5 is subtracted
    points = (slice_["tumorBorder"].reshape(-1, 2) - 0.5) * scale
    canvas = Image.new("L", (256 * scale, 256 * scale))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in points], fill=1)
    filled = np.asarray(canvas).reshape(256, scale, 256, scale).mean(axis=(1, 3)) >= 0.5
    mask = slice_["tumorMask"] == 1
    assert 2 * (filled & mask).sum() / (filled.sum() + mask.sum()) >= 0.985


def test_tumors_lie_where_their_class_says(tmp_path):
    FigshareGenerator(128, slices_per_patient=1)(tmp_path, cases=9)
    for i in range(9):
        slice_ = read_as_matlab(tmp_path / f"{i + 1}.mat")
        rows, columns = np.nonzero(slice_["tumorMask"])
        off_middle = abs(columns.mean() / 128 - 0.5)
        assert (slice_["label"].item() == 3) == (off_middle < 0.06 and rows.mean() > 64)


def test_tumor_in_the_image_lies_under_the_mask(tmp_path):
    FigshareGenerator(128, slices_per_patient=1)(tmp_path, cases=6)
    for number in (1, 3, 4, 6):  # meningiomas and pituitary tumors are bright all over
        slice_ = read_as_matlab(tmp_path / f"{number}.mat")
        mask = slice_["tumorMask"] == 1
        around = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask)
        assert np.mean(slice_["image"][mask]) > 1.4 * np.mean(slice_["image"][around])


def test_tumor_shrinks_towards_the_first_and_last_slice(tmp_path):
    FigshareGenerator(128, slices_per_patient=5)(tmp_path, cases=5)
    areas = [int(read_as_matlab(tmp_path / f"{i + 1}.mat")["tumorMask"].sum()) for i in range(5)]
    assert areas[0] < areas[1] < areas[2] > areas[3] > areas[4] > 0


def test_same_seed_gives_the_same_bytes_and_a_small_set_begins_a_large_one(tmp_path):
    few = FigshareGenerator(32)(tmp_path / "few", cases=3, seed=5)
    many = FigshareGenerator(32)(tmp_path / "many", cases=6, seed=5)
    for name in ["1.mat", "2.mat", "3.mat"]:
        assert (few / name).read_bytes() == (many / name).read_bytes()
    with h5py.File(few / "cvind.mat") as a, h5py.File(many / "cvind.mat") as b:
        np.testing.assert_array_equal(a["cvind"][0], b["cvind"][0, :3])


def test_slices_patients_and_seeds_differ(tmp_path):
    FigshareGenerator(32, slices_per_patient=2)(tmp_path / "a", cases=3, seed=0)
    FigshareGenerator(32, slices_per_patient=2)(tmp_path / "b", cases=1, seed=1)
    images = [read_as_matlab(tmp_path / "a" / f"{i}.mat")["image"].ravel().astype(float) for i in (1, 2, 3)]
    other = read_as_matlab(tmp_path / "b" / "1.mat")["image"].ravel().astype(float)
    within, between = np.corrcoef(images[0], images[1])[0, 1], np.corrcoef(images[0], images[2])[0, 1]
    assert between < within < 0.999
    assert np.corrcoef(images[0], other)[0, 1] < within


def test_a_smaller_image_is_the_same_head(tmp_path):
    large = FigshareGenerator(128)(tmp_path / "large", cases=1)
    small = FigshareGenerator(64)(tmp_path / "small", cases=1)
    shrunk = read_as_matlab(large / "1.mat")["image"].reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(shrunk.ravel(), read_as_matlab(small / "1.mat")["image"].ravel())[0, 1] > 0.95


@pytest.mark.parametrize(("difficulty", "highest"), [("easy", 0.6), ("hard", 0.3)])
def test_no_threshold_finds_the_tumor(tmp_path, difficulty, highest):
    FigshareGenerator(64, slices_per_patient=1, difficulty=difficulty)(tmp_path, cases=9)
    best = []
    for i in range(9):
        slice_ = read_as_matlab(tmp_path / f"{i + 1}.mat")
        mask = slice_["tumorMask"] == 1
        brighter = [slice_["image"] >= t for t in np.unique(slice_["image"])]
        best.append(max(2 * (mask & b).sum() / (mask.sum() + b.sum()) for b in brighter))
    assert np.mean(best) < highest


def test_a_generated_folder_is_replaced_and_says_what_it_is(tmp_path):
    FigshareGenerator(32)(tmp_path, cases=4)
    FigshareGenerator(32)(tmp_path, cases=2, seed=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.mat", "2.mat", "cvind.mat", "generated.json"]
    settings = json.loads((tmp_path / "generated.json").read_text())
    assert (settings["cases"], settings["seed"], settings["image_size"]) == (2, 3, 32)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "1.mat").write_text("a real slice")
    with pytest.raises(FileExistsError, match=f"{tmp_path.name} is not empty.*new folder"):
        FigshareGenerator(32)(tmp_path, cases=1)
    assert [path.name for path in tmp_path.iterdir()] == ["1.mat"]
    assert (tmp_path / "1.mat").read_text() == "a real slice"


def test_an_interrupted_data_set_can_be_generated_again(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    generator = FigshareGenerator(32)
    with monkeypatch.context() as patch:
        patch.setattr(generator, "_case", fail)
        with pytest.raises(KeyboardInterrupt):
            generator(tmp_path, cases=2)
    assert [path.name for path in tmp_path.iterdir()] == ["generated.json"]
    generator(tmp_path, cases=2)
    assert (tmp_path / "cvind.mat").is_file()


def test_arguments_out_of_range(tmp_path):
    with pytest.raises(ValueError, match="easy, hard, got 'medium'"):
        FigshareGenerator(difficulty="medium")
    with pytest.raises(ValueError, match="image_size=16"):
        FigshareGenerator(image_size=16)
    with pytest.raises(ValueError, match="slices_per_patient=0"):
        FigshareGenerator(slices_per_patient=0)
    for cases, seed in [(0, 0), (1, -1)]:
        with pytest.raises(ValueError, match=f"got cases={cases} and seed={seed}"):
            FigshareGenerator()(tmp_path / "new", cases=cases, seed=seed)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_no_half_a_file(tmp_path, full_disk):
    with full_disk(), pytest.raises(OSError):
        FigshareGenerator(64)(tmp_path / "data", cases=1)
    assert not list(tmp_path.rglob("*.mat"))
    FigshareGenerator(64)(tmp_path / "data", cases=1)
