# SPDX-License-Identifier: Apache-2.0
import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_kd.data.readers.soft_label import read_soft_label, read_soft_row

VALUES = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)  # (C, x, y, z)


def test_a_nifti_file_has_a_volume_for_each_class(tmp_path):
    affine = np.diag([2.0, 3, 4, 1])
    nib.save(nib.Nifti1Image(np.moveaxis(VALUES, 0, -1), affine), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(VALUES[0], affine), tmp_path / "b.nii.gz")
    both, one = (read_soft_label(tmp_path / name, 3) for name in ("a.nii.gz", "b.nii.gz"))
    np.testing.assert_array_equal(both.values, VALUES)
    np.testing.assert_array_equal(one.values, VALUES[:1])
    np.testing.assert_allclose(both.affine, affine)


def test_nnunets_probabilities_begin_with_the_slices(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", probabilities=VALUES.transpose(0, 3, 2, 1))
    np.testing.assert_array_equal(read_soft_label(tmp_path / "a.npz", 3).values, VALUES)


@pytest.mark.parametrize("name", ["probabilities", "teacher", "mine"])
def test_arrays_have_the_images_axes(name, tmp_path):
    np.save(tmp_path / "a.npy", VALUES[..., 0])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name] = VALUES[..., 0]
    for file_name in ("a.npy", "a.h5"):
        np.testing.assert_array_equal(read_soft_label(tmp_path / file_name, 2).values, VALUES[..., 0])


def test_a_picture_is_as_the_writer_makes_it(tmp_path):
    prob = VALUES[0, :, :, 0]
    Image.fromarray(np.round(65535 * prob.T).astype(np.uint16)).save(tmp_path / "a_prob.png")
    np.testing.assert_allclose(read_soft_label(tmp_path / "a_prob.png", 2).values, prob[None], atol=1e-5)


def test_what_cannot_be_one_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npy: there is no such soft label: .*infer --teacher"):
        read_soft_label(tmp_path / "none.npy", 2)
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(ValueError, match=r"a.npy: expected a soft label \(C, x, y\).*got \(2, 3, 4, 5\)"):
        read_soft_label(tmp_path / "a.npy", 2)
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "c.npz", one=VALUES, other=VALUES)
    (tmp_path / "d.npy").write_bytes(b"no array")
    (tmp_path / "e.txt").write_text("0.5")
    for name, reason in (("b.npy", "pickle"), ("c.npz", "found: one, other"), ("d.npy", ""), ("e.txt", ".npz")):
        with pytest.raises(ValueError, match=f"{name}: cannot be read as a soft label: .*{reason}"):
            read_soft_label(tmp_path / name, 2)
    np.save(tmp_path / "f.npy", VALUES)
    with pytest.raises(ValueError, match="f.npy: has 2 x 3 x 4 x 5"):
        read_soft_label(tmp_path / "f.npy", 3, max_voxels=100)


def test_a_row_is_found_by_the_images_name(tmp_path):
    table = tmp_path / "predictions.csv"
    table.write_text(f"input,predicted,b,a\n{tmp_path}/x/1.png,a,0.25,0.75\n2.png,b,1,0\n")
    for image in (tmp_path / "x" / "1.png", "elsewhere/x/1.dcm", "1.png"):
        assert read_soft_row(table, str(image), ["a", "b"]).tolist() == [0.75, 0.25]
    table.write_text("id,a,b\n1,0.5,0.5\n")  # which is read anew
    assert read_soft_row(table, "1.png", ["a", "b"]).tolist() == [0.5, 0.5]


def test_columns_are_found_in_any_case(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Input,MASS,abnormal \n1.png,1,0\n")
    assert read_soft_row(table, "1.png", ["Mass", "Abnormal"]).tolist() == [1, 0]
    table.write_text("input,Mass,mass\n1.png,1,0,1\n")
    with pytest.raises(ValueError, match="t.csv: the columns 'Mass' and 'mass' have one name: leave one of them"):
        read_soft_row(table, "1.png", ["Mass"])


def test_a_row_of_another_folder_is_of_another_image(tmp_path):
    table = tmp_path / "predictions.csv"
    table.write_text("input,a\n/elsewhere/p1/frame01.png,1\n")
    assert read_soft_row(table, "/data/p1/frame01.png", ["a"]) == read_soft_row(table, "frame01.png", ["a"]) == 1
    with pytest.raises(ValueError, match="row of the name of /data/p2/frame01.png is of another folder, /elsewhere/p1"):
        read_soft_row(table, "/data/p2/frame01.png", ["a"])
    table.write_text("input,a\n/old/p1/T1/1.png,1\n/old/p2/T1/1.png,0.5\nold/p3/T1/1.png,0\n")
    for image, value in (("/new/p1/T1/1.png", 1), ("p2/T1/1.png", 0.5), ("/old/p2/T1/1.png", 0.5), ("p3/T1/1.png", 0)):
        assert read_soft_row(table, image, ["a"]) == value
    with pytest.raises(ValueError, match="is of another folder"):
        read_soft_row(table, "/new/p4/T1/1.png", ["a"])
    with pytest.raises(ValueError, match="3 rows of the image T1/1.png"):
        read_soft_row(table, "T1/1.png", ["a"])


def test_a_table_that_says_too_little_is_refused(tmp_path):
    table = tmp_path / "t.csv"
    for content, names, message in (
        ("id,a\n1,0\n", ["a", "b"], "t.csv: lacks b; found the columns: id, a"),
        ("name,a\n1,0\n", ["a"], "t.csv: lacks a column input or image"),
        ("id,a\n2,0\n", ["a"], "t.csv: no row of the image 1.png"),
        ("id,a\n1.png,0\n1.png,1\n", ["a"], "t.csv: 2 rows of the image 1.png"),
        ("id,a\n1,\n", ["a"], "t.csv: the row of 1.png holds something else than numbers"),
    ):
        table.write_text(content + " " * len(message))
        with pytest.raises(ValueError, match=message):
            read_soft_row(table, "1.png", names)


WRITERS = {
    "a.npy": lambda path, values: np.save(path, values),
    "a.npz": lambda path, values: np.savez_compressed(path, probabilities=values.transpose(0, 3, 2, 1)),
    "a.h5": lambda path, values: h5py.File(path, "w").create_dataset("teacher", data=values).file.close(),
    "a.nii.gz": lambda path, values: nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), np.eye(4)), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_complex_ones_are_refused(name, tmp_path):
    WRITERS[name](tmp_path / name, (VALUES * 1j).astype(np.complex64))
    with pytest.raises(ValueError, match=f"{name}: a soft label holds real numbers, got complex64: save probabilities"):
        read_soft_label(tmp_path / name, 3)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0, 0.3, 0.7])
def test_truncated_ones_are_named(name, share, tmp_path):
    WRITERS[name](tmp_path / name, VALUES)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{name}: cannot be read as a soft label: ") as error:
        read_soft_label(tmp_path / name, 3)
    assert "\n" not in str(error.value)


def test_units_and_a_table_that_a_spreadsheet_wrote(tmp_path):
    image = nib.Nifti1Image(VALUES[0], np.diag([0.002, 0.003, 0.004, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_soft_label(tmp_path / "a.nii.gz", 3).affine, np.diag([2.0, 3, 4, 1]), rtol=1e-6)
    (tmp_path / "t.csv").write_text("\ufeffinput;a;b\n;;\n1.png;1;0\n;;\n", "utf-8")
    assert read_soft_row(tmp_path / "t.csv", "1.png", ["a", "b"]).tolist() == [1, 0]
    np.save(tmp_path / "b.npy", VALUES > 0.5)  # hard labels are probabilities of 0 and 1
    np.testing.assert_array_equal(read_soft_label(tmp_path / "b.npy", 3).values, VALUES > 0.5)
