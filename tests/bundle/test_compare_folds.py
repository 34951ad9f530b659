# SPDX-License-Identifier: Apache-2.0
"""A comparison by cross-validation: every patient is tested, by networks that have not seen it."""

import json
from pathlib import Path

import numpy as np
import pytest

from monai_kd.cli import main
from monai_kd.comparison import collect, pictures
from monai_kd.comparison.effort import effort_of
from monai_kd.comparison.results import Results
from monai_kd.csv_tables import read_table
from monai_kd.data import FigshareGenerator
from monai_kd.data.readers.figshare import TUMOR_CLASSES

NAME = "brain_tumor_classification"
TINY = {
    "image_size": 32,
    "batch_size": 8,
    "num_workers": 0,
    "max_epochs": 1,
    "student": "mobilenetv3_small_050",
    "teacher_def": {
        "_target_": "monai_kd.networks.create_timm_model",
        "name": "mobilenetv3_small_050",
        "num_classes": 3,
    },
    "fusion_weight": 0,
    "split": "seeded",
}


def call(data: Path, out: Path, *words: str) -> list[str]:
    settings = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]
    return ["compare", NAME, "--dataset_dir", str(data), "--out", str(out), *settings, *words]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return FigshareGenerator(image_size=32, slices_per_patient=2)(
        tmp_path_factory.mktemp("data") / "set", cases=18, seed=1
    )


def test_all_patients_are_tested_by_networks_that_have_not_seen_them(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(collect, "measure", lambda *arguments: effort_of(*arguments, cases=1))
    drawn_by, draw = {}, pictures._draw_by_inference

    def note_and_draw(folder, root, run, model, inputs):
        drawn_by.update(dict.fromkeys(inputs.values(), run))
        draw(folder, root, run, model, inputs)

    monkeypatch.setattr(pictures, "_draw_by_inference", note_and_draw)
    out = tmp_path / "out"
    assert main(call(data, out, "--folds", "3", "--dry_run")) == 0
    assert "fold_3 teacher: 1 epoch to train" in capsys.readouterr().out and not out.exists()
    assert main(call(data, out, "--folds", "3")) == 0

    found = Results.read(out / "results.json")
    assert (found.folds, found.seeds, found.groups.number, found.groups.cases) == (3, [0], 9, 18)
    assert [(side, own.patients) for side, own in found.data.split.items()] == [(f"fold {n}", 3) for n in (1, 2, 3)]
    assert found.tests[0].patients == 9
    assert found.configuration["folds"] == 3 and not {"split", "fractions", "fold"} & found.configuration.keys()
    tables = [read_table(out / f"fold_{n}" / "evaluation" / "distilled_student" / "cases.csv") for n in (1, 2, 3)]
    assert len({row["input"] for table in tables for row in table}) == sum(map(len, tables)) == 18
    for number, table in enumerate(tables, start=1):
        trained_on = json.loads((out / f"fold_{number}" / "model.json").read_text())["trained_on"]["patients"]
        assert trained_on and not {row["patient"] for row in table} & {*trained_on}
    assert len(drawn_by) == 2
    for image, run in drawn_by.items():
        assert image in {row["input"] for row in tables[int(run.name.removeprefix("fold_")) - 1]}

    rows = [row for table in tables for row in table]  # as one model's, not the mean of three
    right: dict[str, list[bool]] = {name: [] for name in TUMOR_CLASSES.values()}
    for row in rows:
        right[row["label"]].append(row["predicted"] == row["label"])
    score = found.models["distilled_student"].metrics["balanced_accuracy"]
    assert score.mean == pytest.approx(np.mean([np.mean(own) for own in right.values()]), abs=1e-6)
    assert score.by_seed == [score.mean] and score.std is None
    assert any("tested in one of 3 folds" in note for note in found.notes)
    assert "--folds 3" in found.commands[-1] and "--seeds" not in found.commands[-1]
    assert "1 seed, 3 folds" in (out / "report.html").read_text()

    others = tmp_path / "others.json"  # another list is tested as it stands, and held to whom a fold has learned from
    mat = sorted(str(file) for file in data.glob("*.mat") if file.stem.isdigit())
    others.write_text(json.dumps({"test": [{"image": file, "patient": f"other {file}"} for file in mat]}))
    evaluate = ["evaluate", NAME, "--run", str(out / "fold_2"), "--output", str(tmp_path / "evaluation")]
    assert main([*evaluate, "--datalist", str(others)]) == 0
    assert len(read_table(tmp_path / "evaluation" / "cases.csv")) == len(mat) == 18
    exported = ["export", NAME, str(tmp_path / "student.ts"), "--format", "torchscript", "--run", str(out / "fold_1")]
    assert main(exported) == 0  # compiled with validation cases, for which the network was placed
    capsys.readouterr()
    assert main(call(data, out, "--folds", "4")) == 2  # three folds' results are in that folder
    assert "other settings (folds)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--folds", "2"], "folds must be a number of folds from 3"),
        (["--folds", "3", "--seeds", "2"], "folds have one seed each"),
        (["--folds", "many"], "folds must be a number of folds from 3"),
    ],
)
def test_impossible_folds_are_refused(data, tmp_path, capsys, words, message):
    assert main(call(data, tmp_path / "out", *words)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_nnu_nets_folds_are_its_own(tmp_path, capsys):
    assert main(["compare", "nnunet_segmentation", "--out", str(tmp_path / "out"), "--folds", "3"]) == 2
    assert "name fold=N in the place of --folds" in capsys.readouterr().err and not (tmp_path / "out").exists()
