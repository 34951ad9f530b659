# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from highdicom.seg import segread
from monai.data import MetaTensor
from pydicom import dcmread

from monai_kd.data import SegmentationWriter, read_dicom_series
from monai_kd.data.readers.dicom_series import read_slices
from monai_kd.data.writers.dicom_segmentation import dicom_segmentation

SEGMENT = {
    "category": ["91723000", "SCT", "Anatomical Structure"],
    "type": ["12738006", "SCT", "Brain"],
    "algorithm": "brain_extraction",
}
VOLUME = np.random.default_rng(0).integers(0, 4000, (5, 4, 6)).astype(np.uint16)
MASK = VOLUME > 2000
MASK[..., [0, 4]] = False


def write(mask, source, stem, affine=None, **arguments):
    """The object that the writer makes of a mask, and its row."""
    meta = {"filename_or_obj": str(source)}
    pred = MetaTensor(torch.from_numpy(mask.astype(np.float32))[None], affine=affine, meta=meta)
    writer = SegmentationWriter(label_name="brain", format="dicom_seg", segment=SEGMENT, **arguments)
    row = writer({"pred": pred}, stem)
    assert row["output"].name == f"{stem.name}_pred.dcm"
    return segread(row["output"]), row


@pytest.mark.parametrize("reverse", [False, True])
def test_frames_are_the_masks_slices_and_refer_to_the_sources(tmp_path, write_series, reverse):
    affine = np.diag([0.9, -0.7, -2.5 if reverse else 2.5, 1])
    identifiers = write_series(tmp_path / "T1", VOLUME, affine, StudyDate="20200102", SpecificCharacterSet="ISO_IR 100")
    image = read_dicom_series(tmp_path / "T1")
    mask = np.flip(MASK, 2) if np.linalg.det(affine) * np.linalg.det(image.affine) < 0 else MASK
    written, row = write(mask, tmp_path / "T1", tmp_path / "out" / "T1", torch.from_numpy(image.affine), overlay=True)
    assert row["brain_ml"] == pytest.approx(MASK.sum() * 0.9 * 0.7 * 2.5 / 1000)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["T1_overlay.png", "T1_pred.dcm"]

    frames = {}
    for frame, groups in zip(written.pixel_array, written.PerFrameFunctionalGroupsSequence):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        frames[str(source)] = frame, groups.PlanePositionSequence[0].ImagePositionPatient
    sources = {str(dicom.SOPInstanceUID): dicom for dicom in map(dcmread, (tmp_path / "T1").iterdir())}
    assert set(frames) == {identifiers[number] for number in (1, 2, 3, 5)}  # where the mask has something
    for number, identifier in enumerate(identifiers):
        if identifier in frames:
            frame, position = frames[identifier]
            np.testing.assert_array_equal(frame, MASK[..., number].T)
            assert position == sources[identifier].ImagePositionPatient
    whole = written.get_pixels_by_source_instance(identifiers, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(whole[..., 0].T, MASK)


def test_it_says_what_it_is_and_belongs_to_its_study(tmp_path, write_series):
    name = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Yamada^Tarou=山田^太郎"}
    write_series(tmp_path / "T1", VOLUME, **name)
    written, _ = write(MASK, tmp_path / "T1", tmp_path / "T1", read_dicom_series(tmp_path / "T1").affine)
    source = read_slices(tmp_path / "T1", pixels=False)[0]
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[keyword].value == source[keyword].value
    assert written.SeriesInstanceUID != source.SeriesInstanceUID and written.Modality == "SEG"
    assert written.SegmentationType == "BINARY" and list(written.segment_numbers) == [1]
    segment = written.get_segment_description(1)
    assert (segment.segment_label, segment.segmented_property_type.meaning) == ("brain", "Brain")
    assert segment.segmented_property_category.value == "91723000"
    assert segment.algorithm_identification.name == "brain_extraction" and segment.algorithm_identification.version


def test_one_slice_an_empty_mask_and_an_image_without_a_place(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME)
    file = tmp_path / "T1" / "IM3"
    written, row = write(MASK[..., 1], file, tmp_path / "slice")
    np.testing.assert_array_equal(written.pixel_array, MASK[..., 1].T)
    references = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in references] == [dcmread(file).SOPInstanceUID]
    assert row["brain_ml"] == ""

    affine = read_dicom_series(tmp_path / "T1").affine
    written, _ = write(0 * MASK, tmp_path / "T1", tmp_path / "empty", affine)
    assert written.pixel_array.shape == (6, 4, 5) and not written.pixel_array.any()

    dicom = dcmread(file)
    dicom.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"  # a screen shot
    del dicom.FrameOfReferenceUID, dicom.ImagePositionPatient, dicom.ImageOrientationPatient, dicom.PatientName
    dicom.save_as(tmp_path / "shot.dcm")
    written, _ = write(MASK[..., 1], tmp_path / "shot.dcm", tmp_path / "shot")
    np.testing.assert_array_equal(written.pixel_array, MASK[..., 1].T)


def test_a_header_that_is_malformed_or_incomplete(tmp_path, write_series, recwarn, caplog):
    write_series(tmp_path / "T1", VOLUME, PatientBirthDate="1980", StudyInstanceUID=None)
    malformed = tmp_path / "T1" / "IM3"
    malformed.write_bytes(malformed.read_bytes().replace(b"DA\x04\x001980", b"DA\x04\x00Ann."))
    with pytest.raises(ValueError, match="IM3: a DICOM-SEG refers to its image by StudyInstanceUID, which its header"):
        write(MASK[..., 1], malformed, tmp_path / "slice")
    dicom = dcmread(malformed)
    dicom.StudyInstanceUID = "1.2.3"
    dicom.save_as(malformed)
    recwarn.clear(), caplog.clear()
    written, _ = write(MASK[..., 1], malformed, tmp_path / "slice")
    np.testing.assert_array_equal(written.pixel_array, MASK[..., 1].T)
    dicom.SeriesNumber = None
    dicom.save_as(malformed)
    number = b"\x20\x00\x11\x00IS"
    malformed.write_bytes(malformed.read_bytes().replace(number + b"\0\0", number + b"\x04\0Anna"))
    with pytest.raises(ValueError, match="IM3: no DICOM-SEG can be made of its header, in which an element is malf"):
        write(MASK[..., 1], malformed, tmp_path / "slice")
    assert "Ann" not in caplog.text and not any("Ann" in str(warning.message) for warning in recwarn)


def test_what_cannot_be_done(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"no DICOM")
    with pytest.raises(ValueError, match="a.png: a DICOM-SEG refers to DICOM images"):
        write(MASK[..., 1], tmp_path / "a.png", tmp_path / "a")
    with pytest.raises(ValueError, match='format must be "input" or "dicom_seg", got \'nii\''):
        SegmentationWriter(format="nii")
    with pytest.raises(ValueError, match="needs a segment: its category, type and algorithm"):
        SegmentationWriter(format="dicom_seg")
    monkeypatch.setattr("monai_kd.data.writers.dicom_segmentation.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="dicom_seg needs highdicom: pip install highdicom"):
        SegmentationWriter(format="dicom_seg", segment=SEGMENT)


@pytest.mark.parametrize("types", [SEGMENT["type"], [SEGMENT["type"], ["108369006", "SCT", "Neoplasm"]]])
def test_several_classes_are_segments(tmp_path, write_series, types):
    write_series(tmp_path / "T1", VOLUME)
    image = read_dicom_series(tmp_path / "T1")
    classes = MASK.astype(np.float32) + (MASK & (VOLUME > 3000))
    pred = MetaTensor(torch.from_numpy(classes)[None], image.affine, {"filename_or_obj": str(tmp_path / "T1")})
    segment = {**SEGMENT, "type": types}
    writer = SegmentationWriter(label_name=["brain", "tumor"], format="dicom_seg", segment=segment)
    written = segread(writer({"pred": pred}, tmp_path / "T1")["output"])
    descriptions = [written.get_segment_description(number) for number in (1, 2)]
    assert [one.segment_label for one in descriptions] == ["brain", "tumor"]
    meanings = ["Brain", "Brain"] if isinstance(types[0], str) else ["Brain", "Neoplasm"]
    assert [one.segmented_property_type.meaning for one in descriptions] == meanings
    slices = read_slices(tmp_path / "T1", pixels=False)
    identifiers = [dicom.SOPInstanceUID for dicom in slices]
    whole = written.get_pixels_by_source_instance(identifiers, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(whole[..., 0].T, classes == 1)
    np.testing.assert_array_equal(whole[..., 1].T, classes == 2)


def test_as_many_codes_as_segments(tmp_path, write_series):
    write_series(tmp_path / "T1", VOLUME)
    with pytest.raises(ValueError, match="expected one code for all segments, or one for each of the 2, got 1"):
        dicom_segmentation(MASK, str(tmp_path / "T1"), ["a", "b"], SEGMENT["category"], [SEGMENT["type"]], "x")
