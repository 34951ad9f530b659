# SPDX-License-Identifier: Apache-2.0
"""Teacher, student alone, distillation, evaluation and inference of the shipped JSON on a few generated cine frames."""

import json
import re
import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from scipy import ndimage

from monai_kd.bundle import Bundle
from monai_kd.cli import main
from monai_kd.command_line.publishing import fit, halve
from monai_kd.data import CineGenerator
from monai_kd.engines import export_network, load_exported
from monai_kd.transforms import CartesianMask

from .mri import BLOCKS, RECONSTRUCTION, SIZE
from .runs import as_words, check_failures, read_curves, read_rows, read_weights

NAME, TINY = RECONSTRUCTION.NAME, RECONSTRUCTION.TINY


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _undersampled(volume: np.ndarray, acceleration: float = 4) -> np.ndarray:
    """Complex images of some lines of k-space, by NumPy."""
    mask = CartesianMask(acceleration, centre_lines=TINY["centre_lines"])(volume.shape[1]).numpy()
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(volume, (0, 1)), axes=(0, 1)), (0, 1))
    kspace = kspace * mask.reshape(1, -1, *(1,) * (volume.ndim - 2))
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (0, 1)), axes=(0, 1)), (0, 1))


@pytest.mark.parametrize("kind, epochs", [("student_friendly", 12), ("standard", 7)])
def test_the_student_alone_is_given_as_much_training(kind, epochs, workflow, data):
    settings = {**TINY, "max_epochs": 7, "teacher_epochs": 5, "teacher_kind": kind, "dataset_dir": str(data)}
    parser = workflow(NAME, "train.json", **settings).parser
    assert parser.get_parsed_content("student_alone#trainer").state.max_epochs == epochs
    assert parser.get_parsed_content("train#trainer").state.max_epochs == 7


def test_a_resumed_distillation_does_not_go_back_to_the_branches(distillation):
    def power_cut():
        raise RuntimeError("power cut")

    whole = distillation("whole")
    whole.get_parsed_content("train#stage").run()
    broken = distillation("broken")
    broken.get_parsed_content("train#trainer").add_event_handler(Events.EPOCH_STARTED(once=2), power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        broken.get_parsed_content("train#stage").run()
    resumed = distillation("broken", resume=True)
    resumed.get_parsed_content("train#stage").run()
    assert _equal(*(parser.get_parsed_content("network").state_dict() for parser in (whole, resumed)))


def test_imitation_may_come_first_and_the_task_alone_after_it(distillation):
    parser = distillation(imitation_epochs=2, max_epochs=4, decay_epochs=1)
    trainer, optimizer = (parser.get_parsed_content(key) for key in ("train#trainer", "train#optimizer"))
    rates = []

    def check(engine):
        output = {name: value.item() for name, value in engine.state.output.items() if value.ndim == 0}
        if engine.state.epoch <= 2:
            assert output["loss"] == pytest.approx(300 / 64**2 * output["attention_transfer"])
        else:
            assert output["loss"] == output["task"] and "attention_transfer" not in output

    trainer.add_event_handler(Events.ITERATION_COMPLETED, check)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"]))
    parser.get_parsed_content("train#stage").run()
    assert rates == pytest.approx([1e-3, 1e-4, 1e-3, 1e-4])


def test_the_acceleration_is_that_of_the_mask(workflow, data):
    for acceleration, lines in ((4, 12), (5, 9)):
        settings = {**TINY, "acceleration": acceleration, "dataset_dir": str(data)}
        parser = workflow(NAME, "train.json", **settings).parser
        image = next(iter(parser.get_parsed_content("train#dataloader")))["image"].numpy()
        kspace = np.fft.fft2(image[:, 0] + 1j * image[:, 1])
        assert (np.abs(kspace).max(axis=(0, 1)) > 1e-4).sum() == lines
        mask = parser.get_parsed_content("network").mask
        assert mask is parser.get_parsed_content("teacher").mask and mask(SIZE).sum() == lines


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"student_layers": ["stages.0.cnn.9"]}, "no layer 'stages.0.cnn.9'"),
        ({"method": "fitnets", "hint_teacher_layer": "stages.3"}, "no layer 'stages.3'"),
        ({"teacher_kind": "standard", "initialise": "branches"}, "unknown initialise 'branches'; there are: random"),
        ({"imitation_epochs": -1}, "imitation_epochs must be a whole number from 0, got -1"),
        ({"method": "sp", "batch_size": 1}, "SimilarityPreservingLoss compares the samples of a batch with each other"),
        ({"method": "fsp", "student_convs": 2}, "FlowOfSolutionLoss expects student and teacher with equal batch"),
        ({"imitation_epochs": 2}, "0 or more, and less than max_epochs=2, got 2"),
        ({"imitation_epochs": 1, "attention_transfer_weight": 0}, "1 epochs of imitation need a distillation term"),
    ],
)
def test_what_cannot_be_distilled_is_refused_before_the_teacher_trains(settings, message, data, tmp_path, capsys):
    arguments = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**{**TINY, **settings})]
    assert main(["train", NAME, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "student", "teacher"), [({}, 1, 2), ({"student_convs": 2, "teacher_convs": 3}, 0, 1)]
)
def test_taps_follow_the_networks_and_look_at_feature_maps(workflow, data, settings, student, teacher):
    """A block's last convolution gives the image, of one channel."""
    parser = workflow(NAME, "train.json", dataset_dir=str(data), **{**TINY, **settings, "n_blocks": 2}).parser
    taps = {"student": f"stages.{{}}.cnn.{student}", "teacher": f"stages.{{}}.cnn.{teacher}"}
    for side, name in taps.items():
        assert parser.get_parsed_content(f"{side}_layers") == [name.format(0), name.format(1)]
    network = parser.get_parsed_content("network_def")
    assert network.get_submodule(taps["student"].format(1)).out_channels == TINY["channels"]


@pytest.mark.parametrize("stage", ["student_alone", "teacher"])
def test_what_is_not_distilled_need_not_fit_the_distillation(stage, data, tmp_path):
    settings = as_words(**{**TINY, "max_epochs": 1, "student_layers": ["none"], "imitation_epochs": 5})
    words = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), "--stages", stage]
    assert main(["train", NAME, *words, *settings]) == 0
    overlay = {"student_alone": "student_alone.json", "teacher": "train_teacher.json"}[stage]
    assert Bundle(NAME).config("train.json", overlay)["distillation_checks"] == []


def test_a_teacher_of_another_architecture(data, tmp_path):
    teacher = {
        "_target_": "monai_kd.networks.DCUNet",
        "n_blocks": "@n_blocks",
        "features": [4, 4, 4, 4, 4, 4],
        "mask": "@mask",
    }
    layers = [f"stages.{i}.cnn.upcat_1" for i in range(BLOCKS)]
    settings = as_words(**{**TINY, "max_epochs": 1, "teacher_def": teacher, "teacher_layers": layers})
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path), *settings]) == 0
    assert any("upcat_1" in name for name in read_weights(tmp_path, "teacher.pt"))
    assert read_curves(tmp_path, "distillation")["attention_transfer"][0] > 0
    assert set(read_weights(tmp_path, "teacher.pt", "branches")) == {
        f"{i}.cnn.{j}.conv.{kind}" for i in range(BLOCKS - 1) for j in range(3) for kind in ("weight", "bias")
    }  # the student's own blocks follow the U-Nets


def test_complex_images_train_a_network_of_two_channels(volume, tmp_path):
    x = np.linspace(-1, 1, SIZE)[:, None, None]
    data = tmp_path / "data"
    data.mkdir()
    for patient, phase in enumerate((0.5, 1.0, 1.5, 2.0, 2.5)):
        array = np.pad(volume, ((0, 0), (2, 2), (0, 0))) * np.exp(1j * phase * x)
        np.save(data / f"{patient}.npy", array.astype(np.complex64))
    settings = {**TINY, "split": "seeded", "fractions": [0.6, 0.2, 0.2], "max_epochs": 1, "in_channels": 2}
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**settings)]) == 0
    weights = read_weights(tmp_path / "run")
    assert weights["stages.0.cnn.0.conv.weight"].shape[1] == weights["stages.0.cnn.2.conv.weight"].shape[0] == 2
    assert main(["infer", NAME, str(data / "4.npy"), str(tmp_path / "out"), "--run", str(tmp_path / "run")]) == 0
    pred, zero_filled = (nib.load(tmp_path / "out" / f"4_{kind}.nii.gz").get_fdata() for kind in ("pred", "zerofilled"))
    np.testing.assert_allclose(zero_filled, np.abs(_undersampled(np.load(data / "4.npy"))), atol=0.01)
    assert pred.shape == (SIZE, SIZE, 3) and pred.min() >= 0
    assert main(["evaluate", NAME, "--run", str(tmp_path / "run"), "--output", str(tmp_path / "scores")]) == 0
    assert all(np.isfinite(float(row["psnr"])) for row in read_rows(tmp_path / "scores" / "cases.csv"))


def test_a_network_of_the_real_part_gets_the_magnitude_of_complex_images(run, volume, tmp_path):
    phase = np.exp(3j * np.linspace(-1, 1, SIZE))[: len(volume), None, None]
    pred = []
    for name, array in (("magnitude", volume), ("complex", (volume * phase).astype(np.complex64))):
        np.save(tmp_path / f"{name}.npy", array)
        assert main(["infer", NAME, str(tmp_path / f"{name}.npy"), str(tmp_path / "out"), "--run", str(run)]) == 0
        pred.append(nib.load(tmp_path / "out" / f"{name}_pred.nii.gz").get_fdata())
    np.testing.assert_allclose(*pred, atol=0.01)
    (tmp_path / "d.json").write_text(json.dumps({"test": ["magnitude.npy", "complex.npy"]}))
    arguments = ["--datalist", str(tmp_path / "d.json"), "--output", str(tmp_path / "scores")]
    assert main(["evaluate", NAME, "--run", str(run), *arguments]) == 0
    first, second = (float(row["psnr"]) for row in read_rows(tmp_path / "scores" / "cases.csv"))
    assert first == pytest.approx(second, rel=1e-4)


def test_patients_may_have_one_flat_image(data, tmp_path):
    flat = CineGenerator(image_size=SIZE + 6, frames_per_patient=1)(tmp_path / "flat", cases=10, seed=2)
    arguments = ["--dataset_dir", str(flat), "--run", str(tmp_path / "run"), "--stages", "student_alone"]
    assert main(["train", NAME, *arguments, *as_words(**{**TINY, "max_epochs": 1})]) == 0


def test_preprocessing_is_the_same_in_training_and_in_inference(workflow, data):
    # Only training crops: inference takes the whole image.
    known = {key: TINY[key] for key in ("image_size", "centre_lines", "n_blocks", "channels")}
    trained = workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser
    inferred = workflow(NAME, "inference.json", dataset_dir=str(data), **known).parser
    preprocess = trained.get_parsed_content("validate#preprocessing"), inferred.get_parsed_content("preprocessing")
    for item in trained.get_parsed_content("datalist")["test"]:
        ours, theirs = (transform({"image": item["image"]}) for transform in preprocess)
        for key in ("image", "label"):
            np.testing.assert_array_equal(ours[key].numpy(), theirs[key].numpy())
        assert ours["image"][:2].norm(dim=0).max() == pytest.approx(1) and ours["label"].shape == (1, SIZE, SIZE, 2)


def _quality(pred: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Of volumes (x, y, z), by NumPy and SciPy."""
    pred, true = (image.astype(float) for image in (pred, true))
    peak = true.max()

    def local_mean(image):
        return sliding_window_view(image, (7, 7), axis=(0, 1)).mean(axis=(-2, -1))

    m_p, m_t = local_mean(pred), local_mean(true)
    unbiased = 49 / 48
    v_p, v_t = (unbiased * (local_mean(i * i) - m * m) for i, m in ((pred, m_p), (true, m_t)))
    both = unbiased * (local_mean(pred * true) - m_p * m_t)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    ssim = (2 * m_p * m_t + c1) * (2 * both + c2) / ((m_p**2 + m_t**2 + c1) * (v_p + v_t + c2))

    edges = ndimage.laplace(true, mode="nearest", axes=(0, 1))
    wrong = edges - ndimage.laplace(pred, mode="nearest", axes=(0, 1))

    found = seen = 0.0
    p, t = (255 * image / peak for image in (pred, true))
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        weight = np.exp(-0.5 * (np.arange(-(size // 2), size // 2 + 1) / (size / 5)) ** 2)
        window = np.outer(weight, weight) / weight.sum() ** 2

        def smooth(image):
            return np.einsum("xyzij,ij->xyz", sliding_window_view(image, window.shape, axis=(0, 1)), window)

        if scale:
            p, t = smooth(p)[::2, ::2], smooth(t)[::2, ::2]
        var_t, var_p = (np.maximum(smooth(image**2) - smooth(image) ** 2, 0) for image in (t, p))
        covariance = smooth(p * t) - smooth(p) * smooth(t)
        gain = np.maximum(covariance, 0) / (var_t + 1e-10)
        found += np.log1p(gain**2 * var_t / (np.maximum(var_p - gain * covariance, 0) + 2)).sum()
        seen += np.log1p(var_t / 2).sum()
    return {
        "psnr": 10 * np.log10(peak**2 / ((pred - true) ** 2).mean()),
        "ssim": ssim.mean(),
        "mse": ((pred - true) ** 2).mean() / peak**2,
        "hfn": (wrong**2).sum() / (edges**2).sum(),
        "vif": found / seen,
    }


def test_evaluation_has_a_row_per_case_that_inference_confirms(run, volume, tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    volumes = {"a": np.pad(volume, ((0, 0), (2, 2), (0, 0))), "b": np.pad(volume, ((0, 0), (2, 2), (0, 0)))[::-1]}
    for patient, array in volumes.items():
        nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 8, 1])), cases / f"{patient}.nii.gz")
    # A label is what other bundles need, and left aside here.
    names = {patient: f"{patient}.nii.gz" for patient in volumes}
    listed = {"test": [{"image": name, "label": name, "patient": patient} for patient, name in names.items()]}
    (cases / "list.json").write_text(json.dumps(listed))
    arguments = ["--run", str(run), "--datalist", str(cases / "list.json"), "--output", str(tmp_path / "scores")]
    assert main(["evaluate", NAME, *arguments]) == 0
    assert main(["infer", NAME, str(cases), str(tmp_path / "out"), "--run", str(run)]) == 0
    rows = read_rows(tmp_path / "scores" / "cases.csv")
    measures = ("psnr", "ssim", "hfn", "vif", "mse")
    assert list(rows[0]) == ["input", "patient", *measures, *(f"{name}_zerofilled" for name in measures)]
    assert [row["patient"] for row in rows] == ["a", "b"]
    for row, written in zip(rows, read_rows(tmp_path / "out" / "summary.csv"), strict=True):
        for kind, suffix in (("pred", ""), ("zerofilled", "_zerofilled")):
            image = nib.load(tmp_path / "out" / f"{row['patient']}_{kind}.nii.gz").get_fdata()
            for name, value in _quality(image, volumes[row["patient"]]).items():
                assert float(row[f"{name}{suffix}"]) == pytest.approx(value, rel=1e-4), name
            for name in ("psnr", "ssim"):
                assert float(written[f"{name}{suffix}"]) == pytest.approx(float(row[f"{name}{suffix}"]), rel=1e-4)
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    for name in measures:
        assert summary[name]["mean"] == pytest.approx(np.mean([float(row[name]) for row in rows]), abs=1e-5)


def test_results_lie_on_the_inputs_own_grid_and_in_its_grey_scale(run, volume, tmp_path):
    affine = np.array([[0, 0, -8, 40], [-1.5, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(1000 * volume, affine), tmp_path / "in.nii.gz")
    assert (
        main(["infer", NAME, str(tmp_path / "in.nii.gz"), str(tmp_path / "out"), "--run", str(run), "--overlay"]) == 0
    )
    written = {kind: nib.load(tmp_path / "out" / f"in_{kind}.nii.gz") for kind in ("pred", "zerofilled", "error")}
    for image in written.values():
        assert image.shape == volume.shape
        np.testing.assert_allclose(image.affine, affine)
    arrays = {kind: image.get_fdata() for kind, image in written.items()}
    np.testing.assert_allclose(arrays["zerofilled"], np.abs(_undersampled(1000 * volume)), rtol=1e-4, atol=2)
    np.testing.assert_allclose(arrays["error"], np.abs(arrays["pred"] - 1000 * volume), rtol=1e-4, atol=2)
    with Image.open(tmp_path / "out" / "in_overlay.png") as picture:
        assert picture.width > 3 * picture.height  # truth, zero-filled, prediction and error side by side


def test_slices_may_lie_along_another_axis(run, tmp_path):
    voxels = ndimage.zoom(np.random.default_rng(0).random((10, 8, 9)), 3, order=1).astype(np.float32)
    affine = np.diag([2.0, 3, 4, 1])
    images = {"own": nib.Nifti1Image(voxels, affine)}
    # The coronal slices of one are those of the other along its third axis.
    images["stored"] = nib.Nifti1Image(voxels.transpose(0, 2, 1), affine[:, [0, 2, 1, 3]])
    for name, image in images.items():
        nib.save(image, tmp_path / f"{name}.nii.gz")
    pred = {}
    for name, words in (("own", ["slice_axis=coronal"]), ("stored", []), ("own", [])):
        folder = tmp_path / f"{name}{len(words)}"
        assert main(["infer", NAME, str(tmp_path / f"{name}.nii.gz"), str(folder), "--run", str(run), *words]) == 0
        written = nib.load(folder / f"{name}_pred.nii.gz")
        np.testing.assert_allclose(written.affine, images[name].affine)
        pred[folder.name] = written.get_fdata()
    np.testing.assert_allclose(pred["own1"], pred["stored0"].transpose(0, 2, 1), atol=1e-5)
    assert np.abs(pred["own1"] - pred["own0"]).max() > 0.01


def test_every_kind_of_file_is_reconstructed(run, data, volume, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    (inputs / "frames").mkdir(parents=True)
    for number in (1, 2):
        frame = data / "images" / f"SIM-0001-IM-0001-000{number}.png"
        (inputs / "frames" / frame.name).write_bytes(frame.read_bytes())
    np.save(inputs / "complex.npy", (volume * np.exp(0.3j)).astype(np.complex64))
    lines = np.zeros(volume.shape[1])
    lines[::2] = 1
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(volume, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))
    files = {
        "fastmri": {"volfs": volume},
        "measured": {"kspace": kspace, "mask": lines},
        "full": {"kspace": kspace, "mask": np.ones(volume.shape[1])},
    }
    for name, content in files.items():
        with h5py.File(inputs / f"{name}.h5", "w") as file:
            for key, array in content.items():
                file[key] = array
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run)]) == 0
    rows = {Path(row["input"]).name: row for row in read_rows(outputs / "summary.csv")}
    assert len(rows) == 6

    def load(stem: str, kind: str) -> np.ndarray:
        return np.squeeze(nib.load(outputs / f"{stem}_{kind}.nii.gz").get_fdata())

    for stem in ("frames/SIM-0001-IM-0001-0001", "frames/SIM-0001-IM-0001-0002"):
        frame = np.asarray(Image.open(inputs / f"{stem}.png")).T.astype(float)
        np.testing.assert_allclose(load(stem, "zerofilled"), np.abs(_undersampled(frame)), atol=0.01)
        np.testing.assert_allclose(load(stem, "error"), np.abs(load(stem, "pred") - frame), atol=0.01)
    for stem in ("complex", "fastmri"):
        np.testing.assert_allclose(load(stem, "zerofilled"), np.abs(_undersampled(volume)), atol=0.01)
        np.testing.assert_allclose(load(stem, "error"), np.abs(load(stem, "pred") - volume), atol=0.01)
    # What was measured in part has no truth, and its own mask: with all of k-space the image cannot but come back.
    for stem in ("measured", "full"):
        assert not (outputs / f"{stem}_error.nii.gz").exists()
        assert rows[f"{stem}.h5"]["psnr"] == rows[f"{stem}.h5"]["ssim_zerofilled"] == ""
    np.testing.assert_allclose(load("full", "pred"), volume, atol=0.01)
    halved = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(kspace * lines[:, None], (0, 1)), axes=(0, 1), norm="ortho"), (0, 1)
    )
    np.testing.assert_allclose(load("measured", "zerofilled"), np.abs(halved), atol=0.01)


def test_inference_at_another_acceleration(run, volume, tmp_path):
    np.save(tmp_path / "a.npy", volume)
    for acceleration in (4, 5):
        words = [] if acceleration == 4 else ["--acceleration", "5"]
        folder = tmp_path / str(acceleration)
        assert main(["infer", NAME, str(tmp_path / "a.npy"), str(folder), "--run", str(run), *words]) == 0
        zero_filled = nib.load(folder / "a_zerofilled.nii.gz").get_fdata()
        np.testing.assert_allclose(zero_filled, np.abs(_undersampled(volume, acceleration)), atol=0.01)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--acceleration", "0"], "acceleration must be 1 .* or more, got 0"),
        (["--acceleration", "1000"], "48 lines are too few for an acceleration of 1000"),
        (["slice_axis=frontal"], "slice_axis must be one of .*coronal.*, or none, got 'frontal'"),
    ],
)
def test_a_call_that_cannot_be_meant_is_one_line(words, message, run, data, tmp_path, capsys):
    assert main(["infer", NAME, str(data), str(tmp_path / "out"), "--run", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_inference_goes_on_past_bad_inputs_and_names_them(run, data, volume, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    nan = volume.copy()
    nan[3, 4, 1] = np.nan
    arrays = {"good": volume, "nan": nan, "constant": 0 * volume + 7, "coils": np.zeros((SIZE, SIZE, 3, 8), np.float32)}
    for name, array in arrays.items():
        np.save(inputs / f"{name}.npy", array)
    colours = np.zeros((8, 8, 2), np.dtype([(channel, "u1") for channel in "RGB"]))
    nib.save(nib.Nifti1Image(colours, np.eye(4)), inputs / "colours.nii.gz")
    whole = (data / "images" / "SIM-0001-IM-0001-0001.png").read_bytes()
    (inputs / "truncated.png").write_bytes(whole[: len(whole) // 2])
    np.save(inputs / "narrow.npy", volume[:, :3])
    with h5py.File(inputs / "nameless.h5", "w") as file:
        file["a"], file["b"] = volume, volume
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run)]) == 1
    assert [Path(row["input"]).name for row in read_rows(outputs / "summary.csv")] == ["good.npy"]
    reasons = {
        "coils.npy": "of several coils their combination",
        "colours.nii.gz": "holds colours or vectors",
        "constant.npy": "constant grey value",
        "nameless.h5": "no data set volfs or image or kspace in it, found: a, b",
        "nan.npy": "NaN or infinite",
        "narrow.npy": "3 lines are too few for an acceleration of 4",
        "truncated.png": "cannot be read",
    }
    check_failures(outputs, reasons)


def test_what_was_measured_in_part_is_not_trained_on(volume, tmp_path, capsys):
    for patient in range(4):
        with h5py.File(tmp_path / f"{patient}.h5", "w") as file:
            file["kspace"], file["mask"] = volume.astype(np.complex64), np.ones(volume.shape[1])
    settings = as_words(**{**TINY, "split": "seeded", "fractions": [0.5, 0.25, 0.25]})
    assert main(["train", NAME, "--dataset_dir", str(tmp_path), "--run", str(tmp_path / "run"), *settings]) == 2
    error = capsys.readouterr().err
    assert "only a part of its k-space was measured, so there is no truth" in error and error.count("\n") == 1


def test_a_student_is_published_whatever_the_size_that_it_was_trained_in(run, volume, tmp_path, capsys):
    copy = tmp_path / "my_reconstruction"
    assert main(["copy", NAME, str(copy)]) == 0
    inference = json.loads((copy / "configs" / "inference.json").read_text())
    trained = Bundle(str(copy)).model_of(str(run))
    assert trained["image_size"] == SIZE != inference["image_size"]  # which a network without fixed sizes need not mind
    for name in ("inference.json", "train.json"):
        config = json.loads((copy / "configs" / name).read_text())
        own = {key: value for key, value in trained.items() if key in inference["model_ids"] and key != "image_size"}
        (copy / "configs" / name).write_text(json.dumps({**config, **own}))
    assert main(["publish", str(copy), str(run)]) == 0
    network = Bundle(str(copy)).workflow("inference.json", overrides={}).network_def
    published, before = read_weights(copy / "models"), read_weights(run)
    assert published.keys() == network.state_dict().keys()  # the mask is that of the bundle's size
    assert all(torch.equal(published[name], before[name]) for name in before if not name.startswith("mask"))
    fitted = torch.load(fit(Bundle(str(copy)), halve(run / "model.pt")), weights_only=True)
    assert {fitted[name].dtype for name in fitted if name.endswith("conv.weight")} == {torch.float16}  # as halved
    np.save(tmp_path / "a.npy", volume)
    results = []
    for name, words in ((str(copy), []), (NAME, ["--run", str(run)])):
        assert main(["infer", name, str(tmp_path / "a.npy"), str(tmp_path / f"out{len(results)}"), *words]) == 0
        results.append(nib.load(tmp_path / f"out{len(results)}" / "a_pred.nii.gz").get_fdata())
    np.testing.assert_allclose(*results, atol=1e-5)
    capsys.readouterr()


def test_the_network_with_its_mask_can_be_exported(workflow, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    settings = {"dataset_dir": str(tmp_path), "image_size": SIZE, "n_blocks": 1, "channels": 4}
    network = workflow(NAME, "inference.json", **settings).parser.get_parsed_content("network_def").eval()
    images = torch.rand(3, 2, 36, SIZE)  # the mask is one of 48 lines, which may have any length
    for file in ("student.onnx", "student.ts"):
        export_network(network, tmp_path / file, "onnx" if file.endswith("onnx") else "torchscript", (2, SIZE, SIZE))
        with torch.no_grad():
            torch.testing.assert_close(load_exported(tmp_path / file)(images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("effort, restart", [("@student_alone_epochs", 5), ("@train#trainer#max_epochs", 0)])
def test_the_rate_of_the_student_alone_starts_again_where_its_blocks_go_from_the_teacher_to_the_student(
    data, workflow, effort, restart
):
    epochs = {"max_epochs": 3, "teacher_epochs": 5}
    parser = workflow(NAME, "train.json", **{**TINY, "dataset_dir": str(data), **epochs}).parser
    parser["student_alone"]["trainer"]["max_epochs"] = effort  # as a comparison does
    parser.parse(reset=True)
    assert parser.get_parsed_content("student_alone#trainer#max_epochs") == restart + 3
    assert parser.get_parsed_content("student_alone#scheduler").lr_lambdas[0].restart == restart


def test_the_student_alone_takes_the_steps_of_both_stages_also_where_one_has_images_without_labels(
    data, workflow, tmp_path
):
    for number, path in enumerate(sorted((data / "images").iterdir())):
        (tmp_path / "more" / f"other{number}").mkdir(parents=True)
        shutil.copy(path, tmp_path / "more" / f"other{number}" / "frame.png")
    settings = {**TINY, "dataset_dir": str(data), "max_epochs": 3, "teacher_epochs": 6, "batch_size": 1}
    parser = workflow(NAME, "train.json", **settings, unlabelled_dir=str(tmp_path / "more")).parser
    loader = {stage: parser.get_parsed_content(f"{stage}#dataloader") for stage in ("teacher_training", "train")}
    assert len(loader["train"]) == 2 * len(loader["teacher_training"])
    epochs, alone = (parser.get_parsed_content(f"student_alone#{part}") for part in ("epochs", "dataloader"))
    assert epochs * len(alone) == 6 * len(loader["teacher_training"]) + 3 * len(loader["train"])


def test_it_trains_under_torchrun(data, workflow, tmp_path, one_process):
    # First on the term alone, which does not depend on every parameter, then on the task.
    overrides = {**TINY, "dataset_dir": str(data), "ckpt_dir": str(tmp_path), "imitation_epochs": 1}
    trained = workflow(NAME, "train.json", "multi_gpu_train.json", device="cpu", **overrides)
    trained.run()
    assert read_weights(tmp_path).keys() == read_weights(tmp_path, "teacher.pt").keys() - {
        f"stages.{i}.cnn.{j}.conv.{kind}" for i in range(BLOCKS) for j in (3, 4) for kind in ("weight", "bias")
    }
