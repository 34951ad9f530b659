# SPDX-License-Identifier: Apache-2.0
"""Teacher, student alone, distillation, evaluation and inference of the shipped JSON on a few generated heads."""

import itertools
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from highdicom.seg import segread
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image
from scipy import ndimage

import monai_kd
from monai_kd.cli import main
from monai_kd.data import HeadGenerator
from monai_kd.engines import tabulate_run
from monai_kd.handlers import FileTeacher
from monai_kd.networks import FeatureTap

from .runs import as_words, check_failures, read_curves, read_rows

NAME = "brain_extraction"
TINY = {
    "num_workers": 0,
    "max_epochs": 6,
    "teacher_epochs": 1,
    "learning_rate": 0.01,
    "batch_size": 2,
    "spacing": [6, 6, 6],  # the generated heads' own: nothing is interpolated
    "crop_size": [32, 32, 32],
    "divisor": 8,
    "student_channels": [4, 8, 8, 8],
    "teacher_features": [8, 4, 4, 4, 4, 8],
}


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _mask_of(image: str) -> str:
    """The mask of a generated head."""
    return image.replace("/T1/", "/mask/").replace("/T2/", "/mask/")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    generate = HeadGenerator(shape=(40, 40, 40), contrasts=("T1", "T2"))
    return generate(tmp_path_factory.mktemp("data") / "set", cases=6, seed=1)


@pytest.fixture
def parser(workflow, data):
    return workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser


def test_a_run_leaves_three_networks_and_logs_all_terms(run):
    for name in ("teacher.pt", "student_alone.pt", "model.pt"):
        assert set(torch.load(run / name, weights_only=True)) == {"model"}
    scalars = {
        "teacher": {"loss", "val_psnr", "val_mae"},
        "student_alone": {"loss", "val_mean_dice"},
        "distillation": {"loss", "task", "grey_brain", "val_mean_dice"},
    }
    for stage, names in scalars.items():
        assert names <= read_curves(run, stage).keys()
        assert all(f" {name} " in (run / f"{stage}.log").read_text() for name in names)


def test_the_loss_is_the_papers(parser):
    rng = np.random.default_rng(0)
    logits, mask = rng.normal(size=(2, 1, 14, 12, 13)), rng.random((2, 1, 14, 12, 13)) < 0.4
    grey = mask * rng.random(mask.shape)
    p, y = 1 / (1 + np.exp(-logits)), mask.astype(float)

    def local_mean(image):  # a Gaussian window of 11 positions, where it fits
        smooth = ndimage.gaussian_filter(image, (0, 0, 1.5, 1.5, 1.5), truncate=3.5)
        return smooth[:, :, 5:-5, 5:-5, 5:-5]

    m_p, m_y = local_mean(p), local_mean(y)
    v_p, v_y, c = local_mean(p * p) - m_p**2, local_mean(y * y) - m_y**2, local_mean(p * y) - m_p * m_y
    ssim = (2 * m_p * m_y + 1e-4) * (2 * c + 9e-4) / ((m_p**2 + m_y**2 + 1e-4) * (v_p + v_y + 9e-4))
    dice = 2 * (p * y).sum((1, 2, 3, 4)) / (p + y).sum((1, 2, 3, 4))
    segmentation = ((p - y) ** 2).mean() + (1 - ssim.mean()) + (1 - dice.mean())
    expected = 0.7 * segmentation + 0.3 * ((p - grey) ** 2).mean()

    s, t, target = (torch.as_tensor(array) for array in (logits, grey, mask))
    loss, distillation = (parser.get_parsed_content(key) for key in ("loss", "distillation"))
    total, values = distillation(loss(s, target), {"": s}, {"": t})
    assert total.item() == pytest.approx(expected, abs=1e-5) and list(values) == ["grey_brain"]


@pytest.mark.parametrize("activation", ["logits", "sigmoid", "softmax", "values"])
def test_files_of_a_brain_s_probability_teach_it_and_files_of_grey_levels_these(workflow, tmp_path, activation):
    """The term compares what the student's sigmoid gives, whatever the files hold."""
    teacher = {"_target_": "monai_kd.handlers.FileTeacher", "activation": activation}
    settings = {"dataset_dir": str(tmp_path), "teacher_activation": activation, "teacher": teacher}
    distillation = workflow(NAME, "train.json", **settings).parser.get_parsed_content("distillation")
    brain = torch.tensor([0.1, 0.4, 0.9]).reshape(1, 1, 3, 1, 1)
    files = {"logits": brain.logit(), "softmax": torch.cat([1 - brain, brain], dim=1)}.get(activation, brain)
    state = SimpleNamespace(batch={"teacher": files}, output={"pred": brain.logit()}, device=torch.device("cpu"))
    answer = FileTeacher(activation)(SimpleNamespace(state=state, non_blocking=False))
    _, values = distillation(torch.tensor(0.0), {"": brain.logit()}, answer)
    assert values["grey_brain"].item() == pytest.approx(0, abs=1e-10)


def test_the_teacher_is_to_paint_the_image_inside_the_mask(parser):
    item = parser.get_parsed_content("datalist")["training"][0]
    sample = parser.get_parsed_content("validate#preprocessing")(dict(item))
    image, label, brain = (sample[key].numpy() for key in ("image", "label", "brain"))
    np.testing.assert_array_equal(label[0], nib.as_closest_canonical(nib.load(item["label"])).get_fdata())
    assert image.min() == 0 and image.max() == 1 and image[label == 0].max() > 0.5
    np.testing.assert_array_equal(brain, image * label)

    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    seen, target = parser.get_parsed_content("teacher_training#trainer").prepare_batch(batch, "cpu")
    assert seen.shape == target.shape == (2, 1, 32, 32, 32)
    torch.testing.assert_close(target, batch["image"] * batch["label"])


def test_student_alone_and_distilled_student_start_from_the_same_weights(parser):
    alone, distilled = parser.get_parsed_content("student_alone#network"), parser.get_parsed_content("network")
    assert alone is not distilled
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), distilled.parameters()))


def test_without_the_term_distillation_is_the_student_alone_bit_for_bit(run, data, tmp_path):
    folder = tmp_path / "run"
    settings = as_words(**TINY, distillation_weight=0, teacher_checkpoint=None)
    arguments = ["--dataset_dir", str(data), "--run", str(folder), "--stages", "distill"]
    assert main(["train", NAME, *arguments, *settings]) == 0
    alone, distilled = (
        torch.load(file, weights_only=True)["model"] for file in (run / "student_alone.pt", folder / "model.pt")
    )
    assert all(torch.equal(alone[name], distilled[name]) for name in alone)


def test_preprocessing_is_the_same_in_training_and_in_inference(workflow, tmp_path):
    settings = {**TINY, "spacing": [7, 6, 5]}
    heads = HeadGenerator(shape=(40, 40, 40), vary_grid=True)(tmp_path / "set", cases=3, seed=2)
    trained = workflow(NAME, "train.json", dataset_dir=str(heads), **settings).parser
    evaluated = workflow(NAME, "train.json", "evaluate.json", dataset_dir=str(heads), **settings).parser
    known = {key: settings[key] for key in ("spacing", "crop_size", "divisor", "student_channels")}
    inferred = workflow(NAME, "inference.json", dataset_dir=str(heads), **known).parser
    for item in itertools.chain(*trained.get_parsed_content("datalist").values()):
        image = inferred.get_parsed_content("preprocessing")({"image": item["image"]})["image"]
        for parser in (trained, evaluated):
            sample = parser.get_parsed_content("validate#preprocessing")(dict(item))
            np.testing.assert_array_equal(image.numpy(), sample["image"].numpy())
        assert nib.aff2axcodes(image.affine.numpy()) == ("R", "A", "S")
        np.testing.assert_allclose(image.pixdim, settings["spacing"])
        assert not np.any(np.array(image.shape[1:]) % 8)
        # Scores are taken on the file's own grid, so the mask stays there.
        assert sample["label"].shape[1:] == nib.load(item["image"]).shape


def test_evaluation_has_a_row_per_case_that_inference_confirms(run, tmp_path):
    assert main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path / "scores")]) == 0
    rows = read_rows(tmp_path / "scores" / "cases.csv")
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    metrics = ("dice", "sensitivity", "specificity", "hausdorff95_mm", "surface_distance_mm", "volume_error_ml")
    assert list(rows[0]) == ["input", "patient", *metrics]
    assert sorted(Path(row["input"]).parent.name for row in rows) == ["T1", "T2"]  # one patient, two contrasts
    for number, row in enumerate(rows):
        folder = tmp_path / str(number)
        assert main(["infer", NAME, row["input"], str(folder), "--run", str(run)]) == 0
        (written,) = read_rows(folder / "summary.csv")
        pred, truth = (nib.load(file).get_fdata() > 0 for file in (written["output"], _mask_of(row["input"])))
        ml = 6**3 / 1000
        assert float(written["brain_ml"]) == pytest.approx(pred.sum() * ml)
        by_hand = {
            "dice": _dice(pred, truth),
            "sensitivity": (pred & truth).sum() / truth.sum(),
            "specificity": (~pred & ~truth).sum() / (~truth).sum(),
            "volume_error_ml": abs(int(pred.sum()) - int(truth.sum())) * ml,
        }
        assert by_hand["dice"] > 0.4  # or nothing was learnt that could be compared
        for metric, value in by_hand.items():
            assert float(row[metric]) == pytest.approx(value, abs=1e-3), metric
        surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (pred, truth)]
        distances = [
            ndimage.distance_transform_edt(~other, sampling=6)[surface]
            for surface, other in (surfaces, reversed(surfaces))
        ]
        assert float(row["surface_distance_mm"]) == pytest.approx(np.concatenate(distances).mean(), rel=1e-3)
        worst = max(np.percentile(distance, 95) for distance in distances)
        assert float(row["hausdorff95_mm"]) == pytest.approx(worst, rel=1e-3)
    for metric in metrics:
        assert summary[metric]["mean"] == pytest.approx(np.mean([float(row[metric]) for row in rows]), abs=1e-4)


def test_repeated_random_subsampling_is_one_command(data, tmp_path):
    arguments = ["train", NAME, "--cross_validation", "--dataset_dir", str(data), "--run", str(tmp_path)]
    assert main([*arguments, *as_words(**{**TINY, "max_epochs": 1, "repeats": [1, 2], "modalities": ["T1"]})]) == 0
    table = {row["model"]: row for row in read_rows(tmp_path / "cross_validation.csv")}
    assert table["distilled_student"]["repeats"] == "2"
    values, tested = {"dice": [], "psnr": []}, []
    for repeat in ("repeat_1", "repeat_2"):
        folder = tmp_path / repeat / "evaluation"
        tested.append({row["input"] for row in read_rows(folder / "teacher" / "cases.csv")})
        for model, metric in (("distilled_student", "dice"), ("teacher", "psnr")):
            values[metric].append(json.loads((folder / model / "summary.json").read_text())[metric]["mean"])
    assert float(table["distilled_student"]["dice"]) == pytest.approx(np.mean(values["dice"]), abs=1e-4)
    assert float(table["teacher"]["psnr_std"]) == pytest.approx(np.std(values["psnr"], ddof=1), abs=1e-4)
    assert tested[0] != tested[1]


def test_the_table_scores_the_teacher_by_its_grey_values(run, workflow, data):
    tabulate_run(run, monai_kd.bundle_root(NAME))
    table = {row["model"]: row for row in read_rows(run / "table.csv")}
    assert list(table) == ["teacher", "student_alone", "distilled_student"]
    assert not table["teacher"]["dice"] and not table["distilled_student"]["psnr"]
    assert table["student_alone"]["dice"] and table["distilled_student"]["hausdorff95_mm"]
    parser = workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser
    teacher = parser.get_parsed_content("teacher").eval()
    teacher.load_state_dict(torch.load(run / "teacher.pt", weights_only=True)["model"])
    preprocessing = parser.get_parsed_content("validate#preprocessing")
    scores: dict[str, list[float]] = {"mae": [], "psnr": []}
    for item in parser.get_parsed_content("datalist")["test"]:
        sample = preprocessing(dict(item))
        with torch.no_grad():
            error = teacher(sample["image"].as_tensor()[None])[0] - sample["brain"].as_tensor()
        scores["mae"].append(error.abs().mean().item())
        scores["psnr"].append(-10 * error.square().mean().log10().item())
    for metric, values in scores.items():
        assert float(table["teacher"][metric]) == pytest.approx(np.mean(values), rel=1e-3)
    assert -1 < float(table["teacher"]["ssim"]) < 1


def test_the_teacher_of_the_recipe_gives_masks_and_is_measured_by_them(data, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out"
    smaller = {"teacher_def#channels": [4, 8], "teacher_def#strides": [2]}
    crop = {"train#random_transforms#2#roi_size": [24, 24, 24]}
    words = as_words(**{**TINY, **smaller, **crop, "max_epochs": 2, "teacher_epochs": 12, "weight_momentum": 0.3})
    stages = ["--config", "shipped.json", "--stages", "teacher,student_alone,distill"]
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(folder), *stages, *words]) == 0
    tabulate_run(folder, monai_kd.bundle_root(NAME))
    teacher = read_rows(folder / "table.csv")[0]
    assert teacher["model"] == "teacher" and teacher["dice"] and "psnr" not in teacher
    assert main(["evaluate", NAME, "--run", str(folder), "--checkpoint", str(folder / "teacher.pt")]) == 0
    by_verb = json.loads((folder / "evaluation_teacher" / "summary.json").read_text())
    assert by_verb["dice"]["mean"] == pytest.approx(float(teacher["dice"].split()[0]), abs=1e-3)
    head = next((data / "T1").iterdir())
    assert main(["infer", NAME, str(head), str(out), "--run", str(folder), "--teacher"]) == 0
    probabilities = nib.load(next(out.glob("*_prob.nii.gz"))).get_fdata()
    assert 0 <= probabilities.min() < 0.5 < probabilities.max() <= 1


def test_contrasts_are_trained_together_or_chosen(parser, workflow, data):
    together = parser.get_parsed_content("train#dataset#data")
    assert sorted({item["modality"] for item in together}) == ["T1", "T2"]
    t2 = workflow(NAME, "train.json", dataset_dir=str(data), modalities="T2", **TINY).parser
    chosen = t2.get_parsed_content("train#dataset#data")
    assert {item["modality"] for item in chosen} == {"T2"}
    assert {item["patient"] for item in chosen} == {item["patient"] for item in together}


def _axes_moved(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    """The same image with its axes stored in another order and direction."""
    change = ornt_transform(nib.io_orientation(image.affine), axcodes2ornt(tuple(axcodes)))
    array = apply_orientation(np.asarray(image.dataobj), change)
    return nib.Nifti1Image(array, image.affine @ inv_ornt_aff(change, image.shape))


def test_the_mask_comes_back_on_the_inputs_own_grid(run, tmp_path):
    heads = HeadGenerator(shape=(40, 40, 40), vary_grid=True)(tmp_path / "set", cases=2, seed=3)
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    images = {}
    for subject in (1, 2):
        head = nib.load(heads / "T1" / f"SIM{subject:04d}.nii.gz")
        images[f"{subject}_own"] = head
        images[f"{subject}_PIR"], images[f"{subject}_LSA"] = _axes_moved(head, "PIR"), _axes_moved(head, "LSA")
    series = np.stack([np.asarray(head.dataobj), np.zeros(head.shape, head.get_data_dtype())], axis=-1)
    images["2_series"] = nib.Nifti1Image(series, head.affine)
    images["2_thin"] = head.slicer[:, :, 18:22]
    for name, image in images.items():
        nib.save(image, inputs / f"{name}.nii.gz")
    arguments = ["--run", str(run), "--probabilities", "--overlay"]
    assert main(["infer", NAME, str(inputs), str(outputs), *arguments]) == 0
    for name, image in images.items():
        for kind in ("pred", "prob", "brain"):
            written = nib.load(outputs / f"{name}_{kind}.nii.gz")
            assert written.shape == image.shape[:3]
            np.testing.assert_array_equal(written.affine, nib.load(inputs / f"{name}.nii.gz").affine)
        pred, brain = (np.asarray(nib.load(outputs / f"{name}_{kind}.nii.gz").dataobj) for kind in ("pred", "brain"))
        first = np.asarray(image.dataobj).reshape(*pred.shape, -1)[..., 0]
        np.testing.assert_array_equal(brain, np.where(pred, first, 0))
        with Image.open(outputs / f"{name}_overlay.png") as picture:
            assert picture.width > 1.5 * picture.height and picture.mode == "RGB"  # three planes side by side
    for subject in (1, 2):
        # However the axes are stored, a voxel has its own probability.
        own = nib.load(outputs / f"{subject}_own_prob.nii.gz")
        others = ["PIR", "LSA"] + (["series"] if subject == 2 else [])
        for other in others:
            moved = nib.load(outputs / f"{subject}_{other}_prob.nii.gz")
            back = _axes_moved(moved, "".join(nib.aff2axcodes(own.affine)))
            np.testing.assert_allclose(back.get_fdata(), own.get_fdata(), atol=1e-4)
        mask = nib.load(heads / "mask" / f"SIM{subject:04d}.nii.gz").get_fdata() > 0
        assert _dice(nib.load(outputs / f"{subject}_own_pred.nii.gz").get_fdata() > 0, mask) > 0.3


def test_a_dicom_series_gives_what_its_nifti_file_gives(run, data, tmp_path, write_series, capfd):
    head = nib.load(data / "T1" / "SIM0001.nii.gz")
    grey = np.asarray(head.dataobj).astype(np.uint16)
    inputs, nifti, outputs = (tmp_path / name for name in ("in", "nifti", "out"))
    identifiers = write_series(inputs / "head", grey, head.affine)
    write_series(inputs / "gap", np.delete(grey, 20, axis=2), head.affine, ImagePositionPatient=lambda k: [0, 0, k**2])
    with zipfile.ZipFile(inputs / "packed.zip", "w") as archive:
        for file in (inputs / "head").iterdir():
            archive.write(file, f"Secret/{file.name}")
    nib.save(nib.Nifti1Image(grey, head.affine), tmp_path / "head.nii.gz")
    assert main(["infer", NAME, str(tmp_path / "head.nii.gz"), str(nifti), "--run", str(run)]) == 0
    mask = nib.load(nifti / "head_pred.nii.gz")

    call = ["infer", NAME, str(inputs), str(outputs), "--run", str(run)]
    assert main(call) == 1
    check_failures(outputs, {"gap": "mm apart"})
    for name in ("head", "packed"):
        written = nib.load(outputs / f"{name}_pred.nii.gz").as_reoriented(
            nib.io_orientation(np.linalg.inv(head.affine) @ nib.load(outputs / f"{name}_pred.nii.gz").affine)
        )
        np.testing.assert_allclose(written.affine, head.affine, atol=1e-4)
        np.testing.assert_array_equal(written.get_fdata(), mask.get_fdata())
    assert main([*call, "--resume", "--part", "1/1"]) == 1
    assert "2 done before" in capfd.readouterr().out

    assert main([*call, "--format", "dicom_seg"]) == 1
    segmentation = segread(outputs / "head_pred.dcm")
    frames = segmentation.get_pixels_by_source_instance(identifiers, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(frames[..., 0].T, mask.get_fdata())
    said = capfd.readouterr()
    tables = "".join(path.read_text() for path in outputs.glob("*.csv"))
    assert "ecret" not in said.out + said.err + tables + " ".join(path.name for path in outputs.rglob("*"))


def test_a_sliding_window_gives_nearly_the_same(run, data, tmp_path):
    head = str(data / "T1" / "SIM0001.nii.gz")
    probs = []
    for number, words in enumerate((["inference=whole"], ["inference=sliding_window"])):
        folder = tmp_path / str(number)
        assert main(["infer", NAME, head, str(folder), "--run", str(run), "--probabilities", *words]) == 0
        probs.append(nib.load(folder / "SIM0001_prob.nii.gz").get_fdata())
    whole, windows = probs
    assert 0 < np.abs(whole - windows).mean() < 0.1  # of a few steps' training, and each window is normalised by itself
    assert _dice(whole > 0.5, windows > 0.5) > 0.7


def test_any_torchscript_network_can_be_the_teacher_if_it_is_trusted(data, tmp_path, workflow, capsys):
    file, folder = tmp_path / "teacher.ts", tmp_path / "run"
    torch.jit.save(torch.jit.script(torch.nn.AvgPool3d(3, stride=1, padding=1)), file)
    teacher = {"_target_": "monai_kd.networks.TorchScriptNetwork", "file": str(file)}
    settings = {**TINY, "teacher_def": teacher, "teacher_checkpoint": None}
    arguments = ["--dataset_dir", str(data), "--run", str(folder), "--stages", "distill"]
    call = ["train", NAME, *arguments, *as_words(**{**settings, "max_epochs": 1})]
    assert main(call) == 2
    assert "teacher.ts is TorchScript, which is code" in capsys.readouterr().err and not folder.exists()
    assert main([*call, "--trust"]) == 0
    assert sorted(path.name for path in folder.glob("*.pt")) == ["model.pt"]
    assert " grey_brain " in (folder / "distillation.log").read_text()
    built = workflow(NAME, "train.json", dataset_dir=str(data), **settings).parser.get_parsed_content("teacher")
    image = torch.rand(1, 1, 8, 8, 8)
    torch.testing.assert_close(built(image), torch.nn.functional.avg_pool3d(image, 3, stride=1, padding=1))


def test_the_papers_student_is_a_unet_plus_plus(run, data, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out"
    settings = {**TINY, "max_epochs": 1, "student_features": [8, 4, 4, 4, 4, 8]}
    files = ["--dataset_dir", str(data), "--run", str(folder), f"teacher_checkpoint={run / 'teacher.pt'}"]
    words = ["--config", "paper.json", "--stages", "distill", *as_words(**settings)]
    assert main(["train", NAME, *files, *words]) == 0
    weights = torch.load(folder / "model.pt", weights_only=True)["model"]
    assert weights["unet.conv_0_0.conv_0.conv.weight"].shape[:2] == (8, 8)  # blocks of 2 x 2 x 2 voxels
    head = next((data / "T1").iterdir())
    assert main(["infer", NAME, str(head), str(out), "--run", str(folder)]) == 0
    assert nib.load(next(out.glob("*_pred.nii.gz"))).shape == nib.load(head).shape


def test_a_last_batch_of_one_small_crop_is_left_out(data, tmp_path):
    """Batch norm has one position to average over at the deepest level."""
    folder = tmp_path / "run"
    settings = {**TINY, "max_epochs": 1, "batch_size": 7, "teacher_checkpoint": None}
    words = as_words(**settings, distillation_weight=0)
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(folder), "--stages", "distill", *words]) == 0
    assert "1 epochs of 1 iterations" in (folder / "distillation.log").read_text()


def test_one_head_is_a_batch(data, tmp_path):
    items = [{"image": str(path), "label": str(data / "mask" / path.name)} for path in sorted((data / "T1").iterdir())]
    (tmp_path / "one.json").write_text(json.dumps({"training": items[:1], "validation": items[1:2]}))
    words = ["--datalist", str(tmp_path / "one.json"), "--run", str(tmp_path / "run"), "--stages", "student_alone"]
    assert (
        main(["train", NAME, *words, *as_words(**{**TINY, "max_epochs": 1, "batch_size": 4, "crop_size": [64] * 3})])
        == 0
    )
    assert "1 epochs of 1 iterations" in (tmp_path / "run" / "student_alone.log").read_text()


@pytest.mark.parametrize("affine", [np.eye(4), None], ids=["lost affine", "a label map"])
def test_masks_that_would_be_misread_are_refused(data, tmp_path, capsys, affine):
    folder = tmp_path / "set"
    shutil.copytree(data, folder)
    for file in sorted((folder / "mask").iterdir()):
        mask = nib.load(file)
        voxels = np.asanyarray(mask.dataobj).copy()
        if affine is None:
            voxels[::2] *= 2
        nib.save(nib.Nifti1Image(voxels, mask.affine if affine is None else affine), file)
    words = ["--dataset_dir", str(folder), "--run", str(tmp_path / "run"), *as_words(**TINY)]
    assert main(["train", NAME, *words]) != 0
    wanted = "must have one value beside 0" if affine is None else "does not lie where its image"
    assert wanted in capsys.readouterr().err and not list(tmp_path.glob("run/*.pt"))


def test_further_terms_are_a_configuration(workflow, data):
    hint = {
        "_target_": "monai_kd.losses.DistillationTerm",
        "loss": {"_target_": "monai_kd.losses.HintLoss"},
        "student_layer": "model.0",
        "teacher_layer": "unet.upcat_0_4",
        "student_projector": {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 8, "kernel_size": 1},
        "weight": 0.5,
    }
    settings = {"dataset_dir": str(data), "distillation#terms#hint": hint, **TINY}
    parser = workflow(NAME, "train.json", **settings).parser
    networks = {side: parser.get_parsed_content(key) for side, key in (("student", "network"), ("teacher", "teacher"))}
    loss = parser.get_parsed_content("distillation")
    image, answers = torch.rand(2, 1, 32, 32, 32), {}
    for side, network in networks.items():
        tap = FeatureTap(network, getattr(loss, f"{side}_layers")())
        answers[side] = {"": network(image), **tap.pop()}
    total, values = loss(torch.tensor(1.0), **answers)
    assert list(values) == ["grey_brain", "hint"]
    assert total.item() == pytest.approx(0.7 + 0.3 * values["grey_brain"].item() + 0.5 * values["hint"].item())


def test_inference_goes_on_past_bad_inputs_and_names_them(run, data, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    head, mask = (nib.load(data / kind / "SIM0001.nii.gz") for kind in ("T1", "mask"))
    voxels = np.asarray(head.dataobj).astype(np.float32)
    odd = {name: voxels.copy() for name in ("nan", "infinite")}
    odd["nan"][1, 2, 3], odd["infinite"][1, 2, 3] = np.nan, np.inf
    arrays = {
        "good": voxels,
        "stripped": voxels * np.asarray(mask.dataobj),
        "flat": voxels[..., 20],
        "empty": 0 * voxels,
        "constant": 0 * voxels + 7,
        **odd,
    }
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, head.affine), inputs / f"{name}.nii.gz")
    singular = nib.Nifti1Image(voxels, head.affine)
    singular.header["sform_code"], singular.header["qform_code"], singular.header["srow_x"] = 1, 0, 0
    singular = nib.Nifti1Image(voxels, None, singular.header)
    nib.save(singular, inputs / "singular.nii.gz")
    whole = (data / "T1" / "SIM0001.nii.gz").read_bytes()
    (inputs / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40)).save(inputs / "picture.png")

    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run)]) == 1
    assert [Path(row["input"]).name for row in read_rows(outputs / "summary.csv")] == ["good.nii.gz", "stripped.nii.gz"]
    reasons = {
        "constant.nii.gz": "constant grey value",
        "empty.nii.gz": "constant grey value",
        "flat.nii.gz": "3 spatial dimensions",
        "infinite.nii.gz": "NaN or infinite",
        "nan.nii.gz": "NaN or infinite",
        "picture.png": "3 spatial dimensions",
        "singular.nii.gz": "affine",
        "truncated.nii.gz": "cannot be read",
    }
    check_failures(outputs, reasons)
    assert not list(outputs.glob(".writing-*"))


def test_repeated_random_subsampling_as_in_the_paper(workflow, data, tmp_path):
    settings = {**TINY, "dataset_dir": str(data), "split": "rsv", "fractions": [0.8, 0, 0.2]}

    def patients(repeat: int) -> list[set[str]]:
        splits = workflow(NAME, "train.json", repeat=repeat, **settings).parser.get_parsed_content("datalist")
        return [{item["patient"] for item in splits[side]} for side in ("training", "validation", "test")]

    drawn = [patients(repeat) for repeat in (1, 2, 3, 4, 5)]
    assert drawn == [patients(repeat) for repeat in (1, 2, 3, 4, 5)]
    assert len({frozenset(test) for _, _, test in drawn}) > 1
    for training, validation, test in drawn:
        assert len(training) == 5 and not validation and len(test) == 1 and not training & test
    # Without validation the last weights are kept.
    words = as_words(**{**settings, "repeat": 2, "max_epochs": 1})
    assert main(["train", NAME, "--run", str(tmp_path / "run"), "--stages", "student_alone", *words]) == 0
    assert (tmp_path / "run" / "student_alone.pt").is_file()


def test_a_teacher_of_another_repeat_is_refused(run, data, tmp_path, capsys):
    run_of_teacher = ["--run", str(tmp_path / "new"), f"teacher_checkpoint={run / 'teacher.pt'}"]
    arguments = ["--dataset_dir", str(data), *run_of_teacher, "split=rsv", "repeat=2"]
    assert main(["train", NAME, *arguments, *as_words(**TINY)]) == 2
    assert "was trained with other settings (split, repeat)" in capsys.readouterr().err
