# SPDX-License-Identifier: Apache-2.0
import json

import torch
from monai.bundle import ConfigParser

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.command_line.publishing import _model_card, halve


def test_norms_and_biases_stay_in_single_precision(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    halved = torch.load(halve(tmp_path / "model.pt"), weights_only=True)
    assert {name: value.dtype for name, value in halved.items()} == {
        "0.weight": torch.float16,
        "0.bias": torch.float32,
        "1.weight": torch.float32,
        "1.bias": torch.float32,
        "1.running_mean": torch.float32,
        "1.running_var": torch.float32,
        "1.num_batches_tracked": torch.int64,
    }
    torch.testing.assert_close(halved["0.weight"].float(), network[0].weight.detach(), rtol=1e-3, atol=1e-4)


def test_the_card_of_a_student_says_what_made_its_teacher(tmp_path, monkeypatch):
    """Not by the call that found the teacher trained already."""
    bundle = Bundle("mri_reconstruction")
    parser = ConfigParser(bundle.config("train.json"))
    for _ in range(2):
        parser.resolve_macro_and_relative_ids()
    teacher = {**parser.get(), "dataset_dir": "/data", "teacher_epochs": 1}
    student = {**teacher, "teacher_epochs": 77, "teacher_learning_rate": 0.5, "seed": 3, "learning_rate": 0.25}
    teacher["distillation_checks"] = []  # as `--stages teacher` keeps it
    for name, config in (("teacher", teacher), ("model", student)):
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    monkeypatch.setattr(monai_kd.engines, "tabulate_run", lambda run, *_, **__: (run / "table.md").write_text("| t |"))
    card = _model_card(bundle, tmp_path, student, "Data.", {"parameters": 7})
    own = "learning_rate=0.25 seed=3 teacher_epochs=77 teacher_learning_rate=0.5"
    commands = card.partition("```bash\n")[2].partition("\n```")[0].splitlines()
    begin = ["python", "-m", "monai_kd", "train", "mri_reconstruction", "--dataset_dir", "DATA"]
    assert [command.split()[: len(begin)] for command in commands] == [begin, begin]
    words = [sorted(command.split()[len(begin) :]) for command in commands]
    assert words == [["--stages", "teacher", "teacher_epochs=1"], own.split()]
    said = "`seed`: `0`, `teacher_epochs`: `1`, `teacher_learning_rate`: `0.001`"
    assert f"The teacher was trained with other settings: {said}." in card
    same = tmp_path / "teacher.json"
    same.write_text(json.dumps(student))
    card = _model_card(bundle, tmp_path, student, "Data.", {"parameters": 7})
    assert "other settings" not in card and "--stages" not in card
