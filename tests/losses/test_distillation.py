# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.losses import (
    AttentionTransferLoss,
    DistillationLoss,
    DistillationTerm,
    FlowOfSolutionLoss,
    HintLoss,
    LayerwiseLoss,
    PooledFeatureLoss,
    SimilarityPreservingLoss,
)
from monai_kd.networks import MeanOfLayers, SelectChannels


def _features(**tensors):
    return {name.replace("prediction", ""): tensor for name, tensor in tensors.items()}


def test_total_is_the_weighted_sum_of_task_and_terms():
    loss = DistillationLoss(
        {
            "logits": DistillationTerm(nn.MSELoss(), weight=0.5),
            "hint": DistillationTerm(nn.L1Loss(), "block", "deep.block", weight=3.0),
        },
        task_weight=0.1,
    )
    student = _features(prediction=torch.tensor([[1.0, 2.0]]), block=torch.tensor([[1.0]]))
    teacher = {"": torch.tensor([[1.0, 4.0]]), "deep.block": torch.tensor([[-1.0]])}
    total, values = loss(torch.tensor(7.0), student, teacher)
    assert values["logits"] == 2.0 and values["hint"] == 2.0
    assert total == pytest.approx(0.1 * 7 + 0.5 * 2 + 3 * 2)


def test_values_are_detached_and_the_total_is_not():
    prediction = torch.ones(1, 2, requires_grad=True)
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    total, values = loss(prediction.sum(), {"": prediction}, {"": torch.zeros(1, 2)})
    assert total.requires_grad and not values["logits"].requires_grad


def test_a_list_of_layers_gives_the_loss_a_list():
    class Sizes(nn.Module):
        def forward(self, student, teacher):
            return torch.tensor(float(10 * len(student) + len(teacher)))

    loss = DistillationLoss({"flow": DistillationTerm(Sizes(), ["a", "b"], ["a", "b", "c"])})
    features = {name: torch.zeros(1) for name in ("", "a", "b", "c")}
    assert loss(torch.tensor(0.0), features, features)[1]["flow"] == 23


def test_projectors_apply_to_their_own_side():
    double, negate = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        double.weight.fill_(2.0)
        negate.weight.fill_(-1.0)

    class Difference(nn.Module):
        def forward(self, student, teacher):
            return (student - teacher).sum()

    term = DistillationTerm(Difference(), student_projector=double, teacher_projector=negate)
    assert term({"": torch.tensor([[3.0]])}, {"": torch.tensor([[5.0]])}) == 2 * 3 + 5
    parameters = list(DistillationLoss({"t": term}).parameters())
    assert len(parameters) == 2 and any(p is negate.weight for p in parameters)


def test_a_term_of_weight_zero_is_not_computed():
    class Forbidden(nn.Module):
        def forward(self, student, teacher):
            raise AssertionError("a term of weight 0 was computed")

    loss = DistillationLoss({"off": DistillationTerm(Forbidden(), "nowhere", "nowhere", weight=0)})
    task = torch.tensor(0.123456789)
    total, values = loss(task, {}, {})
    assert torch.equal(total, task) and values == {}
    assert loss.student_layers() == [] and loss.teacher_layers() == []


def test_a_task_of_weight_zero_may_be_nan():
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())}, task_weight=0)
    total, _ = loss(torch.tensor(float("nan")), {"": torch.ones(1)}, {"": torch.zeros(1)})
    assert total == 1


def test_layers_are_named_once_and_without_the_prediction():
    loss = DistillationLoss(
        {
            "logits": DistillationTerm(nn.MSELoss()),
            "one": DistillationTerm(nn.MSELoss(), "a", "t"),
            "two": DistillationTerm(nn.MSELoss(), ["b", "a"], ["t", "u"]),
        }
    )
    assert loss.student_layers() == ["a", "b"] and loss.teacher_layers() == ["t", "u"]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        DistillationTerm(nn.MSELoss(), weight=-1)
    with pytest.raises(ValueError, match="task_weight must be 0 or more"):
        DistillationLoss({}, task_weight=-0.5)
    with pytest.raises(TypeError, match="'logits' must be a DistillationTerm, got MSELoss"):
        DistillationLoss({"logits": nn.MSELoss()})


KEPT = {  # term, and the shapes of what is kept of layers (3, 4, 6, 6)
    "prediction": (DistillationTerm(nn.MSELoss()), [(3, 4, 6, 6)]),
    "hint": (DistillationTerm(HintLoss(), "a", "b", teacher_projector=nn.Conv2d(4, 4, 1)), [(3, 4, 6, 6)]),
    "pooled": (DistillationTerm(PooledFeatureLoss(2), "a", "b"), [(3, 4, 2, 2)]),
    "pooled, projected": (
        DistillationTerm(PooledFeatureLoss(2), "a", "b", teacher_projector=nn.Conv2d(4, 4, 1)),
        [(3, 4, 2, 2)],
    ),
    "pooled, filtered": (
        DistillationTerm(PooledFeatureLoss(2), "a", "b", teacher_projector=nn.Conv2d(4, 4, 3, padding=1)),
        [(3, 4, 6, 6)],
    ),
    "attention": (DistillationTerm(AttentionTransferLoss(3), "a", "b"), [(3, 1, 6, 6)]),
    "attention, projected": (
        DistillationTerm(AttentionTransferLoss(), "a", "b", teacher_projector=nn.Conv2d(4, 2, 1)),
        [(3, 4, 6, 6)],
    ),
    "attentions": (
        DistillationTerm(LayerwiseLoss(AttentionTransferLoss()), ["a", "b"], ["b", "a"]),
        [(3, 1, 6, 6), (3, 1, 6, 6)],
    ),
    "hints": (DistillationTerm(LayerwiseLoss(HintLoss()), ["a", "b"], ["b", "a"]), [(3, 4, 6, 6), (3, 4, 6, 6)]),
    "flow": (
        DistillationTerm(LayerwiseLoss(FlowOfSolutionLoss(), 2), ["a", "b"], ["b", "a"]),
        [(3, 4, 6, 6), (3, 4, 6, 6)],
    ),
    "mean": (DistillationTerm(HintLoss(), "a", ["a", "b"], teacher_projector=MeanOfLayers()), [(3, 4, 6, 6)]),
    "mean, pooled": (
        DistillationTerm(PooledFeatureLoss(3), "a", ["a", "b"], teacher_projector=MeanOfLayers()),
        [(3, 4, 3, 3)],
    ),
    "channels": (
        DistillationTerm(nn.MSELoss(), "a", "b", SelectChannels([1]), SelectChannels([3])),
        [(3, 1, 6, 6)],
    ),
    "whole batch": (DistillationTerm(SimilarityPreservingLoss(), "a", "b"), [(3, 4, 6, 6)]),
}


def _two_layers(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 4, 6, 6, generator=generator) for name in ("", "a", "b")}


@pytest.mark.parametrize("case", KEPT)
def test_a_term_has_the_same_value_with_what_is_kept_of_the_teacher(case):
    term, shapes = KEPT[case]
    student, teacher = _two_layers(0), _two_layers(1)
    loss = DistillationLoss({"term": term})
    kept = loss.keep(teacher)
    assert [tuple(tensor.shape) for tensor in kept.values()] == shapes
    (_, expected), (total, value) = (loss(torch.tensor(0.0), student, answer) for answer in (teacher, kept))
    torch.testing.assert_close(value["term"], expected["term"], rtol=1e-6, atol=0)
    assert float(value["term"]) > 0
    if any(True for _ in term.parameters()):
        total.backward()
        assert all(parameter.grad is not None for parameter in term.parameters())


def test_what_several_terms_need_is_kept_once_and_what_they_need_differently_each_by_its_name():
    terms = {
        "soft": DistillationTerm(nn.MSELoss()),
        "sharp": DistillationTerm(nn.L1Loss()),
        "four": DistillationTerm(PooledFeatureLoss(2), "a", "a"),
        "nine": DistillationTerm(PooledFeatureLoss(3), "a", "a"),
        "off": DistillationTerm(nn.L1Loss(), "b", "b", weight=0),
    }
    loss = DistillationLoss(terms)
    kept = loss.keep(_two_layers(0))
    assert sorted(kept) == loss.kept_names() and len(kept) == 3
    assert {tuple(tensor.shape[2:]) for tensor in kept.values()} == {(6, 6), (2, 2), (3, 3)}


def test_a_kept_answer_to_another_question_is_refused():
    kept = DistillationLoss({"a": DistillationTerm(PooledFeatureLoss(2), "a", "a")}).keep(_two_layers(0))
    other = DistillationLoss({"a": DistillationTerm(PooledFeatureLoss(3), "a", "a")})
    with pytest.raises(ValueError, match=r"no 'a' \| PooledFeatureLoss\(output_size=3\), but only.*output_size=2"):
        other(torch.tensor(0.0), _two_layers(1), kept)
