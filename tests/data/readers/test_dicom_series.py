# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import traceback
import warnings
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import PydicomReader
from monai.transforms import LoadImage
from pydicom import Dataset, dcmread
from pydicom.uid import BasicTextSRStorage

from monai_kd.data import ImageFileReader, MRIReader, find_series, image_items, read_dicom_series
from monai_kd.data.readers.dicom import UnusableDicom
from monai_kd.data.readers.dicom_series import read_slices
from monai_kd.transforms import CheckImage

VOLUME = np.random.default_rng(0).integers(0, 4000, (5, 4, 6)).astype(np.uint16)


def oblique(axcodes: str = "RAS") -> np.ndarray:
    """An affine whose axes of 0.9 x 0.7 x 2.5 mm are turned by 0.4 and 0.3."""
    about_z, about_x = (np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (0.4, 0.3))
    turn = np.eye(3), np.eye(3)
    turn[0][:2, :2], turn[1][1:, 1:] = about_z, about_x
    affine = np.eye(4)
    affine[:3, :3] = turn[0] @ turn[1] @ np.diag([0.9, 0.7, 2.5])
    affine[:3, 3] = -12.5, 30.1, 7.7
    to = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(axcodes))
    return affine @ nib.orientations.inv_ornt_aff(to, (9, 9, 9))


def zipped(folder: Path, name: str = "secret/{}") -> Path:
    """A zip file of a folder's files under names made of theirs."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, name.format(file.name))
    return path


def load(path: Path | str) -> nib.Nifti1Image:
    image = LoadImage(ImageFileReader())(path)
    return nib.Nifti1Image(image.numpy(), image.affine.numpy())


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "ASL", "PIR", "LIP"])
def test_every_voxel_has_its_value_and_lies_where_its_file_says(tmp_path, write_series, axcodes):
    folder = tmp_path / "T1"
    numbers = {"RescaleSlope": 2, "RescaleIntercept": -3, "InstanceNumber": lambda number: 7 * number % 5}
    write_series(folder, VOLUME, oblique(axcodes), **numbers)
    image = load(folder)
    assert image.shape == VOLUME.shape
    voxels = {tuple((image.affine @ [*index, 1])[:3].round(2)): value for index, value in np.ndenumerate(image.dataobj)}
    for file in folder.iterdir():
        dicom = dcmread(file)
        row, column = np.reshape(dicom.ImageOrientationPatient, (2, 3)).astype(float)
        for (r, c), value in np.ndenumerate(dicom.pixel_array):  # DICOM PS3.3, equation C.7.6.2.1-1
            left_back_up = np.array(dicom.ImagePositionPatient, float)
            left_back_up += row * dicom.PixelSpacing[1] * c + column * dicom.PixelSpacing[0] * r
            place = left_back_up * [-1, -1, 1]
            nearest = min(voxels, key=lambda voxel: np.abs(voxel - place).sum())
            np.testing.assert_allclose(nearest, place, atol=0.011)
            assert voxels[nearest] == 2.0 * value - 3


def test_monais_reader_agrees_on_a_series_that_is_numbered_in_order(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME, oblique("LPS"), InstanceNumber=lambda number: number + 1)
    own, theirs = (LoadImage(reader)(tmp_path / "T1") for reader in (ImageFileReader(), PydicomReader()))
    np.testing.assert_array_equal(own, theirs)
    np.testing.assert_allclose(own.affine, theirs.affine, atol=1e-4)


def test_integers_stay_integers_and_slopes_may_differ_from_slice_to_slice(tmp_path, write_series):
    write_series(tmp_path / "plain", VOLUME, oblique("LPS"))
    image = read_dicom_series(tmp_path / "plain")
    assert image.get_data_dtype() == np.uint16 and image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(image.dataobj, VOLUME)
    write_series(tmp_path / "pet", VOLUME, oblique("LPS"), RescaleSlope=lambda k: k + 0.5, RescaleIntercept=0)
    image = read_dicom_series(tmp_path / "pet")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.dataobj, VOLUME * (np.arange(6) + 0.5), rtol=1e-6)


def test_several_series_in_one_folder_are_told_apart_and_other_objects_left_out(tmp_path, write_series, caplog):
    folder = tmp_path / "study"
    for number, size in ((3, 6), (10, 4), (1, 1)):
        write_series(tmp_path / "one", VOLUME[..., :size], SeriesNumber=number)
        for file in (tmp_path / "one").glob("IM*"):
            folder.mkdir(exist_ok=True)
            file.replace(folder / f"{number}_{file.name}.v1")
    report = dcmread(folder / "1_IM0.v1")
    report.SOPClassUID = BasicTextSRStorage
    del report.PixelData, report.Rows, report.Columns
    report.save_as(folder / "report")
    (folder / "notes.txt").write_text("no DICOM\n" * 50)
    (folder / ".hidden").write_bytes((folder / "1_IM0.v1").read_bytes())
    with caplog.at_level(logging.INFO, "monai_kd"):
        found = {Path(series.path).name: len(series.files) for series in find_series(folder)}
    assert found == {"1_IM0.v1": 1, "study_series_3": 6, "study_series_10": 4}
    assert caplog.messages == [f"{folder}: DICOM objects that are no image or no volume, left out: 1"]
    for name, slices in (("study_series_3", 6), ("study_series_10", 4)):
        np.testing.assert_array_equal(np.sort(load(folder / name).dataobj, None), np.sort(VOLUME[..., :slices], None))
    assert load(folder / "1_IM0.v1").shape == (5, 4)  # DICOM by its content
    with pytest.raises(ValueError, match="study_series_4: expected a series of two or more DICOM slices there"):
        load(folder / "study_series_4")
    with pytest.raises(ValueError, match="study: expected a series of two"):
        load(folder)


def test_series_of_one_number_are_named_by_a_hash(tmp_path, write_series):
    for part in ("a", "b"):
        write_series(tmp_path / part, VOLUME)
        for file in (tmp_path / part).iterdir():
            file.replace(tmp_path / f"{part}{file.name}")
    names = {Path(series.path).name for series in find_series(tmp_path)}
    assert len(names) == 2 and all(len(name) == len(f"{tmp_path.name}_series_") + 8 for name in names)
    for name in names:
        assert load(tmp_path / name).shape == VOLUME.shape


def test_a_zip_file_is_read_as_its_folder_without_being_unpacked(tmp_path, write_series, monkeypatch):
    write_series(tmp_path / "T1.v2", VOLUME, oblique())
    path = zipped(tmp_path / "T1.v2", "../../{}").rename(tmp_path / "scan.ZIP")
    folder, archive = load(tmp_path / "T1.v2"), load(path)
    np.testing.assert_array_equal(archive.dataobj, folder.dataobj)
    np.testing.assert_array_equal(archive.affine, folder.affine)
    assert [(series.path, series.files) for series in find_series(path)] == [(str(path), [str(path)])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["T1.v2", "scan.ZIP"]
    assert len(list(tmp_path.parent.parent.glob("IM*"))) == 0

    with zipfile.ZipFile(path, "a") as archive:  # another series, and one of a single slice
        for number, size in ((8, 3), (9, 1)):
            write_series(tmp_path / str(number), VOLUME[..., :size], SeriesNumber=number)
            for file in (tmp_path / str(number)).iterdir():
                archive.write(file, f"{number}/{file.name}")
    assert [series.path for series in find_series(path)] == [f"{path}/scan_series_{number}" for number in (3, 8)]
    assert load(f"{path}/scan_series_8").shape == (5, 4, 3)
    assert [item["files"] for item in image_items(path, series=True)] == 2 * [[str(path)]]


def test_what_is_wrong_with_a_zip_file_is_said_without_the_names_in_it(tmp_path, write_series, monkeypatch):
    write_series(tmp_path / "T1", VOLUME)
    good = zipped(tmp_path / "T1").read_bytes()
    bad = bytearray(good)
    bad[200:260] = bytes(60)
    encrypted = good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    reasons = {
        "bad.zip": (bytes(bad), "1 of its files cannot be read as DICOM: copy"),
        "cut.zip": (good[:-40], "cannot be read as a zip file"),
        "encrypted.zip": (encrypted, "is encrypted"),
    }
    for name, (content, reason) in reasons.items():
        (tmp_path / name).write_bytes(content)
        assert image_items(tmp_path / name, series=True) == [
            {"image": str(tmp_path / name), "files": [str(tmp_path / name)]}
        ]
        with pytest.raises(ValueError, match=f"{name}: {reason}") as error:
            load(tmp_path / name)
        assert "secret" not in "".join(traceback.format_exception(error.value))
    monkeypatch.setattr("monai_kd.data.readers.dicom_folder._LARGEST_ZIP", 100)
    with pytest.raises(UnusableDicom, match="T1.zip: holds .* when unpacked"):
        find_series(tmp_path / "T1.zip")


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({"ImagePositionPatient": lambda k: [0, 0, 2.0 * k + (k > 3)]}, "slices are 2.00 to 3.00 mm apart"),
        ({"ImagePositionPatient": lambda k: [k == 2, 0, 2.0 * k]}, "shifted against each other"),
        ({"ImagePositionPatient": lambda k: [0, 0, k // 2]}, "several slices lie in one place"),
        ({"ImagePositionPatient": None}, "does not say where it lies, it has no ImagePositionPatient"),
        ({"ImageOrientationPatient": lambda k: [1, 0, 0, 0, k % 2, 1 - k % 2]}, "differ in size, spacing or orientat"),
        ({"PixelSpacing": lambda k: [1, 1 + (k == 3)]}, "differ in size, spacing or orientation"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "holds colours"),
        ({"PixelData": b"12345678"}, "cannot be read as DICOM: it is damaged"),
    ],
)
def test_slices_that_make_no_volume(tmp_path, write_series, tags, reason):
    write_series(tmp_path / "T1", VOLUME, np.eye(4), **tags)
    with pytest.raises(ValueError, match=f"T1: .*{reason}") as error:
        load(tmp_path / "T1")
    assert "ecret" not in str(error.value)


def test_positions_may_be_rounded_and_slices_tilted(tmp_path, write_series):
    write_series(tmp_path / "a", VOLUME, np.eye(4), ImagePositionPatient=lambda k: [0, 0, round(0.6667 * k, 2)])
    assert load(tmp_path / "a").affine[2, 2] == pytest.approx(0.6667, abs=0.002)
    write_series(tmp_path / "tilt", VOLUME, np.eye(4), ImagePositionPatient=lambda k: [0, 0.5 * k, 2 * k])
    np.testing.assert_allclose(load(tmp_path / "tilt").affine[:3, 2], [0, -0.5, 2])


def test_mr_images_are_taken_apart_into_the_slices_that_were_acquired(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME, oblique("LPS"))
    np.testing.assert_array_equal(LoadImage(MRIReader())(tmp_path / "T1"), VOLUME)
    assert LoadImage(MRIReader(slice_axis="sagittal"))(tmp_path / "T1").shape == (4, 6, 5)


def test_the_slices_of_a_series_are_one_item_beside_other_images(tmp_path, write_series, caplog):
    write_series(tmp_path / "anna" / "T1", VOLUME)
    write_series(tmp_path / "ben", VOLUME[..., :1])
    for name in ("scan.nii.gz", "anna/picture.png", "damaged.dcm", "notes.txt", "anna/nothing.zip"):
        (tmp_path / name).write_bytes(b"nothing")
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    items = image_items(tmp_path, series=True)
    expected = ["anna/T1", "anna/nothing.zip", "anna/picture.png", "ben/IM0", "damaged.dcm", "scan.nii.gz"]
    assert [item["image"] for item in items] == [str(tmp_path / name) for name in expected]
    assert {len(item["files"]) for item in items} == {1, 6}
    assert [item["image"] for item in image_items(f"{tmp_path}/*/T1", series=True)] == [str(tmp_path / "anna/T1")]
    slices = image_items(f"{tmp_path}/anna/T1/*", series=True)  # one by one
    assert len(slices) == 6 and all(item["files"] == [item["image"]] for item in slices)
    assert image_items(tmp_path / "ben" / "IM0", series=True)[0]["image"] == str(tmp_path / "ben" / "IM0")
    assert len(image_items(tmp_path)) == 10  # without `series` each slice is an image
    assert not caplog.records
    assert "and zip files of DICOM slices" in image_items(tmp_path / "texts.zip", series=True).reason


def test_a_series_that_lies_in_several_folders_is_warned_of(tmp_path, write_series, caplog):
    write_series(tmp_path / "a", VOLUME)
    (tmp_path / "b").mkdir()
    for name in ("IM0", "IM1", "IM2"):
        (tmp_path / "a" / name).replace(tmp_path / "b" / name)
    assert len(image_items(tmp_path, series=True)) == 2
    assert "one lies in several" in caplog.text


def test_slices_are_in_the_order_of_their_normal(tmp_path, write_series):
    identifiers = write_series(tmp_path, VOLUME, oblique("LPS"))
    assert [dicom.SOPInstanceUID for dicom in read_slices(tmp_path, pixels=False)] == identifiers
    identifiers = write_series(tmp_path / "RAI", VOLUME, oblique("RAI"))  # a left-handed grid
    assert [dicom.SOPInstanceUID for dicom in read_slices(tmp_path / "RAI", pixels=False)] == identifiers[::-1]


def test_a_series_without_preambles_is_read_as_with_them(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME, oblique())
    expected = load(tmp_path / "T1")
    for number, file in enumerate(sorted((tmp_path / "T1").iterdir())):
        dicom = dcmread(file)
        bare = Dataset()
        bare.update(dict(dicom.items()))
        if number % 3:  # the others keep theirs
            bare.save_as(file, implicit_vr=number % 3 == 1, little_endian=True, enforce_file_format=False)
    image = load(tmp_path / "T1")
    np.testing.assert_array_equal(image.dataobj, expected.dataobj)
    np.testing.assert_array_equal(image.affine, expected.affine)


@pytest.mark.parametrize("which", ["IM0", "IM2", "IM5"])
@pytest.mark.parametrize("damage", ["empty", "cut in its header", "cut at once", "noise", "lost link", "not allowed"])
@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_a_slice_that_cannot_be_read_fails_its_series(tmp_path, write_series, monkeypatch, damage, which, suffix):
    write_series(tmp_path / "T1", VOLUME)
    for file in (tmp_path / "T1").iterdir():
        file.rename(f"{file}{suffix}")
    file = tmp_path / "T1" / f"{which}{suffix}"
    content = file.read_bytes()
    file.unlink()
    if damage == "lost link":
        file.symlink_to("nowhere/IM0")
    else:
        kept = {"empty": b"", "cut in its header": content[:600], "cut at once": content[:100], "noise": b"\7\0" * 99}
        file.write_bytes(kept.get(damage, content))
    if damage == "not allowed":
        own = open

        def refuse(name, *arguments, **options):
            if str(name) == str(file):
                raise PermissionError(13, "Permission denied", str(name))
            return own(name, *arguments, **options)

        monkeypatch.setattr("builtins.open", refuse)
    (tmp_path / "T1" / "README").write_text("what a person wrote")
    (tmp_path / "T1" / "DICOMDIR").write_bytes(bytes(99))
    (tmp_path / "T1" / "Thumbs.db").write_bytes(bytes(99))
    assert [item["image"] for item in image_items(tmp_path, series=True)] == [str(tmp_path / "T1")]
    with pytest.raises(ValueError, match=f"T1: 1 of its files cannot be read as DICOM, such as {file.name}: copy them"):
        load(tmp_path / "T1")


@pytest.mark.parametrize("keep", [0, 100, 600])
def test_a_slice_that_cannot_be_read_fails_a_zip_file(tmp_path, write_series, keep):
    write_series(tmp_path / "T1", VOLUME)
    file = tmp_path / "T1" / "IM5"
    file.write_bytes(file.read_bytes()[:keep])
    path = zipped(tmp_path / "T1")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/secret/._IM4", b"\x00\x05\x16\x07" * 20)
        archive.writestr("secret/notes", "what a person wrote")
    assert [item["image"] for item in image_items(path, series=True)] == [str(path)]
    with pytest.raises(ValueError, match="T1.zip: 1 of its files cannot be read as DICOM: copy them again"):
        load(path)


def test_a_damaged_slice_beside_single_pictures_is_an_item_of_its_own(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME[..., :2])
    for name in ("IM0", "IM1"):
        dicom = dcmread(tmp_path / "T1" / name)
        dicom.SeriesInstanceUID = f"1.2.{name[-1]}"
        dicom.save_as(tmp_path / "T1" / name)
    (tmp_path / "T1" / "IM2").write_bytes(b"")
    assert [Path(item["image"]).name for item in image_items(tmp_path, series=True)] == ["IM0", "IM1", "IM2"]


def test_a_slice_that_is_cut_in_its_pixels_is_named(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME)
    file = tmp_path / "T1" / "IM2"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="T1: IM2: cannot be read as DICOM: it is damaged"):
        load(tmp_path / "T1")


def test_slices_without_an_identifier_of_their_series_are_one(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME, SeriesInstanceUID=None, StudyInstanceUID=None)
    np.testing.assert_array_equal(load(tmp_path / "T1").dataobj, VOLUME)


def test_padding_is_as_dark_as_the_darkest_of_the_rest(tmp_path, write_series):
    padded = VOLUME.astype(np.int16) + 10
    padded[:2] = -2000
    padded[..., 4] = -2000  # a whole slice
    write_series(tmp_path / "T1", padded, np.diag([-1.0, -1, 1, 1]), PixelPaddingValue=-2000)
    inside = padded != -2000
    image = load(tmp_path / "T1")
    np.testing.assert_array_equal(image.dataobj, np.where(inside, padded, padded[inside].min()))


@pytest.mark.parametrize("tags", [{"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}])
def test_a_series_in_which_low_values_are_bright_is_turned_over(tmp_path, write_series, tags):
    write_series(tmp_path / "T1", VOLUME, np.diag([-1.0, -1, 1, 1]), **tags)
    np.testing.assert_array_equal(load(tmp_path / "T1").dataobj, VOLUME.max() - VOLUME.astype(float))


def test_bombs_are_not_unpacked(tmp_path, write_series, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM0", bytes(2**20))
    monkeypatch.setattr("monai_kd.data.readers.dicom_folder._BOMB", (2**19, 200))
    assert [item["image"] for item in image_items(tmp_path, series=True)] == [str(path)]
    with pytest.raises(ValueError, match="bomb.zip: holds 1,048,576 bytes when unpacked, over 200 times as many"):
        load(path)


def test_a_zip_file_that_cannot_be_opened_is_an_item_that_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(b"PK")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile", refuse)
    assert [item["image"] for item in image_items(tmp_path, series=True)] == [str(tmp_path / "a.zip")]
    with pytest.raises(ValueError, match="a.zip: cannot be opened: allow reading it"):
        load(tmp_path / "a.zip")


def test_a_volume_that_would_fill_the_memory_is_refused(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME)
    with pytest.raises(ValueError, match="T1: has 5 x 4 x 6 = 120 voxels, at most 119 are read"):
        read_dicom_series(tmp_path / "T1", max_voxels=119)


def test_an_identifier_that_a_name_got_into_is_not_quoted(tmp_path, write_series, caplog):
    """pydicom makes values, and complains of them, when they are asked for."""
    write_series(tmp_path / "T1", VOLUME)
    for file in (tmp_path / "T1").iterdir():
        uid = str(dcmread(file).SeriesInstanceUID)
        file.write_bytes(file.read_bytes().replace(uid.encode(), uid[:-6].encode() + b"Secret"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        (series,) = find_series(tmp_path / "T1")
    assert len(series.files) == 6 and "ecret" not in caplog.text + " ".join(str(one.message) for one in warned)


def test_a_slope_that_is_no_number_fails_the_series(tmp_path, write_series):
    write_series(tmp_path / "s", VOLUME, RescaleSlope=1.0)
    file = tmp_path / "s" / "IM2"
    file.write_bytes(file.read_bytes().replace(b"DS\x04\x001.0 ", b"DS\x04\x00nan "))
    with pytest.raises(ValueError, match="s: "):
        CheckImage()(LoadImage(ImageFileReader(), ensure_channel_first=True)(tmp_path / "s"))
