# SPDX-License-Identifier: Apache-2.0
"""What an index.csv says of heads and of vessels alike: who the patients are, and on which side they stand."""

from __future__ import annotations

import pytest

from monai_kd.data import brain_extraction_datalist, check_no_patient_leaks, mri_datalist, vessel_datalist

from .files import touch


@pytest.fixture(params=[brain_extraction_datalist, vessel_datalist])
def datalist(request):
    return request.param


@pytest.fixture
def volumes(tmp_path, datalist):
    """Ten volumes s0 ... s9 with a label each, where both lists look for them."""
    folder = tmp_path / "data"
    images, labels = ("T1", "mask") if datalist is brain_extraction_datalist else ("images", "labels")
    touch(folder, *(f"{part}/s{i}.nii.gz" for part in (images, labels) for i in range(10)))
    return folder


def test_the_index_knows_better_who_the_patients_are(datalist, volumes):
    (volumes / "index.csv").write_text("id,patient\n" + "".join(f"s{i},twice{i // 2}\n" for i in range(10)))
    for seed in range(3):
        splits = datalist(volumes, seed=seed)
        check_no_patient_leaks(splits)
        assert {item["patient"] for items in splits.values() for item in items} == {f"twice{i}" for i in range(5)}


def test_the_index_says_who_the_patients_are_where_another_file_splits(datalist, volumes, tmp_path):
    (volumes / "index.csv").write_text("id,patient\ns1,anna\ns2,anna\n")
    mine = tmp_path / "mine.csv"
    mine.write_text("id,split\ns1,train\ns2,test\n")
    with pytest.raises(ValueError, match="patient anna is in training and test"):
        datalist(volumes, split=str(mine))


@pytest.mark.parametrize("read", [brain_extraction_datalist, mri_datalist])
def test_an_id_may_be_the_patient_of_the_name_beside_another_patient(read, tmp_path):
    masks = [f"mask/s{i}.nii.gz" for i in range(4)] if read is brain_extraction_datalist else []
    touch(tmp_path / "data", *(f"s{i}_T1.nii.gz" for i in range(4)), *masks)
    rows = "s0,train,p0\ns1,train,p0\ns2,val,p2\ns3,test,p3\n"
    (tmp_path / "data" / "index.csv").write_text(f"id,split,patient\n{rows}")
    splits = read(tmp_path / "data", split="index")
    patients = {side: [item["patient"] for item in items] for side, items in splits.items()}
    assert patients == {"training": ["p0", "p0"], "validation": ["p2"], "test": ["p3"]}
    (tmp_path / "mine.csv").write_text("id,split\np0,train\ns2_T1,val\ns3,test\n")  # whatever it calls them
    assert read(tmp_path / "data", split=str(tmp_path / "mine.csv")) == splits


def test_an_index_that_matches_nothing_is_warned_of_once(datalist, volumes, caplog):
    (volumes / "index.csv").write_text("id,patient,split\ns0,anna,train\ns1,anna,train\nS2,ben,test\n")
    datalist(volumes)
    assert caplog.text.count("1 rows that name a patient match none of the images, the first is S2") == 1
    caplog.clear()
    datalist(volumes, split="index")
    assert "1 rows have no image" in caplog.text and "name a patient" not in caplog.text
    caplog.clear()
    more = volumes.parent / "more"
    touch(more, "s3.nii.gz")
    (volumes / "index.csv").write_text("id,patient\ns0,anna\n")
    (more / "index.csv").write_text("id,patient\nS3,ben\n")
    datalist(volumes, fractions=(1, 0, 0), unlabelled_dir=more)
    assert caplog.text.count("name a patient") == 1 and "more/index.csv: 1 rows" in caplog.text


def test_a_patient_on_two_sides_of_an_index_is_refused(datalist, volumes):
    (volumes / "index.csv").write_text("id,patient,split\ns1,anna,train\ns2,anna,test\n")
    with pytest.raises(ValueError, match="patient anna is in training and test"):
        datalist(volumes, split="index")
