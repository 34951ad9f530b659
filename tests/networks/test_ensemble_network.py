# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.handlers import check_layers
from monai_kd.losses import DistillationLoss, DistillationTerm
from monai_kd.networks import EnsembleNetwork


class Constant(nn.Module):
    """Says the same of every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.asked: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(x))
        return self.logits.expand(len(x), -1)


IMAGES = torch.zeros(3, 1)


def test_the_mean_is_that_of_logits_or_of_probabilities():
    first, second = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([4.0, 0.0, 1.0])
    members = [Constant(*first), Constant(*second)]
    given = EnsembleNetwork(members)(IMAGES)
    torch.testing.assert_close(given, ((first + second) / 2).expand(3, 3))
    for average, function in (("sigmoid", torch.sigmoid), ("softmax", lambda x: x.softmax(-1))):
        answer = function(EnsembleNetwork(members, average)(IMAGES))
        torch.testing.assert_close(answer, ((function(first) + function(second)) / 2).expand(3, 3))


def test_three_are_weighed_alike():
    answer = EnsembleNetwork([Constant(0.0), Constant(3.0), Constant(6.0)])(IMAGES)
    assert answer.flatten().tolist() == [3, 3, 3]


def test_out_of_fold_only_those_answer_who_have_not_seen_the_patient():
    members = [Constant(1.0), Constant(2.0), Constant(6.0)]
    network = EnsembleNetwork(members, trained_on=[{"a", "b"}, {"b", "c"}, {"a", "c"}], out_of_fold=True)
    answer = network(torch.zeros(4, 1), network.members_for(["a", "b", "c", "new"]))
    assert answer.flatten().tolist() == [2, 6, 1, 3]
    assert [member.asked for member in members] == [[2], [2], [2]]
    network.trained_on[1] = frozenset("abc")
    with pytest.raises(ValueError, match="all 3 members of the ensemble were trained on z, so none can answer"):
        EnsembleNetwork(members, trained_on=[{"z"}] * 3, out_of_fold=True).members_for(["z"])
    with pytest.raises(ValueError, match="out_of_fold needs to know .* of member 1 nothing is known"):
        EnsembleNetwork(members, trained_on=[{"z"}, None, {"z"}], out_of_fold=True)


def test_whom_it_has_learned_of():
    members, known = [Constant(1.0), Constant(2.0)], [{"a", "b"}, {"b", "c"}]
    assert EnsembleNetwork(members, trained_on=known).patients == {"a", "b", "c"}
    assert EnsembleNetwork(members, trained_on=known, out_of_fold=True).patients == {"b"}
    assert EnsembleNetwork(members, trained_on=[None, {"c"}]).patients == {"c"}
    assert EnsembleNetwork(members).patients == set()


def test_features_are_those_of_one_member():
    one, other = nn.Sequential(nn.Linear(1, 2)), nn.Sequential(nn.Linear(1, 2), nn.ReLU())
    loss = DistillationLoss({"hint": DistillationTerm(nn.MSELoss(), "0", "1")})
    check_layers(one, EnsembleNetwork([one, other], features_from=1), loss)
    with pytest.raises(ValueError, match="no layer '1'"):
        check_layers(one, EnsembleNetwork([one, other]), loss)
    secret = EnsembleNetwork([one, other], trained_on=[{"a"}, {"b"}], out_of_fold=True)
    with pytest.raises(ValueError, match="out_of_fold has no features"):
        check_layers(one, secret, loss)


def test_members_of_other_classes_are_named():
    network = EnsembleNetwork([Constant(0.0), Constant(0.0, 1.0)], names=["a.pt", "b.pt"])
    with pytest.raises(ValueError, match=r"b.pt gives \(2,\) .*, where a.pt gives \(1,\): .* the same classes"):
        network(IMAGES)


def test_wrong_settings_are_refused():
    for arguments, message in (
        ({"networks": []}, "needs one network or more"),
        ({"average": "mean"}, "unknown average 'mean'"),
        ({"features_from": 1}, "features_from must be from 0 to 0, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            EnsembleNetwork(**{"networks": [Constant(0.0)], **arguments})
