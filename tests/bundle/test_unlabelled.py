# SPDX-License-Identifier: Apache-2.0
"""Images without labels, in the shipped JSON of every bundle."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from monai_kd.cli import main
from monai_kd.data import CineGenerator, FigshareGenerator, HeadGenerator, VesselGenerator, XrayGenerator
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem

from . import test_brain_extraction as heads
from . import test_brain_tumor_classification as classes
from . import test_brain_tumor_segmentation as tumors
from . import test_chest_xray_classification as xrays
from . import test_vessel_segmentation as vessels
from .mri import RECONSTRUCTION, SIZE, SUPER_RESOLUTION
from .runs import as_words, read_rows

GENERATED: dict[str, tuple[Callable, int]] = {
    heads.NAME: (HeadGenerator(shape=(40, 40, 40), contrasts=("T1",)), 6),
    classes.NAME: (FigshareGenerator(image_size=48, slices_per_patient=2), 24),
    tumors.NAME: (FigshareGenerator(image_size=48, slices_per_patient=2), 24),
    xrays.NAME: (XrayGenerator(image_size=48), 24),
    vessels.NAME: (VesselGenerator(shape=(32, 24, 16)), 6),
    RECONSTRUCTION.NAME: (CineGenerator(image_size=SIZE, frames_per_patient=2), 10),
    SUPER_RESOLUTION.NAME: (CineGenerator(image_size=SIZE, frames_per_patient=2), 10),
}
BUNDLES = [heads, classes, tumors, xrays, vessels, RECONSTRUCTION, SUPER_RESOLUTION]


@pytest.fixture(params=BUNDLES, ids=lambda bundle: bundle.NAME)
def bundle(request) -> SimpleNamespace:
    return request.param


@pytest.fixture
def folders(bundle, tmp_path) -> tuple[Path, Path]:
    """A data set, and images of other people without a label: masks are taken away, and a table has no row of them."""
    generate, cases = GENERATED[bundle.NAME]
    generate(tmp_path / "set", cases=cases, seed=1)
    others = generate(tmp_path / "others", cases=4, seed=2)
    for path in [*others.rglob("*mask*"), *others.rglob("labels"), *others.rglob("annotations"), *others.glob("*.csv")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    images = [path for path in sorted(others.rglob("*")) if path.name.lower().endswith(IMAGE_SUFFIXES)]
    rows = [f"{image_stem(path)},other {number // 2}" for number, path in enumerate(images)]
    (others / "index.csv").write_text("\n".join(["id,patient", *rows]))
    return tmp_path / "set", others


def test_a_distillation_learns_from_them_and_the_student_alone_trains_as_long_without(bundle, folders, tmp_path):
    data, others = folders
    tiny = {**bundle.TINY, "max_epochs": 1, "teacher_epochs": 1, "unlabelled_share": 0.6, "views": 2}
    words = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), f"unlabelled_dir={others}"]
    stages = ["--stages", "teacher,student_alone,distill"]
    assert main(["train", bundle.NAME, *words, *stages, *as_words(**tiny)]) == 0
    steps = {
        stage: int(read_rows(tmp_path / "run" / f"{stage}.csv")[0]["iterations"])
        for stage in ("teacher", "student_alone", "distillation")
    }
    assert steps["teacher"] < steps["student_alone"] == steps["distillation"]
    seen = [json.loads((tmp_path / "run" / f"{name}.json").read_text())["trained_on"] for name in ("teacher", "model")]
    assert not any(name.startswith("other ") for name in seen[0]["patients"])
    assert {"other 0", *seen[0]["patients"]} <= set(seen[1]["patients"])


def test_a_patient_who_tests_is_refused_before_anything_is_trained(bundle, folders, tmp_path, capsys):
    data, _ = folders
    words = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), f"unlabelled_dir={data}"]
    assert main(["train", bundle.NAME, *words, *as_words(**bundle.TINY)]) == 2
    error = capsys.readouterr().err
    assert f"unlabelled_dir={data}" in error and "take its images out of this folder" in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()
