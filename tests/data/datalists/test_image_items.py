# SPDX-License-Identifier: Apache-2.0
import errno
import os
from pathlib import Path

import pytest

from monai_kd.data import UnavailableData, find_images, image_items
from monai_kd.data.datalists.image_files import UnreadableFiles

from .files import touch


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


def test_brackets_in_the_folder_of_a_pattern_are_its_name(tmp_path):
    for folder in ("study[1]", "study1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "scan.png").touch()
    assert find_images(tmp_path / "study[1]" / "*.png") == [str(tmp_path / "study[1]" / "scan.png")]
    assert find_images(tmp_path / "study[0-9]" / "*.png") == [str(tmp_path / "study1" / "scan.png")]


@pytest.mark.parametrize("source", ["", "nowhere", "*.png", "cvind.mat", "notes.txt"])
def test_find_images_finds_none(tmp_path, source):
    for name in ("cvind.mat", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match="no image there; images are files with .mat .png"):
        find_images(tmp_path / source)


SYSTEM = [
    "@eaDir/1.png/SYNOFILE_THUMB_M.jpg",
    "__MACOSX/._1.png",
    "lost+found/2.png",
    "$RECYCLE.BIN/3.png",
    ".Trash-1000/files/4.png",
    ".ipynb_checkpoints/5-checkpoint.png",
    ".snapshot/daily/1.png",
    "#recycle/6.png",
    "System Volume Information/7.png",
    ".DS_Store",
    "Thumbs.db",
    "._1.png",
]


@pytest.mark.parametrize("series", [False, True])
def test_what_systems_leave_in_a_folder_is_no_image(tmp_path, series):
    touch(tmp_path, "sub/1.png", *SYSTEM, *(f"sub/{name}" for name in SYSTEM))
    for source in (tmp_path, f"{tmp_path}/**/*.*", f"{tmp_path}/*/**/*.[pj]*"):
        assert [item["image"] for item in image_items(source, series)] == [str(tmp_path / "sub" / "1.png")]


@pytest.mark.parametrize("series", [False, True])
def test_what_cannot_be_read_is_an_item_with_its_reason(tmp_path, series, monkeypatch):
    touch(tmp_path, "1.png", "closed/2.png")
    (tmp_path / "annexed.nii.gz").symlink_to(".git/annex/objects/x")
    (tmp_path / "IM0001").symlink_to(".git/annex/objects/y")
    (tmp_path / "notes.txt").symlink_to("gone.txt")  # by its name no image
    os.mkfifo(tmp_path / "pipe.png")
    listing = os.scandir

    def scandir(folder):
        if str(folder).endswith("closed"):  # as for anybody but root
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    items = {Path(item["image"]).name: item for item in image_items(tmp_path, series)}
    reasons = {name: item.get("unreadable", "") for name, item in items.items()}
    assert items.keys() == {"1.png", "annexed.nii.gz", "IM0001", "pipe.png", "closed"}
    assert reasons["annexed.nii.gz"] == (
        f"{tmp_path}/annexed.nii.gz: a link to .git/annex/objects/x, which is not there: fetch the file (git annex "
        "get, datalad get), or remove the link"
    )
    assert "no plain file but a pipe" in reasons["pipe.png"]
    assert reasons["closed"].startswith(f"{tmp_path}/closed: the folder cannot be listed (Permission denied)")
    assert not reasons["1.png"]
    with pytest.raises(UnreadableFiles, match="closed: the folder cannot be listed.*|annexed"):
        find_images(tmp_path)


def test_a_named_link_to_nothing_is_an_item_too(tmp_path):
    (tmp_path / "1.png").symlink_to("gone.png")
    assert "a link to gone.png" in image_items(tmp_path / "1.png")[0]["unreadable"]
    assert isinstance(image_items(tmp_path / "2.png"), UnavailableData)


def test_masks_and_results_beside_their_images_are_no_images(tmp_path, caplog):
    images = ["anna.nii.gz", "ben.png", "cleo_mask.nii.gz", "sub/dan_bet.nii.gz"]
    results = ["anna_bet.nii.gz", "anna_bet_mask.nii.gz", "anna_mask.mha", "ben_seg.png", "ben-label.png"]
    touch(tmp_path, *images, *results, "task/imagesTr/e.nii.gz", "task/labelsTr/e.nii.gz")
    touch(tmp_path, "studies/datastore_v2.json", "studies/f.nii.gz", "studies/labels/final/f.nii.gz")
    found = [str(tmp_path / name) for name in (*images[:3], "studies/f.nii.gz", images[3], "task/imagesTr/e.nii.gz")]
    for series in (False, True):
        assert [item["image"] for item in image_items(tmp_path, series)] == found
    assert "7 files, the first is" in caplog.text and "anna_bet.nii.gz; give one alone" in caplog.text
    assert find_images(tmp_path / "anna_mask.mha") == [str(tmp_path / "anna_mask.mha")]


@pytest.mark.parametrize("series", [False, True])
def test_the_voxels_of_a_header_belong_to_its_image(series, tmp_path):
    header = "DimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = v.raw\n"
    (tmp_path / "v.mhd").write_text(header)
    (tmp_path / "v.raw").write_bytes(bytes(8))
    (item,) = image_items(tmp_path, series=series)
    assert item == {"image": str(tmp_path / "v.mhd"), "files": [str(tmp_path / "v.mhd"), str(tmp_path / "v.raw")]}
    (tmp_path / "v.raw").unlink()
    (item,) = image_items(tmp_path, series=series)
    assert item.get("files", [item["image"]]) == [str(tmp_path / "v.mhd")]
