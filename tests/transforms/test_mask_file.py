# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from monai_kd.transforms import CartesianMask, Undersample, read_mask_file

LINES = np.isin(np.arange(12), (1, 6, 10))  # 4x, the centre in the middle


def _write(path: Path, mask: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, mask)
    elif path.suffix == ".txt":
        np.savetxt(path, mask)
    elif path.suffix == ".csv":
        np.savetxt(path, mask, delimiter=",")
    else:
        with h5py.File(path, "w") as file:
            file["mask"] = mask
    return path


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv", ".h5"])
@pytest.mark.parametrize(
    ("mask", "axis"),
    [
        (LINES.astype(float), 1),
        (np.repeat(LINES[None].astype(np.uint8), 5, 0), 1),
        (np.repeat(LINES[:, None].astype(float), 5, 1), 0),
    ],
    ids=["lines", "second-axis", "first-axis"],
)
def test_lines_come_from_every_kind_of_file_along_either_axis(tmp_path, suffix, mask, axis) -> None:
    lines, found = read_mask_file(_write(tmp_path / f"mask{suffix}", mask), 4)
    assert np.array_equal(lines, LINES) and found == axis and lines.dtype == bool


def test_one_row_of_lines_may_lie_along_the_first_axis(tmp_path) -> None:
    assert read_mask_file(_write(tmp_path / "mask.npy", LINES), 4, axis=0)[1] == 0


@pytest.mark.parametrize("size", [12, 13])
def test_a_mask_in_the_order_of_numpys_fft_is_brought_to_the_middle(tmp_path, size) -> None:
    centred = np.isin(np.arange(size), (1, size // 2, 10))
    file = _write(tmp_path / "mask.npy", np.fft.ifftshift(centred))
    assert np.array_equal(read_mask_file(file, 4, order="fft")[0], centred)


@pytest.mark.parametrize(
    ("mask", "settings", "message"),
    [
        (LINES, {"order": "fft"}, "the centre of k-space is not acquired.*perhaps it is 'centred'"),
        (np.roll(LINES, 6), {}, "the centre of k-space is not acquired.*perhaps it is 'fft'"),
        (LINES, {"acceleration": 5}, "3 of 12 lines are no acceleration of 5; say acceleration=4"),
        (np.eye(6), {}, "has no whole lines; only lines"),
        (np.repeat(LINES[:, None], 5, 1), {"axis": 1}, "along axis 0, but the axis is to be 1"),
        (2 * LINES, {}, "expected a mask of zeros and ones"),
        (LINES, {"axis": 2}, "axis of a mask is 0"),
        (LINES, {"order": "corner"}, "'centred' or 'fft', got 'corner'"),
    ],
)
def test_what_is_no_such_mask_is_refused(tmp_path, mask, settings, message) -> None:
    file = _write(tmp_path / "mask.npy", mask.astype(float))
    with pytest.raises(ValueError, match=message):
        read_mask_file(file, **{"acceleration": 4, **settings})


def test_other_files_are_refused_by_name(tmp_path) -> None:
    (tmp_path / "mask.png").touch()
    (tmp_path / "mask.npy").write_bytes(b"nothing")
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["a"], file["b"] = [0, 1], [0, 1]
    for name, message in (
        ("mask.png", "a mask is a file of"),
        ("mask.npy", "no mask can be read"),
        ("mask.h5", "no data set 'mask' among a, b"),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            read_mask_file(tmp_path / name, 4)


@pytest.mark.parametrize("suffix", [".txt", ".CSV"])
def test_marks_of_the_byte_order_and_empty_rows_are_no_lines(tmp_path, suffix) -> None:
    rows = "".join(f"{line:d},,\n,,\n \n" for line in LINES)
    (tmp_path / f"mask{suffix}").write_text(rows, "utf-8-sig")
    assert read_mask_file(tmp_path / f"mask{suffix}", 4)[0].tolist() == LINES.astype(bool).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1j])
def test_what_is_no_number_is_no_line(tmp_path, value) -> None:
    with pytest.raises(ValueError, match="mask.npy: expected a mask of zeros and ones"):
        read_mask_file(_write(tmp_path / "mask.npy", np.where(LINES, value, 0)), 4)


def _network(file: Path) -> nn.Module:
    return nn.ModuleDict({"mask": CartesianMask(4, file=file)})


def test_a_checkpoint_has_the_mask_of_a_file_that_is_gone(tmp_path) -> None:
    file = _write(tmp_path / "mask.npy", np.repeat(LINES[:, None], 12, 1))
    trained = _network(file)
    assert np.array_equal(trained["mask"](12), LINES) and trained["mask"].axis == 0
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    file.unlink()
    network = _network(file)
    with pytest.raises(ValueError, match="an image has 12 lines, and the mask in .*mask.npy none, for it is not there"):
        network["mask"](12)
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert np.array_equal(network["mask"](12), LINES) and network["mask"].axis == 0
    other = _write(tmp_path / "other.npy", np.isin(np.arange(12), (0, 6, 7)))
    network = _network(other)
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert network["mask"](12).nonzero().flatten().tolist() == [0, 6, 7]  # the file that is asked for


def test_a_mask_of_another_size_is_refused(tmp_path) -> None:
    mask = CartesianMask(4, file=_write(tmp_path / "mask.npy", LINES))
    with pytest.raises(ValueError, match="an image has 16 lines, and the mask in .*mask.npy 12; name a mask that fits"):
        mask(16)


@pytest.mark.parametrize("axis", [0, 1])
def test_an_image_is_undersampled_along_either_axis(axis) -> None:
    image = np.random.default_rng(0).normal(size=(12, 16))
    filled = Undersample(CartesianMask(4, centre_lines=2, axis=axis))(torch.from_numpy(image)[None])
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(filled[0] + 1j * filled[1])))
    energy = np.abs(kspace).max(axis=1 - axis)
    assert np.array_equal(energy > 1e-9, CartesianMask(4, centre_lines=2)(image.shape[axis]))
