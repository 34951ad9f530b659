# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from monai.networks.nets import UNet

from monai_kd.engines import ensemble, trained_network

DEFINITION = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "strides": [2]}
IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _run(folder, width: int, patients=(), name="teacher"):
    """What a run leaves of a network."""
    folder.mkdir()
    network = UNet(2, 1, 1, [width, width], [2]).eval()
    torch.save({"model": network.state_dict()}, folder / f"{name}.pt")
    key = "teacher_def" if name == "teacher" else "network_def"
    config = {"width": width, key: {**DEFINITION, "channels": ["@width", "@width"]}}
    (folder / f"{name}.json").write_text(json.dumps({**config, "trained_on": {"patients": list(patients)}}))
    return folder / f"{name}.pt", network


def test_members_are_read_with_the_networks_that_their_runs_describe(tmp_path):
    (first, one), (second, two) = _run(tmp_path / "a", 2, ["p"]), _run(tmp_path / "b", 4, ["q"], name="model")
    made = ensemble([str(first), second, torch.nn.Identity()], features_from=1).eval()
    torch.testing.assert_close(made(IMAGE), (one(IMAGE) + two(IMAGE) + IMAGE) / 3)
    assert made.trained_on == [{"p"}, {"q"}, None] and made.names[:2] == [str(first), str(second)]
    assert made.tapped is made.networks[1]


def test_weights_alone_need_a_network(tmp_path):
    file, network = _run(tmp_path / "a", 2)
    file.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"teacher.pt: nothing beside it says which network it is of \(teacher.json\)"):
        trained_network(file)
    made = ensemble([file], default=UNet(2, 1, 1, [2, 2], [2])).eval()
    torch.testing.assert_close(made(IMAGE), network(IMAGE))
    with pytest.raises(FileNotFoundError, match="no trained network at .*none.pt"):
        ensemble([tmp_path / "none.pt"], default=network)


@pytest.mark.parametrize(
    "key, first, second",
    [
        ("class_names", ["a", "b"], ["b", "a"]),
        ("findings", ["a", "b"], ["a"]),
        ("description", {"labels": {"a": 1, "b": 2}}, {"labels": {"a": 2, "b": 1}}),
    ],
)
def test_members_of_other_classes_are_refused(key, first, second, tmp_path):
    files = []
    for name, value in (("a", first), ("b", second)):
        file, _ = _run(tmp_path / name, 2)
        told = json.loads(file.with_suffix(".json").read_text())
        file.with_suffix(".json").write_text(json.dumps({**told, key: value}))
        files.append(file)
    assert len(ensemble([files[0], files[0]]).networks) == 2
    with pytest.raises(ValueError, match="b.teacher.pt: its .* need the same ones in one order"):
        ensemble(files)
