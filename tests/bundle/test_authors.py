# SPDX-License-Identifier: Apache-2.0
"""The overlay authors.json of the reconstruction: the losses of the code of SFT-KD-Recon, by NumPy."""

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_kd.cli import main

from .mri import RECONSTRUCTION, SIZE
from .runs import as_words, read_curves, read_rows

NAME = RECONSTRUCTION.NAME
TINY = {**RECONSTRUCTION.TINY, "n_blocks": 5}
BATCH = 3


@pytest.fixture(scope="module")
def mask_file(tmp_path_factory) -> str:
    """Lines along the first axis in the order of fft2, as the authors' masks are."""
    lines = np.isin(np.arange(SIZE), (0, 1, 2, SIZE - 1, SIZE - 2, 9, 14, 20, 25, 31, 37, 40)).astype(float)
    file = tmp_path_factory.mktemp("masks") / "mask_4x.npy"
    np.save(file, np.repeat(lines[:, None], SIZE, 1))
    return str(file)


def _features(names: list[str], seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    widths = {name: 1 if name.endswith("cnn") else 4 for name in names}
    return {name: torch.from_numpy(rng.normal(size=(BATCH, widths[name], 6, 7))) for name in sorted(names)}


def _attention(student: np.ndarray, teacher: np.ndarray) -> float:
    maps = [(side**2).sum(1) for side in (student, teacher)]
    maps = [one / np.linalg.norm(one, axis=0) for one in maps]
    return float(np.abs(maps[0] - maps[1]).mean())


def _congruence(student: np.ndarray, teacher: np.ndarray) -> float:
    distance = np.abs(student - teacher)
    return float((distance[:-1] * distance[1:]).sum(1).mean())


def _flow(student: tuple[np.ndarray, ...], teacher: tuple[np.ndarray, ...]) -> float:
    """Of two blocks' images each: the mean of the product of their squares, a number a sample."""
    products = [((first**2) * (second**2)).mean((1, 2, 3)) for first, second in (student, teacher)]
    return float(((products[0] - products[1]) ** 2).mean())


def _similarity(student: np.ndarray, teacher: np.ndarray) -> float:
    grams = [side.reshape(BATCH, -1) @ side.reshape(BATCH, -1).T for side in (student, teacher)]
    grams = [gram / np.linalg.norm(gram, axis=1, keepdims=True) for gram in grams]
    return float(((grams[0] - grams[1]) ** 2).sum() / BATCH**2)


def _expected(method: str, s: dict[str, np.ndarray], t: dict[str, np.ndarray]) -> float:
    image = [f"stages.{i}.cnn" for i in range(5)]
    if method == "at":
        return np.mean([_attention(s[f"{name}.1"], t[f"{name}.2"]) for name in image])
    if method == "fitnets":
        return _attention(s[image[2]], t[image[2]])
    if method == "cc":
        return np.mean([_congruence(s[name], t[name]) for name in image])
    if method == "sp":
        return np.mean([_similarity(s[name], t[name]) for name in image[:4]])
    pairs = zip(image[:3], image[1:4])
    return np.mean([_flow((s[a], s[b]), (t[a], t[b])) for a, b in pairs])


@pytest.mark.parametrize("method", RECONSTRUCTION.METHODS)
def test_the_term_is_the_authors_and_has_the_first_step_for_itself(method, workflow, data, mask_file):
    settings = {**TINY, "method": method, "mask_file": mask_file, "max_epochs": 4, "imitation_epochs": 2}
    workflow_of_both = workflow(NAME, "train.json", "authors.json", dataset_dir=str(data), **settings)
    loss = workflow_of_both.parser.get_parsed_content("distillation")
    sides = (_features(loss.student_layers(), 0), _features(loss.teacher_layers(), 1))
    total, values = loss(torch.tensor(7.0), *sides)
    (value,) = values.values()
    expected = _expected(method, *({name: one.numpy() for name, one in side.items()} for side in sides))
    assert value.item() == pytest.approx(expected, rel=1e-9)
    assert total.item() == pytest.approx(7 + expected)  # a weight of 1


def test_the_teachers_loss_is_the_authors(workflow, data):
    settings = {**TINY, "imitation_epochs": 1, "dataset_dir": str(data)}
    parser = workflow(NAME, "train.json", "authors.json", **settings).parser
    rng = np.random.default_rng(0)
    teacher, target, *branches = rng.normal(size=(6, 2, 1, 5, 4))
    expected = np.abs(teacher - target).mean()
    expected += sum(np.abs(branch - target).mean() for branch in branches) / 4
    expected += sum(np.abs(branch - teacher).mean() / teacher.size for branch in branches) / 4
    tensors = [torch.from_numpy(array) for array in (teacher, *branches)]
    value = parser.get_parsed_content("teacher_loss")(tensors, torch.from_numpy(target))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_the_schedule_is_the_authors(workflow, data):
    settings = {key: value for key, value in TINY.items() if not key.endswith("epochs")}
    parser = workflow(NAME, "train.json", "authors.json", dataset_dir=str(data), **settings).parser
    epochs = [parser.get_parsed_content(f"{name}#trainer").state.max_epochs for name in ("train", "student_alone")]
    assert epochs == [300, 150] and parser.get_parsed_content("imitation_first").epochs == 150
    assert parser.get_parsed_content("teacher_training#trainer").state.max_epochs == 150
    assert parser.get_parsed_content("train#scheduler").lr_lambdas[0].restart == 150


def test_a_run_by_a_mask_file_keeps_the_mask(data, tmp_path, mask_file):
    own = tmp_path / "own.npy"
    np.save(own, np.load(mask_file))
    words = as_words(**{**TINY, "imitation_epochs": 1, "mask_file": str(own)})
    run = tmp_path / "run"
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(run), "--config", "authors.json", *words]) == 0
    assert read_curves(run, "distillation")["attention_transfer"][0] > 0
    own.unlink()
    rng = np.random.default_rng(0)
    for size in (SIZE, SIZE + 8):
        np.save(tmp_path / f"{size}.npy", rng.random((size, size)).astype(np.float32))
    image, larger, out = (str(tmp_path / name) for name in (f"{SIZE}.npy", f"{SIZE + 8}.npy", "out"))
    assert main(["infer", NAME, image, out, "--run", str(run)]) == 0
    zero_filled = nib.load(tmp_path / "out" / f"{SIZE}_zerofilled.nii.gz").get_fdata().squeeze()
    lines = np.load(mask_file)[:, :1]  # of a magnitude image, whose magnitude is written
    expected = np.abs(np.fft.ifft2(lines * np.fft.fft2(np.load(image))))
    np.testing.assert_allclose(zero_filled, expected, atol=1e-3)
    assert main(["infer", NAME, larger, out, "--run", str(run)]) == 1
    (failure,) = read_rows(tmp_path / "out" / "failures.csv")
    assert f"an image has {SIZE + 8} lines, and the mask in" in failure["reason"]
