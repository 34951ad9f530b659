# SPDX-License-Identifier: Apache-2.0
"""H-net, L-net alone and with transfer, evaluation and inference of the shipped JSON on a few generated angiograms."""

import itertools
import json
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

import monai_kd
from monai_kd.cli import main
from monai_kd.data import VesselGenerator, vessel_datalist
from monai_kd.engines import read_metadata, tabulate_run
from monai_kd.networks import FeatureTap

from .runs import as_words, check_failures, check_kept_answers_change_nothing, read_curves, read_rows, read_weights

NAME = "vessel_segmentation"
TERMS = ("embedding_1", "embedding_2", "decoder_2", "decoder_1")
NETWORK = {
    "crop_size": [16, 16, 16],
    "features": [4, 8, 8],
    "hidden_size": 8,
    "depth": 1,
    "num_heads": 2,
    "norm": "instance",  # the running averages of batch norm need more steps than a test has
}
TINY = {
    **NETWORK,
    "num_workers": 0,
    "max_epochs": 2,
    "teacher_epochs": 1,
    "cosine_epochs": 3,
    "learning_rate": 0.03,
    "teacher_learning_rate": 0.03,
    "batch_size": 1,
    "num_samples": 2,
    "passes": 4,
    "overlap": 0.25,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return VesselGenerator(shape=(32, 24, 16))(tmp_path_factory.mktemp("data") / "set", cases=6, seed=1)


@pytest.fixture
def parser(workflow, data):
    return workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser


def test_a_run_leaves_three_networks_and_logs_all_terms(run):
    for name in ("teacher.pt", "student_alone.pt", "model.pt"):
        assert set(torch.load(run / name, weights_only=True)) == {"model"}
    distilled = {"loss", "task", *TERMS, "soft_target", "val_mean_dice"}
    scalars = {"teacher": {"loss", "val_mean_dice"}, "student_alone": {"loss"}, "distillation": distilled}
    for stage, names in scalars.items():
        assert names <= read_curves(run, stage).keys()
        assert all(f" {name} " in (run / f"{stage}.log").read_text() for name in names)


def test_the_loss_is_the_papers(parser):
    rng = np.random.default_rng(0)
    logits, teacher_logits = rng.normal(size=(2, 2, 1, 4, 5, 3))
    mask = (rng.random(logits.shape) < 0.4).astype(float)
    features = {name: rng.normal(size=(2, 2, 3, 4, 5, 3)) for name in TERMS}
    p, q = (1 / (1 + np.exp(-array)) for array in (logits, teacher_logits))
    expected = -(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean()
    expected += sum(0.1 * ((s - t) ** 2).mean() for s, t in features.values())
    expected += (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()  # KL(P_L || P_H)

    loss, distillation = (parser.get_parsed_content(key) for key in ("loss", "distillation"))
    answers = [
        {"": torch.as_tensor(prediction), **{name: torch.as_tensor(pair[side]) for name, pair in features.items()}}
        for side, prediction in enumerate((logits, teacher_logits))
    ]
    total, values = distillation(loss(answers[0][""], torch.as_tensor(mask)), *answers)
    assert total.item() == pytest.approx(expected, abs=1e-6) and list(values) == [*TERMS, "soft_target"]


def test_the_teacher_sees_what_the_student_does_not(parser):
    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    low, high, label = (batch[key] for key in ("image", "image_hr", "label"))
    assert low.shape == high.shape == label.shape == (2, 1, 16, 16, 16)  # two crops of a case
    detail = [(volume[..., 1:] - volume[..., :-1]).abs().mean() for volume in (low, high)]
    assert detail[0] < 0.8 * detail[1]
    teacher, student = (
        parser.get_parsed_content(f"{part}#trainer").prepare_batch(batch, "cpu")
        for part in ("teacher_training", "train")
    )
    assert torch.equal(teacher[0], high) and torch.equal(student[0], low) and torch.equal(teacher[1], label)
    handler = next(h for h in parser.get_parsed_content("train#handlers") if hasattr(h, "teacher"))
    assert handler.teacher.keys == ("image_hr",)


def test_crops_are_weighted_to_vessels_and_turned_with_their_labels(workflow, data):
    settings = {**TINY, "dataset_dir": str(data), "crop_size": [8, 8, 8], "num_samples": 4}
    parser = workflow(NAME, "train.json", **settings).parser
    dataset, epoch = (parser.get_parsed_content(f"train#{key}") for key in ("dataset", "epoch"))
    assert len(epoch) == 4 * len(dataset)
    crops = [crop["label"] for index in range(8) for crop in epoch[index]]
    share = np.mean([nib.load(item["label"]).get_fdata().mean() for item in dataset.data])
    assert np.mean([crop[0, 4, 4, 4].item() for crop in crops]) > 3 * share  # a vessel at the border is in no middle
    # An image that is its own label must stay so, however it is cropped, flipped and turned.
    items = [{**item, "image": item["label"]} for item in parser.get_parsed_content("datalist")["training"]]
    settings |= {"low_resolution_factor": 1, "train#dataset#data": items}
    for crop in workflow(NAME, "train.json", **settings).parser.get_parsed_content("train#dataset")[0]:
        for key in ("image", "image_hr"):
            torch.testing.assert_close(crop[key], crop["label"])


def test_student_alone_and_distilled_student_start_from_the_same_weights(parser):
    alone, distilled = parser.get_parsed_content("student_alone#network"), parser.get_parsed_content("network")
    assert alone is not distilled
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), distilled.parameters()))
    assert parser.get_parsed_content("teacher") is not distilled


def test_without_the_terms_distillation_is_the_student_alone_bit_for_bit(run, data, tmp_path):
    folder = tmp_path / "run"
    weights = {f"{name}_weight": 0 for name in (*TERMS, "soft_target")}
    arguments = ["--dataset_dir", str(data), "--run", str(folder), "--stages", "distill"]
    assert main(["train", NAME, *arguments, *as_words(**TINY, **weights, teacher_checkpoint=None)]) == 0
    alone, distilled = read_weights(run, "student_alone.pt"), read_weights(folder)
    assert all(torch.equal(alone[name], distilled[name]) for name in alone)


def _moved(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    """The same image with its axes stored in another order and direction."""
    return image.as_reoriented(ornt_transform(nib.io_orientation(image.affine), axcodes2ornt(tuple(axcodes))))


@pytest.mark.parametrize("spacing", [None, [0.6, 0.6, 0.8]], ids=["own", "given"])
def test_preprocessing_is_the_same_in_training_and_in_inference(workflow, data, tmp_path, spacing):
    settings = {} if spacing is None else {"spacing": spacing}
    turned = tmp_path / "set"
    for kind, axcodes in itertools.product(("images", "labels"), ("PIR", "LSA")):
        (turned / kind).mkdir(parents=True, exist_ok=True)
        nib.save(_moved(nib.load(data / kind / "SIM0001.nii.gz"), axcodes), turned / kind / f"{axcodes}.nii.gz")
    known = {**NETWORK, "overlap": 0.25, **settings, "dataset_dir": str(turned)}
    trained, evaluated = (
        workflow(NAME, *files, **TINY, **settings, dataset_dir=str(turned)).parser
        for files in (["train.json"], ["train.json", "evaluate.json"])
    )
    inferred = workflow(NAME, "inference.json", **known).parser
    original = nib.load(data / "images" / "SIM0001.nii.gz")
    for item in itertools.chain(*trained.get_parsed_content("datalist").values()):
        image = inferred.get_parsed_content("preprocessing")({"image": item["image"]})["image"]
        for parser in (trained, evaluated):
            sample = parser.get_parsed_content("validate#preprocessing")(dict(item))
            np.testing.assert_array_equal(image.numpy(), sample["image"].numpy())
        assert nib.aff2axcodes(image.affine.numpy()) == ("R", "A", "S")
        np.testing.assert_allclose(image.pixdim, spacing or [0.5, 0.5, 0.8], atol=1e-6)
        # Scores are taken on the file's own grid, so the label stays there.
        assert sample["label"].shape[1:] == nib.load(item["image"]).shape
        if spacing is None:  # nothing was interpolated: the high resolution is the file's
            high = sample["image_hr"].numpy()[0]
            assert high.shape == original.shape and high.min() == 0 and high.max() == 1
            grey = original.get_fdata()
            low, top = np.percentile(grey, (0.5, 99.9))
            np.testing.assert_allclose(high, ((grey - low) / (top - low)).clip(0, 1), atol=1e-3)


def test_evaluation_has_a_row_per_case_that_inference_confirms(run, tmp_path):
    assert main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path / "scores")]) == 0
    rows = read_rows(tmp_path / "scores" / "cases.csv")
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    metrics = ("dice", "sensitivity", "precision", "cldice", "components", "true_components")
    assert list(rows[0]) == ["input", "patient", *metrics]
    for number, row in enumerate(rows):
        folder = tmp_path / str(number)
        assert main(["infer", NAME, row["input"], str(folder), "--run", str(run)]) == 0
        (written,) = read_rows(folder / "summary.csv")
        label = row["input"].replace("/images/", "/labels/")
        pred, truth = (nib.load(file).get_fdata() > 0 for file in (written["output"], label))
        assert float(written["vessel_ml"]) == pytest.approx(pred.sum() * 0.5 * 0.5 * 0.8 / 1000)
        lines = [skeletonize(mask) for mask in (pred, truth)]
        p, s = truth[lines[0]].mean(), pred[lines[1]].mean()
        by_hand = {
            "dice": 2 * (pred & truth).sum() / (pred.sum() + truth.sum()),
            "sensitivity": (pred & truth).sum() / truth.sum(),
            "precision": (pred & truth).sum() / pred.sum(),
            "cldice": 2 * p * s / (p + s),
            "components": ndimage.label(pred, np.ones((3, 3, 3)))[1],
            "true_components": ndimage.label(truth, np.ones((3, 3, 3)))[1],
        }
        assert by_hand["dice"] > 0.25  # or nothing was learnt that could be compared
        for metric, value in by_hand.items():
            assert float(row[metric]) == pytest.approx(value, abs=1e-4), metric
    for metric in metrics:
        assert summary[metric]["mean"] == pytest.approx(np.mean([float(row[metric]) for row in rows]), abs=1e-4)


def test_the_table_scores_the_teacher_in_high_resolution(run, workflow, data):
    tabulate_run(run, monai_kd.bundle_root(NAME))
    table = {row["model"]: row for row in read_rows(run / "table.csv")}
    assert list(table) == ["teacher", "student_alone", "distilled_student"]
    assert len({row["parameters"] for row in table.values()}) == 1
    parser = workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser
    teacher, inferer = (parser.get_parsed_content(key) for key in ("teacher", "inferer"))
    teacher.eval().load_state_dict(torch.load(run / "teacher.pt", weights_only=True)["model"])
    scores = []
    for item in parser.get_parsed_content("datalist")["test"]:
        sample = parser.get_parsed_content("validate#preprocessing")(dict(item))
        with torch.no_grad():
            pred = inferer(sample["image_hr"].as_tensor()[None], teacher)[0] > 0
        label = sample["label"].as_tensor() > 0
        scores.append(2 * (pred & label).sum().item() / (pred.sum() + label.sum()).item())
    assert float(table["teacher"]["dice"]) == pytest.approx(np.mean(scores), abs=1e-3)


@pytest.mark.parametrize(
    "settings", [{"architecture": "unet", "unet_features": [4, 8, 8]}, {"convolutional_embedding": False}], ids=str
)
def test_one_override_makes_the_baseline_and_the_ablation(workflow, data, settings):
    strides = {"unet_strides": [2, 2]} if "unet_features" in settings else {}
    parser = workflow(NAME, "train.json", dataset_dir=str(data), **{**TINY, **settings, **strides}).parser
    network, teacher, loss = (parser.get_parsed_content(key) for key in ("network", "teacher", "distillation"))
    assert type(network).__name__ == type(teacher).__name__ == ("UNet" if strides else "KTViT")
    taps = [FeatureTap(network, loss.student_layers()), FeatureTap(teacher, loss.teacher_layers())]
    image = torch.rand(2, 1, 16, 16, 16)
    answers = [{"": net(image), **tap.pop()} for net, tap in zip((network, teacher), taps)]
    total, values = loss(torch.tensor(1.0), *answers)
    assert len({id(feature) for feature in answers[0].values()}) == 5 and list(values) == [*TERMS, "soft_target"]
    total.backward()


@pytest.mark.parametrize(("features", "second"), [([2, 3, 4, 5], (3, 4, 4, 4)), ([2, 3, 4], (4, 4, 4, 4))])
def test_a_unet_is_tapped_behind_its_own_steps_each_once(workflow, data, features, second):
    """A skip connection's output would hold the encoder's map, which has a term of its own, once more."""
    strides = [2] * (len(features) - 1)
    settings = {"architecture": "unet", "unet_features": features, "unet_strides": strides, "norm": "instance"}
    parser = workflow(NAME, "train.json", dataset_dir=str(data), **{**TINY, **settings}).parser
    network, layers = parser.get_parsed_content("network_def"), parser.get_parsed_content("layers")
    tap = FeatureTap(network, list(layers.values()))
    network(torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)))
    features = tap.pop()
    assert {term: tuple(features[layer].shape[1:]) for term, layer in layers.items()} == {
        "embedding_1": (2, 8, 8, 8),
        "embedding_2": (3, 4, 4, 4),
        "decoder_2": second,  # of three levels the bridge, which does not change the resolution
        "decoder_1": (2, 8, 8, 8),
    }


def test_another_architecture_is_refused(data, capsys):
    assert main(["train", NAME, "--dataset_dir", str(data), "architecture=unett", *as_words(**TINY)]) == 2
    assert "did you mean 'unet'?" in capsys.readouterr().err


def test_thin_stacks_are_trained_with_other_patches_and_poolings(tmp_path):
    thin = VesselGenerator(shape=(32, 32, 8))(tmp_path / "set", cases=5, seed=1)
    settings = {**TINY, "max_epochs": 1, "passes": 1, "crop_size": [16, 16, 8], "pool_sizes": [[2, 2, 1], 2]}
    arguments = ["--dataset_dir", str(thin), "--run", str(tmp_path / "run"), "--stages", "student_alone", "split=index"]
    assert main(["train", NAME, *arguments, *as_words(**settings)]) == 0
    image, run = str(thin / "images" / "SIM0005.nii.gz"), ["--run", str(tmp_path / "run")]
    assert main(["infer", NAME, image, str(tmp_path / "out"), *run]) == 2  # there is no distilled student
    checkpoint = ["--checkpoint", str(tmp_path / "run" / "student_alone.pt")]
    assert main(["infer", NAME, image, str(tmp_path / "out"), *checkpoint]) == 0
    assert nib.load(tmp_path / "out" / "SIM0005_pred.nii.gz").shape == (32, 32, 8)


def _write_meta_image(image: nib.Nifti1Image, path: Path) -> None:
    affine = np.diag([-1, -1, 1, 1]) @ image.affine  # MetaImage says LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "CompressedData": True,
        "TransformMatrix": (affine[:3, :3] / spacing).T.flatten(),
        "Offset": affine[:3, 3],
        "ElementSpacing": spacing,
        "DimSize": np.array(image.shape),
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    lines = [
        f"{key} = {' '.join(map(repr, v.tolist())) if isinstance(v, np.ndarray) else v}" for key, v in header.items()
    ]
    voxels = np.asarray(image.dataobj).astype("<i2").tobytes(order="F")
    path.write_bytes("\n".join(lines).encode() + b"\n" + zlib.compress(voxels))


def test_the_mask_comes_back_on_the_inputs_own_grid(run, data, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    own = nib.load(data / "images" / "SIM0001.nii.gz")
    images = {"own": own, "PIR": _moved(own, "PIR"), "LSA": _moved(own, "LSA")}
    images["one_slice"] = own.slicer[:, :, 7:8]
    images["small"] = own.slicer[:9, :10, 3:8]  # smaller than a crop along every axis
    for name, image in images.items():
        nib.save(image, inputs / f"{name}.nii.gz")
    _write_meta_image(images["PIR"], inputs / "meta.mha")
    arguments = ["--run", str(run), "--probabilities", "--overlay"]
    assert main(["infer", NAME, str(inputs), str(outputs), *arguments]) == 0
    for name, image in {**images, "meta": images["PIR"]}.items():
        pred, prob = (nib.load(outputs / f"{name}_{kind}.nii.gz") for kind in ("pred", "prob"))
        assert pred.shape == prob.shape == image.shape
        np.testing.assert_allclose(pred.affine, image.affine, atol=1e-5)
        np.testing.assert_array_equal(pred.get_fdata(), prob.get_fdata() > 0.5)
        with Image.open(outputs / f"{name}_overlay.png") as picture:
            pixels = np.asarray(picture).astype(int)
        height = (len(pixels) - 8) // 2  # projections in grey, a gap, and the same with the vessels in colour
        above, below = pixels[:height], pixels[-height:]
        assert not np.ptp(above, axis=-1).any()
        coloured = np.ptp(below, axis=-1) > 0
        assert coloured.any() == bool(pred.get_fdata().any())
        np.testing.assert_array_equal(above[~coloured], below[~coloured])
    probabilities = nib.load(outputs / "own_prob.nii.gz").get_fdata()
    for name in ("PIR", "LSA", "meta"):  # however the axes are stored, a voxel has its own probability
        back = _moved(nib.load(outputs / f"{name}_prob.nii.gz"), "RAS").get_fdata()
        np.testing.assert_allclose(back, probabilities, atol=1e-4)


def test_a_scan_of_low_resolution_is_enlarged_instead_of_reduced(run, data, tmp_path):
    """A file with half the voxels, on the training data's grid, without further reduction."""
    own = nib.load(data / "images" / "SIM0001.nii.gz")
    halved = own.get_fdata().reshape(16, 2, 12, 2, 8, 2).mean((1, 3, 5))
    affine = own.affine @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(halved.astype(np.float32), affine), tmp_path / "low.nii.gz")
    settings = ["spacing=[0.5,0.5,0.8]", "low_resolution_factor=1", "--probabilities"]
    assert main(["infer", NAME, str(tmp_path / "low.nii.gz"), str(tmp_path / "out"), "--run", str(run), *settings]) == 0
    source = str(data / "images" / "SIM0001.nii.gz")
    assert main(["infer", NAME, source, str(tmp_path / "out"), "--run", str(run), "--probabilities"]) == 0
    low, high = (nib.load(tmp_path / "out" / f"{name}_prob.nii.gz").get_fdata() for name in ("low", "SIM0001"))
    assert low.shape == (16, 12, 8)
    means = high.reshape(16, 2, 12, 2, 8, 2).mean((1, 3, 5))
    assert np.corrcoef(low.flatten(), means.flatten())[0, 1] > 0.8


@pytest.mark.parametrize(
    "kind, change, reason",
    [
        (
            "labels",
            lambda i: nib.Nifti1Image(np.indices(i.shape).sum(0).astype(np.int16) % 3, i.affine),
            "one value",
        ),
        ("labels", lambda i: nib.Nifti1Image(np.asarray(i.dataobj), np.eye(4)), "does not lie where its image"),
        ("labels", lambda i: i.slicer[:16], "does not lie where its image"),
        ("labels", lambda i: nib.Nifti1Image(np.asarray(i.dataobj)[..., 5], i.affine), "expected 3 spatial dimensions"),
        ("images", lambda i: nib.Nifti1Image(np.zeros(i.shape, np.uint8), i.affine), "constant grey value"),
    ],
)
def test_bad_training_data_are_refused_by_name(data, tmp_path, capsys, kind, change, reason):
    folder = tmp_path / "set"
    for path in data.rglob("*.nii.gz"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.relative_to(data)).symlink_to(path)
    bad = folder / kind / "SIM0003.nii.gz"
    image = change(nib.load(bad))
    bad.unlink()
    nib.save(image, bad)
    arguments = ["--dataset_dir", str(folder), "--run", str(tmp_path / "run"), "--stages", "teacher"]
    # Every case trains, so that the bad one is met.
    assert main(["train", NAME, *arguments, "fractions=[1,0,0]", *as_words(**TINY)]) == 2
    message = capsys.readouterr().err
    assert "SIM0003.nii.gz" in message and reason in message and message.count("\n") == 1


def test_labels_on_another_grid_and_of_255_are_taken(workflow, data, tmp_path):
    item = {key: str(data / kind / "SIM0001.nii.gz") for key, kind in (("image", "images"), ("label", "labels"))}
    label = nib.load(item["label"])
    turned = _moved(nib.Nifti1Image(255 * np.asarray(label.dataobj), label.affine), "LPI")
    nib.save(turned, tmp_path / "label.nii.gz")
    preprocessing = workflow(NAME, "train.json", **TINY).parser.get_parsed_content("validate#preprocessing")
    first, second = (
        preprocessing(dict(item, **changes)) for changes in ({}, {"label": str(tmp_path / "label.nii.gz")})
    )
    assert torch.equal(first["label"], second["label"]) and set(first["label"].unique().tolist()) == {0, 1}


def test_inference_goes_on_past_bad_inputs_and_names_them(run, data, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    image = nib.load(data / "images" / "SIM0001.nii.gz")
    voxels = image.get_fdata().astype(np.float32)
    nan = voxels.copy()
    nan[1, 2, 3] = np.nan
    arrays = {"good": voxels, "flat": voxels[..., 5], "empty": 0 * voxels, "nan": nan}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, image.affine), inputs / f"{name}.nii.gz")
    _write_meta_image(image, inputs / "truncated.mha")
    whole = (inputs / "truncated.mha").read_bytes()
    (inputs / "truncated.mha").write_bytes(whole[: len(whole) // 2])
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run)]) == 1
    assert [Path(row["input"]).name for row in read_rows(outputs / "summary.csv")] == ["good.nii.gz"]
    reasons = {
        "empty.nii.gz": "constant grey value",
        "flat.nii.gz": "3 spatial dimensions",
        "nan.nii.gz": "NaN or infinite",
        "truncated.mha": "cannot be read as .mha",
    }
    check_failures(outputs, reasons)


def test_a_volume_smaller_than_a_crop_is_trained_on(tmp_path):
    small = VesselGenerator(shape=(12, 20, 9))(tmp_path / "set", cases=5, seed=1)
    arguments = [
        "--dataset_dir",
        str(small),
        "--run",
        str(tmp_path / "run"),
        "--stages",
        "student_alone",
        "split=index",
    ]
    assert main(["train", NAME, *arguments, *as_words(**{**TINY, "max_epochs": 1, "passes": 1})]) == 0


def test_a_teacher_of_another_split_is_refused(run, data, tmp_path, capsys):
    run_of_teacher = ["--run", str(tmp_path / "new"), f"teacher_checkpoint={run / 'teacher.pt'}"]
    arguments = ["--dataset_dir", str(data), *run_of_teacher, "split_seed=1"]
    assert main(["train", NAME, *arguments, *as_words(**TINY)]) == 2
    assert "was trained with other settings (split_seed)" in capsys.readouterr().err


BASELINES = {
    "unet": {"unet_features": [4, 8, 8], "unet_strides": [2, 2]},
    "unet_2d": {"unet_features": [4, 8, 8, 8]},
    "vc_net": {"unet_features": [4, 8, 8], "unet_strides": [2, 2]},
    "deep_vessel_net": {},
    "trans_unet": {"unet_features": [4, 8, 8, 8]},
}


@pytest.mark.parametrize("architecture", BASELINES)
def test_the_papers_baselines_are_an_override(architecture, data, tmp_path):
    words = as_words(**{**TINY, "max_epochs": 1, "passes": 1, **BASELINES[architecture], "architecture": architecture})
    run = ["--run", str(tmp_path / "run")]
    arguments = ["--dataset_dir", str(data), *run, "--stages", "teacher,distill"]
    assert main(["train", NAME, *arguments, *words]) == 0
    curves = read_curves(tmp_path / "run", "distillation")
    assert all(np.isfinite(curves[term]).all() and curves[term][0] > 0 for term in TERMS)
    image = str(data / "images" / "SIM0001.nii.gz")
    assert main(["infer", NAME, image, str(tmp_path / "out"), *run]) == 0
    assert nib.load(tmp_path / "out" / "SIM0001_pred.nii.gz").shape == (32, 24, 16)


def test_flat_images_go_through_the_bundle(data, tmp_path):
    flat = tmp_path / "flat"
    for kind in ("images", "labels"):
        (flat / kind).mkdir(parents=True)
        for path in sorted((data / kind).glob("*.nii.gz")):
            image = nib.load(path)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj).max(2), image.affine), flat / kind / path.name)
    words = as_words(**{**TINY, "crop_size": [16, 16], "max_epochs": 1, "passes": 1})
    run = ["--run", str(tmp_path / "run")]
    arguments = ["--dataset_dir", str(flat), *run, "--stages", "teacher,student_alone,distill"]
    assert main(["train", NAME, *arguments, "--config", "planar.json", *words]) == 0
    assert read_weights(tmp_path / "run")["stem.0.conv.weight"].ndim == 4
    assert main(["evaluate", NAME, *run]) == 0
    cases = read_rows(tmp_path / "run" / "evaluation" / "cases.csv")
    assert cases and all(0 <= float(row["dice"]) <= 1 for row in cases)
    image = nib.load(flat / "images" / "SIM0001.nii.gz")
    inputs = tmp_path / "in"
    inputs.mkdir()
    nib.save(image, inputs / "flat.nii.gz")
    Image.fromarray(np.asarray(image.dataobj).T.astype(np.uint8)).save(inputs / "picture.png")
    assert main(["infer", NAME, str(inputs), str(tmp_path / "out"), *run, "--overlay"]) == 1
    assert nib.load(tmp_path / "out" / "flat_pred.nii.gz").shape == (32, 24)
    assert (tmp_path / "out" / "flat_overlay.png").is_file()
    check_failures(tmp_path / "out", {"picture.png": "does not say how large its voxels are"})

    exported = tmp_path / "flat.ts"
    assert main(["export", NAME, str(exported), "--format", "torchscript", *run]) == 0
    described = read_metadata(exported)
    assert (described["input"]["axes"], described["input"]["size"]) == ("batch, channel, x, y", [16, 16])
    words = ["--checkpoint", str(exported)]
    assert main(["infer", NAME, str(inputs / "flat.nii.gz"), str(tmp_path / "again"), *words]) == 0
    files = (tmp_path / folder / "flat_pred.nii.gz" for folder in ("out", "again"))
    again, own = (np.asarray(nib.load(file).dataobj) for file in files)
    assert np.mean(again != own) < 0.01


def test_the_papers_crops_are_uniform_and_its_windows_do_not_overlap(workflow, data):
    settings = {**TINY, "dataset_dir": str(data), "crop_size": [8, 8, 8], "num_samples": 8}
    del settings["overlap"]
    parser = workflow(NAME, "train.json", "paper.json", **settings).parser
    dataset = parser.get_parsed_content("train#dataset")
    crops = [crop["label"] for index in range(len(dataset)) for _ in range(10) for crop in dataset[index]]
    share = np.mean([nib.load(item["label"]).get_fdata().mean() for item in dataset.data])
    # Of a crop's middle, which the border of a volume is never in: not more than chance gives.
    assert np.mean([crop[0, 4, 4, 4].item() for crop in crops]) < 3 * share
    assert parser.get_parsed_content("validate#inferer").inferer.overlap == 0


@pytest.mark.real_data
def test_real_stacks_come_through_the_preprocessing(real_data, workflow):
    folder = real_data / "vessel_stacks"
    settings = {**TINY, "split": "index", "dataset_dir": str(folder), "crop_size": [64, 64, 8], "cache_rate": 0}
    settings["num_samples"] = 4
    parser = workflow(NAME, "train.json", **settings).parser
    crops = parser.get_parsed_content("train#dataset")[0]
    assert len(crops) == 4 and all(crop["image"].shape == (1, 64, 64, 8) for crop in crops)
    assert np.mean([crop["label"].mean() for crop in crops]) > 0.05
    assert len(vessel_datalist(folder, split="index")["test"]) == 1


def test_a_teacher_that_is_asked_once_about_an_image_teaches_the_same(distillation):
    check_kept_answers_change_nothing(distillation, passes=2)
