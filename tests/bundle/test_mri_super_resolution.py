# SPDX-License-Identifier: Apache-2.0
"""Teacher, student alone, distillation, evaluation and inference of the shipped JSON on a few generated cine frames."""

import json
import re
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from ignite.engine import Events
from PIL import Image
from scipy import ndimage

from monai_kd.cli import main

from .mri import SIZE, SUPER_RESOLUTION
from .runs import as_words, check_failures, check_kept_answers_change_nothing, read_rows, read_weights

NAME, TINY = SUPER_RESOLUTION.NAME, SUPER_RESOLUTION.TINY


def _lowered(volume: np.ndarray, factor: int = 4) -> np.ndarray:
    """Magnitude of what the centre of k-space holds, by NumPy."""
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(volume, (0, 1)), axes=(0, 1)), (0, 1))
    kept = np.zeros_like(kspace)
    widths = [round(size / factor) for size in volume.shape[:2]]
    centre = tuple(slice(n // 2 - width // 2, n // 2 - width // 2 + width) for n, width in zip(volume.shape, widths))
    kept[centre] = kspace[centre]
    return np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kept, (0, 1)), axes=(0, 1)), (0, 1)))


@pytest.mark.parametrize("method", ["fitnets", "ft"])
def test_projectors_are_trained_and_kept_for_resuming(method, distillation):
    parser = distillation(method=method)
    projectors = {id(parameter) for parameter in parser.get_parsed_content("distillation").parameters()}
    optimizer = parser.get_parsed_content("train#optimizer")
    assert len(projectors) == 2
    assert projectors < {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    stage = parser.get_parsed_content("train#stage")
    assert stage.state["distillation"] is parser.get_parsed_content("distillation")


def test_imitation_may_come_first_and_the_task_alone_after_it(distillation):
    parser = distillation(imitation_epochs=2, max_epochs=4, decay_epochs=1, method="fitnets")
    trainer, optimizer = (parser.get_parsed_content(key) for key in ("train#trainer", "train#optimizer"))
    rates = []

    def check(engine):
        output = {name: value.item() for name, value in engine.state.output.items() if value.ndim == 0}
        assert output["loss"] == pytest.approx(10 * output["hint"] if engine.state.epoch <= 2 else output["task"])
        assert ("hint" in output) == (engine.state.epoch <= 2)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, check)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"]))
    parser.get_parsed_content("train#stage").run()
    assert rates == pytest.approx([1e-3, 1e-4, 1e-3, 1e-4])


def test_what_cannot_be_distilled_is_refused_before_the_teacher_trains(data, tmp_path, capsys):
    arguments = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**TINY), "method=ft"]
    assert main(["train", NAME, *arguments, "n_stages=2"]) == 2
    assert "no layer 'stages.2'" in capsys.readouterr().err and not any(tmp_path.iterdir())
    layers = ["factor_student_layer=stages.0", "factor_teacher_layer=stages.0"]
    assert main(["train", NAME, *arguments, "n_stages=2", "max_epochs=1", "student_convs=5", *layers]) == 0


def test_the_central_slices_are_trained_on(workflow, volume, tmp_path):
    series = np.concatenate([volume, 2 * volume, volume], axis=-1)
    for patient in range(4):
        with h5py.File(tmp_path / f"{patient}.h5", "w") as file:
            file["volfs"] = series
    settings = {**TINY, "split": "seeded", "fractions": [0.5, 0.25, 0.25], "slices": 3, "dataset_dir": str(tmp_path)}
    parser = workflow(NAME, "train.json", **settings).parser
    slices = parser.get_parsed_content("train#dataset")
    assert [item["slice"] for item in slices] == 2 * [0, 1, 2]
    low, high = (np.stack([item[key][0] for item in slices][:3], axis=-1) for key in ("image", "label"))
    whole = np.pad(2 * volume, ((0, 0), (2, 2), (0, 0)))
    scale = _lowered(whole).max()
    np.testing.assert_allclose(high, whole / scale, rtol=1e-5)
    np.testing.assert_allclose(low, _lowered(whole) / scale, atol=1e-5)


def test_preprocessing_is_the_same_in_training_and_in_inference(workflow, data):
    # Only training crops: inference takes the whole image.
    known = {key: TINY[key] for key in ("image_size", "channels")}
    trained = workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser
    inferred = workflow(NAME, "inference.json", dataset_dir=str(data), **known).parser
    preprocess = trained.get_parsed_content("validate#preprocessing"), inferred.get_parsed_content("preprocessing")
    for item in trained.get_parsed_content("datalist")["test"]:
        ours, theirs = (transform({"image": item["image"]}) for transform in preprocess)
        for key in ("image", "label"):
            np.testing.assert_array_equal(ours[key].numpy(), theirs[key].numpy())
        assert ours["image"].max() == 1 and ours["image"].shape == ours["label"].shape == (1, SIZE, SIZE, 2)


def _psnr_and_hfn(image: np.ndarray, true: np.ndarray) -> dict[str, float]:
    edges, wrong = (ndimage.laplace(array, mode="nearest", axes=(0, 1)) for array in (true, true - image))
    return {
        "psnr": 10 * np.log10(true.max() ** 2 / ((image - true) ** 2).mean()),
        "hfn": (wrong**2).sum() / (edges**2).sum(),
    }


def test_evaluation_has_a_row_per_case_that_inference_confirms(run, volume, tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    whole = np.pad(volume, ((0, 0), (2, 2), (0, 0))).astype(float)
    volumes = {"a": whole, "b": whole[::-1]}
    for patient, array in volumes.items():
        nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([1.5, 1.5, 8, 1])), cases / f"{patient}.nii.gz")
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
            for name, value in _psnr_and_hfn(image, volumes[row["patient"]]).items():
                assert float(row[f"{name}{suffix}"]) == pytest.approx(value, rel=1e-4), name
            for name in ("psnr", "ssim"):
                assert float(written[f"{name}{suffix}"]) == pytest.approx(float(row[f"{name}{suffix}"]), rel=1e-4)


def test_every_kind_of_file_is_restored_on_its_own_grid(run, data, volume, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    (inputs / "frames").mkdir(parents=True)
    frame = data / "images" / "SIM-0001-IM-0001-0001.png"
    (inputs / "frames" / frame.name).write_bytes(frame.read_bytes())
    np.save(inputs / "complex.npy", (volume * np.exp(0.3j)).astype(np.complex64))
    affine = np.array([[0, 0, -8, 40], [-1.5, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(volume, affine), inputs / "turned.nii.gz")
    inside = np.zeros(volume.shape[:2])
    inside[18:30, 17:28] = 1  # a quarter of k-space along each axis
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(volume, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))
    for name, content in {"fast": {"volfs": volume}, "measured": {"kspace": kspace, "mask": inside}}.items():
        with h5py.File(inputs / f"{name}.h5", "w") as file:
            for key, array in content.items():
                file[key] = array
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run), "--overlay"]) == 0
    rows = {Path(row["input"]).name: row for row in read_rows(outputs / "summary.csv")}
    assert len(rows) == 5

    def load(stem: str, kind: str) -> np.ndarray:
        return np.squeeze(nib.load(outputs / f"{stem}_{kind}.nii.gz").get_fdata())

    for stem in ("complex", "turned", "fast", "measured"):
        np.testing.assert_allclose(load(stem, "zerofilled"), _lowered(volume), atol=0.01)
        assert load(stem, "pred").shape == volume.shape and (outputs / f"{stem}_overlay.png").is_file()
    for stem in ("complex", "turned", "fast"):
        np.testing.assert_allclose(load(stem, "error"), np.abs(load(stem, "pred") - volume), atol=0.01)
    np.testing.assert_allclose(nib.load(outputs / "turned_pred.nii.gz").affine, affine)
    assert not (outputs / "measured_error.nii.gz").exists() and rows["measured.h5"]["psnr"] == ""
    grey = np.asarray(Image.open(frame)).T.astype(float)
    stem = f"frames/{frame.stem}"
    np.testing.assert_allclose(load(stem, "zerofilled"), _lowered(grey), atol=0.01)
    np.testing.assert_allclose(load(stem, "error"), np.abs(load(stem, "pred") - grey), atol=0.01)


def test_inference_at_another_factor(run, volume, tmp_path):
    np.save(tmp_path / "a.npy", volume)
    arguments = ["--run", str(run), "--acceleration", "2"]
    assert main(["infer", NAME, str(tmp_path / "a.npy"), str(tmp_path / "out"), *arguments]) == 0
    zero_filled = nib.load(tmp_path / "out" / "a_zerofilled.nii.gz").get_fdata()
    np.testing.assert_allclose(zero_filled, _lowered(volume, 2), atol=0.01)


def test_a_factor_below_one_is_one_line(run, data, tmp_path, capsys):
    call = ["infer", NAME, str(data), str(tmp_path / "out"), "--run", str(run), "--acceleration", "0"]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert re.search("factor must be 1 .* or more, got 0", error) and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_inference_goes_on_past_bad_inputs_and_names_them(run, data, volume, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    nan = volume.copy()
    nan[3, 4, 1] = np.nan
    arrays = {"good": volume, "nan": nan, "constant": 0 * volume + 7, "coils": np.zeros((SIZE, SIZE, 3, 8), np.float32)}
    for name, array in arrays.items():
        np.save(inputs / f"{name}.npy", array)
    whole = (data / "images" / "SIM-0001-IM-0001-0001.png").read_bytes()
    (inputs / "truncated.png").write_bytes(whole[: len(whole) // 2])
    np.save(inputs / "narrow.npy", volume[:, :3])
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run)]) == 1
    assert [Path(row["input"]).name for row in read_rows(outputs / "summary.csv")] == ["good.npy"]
    reasons = {
        "coils.npy": "of several coils their combination",
        "constant.npy": "constant grey value",
        "nan.npy": "NaN or infinite",
        "narrow.npy": "slices of (48, 3) are too small for a factor of (4, 4)",
        "truncated.png": "cannot be read",
    }
    check_failures(outputs, reasons)


def test_it_trains_under_torchrun(data, workflow, tmp_path, one_process):
    # By a method whose projector is trained, too.
    overrides = {**TINY, "dataset_dir": str(data), "ckpt_dir": str(tmp_path), "method": "fitnets"}
    trained = workflow(NAME, "train.json", "multi_gpu_train.json", device="cpu", **overrides)
    trained.run()
    assert len(read_weights(tmp_path)) == 8 and len(read_weights(tmp_path, "teacher.pt")) == 24


def test_a_teacher_that_is_asked_once_about_an_image_teaches_the_same(distillation):
    check_kept_answers_change_nothing(distillation)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("views=0", "views must be a whole number from 1, so many augmented forms"),
        ("teacher_cache=dsk", "unknown teacher_cache 'dsk'; did you mean 'disk'"),
        ("teacher_cache_gb=0", "teacher_cache_gb must be a number of gigabytes above 0, got 0"),
    ],
)
def test_settings_of_the_cache_without_sense_are_refused_in_one_line(data, run, tmp_path, capsys, setting, message):
    words = ["--dataset_dir", str(data), "--run", str(tmp_path), "--stages", "distill", *as_words(**TINY)]
    capsys.readouterr()
    assert main(["train", NAME, *words, f"teacher_checkpoint={run / 'teacher.pt'}", setting]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in (said.out + said.err).splitlines() if message in line]
    assert not (tmp_path / "model.pt").exists()


def test_the_student_that_ships_sees_slices_of_the_plane_that_it_was_trained_on(tmp_path, capsys):
    voxels = ndimage.zoom(np.random.default_rng(0).random((6, 5, 4)), 4, order=1).astype(np.float32)
    affine = np.array([[0, 0, 2, 0], [-2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]])  # stored by sagittal slices
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "a.nii.gz")
    found = {}
    for name, words in (("default", []), ("axial", ["slice_axis=axial"]), ("stored", ["slice_axis=null"])):
        assert main(["infer", NAME, str(tmp_path / "a.nii.gz"), str(tmp_path / name), *words]) == 0
        found[name] = nib.load(tmp_path / name / "a_pred.nii.gz").get_fdata()
    np.testing.assert_array_equal(found["default"], found["axial"])
    assert np.abs(found["default"] - found["stored"]).max() > 0.01
    nib.save(nib.Nifti1Image(np.stack([voxels] * 2, axis=-1), affine), tmp_path / "series.nii.gz")
    capsys.readouterr()
    assert main(["infer", NAME, str(tmp_path / "series.nii.gz"), str(tmp_path / "series")]) == 1
    assert "holds 2 volumes" in (said := capsys.readouterr().out) and "slice_axis=null" in said
