# SPDX-License-Identifier: Apache-2.0
"""The recipes of the students that ship."""

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

import monai_kd
from monai_kd.cli import main

WITH_RECIPE = [
    name for name in monai_kd.bundle_names() if Path(monai_kd.bundle_root(name), "configs", "shipped.json").is_file()
]
STAGES = ("teacher_training", "student_alone", "train")


@pytest.fixture(scope="module", params=WITH_RECIPE)
def recipe(request, tmp_path_factory, workflow) -> ConfigParser:
    """A bundle's recipe on a few generated images, with random weights in place of ImageNet's."""
    folder = tmp_path_factory.mktemp(request.param)
    assert main(["generate", request.param, str(folder / "data"), "--cases", "12"]) == 0
    root = Path(monai_kd.bundle_root(request.param)) / "configs"
    config = ConfigParser.load_config_files([root / "train.json", root / "shipped.json"])
    pretrained = {
        key: False
        for key, holder in (("student_pretrained", config), ("teacher_def#pretrained", config["teacher_def"]))
        if key.rpartition("#")[2] in holder
    }
    settings = {"dataset_dir": str(folder / "data"), "ckpt_dir": str(folder), "cache_rate": 0.0, "num_workers": 0}
    settings |= {"batch_size": 1, "teacher_cache": "off", "views": None, **pretrained}
    return workflow(request.param, "train.json", "shipped.json", **settings).parser


@pytest.mark.parametrize("stage", STAGES)
def test_the_learning_rate_takes_its_whole_course(recipe, stage):
    trainer, scheduler = (recipe.get_parsed_content(f"{stage}#{part}") for part in ("trainer", "scheduler"))
    assert recipe.get_parsed_content(f"{stage}#stage").trainer is trainer  # which refuses one that would not
    rates = []
    for _ in range(getattr(scheduler, "total_steps", trainer.state.max_epochs)):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    highest = recipe.get("learning_rate" if stage != STAGES[0] else "teacher_learning_rate")
    assert max(rates) == pytest.approx(highest, rel=0.05)  # of a few steps none may be the highest one
    assert rates[-1] < max(rates) / 5
