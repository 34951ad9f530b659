# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_kd.handlers import check_layers
from monai_kd.losses import DistillationLoss, DistillationTerm
from monai_kd.networks import BundleNetwork

FEATURES = [2, 2, 2, 2, 2, 2]
DEFINITION = {
    "_target_": "BasicUNet",
    "spatial_dims": 2,
    "in_channels": "@channels",
    "out_channels": 3,
    "features": "@features",
}
IMAGES = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> BasicUNet:
    return BasicUNet(2, 1, 3, FEATURES).eval()


@pytest.fixture
def bundle(network, tmp_path) -> Path:
    """What others make: a configuration with more in it than its network, and weights."""
    root = tmp_path / "elsewhere"
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    config = {"channels": 1, "features": FEATURES, "network_def": DEFINITION}
    config |= {"imports": ["$import os"], "device": "$torch.device('cuda:7')", "network": "$@network_def.to(@device)"}
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def _change(bundle: Path, **settings) -> None:
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def test_it_is_the_trained_network_and_nothing_else_of_the_bundle_runs(bundle, network):
    made = BundleNetwork(bundle).eval()
    torch.testing.assert_close(made(IMAGES), network(IMAGES))
    torch.testing.assert_close(BundleNetwork(bundle, channels=[2, 0]).eval()(IMAGES), network(IMAGES)[:, [2, 0]])
    three = IMAGES.repeat(1, 3, 1, 1) * torch.tensor([0.0, 1, 2]).reshape(3, 1, 1)
    torch.testing.assert_close(BundleNetwork(bundle, input_channels=[1]).eval()(three), network(IMAGES))


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_may_be_nested_and_the_definition_in_train_json(key, bundle, network):
    torch.save({key: network.state_dict(), "epoch": 3}, bundle / "models" / "model.pt")
    (bundle / "configs" / "inference.json").rename(bundle / "configs" / "train.json")
    torch.testing.assert_close(BundleNetwork(bundle).eval()(IMAGES), network(IMAGES))


def test_its_layers_have_their_own_names(bundle, network):
    loss = DistillationLoss({"hint": DistillationTerm(torch.nn.MSELoss(), "upcat_1", "upcat_1")})
    check_layers(network, BundleNetwork(bundle), loss)


@pytest.mark.parametrize(
    "settings",
    [
        {"network_def": {**DEFINITION, "out_channels": "$1 + 2"}},
        {"network_def": {**DEFINITION, "_target_": "os.system"}},
        {"channels": "$len('a')"},
        {"network_def": {"_target_": "torch.load", "f": "x.pt"}},
        {"network_def": {"_target_": "$exec('open(1)')"}},
        {"network_def": {"_target_": "@name"}, "name": "os.system"},
        {"network_def": {"_target_": "%name"}, "name": "os.system"},
        {"network_def": {**DEFINITION, "in_channels": "%/tmp/evil.JSON#y"}},
    ],
)
def test_code_needs_trust(settings, bundle, network):
    _change(bundle, **settings)
    with pytest.raises(ValueError, match="making its network would run code .*: look at it, and say trust=true"):
        BundleNetwork(bundle)


def test_trusted_code_runs(bundle, network):
    _change(bundle, channels="$len(os.sep)")
    torch.testing.assert_close(BundleNetwork(bundle, trust=True).eval()(IMAGES), network(IMAGES))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_torchscript_file_stands_in_for_weights(bundle, network):
    (bundle / "models" / "model.pt").unlink()
    torch.jit.save(torch.jit.trace(network, IMAGES), bundle / "models" / "model.ts")
    with pytest.raises(ValueError, match="model.ts is TorchScript, which is code: say trust=true"):
        BundleNetwork(bundle)
    torch.testing.assert_close(BundleNetwork(bundle, trust=True).eval()(IMAGES), network(IMAGES))


def test_what_is_missing_or_wrong_is_named(bundle, tmp_path):
    with pytest.raises(FileNotFoundError, match="none: there is no MONAI bundle"):
        BundleNetwork(tmp_path / "none")
    with pytest.raises(ValueError, match="channels 0 to 2, and not all of"):
        BundleNetwork(bundle, channels=[3])(IMAGES)
    with pytest.raises(ValueError, match=r"cannot be applied to images \(2, 3, 32, 32\).*input_channels"):
        BundleNetwork(bundle)(IMAGES.repeat(1, 3, 1, 1))
    with pytest.raises(ValueError, match="is a int and no network"):
        BundleNetwork(bundle, network_id="channels")
    _change(bundle, features=[4, 2, 2, 2, 2, 2])
    with pytest.raises(ValueError, match="model.pt: these weights belong to another network than network_def"):
        BundleNetwork(bundle)
    (bundle / "models" / "model.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="model.pt: cannot be read as weights alone"):
        BundleNetwork(bundle)
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match="no network to load"):
        BundleNetwork(bundle)
