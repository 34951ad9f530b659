# SPDX-License-Identifier: Apache-2.0
"""What MONAI's model zoo checks of a bundle before it takes it, on a bundle that was moved, and what its users do then.

The zoo's own checks fetch the schema and the versions that are published already; here the schema is written down.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.properties import InferProperties, MetaProperties
from PIL import Image

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.command_line.publishing import halve

# MONAI tells everybody that a configuration is code, and that nobody vouches for the schema that is there.
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file", "ignore:No hash value provided")

SMALLEST = "mri_super_resolution"
VOLUMES = ("brain_extraction", "vessel_segmentation")
TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors")
TENSOR = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "format": {"type": "string"},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
}
SIDE = {"type": "object", "additionalProperties": TENSOR, "minProperties": 1}
SCHEMA = {
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in (*TEXTS, "copyright", "data_source", "data_type", "intended_use")},
        **{f"{kind}_classes": {"type": "string"} for kind in ("image", "label", "pred")},
        **{key: {"type": "object"} for key in ("changelog", "required_packages_version", "eval_metrics")},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "properties": {"inputs": SIDE, "outputs": SIDE},
            "required": ["inputs", "outputs"],
        },
    },
    "required": [*TEXTS, "copyright", "required_packages_version", "network_data_format"],
}
"""MONAI's metadata by its specification of bundles."""

CASES = [(name, "made up") for name in monai_kd.bundle_names()]
CASES += [(name, "shipped") for name in monai_kd.bundle_names() if Path(Bundle(name).root, "models/model.pt").is_file()]


@pytest.fixture(params=CASES, ids=[" ".join(case) for case in CASES])
def moved(request, tmp_path) -> Path:
    """A bundle in the zoo's folder, with its weights or, as the zoo has them for bundles without, with made up ones."""
    name, weights = request.param
    left_out = shutil.ignore_patterns("runs", "data", *([] if weights == "shipped" else ["models"]))
    folder = Path(shutil.copytree(Bundle(name).root, tmp_path / "models" / name, ignore=left_out))
    if weights == "made up":
        parser = ConfigParser()
        parser.read_config(str(folder / "configs" / "inference.json"))
        torch.manual_seed(1)
        (folder / "models").mkdir()
        whole = folder / "models" / "model.pt"
        torch.save(parser.get_parsed_content("network_def").state_dict(), whole)
        halve(whole).replace(whole)  # as `publish` does with large ones
    return folder


def _files(folder: Path) -> dict[str, str]:
    configs = folder / "configs"
    return {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}


def test_the_zoo_takes_it(moved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt"):
        assert (moved / name).is_file(), name
    metadata = json.loads((moved / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    schema = moved / "eval" / "schema.json"
    schema.parent.mkdir()
    schema.write_text(json.dumps(SCHEMA))
    monai.bundle.verify_metadata(meta_file=_files(moved)["meta_file"], filepath=str(schema))

    workflow = monai.bundle.create_workflow(
        workflow_type="inference",
        bundle_root=str(moved),
        logging_file=str(moved / "configs" / "logging.conf"),
        **_files(moved),
    )
    workflow.properties = {**MetaProperties, **InferProperties}
    assert not workflow.check_properties()
    workflow.finalize()

    monai.bundle.verify_net_in_out(net_id="network_def", bundle_root=str(moved), device="cpu", **_files(moved))
    written = moved / "models" / "verify_model.ts"
    weights = str(moved / "models" / "model.pt")
    monai.bundle.ckpt_export(
        net_id="network_def", filepath=str(written), ckpt_file=weights, bundle_root=str(moved), **_files(moved)
    )
    kept, exported = torch.load(weights, weights_only=True), torch.jit.load(written).state_dict()
    assert any(not torch.equal(value, torch.zeros_like(value)) for value in kept.values())
    if not exported.keys() <= kept.keys():  # a network in a wrapper has other names there, in the same order
        kept = dict(zip(exported, kept.values(), strict=True))
    assert all(torch.equal(value, kept[key].to(value.dtype)) for key, value in exported.items())


@pytest.mark.parametrize("name", monai_kd.bundle_names())
def test_ids_have_the_names_that_the_zoo_asks_for(name):
    """Of its CONTRIBUTING.md, beside MONAI's properties; what it asks for where it is used is not asked of all."""
    bundle = Bundle(name)
    inference, train = (ConfigParser(bundle.config(f"{file}.json")) for file in ("inference", "train"))
    for key in ("bundle_root", "device", "network_def", "inferer", "output_dir", "preprocessing", "postprocessing"):
        assert key in inference, key
    wanted = ["bundle_root", "device", "dataset_dir", "train#trainer", "train#trainer#max_epochs", "train#dataset"]
    wanted += ["train#dataset#data", "train#handlers", "train#inferer", "val_interval"]
    wanted += ["validate#evaluator", "validate#handlers", "validate#dataset", "validate#dataset#data"]
    wanted += ["validate#preprocessing", "validate#inferer", "validate#key_metric"]
    train.resolve_macro_and_relative_ids()
    assert [key for key in wanted if key not in train] == []
    assert bundle.metadata["name"] and bundle.metadata["changelog"][bundle.metadata["version"]]
    largest = max(path.stat().st_size for path in bundle.root.rglob("*") if "runs" not in path.parts and path.is_file())
    assert largest <= 25_000_000


@pytest.mark.parametrize("name", monai_kd.bundle_names())
def test_it_names_the_packages_that_it_needs(name):
    metadata = Bundle(name).metadata
    wanted = metadata["required_packages_version"]
    assert wanted["monai_kd"] == monai_kd.__version__
    pinned = dict(
        line.split("==")
        for line in (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    of_torch = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    for package, version in {**wanted, **of_torch, "numpy": metadata["numpy_version"]}.items():
        assert package == "monai_kd" or pinned[package] == version, package


def _images(name: str, folder: Path) -> Path:
    """An image that the bundle takes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    if name == "nnunet_segmentation":  # a file for each of its channels
        for channel in range(2):
            volume = nib.Nifti1Image(rng.random((32, 34, 33), np.float32), np.diag([2.0, 2, 2, 1]))
            nib.save(volume, folder / f"a_{channel:04}.nii.gz")
    elif name in VOLUMES:
        nib.save(nib.Nifti1Image(rng.random((32, 34, 33), np.float32), np.diag([2.0, 2, 2, 1])), folder / "a.nii.gz")
    else:
        Image.fromarray(rng.integers(0, 255, (60, 64), dtype=np.uint8)).save(folder / "a.png")
    return folder


def _infer(moved: Path, images: Path, *overlays: str, **settings: str) -> Path:
    """By MONAI's own command, in this process; the folder that the bundle writes to."""
    configs = [str(moved / "configs" / name) for name in ("inference.json", *overlays)]
    monai.bundle.run(
        config_file=configs,
        meta_file=str(moved / "configs" / "metadata.json"),
        logging_file=str(moved / "configs" / "logging.conf"),
        workflow_type="inference",
        dataset_dir=str(images),
        device="cpu",
        **settings,
    )
    return moved / "runs" / "inference"


def _output(folder: Path, postfix: str = "pred") -> np.ndarray:
    """What was written of the one image, as numbers."""
    table = folder / "predictions.csv"
    if table.is_file():
        return np.array([float(value) for value in table.read_text().splitlines()[1].split(",")[2:]])
    (file,) = folder.glob(f"a*_{postfix}.*")
    return np.asarray(Image.open(file) if file.suffix == ".png" else nib.load(file).dataobj)


def test_it_runs_where_it_lies_and_loads_there(moved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = _output(_infer(moved, _images(moved.name, tmp_path / "images")))
    network = monai.bundle.load(moved.name, bundle_dir=str(moved.parent), workflow_type="inference", device="cpu")
    kept = torch.load(moved / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, kept[key].to(value.dtype)) for key, value in network.state_dict().items())
    # It is this file that decides: other weights, another result, of one sign or the other.
    others = []
    for bias in (0.0, -1.0):
        filled = {key: torch.full_like(value, bias if key.endswith("bias") else 0.0) for key, value in kept.items()}
        torch.save(filled, moved / "models" / "model.pt")
        has_postfix = "output_postfix" in Bundle(moved).config("inference.json")
        named = {"output_postfix": f"other{bias:.0f}"} if has_postfix else {}
        others.append(_output(_infer(moved, tmp_path / "images", **named), *named.values()))
    assert first.size and not all(np.array_equal(other, first) for other in others)


@pytest.mark.parametrize("name", monai_kd.bundle_names())
def test_the_overlay_for_tensorrt_is_the_same_everywhere(name):
    first = Bundle(monai_kd.bundle_names()[0])
    assert Bundle(name).config("inference_trt.json") == first.config("inference_trt.json")


@pytest.mark.parametrize("moved", [(SMALLEST, "made up")], indirect=True)
def test_it_infers_by_tensorrt(moved, tmp_path, monkeypatch):
    """TensorRT itself needs a GPU: a TorchScript file is in the place of one with its engines."""
    monkeypatch.setitem(sys.modules, "torch_tensorrt", ModuleType("torch_tensorrt"))
    monkeypatch.chdir(tmp_path)
    images = _images(moved.name, tmp_path / "images")
    wanted = _output(_infer(moved, images))
    weights = moved / "models" / "model.pt"
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(moved / "models" / "model_trt.ts"),
        ckpt_file=str(weights),
        bundle_root=str(moved),
        **_files(moved),
    )
    weights.unlink()
    shutil.rmtree(moved / "runs")
    np.testing.assert_allclose(_output(_infer(moved, images, "inference_trt.json")), wanted, atol=1e-5)
    workflow = ConfigWorkflow(
        [str(moved / "configs" / name) for name in ("inference.json", "inference_trt.json")], logging_file=False
    )
    assert isinstance(workflow.parser.get_parsed_content("evaluator").network, torch.jit.ScriptModule)
