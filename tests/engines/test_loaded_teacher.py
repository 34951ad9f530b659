# SPDX-License-Identifier: Apache-2.0
"""With stages that are no more than their checkpoint and their handlers."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.handlers import CheckpointLoader
from torch import nn

from monai_kd.engines.loaded_teacher import check_whom_it_has_seen, load_what_is_there
from monai_kd.handlers import DistillationHandler
from monai_kd.losses import DistillationLoss, DistillationTerm


def _stage(folder, *handlers, name="student"):
    trainer = SimpleNamespace(state=SimpleNamespace(rank=0))
    files = [Path(handler.load_path) for handler in handlers if isinstance(handler, CheckpointLoader)]
    lists = {"training": [{"patient": "a"}], "test": [{"patient": "z"}]}
    parts = {"handlers": handlers, "starts_from": files, "datalist": lists, "trainer": trainer}
    return SimpleNamespace(name=name, checkpoint=folder / f"{name}.pt", **parts)


def _loader(folder, network):
    loader = CheckpointLoader(str(folder / "teacher.pt"), {"model": network})
    loader.attach(Engine(lambda engine, batch: None))
    return loader


def test_weights_that_do_not_fit_are_found_before_anything_trains(tmp_path):
    torch.save(nn.Conv1d(1, 2, 1).state_dict(), tmp_path / "teacher.pt")
    stage = _stage(tmp_path, None, _loader(tmp_path, nn.Conv1d(1, 1, 1)))
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        load_what_is_there(stage, [stage])
    load_what_is_there(stage, [_stage(tmp_path, name="teacher"), stage])  # which will write others


def test_weights_that_are_not_there_yet_are_not_missed(tmp_path):
    load_what_is_there(_stage(tmp_path, _loader(tmp_path, nn.Conv1d(1, 1, 1))), [])


@pytest.mark.parametrize(
    "file, kept, trains, is_said",
    [
        ("teacher.pt", None, False, True),
        ("teacher.pt", {"trained_on": {"patients": ["a"]}}, False, False),
        ("teacher.pt", {"image_size": 3}, False, True),
        ("teacher.pt", None, True, False),
        ("none.pt", None, False, False),
        (None, None, False, True),
    ],
)
def test_a_teacher_of_whom_nothing_is_known_is_said(file, kept, trains, is_said, tmp_path, caplog):
    torch.save({}, tmp_path / "teacher.pt")
    if kept is not None:
        (tmp_path / "teacher.json").write_text(json.dumps(kept))
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    handlers = [DistillationHandler(nn.Conv1d(1, 1, 1), loss)]
    if file is not None:
        handlers.append(CheckpointLoader(str(tmp_path / file), {"model": nn.Conv1d(1, 1, 1)}))
    waiting = [_stage(tmp_path, name="teacher" if trains else "student")]
    settings = {"teacher_checkpoint": file and str(tmp_path / file), "run": "$ask()"}
    asked = {"ask": lambda: check_whom_it_has_seen(_stage(tmp_path, *handlers), waiting)}
    with caplog.at_level(logging.WARNING, "monai_kd"):
        ConfigParser(settings, globals=asked).get_parsed_content("run")
    said = [text for text in caplog.messages if "nothing says who it was trained on" in text]
    assert len(said) == is_said and all("none of them may validate or test here" in text for text in said)


def test_weights_to_go_on_with_are_asked_for_as_a_teacher_is(tmp_path, caplog):
    stage = _stage(tmp_path, CheckpointLoader(str(tmp_path / "teacher.pt"), {"model": nn.Conv1d(1, 1, 1)}))
    torch.save({}, tmp_path / "teacher.pt")
    check_whom_it_has_seen(stage, [stage])
    assert caplog.messages == [
        f"{tmp_path / 'teacher.pt'}: nothing says who it was trained on, as teacher.json beside it would; none of them "
        "may validate or test here"
    ]
    (tmp_path / "teacher.json").write_text(json.dumps({"trained_on": {"patients": ["a", "z"]}}))
    with pytest.raises(ValueError, match="teacher.pt was trained on z, who validate or test here"):
        check_whom_it_has_seen(stage, [stage])
    check_whom_it_has_seen(stage, [_stage(tmp_path, name="teacher"), stage])  # which will have learned of others
