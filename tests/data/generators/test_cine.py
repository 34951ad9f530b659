# SPDX-License-Identifier: Apache-2.0
import csv

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from monai_kd.data import CineGenerator, mri_datalist

SIZE = 96


def pictures(folder, pattern="*"):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "images").glob(f"{pattern}.png"))]


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    return CineGenerator(SIZE, frames_per_patient=4)(tmp_path_factory.mktemp("easy"), cases=10)


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    return CineGenerator(SIZE, frames_per_patient=4, difficulty="hard")(tmp_path_factory.mktemp("hard"), cases=10)


def test_folder_lies_as_a_real_one_does(easy):
    assert sorted(path.name for path in easy.iterdir()) == ["generated.json", "images", "index.csv"]
    with open(easy / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert rows[17] == {"id": "SIM-0005-IM-0001-0002", "patient": "SIM-0005", "split": "val"}
    assert sorted(f"{row['id']}.png" for row in rows) == sorted(path.name for path in (easy / "images").iterdir())
    assert all(image.shape == (SIZE, SIZE) and image.dtype == np.uint8 for image in pictures(easy))


@pytest.mark.parametrize(("split", "sizes"), [("index", [7, 1, 2]), ("seeded", [7, 1, 2])])
def test_it_is_read_as_a_real_one(easy, split, sizes):
    splits = mri_datalist(easy, split=split)
    assert [len(items) for items in splits.values()] == sizes
    assert all(len(item["image"]) == 4 for items in splits.values() for item in items)


def test_grey_values_are_spread_as_in_real_frames(easy, hard):
    for image in pictures(easy) + pictures(hard):
        assert image.max() == 255 and 10 < image.mean() < 70
        assert (image < 25).mean() > 0.2  # air and lungs


def test_the_heart_beats():
    generator = CineGenerator(128, frames_per_patient=16)
    for patient in range(3):
        frames = [generator._frame(0, patient, frame).astype(float) for frame in range(16)]
        # Two beats: frames 3 and 11 are in systole, 0 and 7 in diastole. Walls and liver hardly move, the heart does.
        still, moving = np.abs(frames[7] - frames[8]).mean(), np.abs(frames[7] - frames[3]).mean()
        assert moving > 1.5 * still


def test_hard_frames_have_more_fine_structure(easy, hard):
    def fine(folder):
        """Typical deviation of a pixel of the body from its surroundings, away from edges."""
        images = [image.astype(float) for image in pictures(folder)]
        deviations = [np.abs(image - ndimage.gaussian_filter(image, 1)) / (image + 1) for image in images]
        return np.mean([np.median(deviation[image > 25]) for deviation, image in zip(deviations, images)])

    assert fine(hard) > 1.15 * fine(easy)


def test_same_seed_gives_the_same_bytes_and_a_small_set_begins_a_large_one(easy, tmp_path):
    small = CineGenerator(SIZE, frames_per_patient=4)(tmp_path, cases=2)
    for path in (small / "images").iterdir():
        assert path.read_bytes() == (easy / "images" / path.name).read_bytes()


def test_patients_and_seeds_differ(easy, tmp_path):
    other = CineGenerator(SIZE, frames_per_patient=4)(tmp_path, cases=1, seed=1)
    first = pictures(easy, "SIM-0001*")[0].astype(float)
    for image in (pictures(easy, "SIM-0002*")[0], pictures(other)[0]):
        assert np.abs(first - image).mean() > 5


def test_a_smaller_frame_shows_the_same(easy, tmp_path):
    small = CineGenerator(SIZE // 2, frames_per_patient=4)(tmp_path, cases=3)
    for large, image in zip(pictures(easy), pictures(small)):
        halved = large.reshape(SIZE // 2, 2, SIZE // 2, 2).mean(axis=(1, 3))
        assert np.corrcoef(halved.flat, image.flat)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difficulty": "impossible"}, "must be of easy, hard, got 'impossible'"),
        ({"image_size": 31}, "image_size >= 32"),
        ({"frames_per_patient": 0}, "frames_per_patient >= 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CineGenerator(**arguments)
