# SPDX-License-Identifier: Apache-2.0
"""What a stranger's bundle, run or file would run: found without running it."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, init_bundle
from torch import nn

import monai_kd
from monai_kd.cli import main
from monai_kd.inspection import code_in_content, find_code


class Planted:
    """Makes a file where somebody unpickles it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return exec, (f"open({str(self.file)!r}, 'w')",)


def _kinds(path):
    return [(finding.place, finding.kind, finding.text) for finding in find_code(path)]


def _config(folder, content):
    (folder / "model.json").write_text(json.dumps(content))
    return folder / "model.json"


def test_expressions_imports_and_strange_components_of_a_configuration(tmp_path):
    config = {
        "imports": ["$import os", "$from sys import path"],
        "size": "$@features[0] * 2",
        "run": [{"deep": "$open('planted', 'w')"}],
        "macro": "%/tmp/other.json::net",
        "plain": ["text", "@size", 3, "costs 5$"],
        "network": {"_target_": "os.system", "command": "touch planted"},
    }
    assert _kinds(_config(tmp_path, config)) == [
        ("imports#0", "import", "$import os"),
        ("imports#1", "import", "$from sys import path"),
        ("size", "expression", "$@features[0] * 2"),
        ("run#0#deep", "expression", "$open('planted', 'w')"),
        ("macro", "another file", "%/tmp/other.json::net"),
        ("network#_target_", "component of another package", "os.system"),
    ]


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "monai_kd_evil.Loss",
        "torch.os.system",
        "torch.nn.modules.module.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.utils.cpp_extension.load_inline",
        "torch._C._jit_get_all_schemas",
        "monai.bundle.run",
        "monai.utils.optional_import",
        "monai.transforms.Lambda",
        "PersistentDataset",
        "optional_import",
        "monai_kd.cli.main",
        "monai_kd.networks.TorchScriptNetwork",
        "$os.system",
        "@name",
        "%name",
        "torch.fx.graph_module.reduce_graph_module",
        "torch.export.load",
        "torch.from_file",
        "torch.ops.load_library",
        "torch.jit.ScriptModule",
        "torch.package.PackageImporter",
        "torch.utils.tensorboard.SummaryWriter",
        "torch.nn.init.zeros_",
        "torch.nn.Module.load_state_dict",
        "torch.nn.modules.os",
        "torch.nn.modules.module.torch",
        "torch.nn.modules.module.functools.partial",
        "monai.networks.nets.torch",
        "monai.networks.nets.swin_unetr.download_url",
        "monai.networks.nets.resnet18",
        "monai.data.dataset.ThreadPool",
        "monai.utils.run_cmd",
        "monai.utils.load_submodules",
        "monai.utils.module.instantiate",
        "monai.apps.DecathlonDataset",
        "monai.losses.PerceptualLoss",
        "monai.inferers.PatchInferer",
        "LambdaD",
        "SaveImageDict",
        "TorchVision",
        "DecathlonDataset",
        "ConfigParser",
        "CheckpointSaver",
        "BundleNetwork",
        "NoClassOfMonai",
        "open",
        "builtins.exec",
        "operator.methodcaller",
        "functools.partial",
        "numpy.load",
        "timm.models.load_checkpoint",
        "timm.create_model",
        "monai_kd.engines.ensemble",
        "monai_kd.engines.ensemble.ConfigParser",
    ],
)
def test_components_that_do_more_than_make_an_object_are_listed(target, tmp_path):
    assert [text for *_, text in _kinds(_config(tmp_path, {"_target_": target}))] == [target]


@pytest.mark.parametrize(
    "target",
    [
        "BasicUNet",
        "monai.networks.nets.BasicUNet",
        "monai_kd.handlers.distillation.DistillationHandler",
        "monai_kd.losses.HintLoss",
        "timm.models.VisionTransformer",
        "torch.nn.Conv2d",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.Adam",
        "torch.optim.Adafactor",
        "torch.nn.modules.conv.Conv2d",
        "torch.utils.data.DataLoader",
        "torch.device",
        "torch.float32",
        "timm.layers.Mlp",
        "UNet",
        "RandFlipD",
        "CacheDataset",
        "CheckpointLoader",
        "SupervisedEvaluator",
        "monai.losses.DiceFocalLoss",
        "monai.networks.nets.dynunet.DynUNet",
        "monai.transforms.LoadImage",
    ],
)
def test_components_of_known_packages_are_not(target, tmp_path):
    assert _kinds(_config(tmp_path, {"network": {"_target_": target, "width": 3}})) == []


@pytest.mark.parametrize(
    "content, text",
    [
        ({"_target_": {"_target_": "Flatten"}, "x": 1}, "{'_target_': 'Flatten'}"),
        ({"fn": "os.system", "x": {"_target_": "@fn", "command": "touch x"}}, "@fn"),
        ({"net#_target_": "os.system"}, "os.system"),  # as overlays name a part
        ({"+net::_target_": "os.system"}, "os.system"),
        ({"x": "%/tmp/evil.JSON#y"}, "%/tmp/evil.JSON#y"),
        ({"x": ["%evil.Yaml"]}, "%evil.Yaml"),
        ({"_target_": "UNet", "_mode_": "debug"}, "debug"),  # reads .pdbrc of the working directory
        ({"_target_": "UNet", "_mode_": "@mode"}, "@mode"),
        ({"net#_mode_": "callable"}, "callable"),
        ({"_target_": "UNet", "_debug_": True}, "True"),
        ({"_target_": "LoadImage", "allow_pickle": True}, "True"),
        ({"_target_": "LoadImage", "reader": "subprocess.getoutput", "cmd": "touch x"}, "subprocess.getoutput"),
        ({"_target_": "LoadImaged", "keys": "a", "reader": ["@name"]}, "@name"),
        ({"load#reader#0": "subprocess.getoutput"}, "subprocess.getoutput"),
        ({"_target_": "LoadImage", "_mode_": "callable"}, "LoadImage"),  # whose first argument is a name to be run
        ({"_target_": "timm.create_model", "model_name": "hf-hub:a/b"}, "timm.create_model"),
        ({"_target_": "timm.create_model", "model_name": "resnet18", "pretrained": True}, "timm.create_model"),
        ({"a": [[{"b": [{"_target_": "$open"}]}]]}, "$open"),
    ],
)
def test_what_runs_by_other_settings_than_a_name(content, text, tmp_path):
    assert text in [found for *_, found in _kinds(_config(tmp_path, content))]
    assert text in [finding.text for finding in code_in_content(content)]


def test_plain_settings_of_components_are_none_of_these():
    timm = {"_target_": "timm.create_model", "model_name": "resnet18", "num_classes": 2}
    load = {"_target_": "LoadImaged", "keys": "image", "reader": "monai_kd.data.ImageFileReader", "_desc_": "a"}
    partial = {"_target_": "torch.nn.ReLU", "_mode_": "callable", "_disabled_": False, "_requires_": ["@a"]}
    assert code_in_content({"a": timm, "b": load, "c": partial, "d": "%a", "e": "@b#keys", "reader": None}) == []


def test_what_it_warns_of_would_run(tmp_path):
    """MONAI itself runs what a reader's name says: so this is no exercise."""
    planted = tmp_path / "planted"
    content = {"_target_": "LoadImage", "reader": "subprocess.getoutput", "cmd": f"touch {planted}"}
    assert code_in_content({"x": content})
    with pytest.raises(Exception):
        ConfigParser({"x": content}).get_parsed_content("x")
    assert planted.exists()


def test_bundles_that_ship_and_copies_of_them_have_expressions_and_imports_alone(tmp_path):
    for name in monai_kd.bundle_names():
        root = Path(monai_kd.bundle_root(name))
        found = find_code(root / "configs")
        assert {finding.kind for finding in found} == {"expression", "import"}
        copy = tmp_path / name
        shutil.copytree(root / "configs", copy)
        assert [finding.text for finding in find_code(copy)] == [finding.text for finding in found]


def test_a_bundle_that_monai_generates_has_expressions_and_imports_alone(tmp_path):
    init_bundle(tmp_path / "own", network=nn.Linear(1, 1))
    config = tmp_path / "own" / "configs" / "inference.json"
    assert "???" in {finding.text for finding in find_code(config)}  # the network that is still to be named
    config.write_text(config.read_text().replace("???", "BasicUNet"))
    assert {finding.kind for finding in find_code(tmp_path / "own")} == {"expression", "import"}


def test_logging_files_are_code(tmp_path):
    own = Path(monai_kd.bundle_root("brain_tumor_segmentation")) / "configs" / "logging.conf"
    assert find_code(own) == []
    (tmp_path / "logging.conf").write_text(own.read_text().replace("args=(sys.stdout,)", "args=(os.system('x'),)"))
    assert _kinds(tmp_path) == [("handler_console#args", "expression", "(os.system('x'),)")]


@pytest.mark.parametrize("form", ["archive", "old", "plain", "two"])
def test_pickled_objects_of_checkpoints(form, tmp_path):
    planted, path = tmp_path / "planted", tmp_path / "model.pt"
    content = {"model": {"weight": torch.zeros(2, dtype=torch.bfloat16), "more": Planted(planted)}}
    if form == "plain":
        path.write_bytes(pickle.dumps(Planted(planted), protocol=4))
    elif form == "two":  # torch reads the pickle in front, a zip program the archive behind
        torch.save({"weight": torch.zeros(2)}, tmp_path / "harmless.pt")
        path.write_bytes(pickle.dumps(Planted(planted), protocol=2) + (tmp_path / "harmless.pt").read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    found = find_code(path)
    assert len(found) == 1 and found[0].kind == "pickled object" and "exec" in found[0].text
    assert not planted.exists()


@pytest.mark.parametrize("archive", [True, False])
def test_weights_alone_run_nothing(archive, tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).half()
    optimizer = torch.optim.Adam(network.parameters())
    content = {"model": network.state_dict(), "state": optimizer.state_dict(), "epoch": 3, "lr": [0.1], "name": "a"}
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=archive)
    assert find_code(tmp_path) == []


def _script(path, plant=""):
    torch.jit.script(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())).save(path)
    if plant:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        # `container.py`, or a file below `container` where this process has scripted another such network.
        name = next(name for name in parts if "/container" in name and name.endswith(".py"))
        parts[name] = parts[name].replace(b"    return", f"    {plant}\n    return".encode(), 1)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "plant, operator",
    [
        ("a = torch.from_file('x', True, 4)", "torch.from_file"),
        ("a = ops.aten.from_file('x', True, 4)", "ops.aten.from_file"),
        ("a = ops.image.write_file('x', input)", "ops.image.write_file"),
        ("a = __torch__.torch.classes.mine.Thing()", "__torch__.torch.classes.mine.Thing"),
        ("torch.save(input, 'x')", "torch.save"),
    ],
)
def test_operators_of_torchscript_that_touch_files(plant, operator, tmp_path):
    assert find_code(_script(tmp_path / "whole.ts")) == []
    found = find_code(_script(tmp_path / "planted.ts", plant))
    assert [(finding.kind, finding.text) for finding in found] == [("operator that touches files", operator)]


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.pt", "b/logging.conf"])
def test_what_cannot_be_read_is_not_called_harmless(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"{: \xff\n[")
    assert [finding.kind for finding in find_code(tmp_path)] == ["unreadable"]
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    assert sorted(finding.kind for finding in find_code(tmp_path)) == ["not a plain file", "unreadable"]


def test_a_link_to_a_folder_is_said(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "elsewhere").mkdir()
    _config(tmp_path / "elsewhere", {"x": "$1"})
    (tmp_path / "bundle" / "configs").symlink_to(tmp_path / "elsewhere")
    (found,) = find_code(tmp_path / "bundle")
    assert (found.file.name, found.kind) == ("configs", "not a plain file")


def test_exported_programs_and_files_within_files(tmp_path):
    torch.save(Planted(tmp_path / "planted"), tmp_path / "inner.pt")
    for name in ("model.pt2", "model.pt"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "inner.pt", "data/sample_inputs/model.pt")
    (tmp_path / "inner.pt").unlink()
    assert [(found.file.name, found.kind) for found in find_code(tmp_path)] == [
        ("model.pt", "pickled object"),
        ("model.pt2", "program"),
    ]


@pytest.mark.parametrize("name", ["model.PT", "model.weights", "model"])
def test_a_pickle_is_one_by_whatever_name(name, tmp_path):
    torch.save(Planted(tmp_path / "planted"), tmp_path / name, _use_new_zipfile_serialization=False)
    assert [finding.kind for finding in find_code(tmp_path)] == ["pickled object"]


def test_programs_are_named(tmp_path):
    (tmp_path / "losses.py").touch()
    assert [finding.kind for finding in find_code(tmp_path)] == ["program"]


def test_the_verb_lists_all_and_says_nothing_would_run_only_when_that_is_so(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    _config(run, {"network": {"_target_": "BasicUNet"}})
    torch.save({"weight": torch.zeros(2)}, run / "model.pt")
    assert main(["verify", "--untrusted", str(run)]) == 0
    assert capsys.readouterr().out == f"nothing of {run} would run\n"
    _config(run, {"size": "$1 +\n 1" + "x" * 400})
    assert main(["verify", "--untrusted", str(run)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{run / 'model.json'} size: expression: $1 +\\n 1xxx") and first.endswith("x ...")
    assert last == f"1 things of {run} would run, or could not be read"
    assert main(["verify", "--untrusted", str(tmp_path / "none")]) == 2
    assert main(["verify"]) == 2


def test_nothing_is_imported_for_it(tmp_path):
    _config(tmp_path, {"_target_": "torch.nn.Conv2d", "other": "$__import__('os')"})
    code = "import sys; from monai_kd.cli import main; main(['verify', '--untrusted', sys.argv[1]])"
    check = "; sys.exit(any(name in sys.modules for name in ('torch', 'monai')))"
    subprocess.run([sys.executable, "-c", code + check, str(tmp_path)], check=True, timeout=60, capture_output=True)
