# SPDX-License-Identifier: Apache-2.0
import pytest

from monai_kd.data import find_images


def test_linked_folders_are_followed_once(tmp_path):
    (tmp_path / "elsewhere" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere" / "sub" / "1.png").touch()
    data = tmp_path / "data"
    data.mkdir()
    (data / "2.png").touch()
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (data / "same").symlink_to(tmp_path / "elsewhere" / "sub")
    (tmp_path / "elsewhere" / "loop").symlink_to(data)
    assert find_images(data) == [str(data / "2.png"), str(data / "link" / "sub" / "1.png")]


def test_find_images_in_natural_order(tmp_path):
    (tmp_path / "sub").mkdir()
    names = ["10.png", "2.JPG", "1.mat", "sub/3.nii.gz", "cvind.mat", "notes.txt", "._1.mat", "sub/4.npz"]
    for name in names:
        (tmp_path / name).touch()
    expected = [str(tmp_path / name) for name in ("1.mat", "2.JPG", "10.png", "sub/3.nii.gz")]
    assert find_images(tmp_path) == expected
    assert find_images(f"{tmp_path}/*.[pJ]*") == expected[1:3]
    assert find_images(f"{tmp_path}/**/*.nii.gz") == expected[3:]
    assert find_images(tmp_path / "10.png") == [str(tmp_path / "10.png")]


def test_find_images_knows_dicom_without_its_suffix(tmp_path):
    for name in ("1.2.840.7", "scan", ".hidden", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes").write_bytes(bytes(132))
    assert find_images(tmp_path) == [str(tmp_path / "1.2.840.7"), str(tmp_path / "scan")]
    assert find_images(tmp_path / "scan") == [str(tmp_path / "scan")]


def test_find_images_takes_a_name_literally_when_it_exists(tmp_path):
    (tmp_path / "scan[1].png").touch()
    assert find_images(tmp_path / "scan[1].png") == [str(tmp_path / "scan[1].png")]


@pytest.mark.parametrize("source", ["", "nowhere", "*.png", "cvind.mat", "notes.txt"])
def test_find_images_finds_none(tmp_path, source):
    for name in ("cvind.mat", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match="no image there; images are files with .mat .png"):
        find_images(tmp_path / source)
