# SPDX-License-Identifier: Apache-2.0
"""Several folds as one teacher: averages at every head, and who may not teach."""

from __future__ import annotations

import logging

import pytest
import torch

from monai_kd.networks import FeatureTap
from monai_kd.nnunet import NnunetEnsemble, NnunetNetwork, head_layers, nnunet_teacher, stage_layers, take_members

pytestmark = pytest.mark.nnunet
MEMBERS = {"0": ["anna", "bert"], "1": ["bert", "cleo"], "2": ["anna", "cleo"]}
_OTHER_BATCH = {"atol": 1e-4, "rtol": 1e-4}  # PyTorch convolves one image otherwise than two


def _images(number: int = 2) -> torch.Tensor:
    return torch.randn(number, 2, 8, 32, 32, generator=torch.Generator().manual_seed(1))


def _teacher(plans, description, **settings) -> NnunetEnsemble:
    torch.manual_seed(0)
    return NnunetEnsemble(plans, description, 4, MEMBERS, **settings).eval()


@torch.no_grad()
def test_every_head_is_the_average_of_the_folds(plans, description):
    teacher, images = _teacher(plans, description), _images()
    layers = [*head_layers(plans, MEMBERS), *stage_layers(plans, MEMBERS)]
    tap = FeatureTap(teacher.tapped, layers)
    answer, tapped = teacher(images), tap.pop()
    wanted = [sum(heads) / 3 for heads in zip(*(network.heads(images) for network in teacher.networks))]
    torch.testing.assert_close(answer, wanted[0])
    assert len(wanted) == 2
    for layer, head in zip(head_layers(plans, MEMBERS), wanted):
        torch.testing.assert_close(tapped[layer], head)
    first = FeatureTap(teacher.networks[0], stage_layers(plans))
    teacher.networks[0](images)
    for layer, feature in zip(stage_layers(plans, MEMBERS), first.pop().values()):
        torch.testing.assert_close(tapped[layer], feature)


@torch.no_grad()
def test_out_of_fold_a_patient_is_answered_for_by_the_fold_that_held_it_out_and_a_stranger_by_all(plans, description):
    teacher, images = _teacher(plans, description, out_of_fold=True), _images()
    tap = FeatureTap(teacher.tapped, head_layers(plans, MEMBERS))
    teacher(images, teacher.members_for(["cleo", "anna"]))
    for head, first, second in zip(tap.pop().values(), teacher.networks[0].heads(images), _heads(teacher, 1, images)):
        torch.testing.assert_close(head, torch.stack([first[0], second[1]]), **_OTHER_BATCH)
    wanted = sum(network(images) for network in teacher.networks) / 3
    torch.testing.assert_close(teacher(images, teacher.members_for(["dora", "dora"])), wanted, **_OTHER_BATCH)
    torch.testing.assert_close(teacher(images), wanted)


def _heads(teacher: NnunetEnsemble, number: int, images: torch.Tensor) -> list[torch.Tensor]:
    return teacher.networks[number].heads(images)  # type: ignore[operator]


def test_one_fold_is_a_plain_network(plans, description):
    assert type(nnunet_teacher(plans, description, 4)) is NnunetNetwork


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"teacher_fold": 0, "out_of_fold": True}, "out_of_fold needs several folds that teach, got teacher_fold=0"),
        ({"teacher_folder": None}, "give teacher_folder=FOLDER"),
        ({"teacher_fold": [1, 1]}, r"folds that differ, got \[1, 1\]"),
        ({"out_of_fold": True, "hint_weight": 0.1}, "set hint_weight=0"),
        ({"teacher_fold": [1, 2]}, r"none of the folds \[1, 2\] may teach fold 0: .*give fold=all"),
        ({"teacher_fold": [0, 7]}, "fold must be from 0 to 2"),
    ],
)
def test_folds_that_cannot_teach_are_refused_with_the_cure(prepared, settings, words):
    given = {"teacher_fold": [0, 1, 2], "fold": 0, "teacher_folder": "results", **settings}
    with pytest.raises(ValueError, match=words):
        take_members(dataset_dir=prepared.raw, preprocessed_dir=prepared.preprocessed, **given)


def test_folds_that_were_trained_on_who_validates_are_left_out_by_name(prepared, caplog):
    with caplog.at_level(logging.WARNING, "monai_kd"):
        take_members([0, 1, 2], 0, prepared.raw, prepared.preprocessed, "results")
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        f"fold {number} does not teach: it was trained on SIM0001" for number in (1, 2)
    ]
    caplog.clear()
    take_members([0, 1, 2], "all", prepared.raw, prepared.preprocessed, "results")
    take_members([0, 1, 2], 0, prepared.raw, prepared.preprocessed, "results", out_of_fold=True)
    assert not caplog.records
