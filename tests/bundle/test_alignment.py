# SPDX-License-Identifier: Apache-2.0
"""What lies in one place in the files lies in one place in the batches: image, label and soft label."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import RandBiasFieldd, RandomizableTransform
from scipy import ndimage

import monai_kd

VOLUMES = ("brain_extraction", "vessel_segmentation")
CLASSIFIERS = ("brain_tumor_classification", "chest_xray_classification")
SETTINGS = {
    "brain_extraction": {"crop_size": [96, 112, 96], "spacing": [1.5, 1.5, 1.5]},
    "vessel_segmentation": {"spacing": [2.0, 2.0, 2.0], "crop_size": [32, 32, 32], "low_resolution_factor": 1},
    "brain_tumor_segmentation": {"image_size": 40},
}
RECIPES = [
    (name, overlays)
    for name in SETTINGS
    for overlays in ((), ("shipped.json",))
    if all(Path(monai_kd.bundle_root(name), "configs", overlay).is_file() for overlay in overlays)
]


def _parser(bundle: str, *overlays: str, **settings) -> ConfigParser:
    root = Path(monai_kd.bundle_root(bundle), "configs")
    parser = ConfigParser(ConfigParser.load_config_files([root / name for name in ("train.json", *overlays)]))
    parser.update({"bundle_root": str(root.parent), "imagenet_weights": "none", **SETTINGS[bundle], **settings})
    return parser


def _ball(shape: tuple[int, ...]) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centre, radii = np.array([0.45, 0.55, 0.5])[: len(shape)] * shape, np.array([0.3, 0.25, 0.3])[: len(shape)] * shape
    return (((grid - centre) / radii) ** 2).sum(axis=-1) < 1


@pytest.fixture(scope="module")
def item(tmp_path_factory) -> dict[str, str]:
    """A head of 1 mm with a bright ball, its label, and a teacher that is sure of it."""
    folder, ball = tmp_path_factory.mktemp("data"), _ball((96, 80, 88))
    arrays = {"image": np.where(ball, 200, 40), "label": ball, "teacher": ball}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([-1.0, 1, 1, 1])), folder / f"{name}.nii.gz")
    return {name: str(folder / f"{name}.nii.gz") for name in arrays}


@pytest.mark.parametrize("bundle, overlays", [recipe for recipe in RECIPES if recipe[0] in VOLUMES])
def test_soft_labels_of_files_lie_where_the_labels_do(bundle, overlays, item):
    preprocessing = _parser(bundle, *overlays, teacher_activation="sigmoid").get_parsed_content("train#preprocessing")
    preprocessing.set_random_state(0)
    for _ in range(4):
        samples = preprocessing(item)
        for sample in samples if isinstance(samples, list) else [samples]:
            label, soft = (sample[key].numpy() > 0.5 for key in ("label", "teacher"))
            assert label.any() and 2 * (label & soft).sum() / (label.sum() + soft.sum()) > 0.97


@pytest.mark.parametrize("bundle, overlays", RECIPES)
def test_what_changes_grey_values_moves_nothing(bundle, overlays):
    ball = _ball((48, 40) if bundle == "brain_tumor_segmentation" else (48, 40, 44))
    image = MetaTensor(torch.from_numpy(np.where(ball, 0.8, 0.2).astype(np.float32))[None])
    place = ndimage.center_of_mass(ball)
    for transform in _parser(bundle, *overlays).get_parsed_content("train#random_transforms"):
        keys = tuple(getattr(transform, "keys", ()))
        if keys != ("image",) or not isinstance(transform, RandomizableTransform):
            continue
        if isinstance(transform, RandBiasFieldd):  # it moves the middle of what is bright, and no edge
            continue
        transform.prob = 1.0
        transform.set_random_state(0)
        for _ in range(5):
            changed = transform({"image": image.clone()})["image"].numpy()[0]
            inside, outside = changed[ball].mean(), changed[~ball].mean()
            seen = (changed > (inside + outside) / 2) == (inside > outside)
            assert ndimage.center_of_mass(seen) == pytest.approx(place, abs=0.2), type(transform).__name__


@pytest.mark.parametrize(
    "name, overlays",
    [*RECIPES, *itertools.product(CLASSIFIERS, ((), ("shipped.json",)))],
)
def test_items_of_a_training_are_those_that_carry_metadata(name, overlays, tmp_path):
    root, files = Path(monai_kd.bundle_root(name), "configs"), ["train.json", "demo.json", *overlays]
    settings = {"bundle_root": str(root.parent), "ckpt_dir": str(tmp_path), "imagenet_weights": "none"}
    drawn = []
    for compose in ("monai_kd.transforms.TrainingCompose", "Compose"):
        parser = ConfigParser(ConfigParser.load_config_files([root / file for file in files]))
        parser.update({**settings, "demo_cases": 8, "num_workers": 0, "train#preprocessing#_target_": compose})
        dataset = parser.get_parsed_content("train#dataset")
        dataset.transform.set_random_state(3)
        taken = [dataset[place] for _ in range(3) for place in range(2)]
        drawn.append([item for own in taken for item in (own if isinstance(own, list) else [own])])
    for plain, tracked in zip(*drawn, strict=True):
        assert plain.keys() == tracked.keys() and isinstance(tracked["image"], MetaTensor)
        for key, value in plain.items():
            assert not isinstance(value, MetaTensor)
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, torch.as_tensor(tracked[key]))
