# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from monai_kd.data import HeadGenerator, brain_extraction_datalist

SHAPE = (36, 48, 48)  # 5 mm


def volumes(folder, kind="T1"):
    return [nib.load(path) for path in sorted((folder / kind).glob("*.nii.gz"))]


def array(image):
    return np.asarray(image.dataobj)


def pairs(folder, kind="T1"):
    """Grey values and brains of all subjects."""
    return [(array(i).astype(float), array(m) == 1) for i, m in zip(volumes(folder, kind), volumes(folder, "mask"))]


def dice(a, b):
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    return HeadGenerator(SHAPE, contrasts=("T1", "T2", "PD"))(tmp_path_factory.mktemp("easy"), cases=6)


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    return HeadGenerator(SHAPE, difficulty="hard")(tmp_path_factory.mktemp("hard"), cases=6)


def test_folders_lie_as_a_real_data_set_does(easy):
    assert sorted(path.name for path in easy.iterdir()) == ["PD", "T1", "T2", "generated.json", "index.csv", "mask"]
    names = [f"SIM{i:04d}.nii.gz" for i in range(1, 7)]
    for kind in ("T1", "T2", "PD", "mask"):
        assert sorted(path.name for path in (easy / kind).iterdir()) == names
    with open(easy / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[4] == {"id": "SIM0005", "patient": "SIM0005", "split": "val"}


def test_contrasts_and_mask_lie_on_one_grid(easy):
    for subject in zip(*(volumes(easy, kind) for kind in ("T1", "T2", "PD", "mask"))):
        for image in subject:
            assert image.shape == SHAPE
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
            np.testing.assert_array_equal(image.affine, subject[0].affine)
            np.testing.assert_allclose(image.header.get_zooms(), 5)
        assert set(np.unique(array(subject[-1]))) == {0, 1}


def test_both_data_types_of_scanners_come_up(easy):
    assert {image.get_data_dtype() for image in volumes(easy)} == {np.dtype(np.uint8), np.dtype(np.int16)}


@pytest.mark.parametrize("spacing", [4.0, (5, 4, 6)])
def test_brains_have_a_human_size(tmp_path, spacing):
    extent = np.array([180, 240, 240])
    folder = HeadGenerator(tuple((extent / spacing).astype(int)), spacing)(tmp_path, cases=2)
    for mask in volumes(folder, "mask"):
        assert 1100 < array(mask).sum() * np.prod(mask.header.get_zooms()) / 1000 < 1900


def test_a_brain_is_one_piece_without_holes_inside_the_volume(easy):
    for _, brain in pairs(easy):
        assert ndimage.label(brain)[1] == ndimage.label(~brain)[1] == 1
        assert brain.sum() == brain[1:-1, 1:-1, 1:-1].sum()


@pytest.mark.parametrize(("difficulty", "highest"), [("easy", 0.8), ("hard", 0.75)])
def test_no_range_of_grey_values_is_the_brain(easy, hard, difficulty, highest):
    best = []
    for image, brain in pairs({"easy": easy, "hard": hard}[difficulty])[:4]:
        values = np.quantile(image, np.linspace(0.3, 1, 24))
        ranges = ((image >= low) & (image <= high) for low in values for high in values[values > low])
        best.append(max(dice(inside, brain) for inside in ranges))
    assert np.mean(best) < highest


def test_the_scalp_is_as_bright_as_the_brain(easy):
    for image, brain in pairs(easy):
        outside = image[~ndimage.binary_dilation(brain, iterations=2)]
        assert np.quantile(outside, 0.97) > np.median(image[brain])


def test_fluid_is_dark_in_t1_and_bright_in_t2(easy):
    for (t1, brain), (t2, _) in zip(pairs(easy), pairs(easy, "T2")):
        assert np.corrcoef(t1[brain], t2[brain])[0, 1] < -0.3


def test_the_border_of_the_brain_stands_out_less_when_it_is_hard(easy, hard):
    def contrast(image, brain):
        inside = image[brain & ~ndimage.binary_erosion(brain)]
        outside = image[~brain & ndimage.binary_dilation(brain)]
        return (inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2)

    for (easy_image, brain), (hard_image, same) in zip(pairs(easy), pairs(hard)):
        np.testing.assert_array_equal(brain, same)
        assert contrast(hard_image, brain) < 0.6 * contrast(easy_image, brain)


def test_noise_is_rician(hard):
    image, _ = pairs(hard)[0]
    background = np.concatenate([image[:2, :6].ravel(), image[-2:, :6].ravel()])
    assert background.mean() / background.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.1)  # Rayleigh's


@pytest.mark.parametrize("layout", ["folders", "bids"])
def test_same_seed_gives_the_same_bytes_and_a_small_set_begins_a_large_one(tmp_path, layout):
    generator = HeadGenerator((16, 16, 16), layout=layout, vary_grid=True)
    few, many = generator(tmp_path / "few", cases=2, seed=5), generator(tmp_path / "many", cases=4, seed=5)
    paths = [path.relative_to(few) for path in few.rglob("*.nii.gz")]
    assert len(paths) == 4
    for path in paths:
        assert (few / path).read_bytes() == (many / path).read_bytes()
    assert (many / "index.csv").read_text().startswith((few / "index.csv").read_text())


def test_subjects_and_seeds_differ(easy, tmp_path):
    other = pairs(HeadGenerator(SHAPE)(tmp_path, cases=1, seed=1))
    brains = [brain for _, brain in pairs(easy)[:3] + other]
    assert max(dice(brains[i], brains[j]) for i in range(4) for j in range(i)) < 0.97


def test_a_coarser_volume_is_the_same_head(easy, tmp_path):
    fine = HeadGenerator((72, 96, 96))(tmp_path, cases=1)
    shrunk = pairs(fine)[0][1].reshape(36, 2, 48, 2, 48, 2).mean(axis=(1, 3, 5)) > 0.5
    assert dice(shrunk, pairs(easy)[0][1]) > 0.97


def test_grids_vary_when_asked(tmp_path):
    images = volumes(HeadGenerator(SHAPE, vary_grid=True)(tmp_path, cases=8))
    assert len({nib.aff2axcodes(image.affine) for image in images}) > 4
    assert len({image.shape for image in images}) == 8
    for image, mask in zip(images, volumes(tmp_path, "mask")):
        np.testing.assert_array_equal(image.affine, mask.affine)
        zooms = np.array(image.header.get_zooms())
        assert (zooms > 0.74 * 5).all() and (zooms < 1.51 * 5).all()
        # The brain lies upright: in the head's own directions it is longer than broad.
        upright = nib.as_closest_canonical(mask)
        extents = np.ptp(np.argwhere(array(upright) == 1), axis=0) * upright.header.get_zooms()
        assert extents[1] > extents[0]


@pytest.mark.parametrize("layout", ["folders", "bids"])
def test_a_generated_data_set_is_read_with_its_split(tmp_path, layout):
    folder = HeadGenerator((16, 16, 16), contrasts=("T1", "T2"), layout=layout)(tmp_path, cases=5)
    splits = brain_extraction_datalist(folder, split="index")
    assert {side: len(items) for side, items in splits.items()} == {"training": 6, "validation": 2, "test": 2}
    assert {item["modality"] for item in splits["test"]} == {"T1", "T2"}
    assert len({item["label"] for item in splits["test"]}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difficulty": "medium"}, "difficulty must be of easy, hard, got 'medium'"),
        ({"contrasts": ("T1", "T9")}, "contrasts must be of T1, T2, PD, got 'T1', 'T9'"),
        ({"contrasts": ()}, "contrasts must be of T1, T2, PD, got none"),
        ({"layout": "flat"}, "layout must be of folders, bids"),
        ({"shape": (48, 48)}, r"three axes with at least 16 voxels each, got \(48, 48\)"),
        ({"shape": (48, 48, 8)}, "at least 16 voxels"),
        ({"spacing": (2, 2, 0)}, "voxel sizes above 0 mm"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        HeadGenerator(**arguments)
