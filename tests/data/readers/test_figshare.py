# SPDX-License-Identifier: Apache-2.0
import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, PILReader
from monai.transforms import Flip, LoadImage, LoadImaged, SaveImage
from PIL import Image
from scipy.io import savemat
from skimage.draw import polygon2mask

from monai_kd.data import FigshareReader, border_to_mask, patient_family, read_figshare_folds, read_figshare_header
from monai_kd.data.readers import figshare


def read(path, key="image"):
    reader = FigshareReader(key)
    return reader.get_data(reader.read(path))


def dice(a, b):
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


def test_border_of_whole_pixels():
    # In MATLAB's numbers columns 2 to 4 and rows 1 to 2, outlined along the pixels' edges.
    mask = border_to_mask([1.5, 0.5, 4.5, 0.5, 4.5, 2.5, 1.5, 2.5], (5, 4))
    assert mask.dtype == np.uint8
    assert mask.T.tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_border_of_a_disc():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    mask = border_to_mask(np.stack([41 + 20.3 * np.cos(angle), 31 + 20.3 * np.sin(angle)], axis=1), (90, 70))
    column, row = np.indices((90, 70))
    np.testing.assert_array_equal(mask, np.hypot(column - 40, row - 30) < 20.3)  # MATLAB's 41 and 31, counted from 0


def test_border_does_not_depend_on_start_or_direction():
    points = np.random.default_rng(0).uniform(1, 20, (7, 2))
    mask = border_to_mask(points, (20, 20))
    assert mask.any()
    np.testing.assert_array_equal(border_to_mask(np.roll(points, 3, axis=0), (20, 20)), mask)
    np.testing.assert_array_equal(border_to_mask(points[::-1], (20, 20)), mask)
    np.testing.assert_array_equal(border_to_mask(points[:, ::-1], (20, 20)), mask.T)


@pytest.mark.parametrize("spread", [1, 30])
def test_a_border_is_filled_as_the_library_fills_it(spread):
    """By the even-odd rule; the library asks for each pixel and each edge, which takes too long for many of both."""
    rng = np.random.default_rng(spread)
    for _ in range(20):
        points = rng.uniform(-spread, 20 + spread, (int(rng.integers(3, 40)), 2)).round(2)
        expected = polygon2mask((20, 17), points - 1 - 1e-6)
        np.testing.assert_array_equal(border_to_mask(points, (20, 17)), expected)


def test_a_border_of_ten_thousand_crossing_lines_is_filled_in_parts(monkeypatch):
    points = np.random.default_rng(0).uniform(1, 99, (10_000, 2))
    at_once = border_to_mask(points, (100, 90))
    monkeypatch.setattr(figshare, "_AT_ONCE", 10_000)
    np.testing.assert_array_equal(border_to_mask(points, (100, 90)), at_once)
    assert 0.4 < at_once[30:70, 30:70].mean() < 0.6  # each line turns over what lies behind it


@pytest.mark.parametrize("far", [1e9, 1e300])
def test_a_border_may_lie_very_far_away(far):
    assert border_to_mask([-far, -far, 2.5, -far, 2.5, far, -far, far], (4, 3)).T.tolist() == [[1, 1, 0, 0]] * 3


def test_border_beyond_the_image_is_cut():
    assert border_to_mask([-5, -5, 2.5, -5, 2.5, 50, -5, 50], (4, 3)).T.tolist() == [[1, 1, 0, 0]] * 3


@pytest.mark.parametrize("border", [[], [1, 1, 2, 2], [1, 1, 2, 2, 3, 3, 4], [1, 1, 2, 2, np.nan, 3]], ids=str)
def test_border_without_three_points(border):
    with pytest.raises(ValueError, match="at least three points"):
        border_to_mask(border, (4, 4))


@pytest.mark.parametrize("group", ["cjdata", ""], ids=["grouped", "at top level"])
def test_image_mask_and_metadata(write_slice, group):
    path = write_slice(group=group)
    image, meta = read(path)
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image, np.arange(12).reshape(4, 3))
    assert (meta["label"], meta["PID"]) == (2, "MR040240B")
    assert list(meta["spatial_shape"]) == [4, 3]
    mask, _ = read(path, "mask")
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert read_figshare_header(path) == (2, "MR040240B")


def test_mask_is_0_and_1_whatever_is_stored(write_slice):
    mask, _ = read(write_slice(tumorMask=np.full((4, 3), 255, np.uint8)), "mask")
    assert (mask == 1).all()


def test_mask_from_the_border_when_there_is_no_mask(write_slice):
    mask, _ = read(write_slice(tumorMask=None), "mask")
    np.testing.assert_array_equal(mask, border_to_mask([2, 1, 4, 1, 4, 3, 2, 3], (4, 3)))


def test_slice_to_predict_on_needs_an_image_only(write_slice):
    image, meta = read(write_slice(tumorMask=None, tumorBorder=None, label=None, PID=None))
    assert image.shape == (4, 3)
    assert not {"label", "PID"} & meta.keys()


def test_same_array_as_a_picture(write_slice, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (5, 8), dtype=np.uint8)
    Image.fromarray(rows).save(tmp_path / "picture.png")
    path = write_slice(image=rows.T.astype(np.int16))
    ours, picture = LoadImage(FigshareReader())(path), LoadImage(PILReader())(tmp_path / "picture.png")
    assert torch.equal(ours.as_tensor(), picture.as_tensor())
    flipped = Flip(spatial_axis=0)(ours[None])[0]
    np.testing.assert_array_equal(flipped.numpy().T, rows[:, ::-1])  # columns reversed: a horizontal flip


@pytest.mark.parametrize("as_name", [True, False])
def test_in_load_imaged_and_a_data_loader(write_slice, tmp_path, as_name):
    paths = [write_slice("1.mat"), write_slice("2.mat", label=np.array([[3.0]]))]
    how = {"reader": "monai_kd.data.FigshareReader", "key": "mask"} if as_name else {"reader": FigshareReader("mask")}
    load = LoadImaged(keys="label", ensure_channel_first=True, **how)
    batch = next(iter(DataLoader(Dataset([{"label": path} for path in paths], load), batch_size=2)))
    assert batch["label"].shape == (2, 1, 4, 3)
    assert batch["label"].unique().tolist() == [0, 1]
    assert batch["label"].meta["label"].tolist() == [2, 3]
    SaveImage(tmp_path / "out", output_ext=".nii.gz", print_log=False)(batch["label"][0])
    assert list((tmp_path / "out").rglob("*.nii.gz"))


def test_several_files_are_channels(write_slice):
    paths = [write_slice("1.mat"), write_slice("2.mat", image=np.ones((4, 3), np.int16))]
    stacked = LoadImage(FigshareReader(), ensure_channel_first=True)(paths)
    assert stacked.shape == (2, 4, 3)
    assert (stacked[1] == 1).all()
    with pytest.raises(ValueError, match="one size, but .*1.mat is .4, 3., .*3.mat is .2, 2."):
        read([paths[0], write_slice("3.mat", image=np.ones((2, 2), np.int16))])


def test_reads_mat_files_only():
    assert FigshareReader().verify_suffix("folder/12.MAT")
    assert not FigshareReader().verify_suffix(["12.mat", "12.png"])


def test_unknown_key():
    with pytest.raises(ValueError, match='"image" or "mask", got \'tumorMask\''):
        FigshareReader("tumorMask")


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"image": None}, "image", "1.mat: no key `image`, found: PID, label, tumorBorder, tumorMask; write it"),
        ({"image": np.zeros((2, 4, 3), np.int16)}, "image", r"1.mat: `image` must be one slice.*\(2, 4, 3\)"),
        ({"tumorMask": np.zeros((3, 4), np.uint8)}, "mask", r"1.mat: `tumorMask` is \(3, 4\) but `image` is \(4, 3\)"),
        ({"tumorMask": None, "tumorBorder": None}, "mask", "1.mat: neither `tumorMask` nor `tumorBorder`, found: PID"),
        ({"tumorMask": None, "tumorBorder": np.zeros(5)}, "mask", "1.mat: `tumorBorder`: expected x and y of at least"),
    ],
    ids=["no image", "volume", "sizes", "no mask", "bad border"],
)
def test_wrong_content(write_slice, changes, key, message):
    with pytest.raises(ValueError, match=message):
        read(write_slice(**changes), key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.array([[4.0]])}, "1.mat: `label` must be one of {1: 'meningioma'.*got 4.0"),
        ({"label": np.zeros((0, 0))}, "1.mat: `label` must be one of .*got nan"),
        ({"label": None}, "1.mat: no key `label`, found: PID, image, tumorBorder, tumorMask"),
        ({"PID": np.array([[100360.0]])}, "1.mat: `/cjdata/PID` must be text, .*got float64"),
    ],
    ids=["label 4", "empty label", "no label", "PID is a number"],
)
def test_wrong_header(write_slice, changes, message):
    with pytest.raises(ValueError, match=message):
        read_figshare_header(write_slice(**changes))


def test_damaged_files(write_slice, tmp_path):
    whole, bad = write_slice(image=np.arange(40_000, dtype=np.int16).reshape(200, 200)), tmp_path / "bad.mat"
    with open(whole, "rb") as file:
        content = file.read()
    for part in (content[:1000], content[: len(content) // 2], content[:-1]):
        bad.write_bytes(part)
        with pytest.raises(ValueError, match="bad.mat: the file is truncated or damaged: copy it again"):
            read(bad)
    for name in ("cjdata", "cjdata/image", "cjdata/tumorMask", "cjdata/label", "cjdata/PID"):
        bad.write_bytes(content)
        with h5py.File(bad, "a") as file:
            del file[name]
            file[name] = np.dtype("f8")  # the description of a type, where values should be
        with pytest.raises(ValueError, match="bad.mat: the file is truncated or damaged: copy it again"):
            read(bad, "mask" if name.endswith("Mask") else "image")
    bad.write_bytes(b"")
    with pytest.raises(ValueError, match="bad.mat: the file is empty"):
        read(bad)
    bad.write_bytes(b"no HDF5" * 100)
    with pytest.raises(ValueError, match=r"bad.mat: this is not a MATLAB v7.3 \(HDF5\) file"):
        read(bad)
    savemat(bad, {"cjdata": {"image": np.zeros((4, 3))}})
    with pytest.raises(ValueError, match="bad.mat: this is an older MATLAB file: save it as v7.3"):
        read_figshare_header(bad)


def test_error_reaches_the_user_of_load_image_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.mat: there is no such file"):
        LoadImage(FigshareReader())(tmp_path / "gone.mat")


def test_fold_index(tmp_path):
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        file["cvind"] = np.array([[5.0], [1.0], [2.0]])
    assert read_figshare_folds(tmp_path / "cvind.mat") == [5, 1, 2]
    with h5py.File(tmp_path / "no_such_number.mat", "w") as file:  # that HDF5 can describe and NumPy has no type for
        number = h5py.h5t.IEEE_F64LE.copy()
        number.set_ebias(2**30)
        h5py.h5d.create(file.id, b"cvind", number, h5py.h5s.create_simple((3, 1)))
    with pytest.raises(ValueError, match="no_such_number.mat: the file is truncated or damaged"):
        read_figshare_folds(tmp_path / "no_such_number.mat")
    with h5py.File(tmp_path / "no_values.mat", "w") as file:
        file["cvind"] = np.dtype("f8")
    with pytest.raises(ValueError, match="no_values.mat: the file is truncated or damaged"):
        read_figshare_folds(tmp_path / "no_values.mat")


@pytest.mark.real_data
def test_borders_agree_with_the_real_masks(real_data):
    folder = real_data / "brain_tumor"
    borders = json.loads((folder / "borders.json").read_text())
    # 2914 and 1207 agree least of all 2443 slices: 0.987 and 0.988.
    for name in ["2914", "1207", *sorted(borders)[::50]]:
        mask = np.asarray(Image.open(folder / "masks" / f"{name}.png")).T > 0
        assert dice(border_to_mask(borders[name], mask.shape), mask) >= 0.985, name


@pytest.mark.real_data
def test_families_of_the_real_pids(real_data):
    with (real_data / "brain_tumor" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [patient_family(row["pid"]) for row in rows] == [row["patient"] for row in rows]


def test_an_outline_of_thousands_of_points(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    outline = 0.5 + np.stack([40 + 30 * np.cos(angle), 50 + 20 * np.sin(angle)], axis=1)
    x, y = np.indices((90, 80)) + 0.5
    inside = ((x - 40) / 30) ** 2 + ((y - 50) / 20) ** 2 < 1
    np.testing.assert_array_equal(border_to_mask(outline, (90, 80)), inside)


def test_a_prediction_needs_no_name_of_the_patient(write_slice):
    path = write_slice(PID=np.array([[100360.0]]))
    image, meta = FigshareReader().get_data([path])
    assert image.shape == (4, 3) and "PID" not in meta
    with pytest.raises(ValueError, match="`/cjdata/PID` must be text, a MATLAB char array, got float64"):
        read_figshare_header(path)


def test_a_mask_keeps_the_values_that_it_has(write_slice):
    values = np.array([[0, 1, 2], [0, 0, 0], [1, 1, 1], [0, 2, 0]], np.uint8)
    path = write_slice(tumorMask=values)
    np.testing.assert_array_equal(FigshareReader("mask").get_data([path])[0], values)


@pytest.mark.parametrize("key", ["label", "tumorBorder", "PID", "image"])
def test_a_small_file_of_huge_arrays_is_not_read(write_slice, key):
    path = write_slice(tumorMask=None, **{key: None})
    with h5py.File(path, "a") as file:
        kind = "u2" if key == "PID" else "f8"
        file["cjdata"].create_dataset(key, (32000, 32000), kind, chunks=(100, 100))  # nothing is written
    with pytest.raises(ValueError, match=r"1,024,000,000 voxels|`label` must be one of"):
        read_figshare_header(path) if key in ("label", "PID") else FigshareReader("mask").get_data([path])


def test_a_damaged_name_of_a_key_is_shown_all_the_same(write_slice):
    path = Path(write_slice(image=None))
    path.write_bytes(path.read_bytes().replace(b"tumorBorder", b"\xfe\xff\xfd" * 3 + b"er"))
    with pytest.raises(ValueError, match="no key `image`, found: .*label"):
        FigshareReader().get_data([path])
