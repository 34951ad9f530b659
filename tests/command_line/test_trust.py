# SPDX-License-Identifier: Apache-2.0
"""Code that comes with a run or a file."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from monai.data import save_net_with_metadata
from torch import nn

from monai_kd.bundle import Bundle
from monai_kd.cli import main
from monai_kd.command_line.trust import check_script, check_scripts, say_whose_code


class Same(nn.Module):
    """A network that does nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_script_that_export_did_not_make_needs_trust(tmp_path, capsys):
    script = torch.jit.script(Same())
    save_net_with_metadata(script, str(tmp_path / "own.ts"), meta_values={"bundle": "x", "model_ids": {}})
    torch.jit.save(script, tmp_path / "other.ts")
    check_script(tmp_path / "own.ts", trusted=False)
    check_script(tmp_path / "other.ts", trusted=True)
    check_script(tmp_path / "weights.pt", trusted=False)
    with pytest.raises(ValueError, match="TorchScript, which is code, and `export` .* did not make it; say"):
        check_script(tmp_path / "other.ts", trusted=False)
    words = ["infer", "brain_tumor_segmentation", str(tmp_path), str(tmp_path / "out")]
    assert main([*words, "--checkpoint", str(tmp_path / "other.ts")]) == 2
    assert "say --trust" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_scripts_in_settings_need_trust_whatever_they_are_called(tmp_path):
    torch.jit.save(torch.jit.script(Same()), tmp_path / "teacher.pt")
    torch.save({"model": Same().state_dict()}, tmp_path / "weights.pt")
    file = str(tmp_path / "teacher.pt")
    check_scripts({"teacher_checkpoint": str(tmp_path / "weights.pt"), "max_epochs": 3, "loss": None}, trusted=False)
    for settings in ({"teacher_checkpoint": file}, {"teacher_def": {"file": file}}, {"teachers": [{"file": file}]}):
        check_scripts(settings, trusted=True)
        with pytest.raises(ValueError, match="teacher.pt is TorchScript, which is code, and `export` .*say --trust"):
            check_scripts(settings, trusted=False)


def test_metadata_do_not_make_a_script_that_touches_files_our_own(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.ts", "w") as archive:
        archive.writestr("own/extra/metadata.json", json.dumps({"bundle": "x", "model_ids": {}}))
        archive.writestr("own/code/__torch__.py", "def forward(x):\n  return torch.from_file('x', True, 4)")
    with pytest.raises(ValueError, match="which is code, and it uses torch.from_file; say --trust"):
        check_script(tmp_path / "own.ts", trusted=False)


def test_a_run_of_others_is_said_to_be_code(tmp_path, monkeypatch, capsys):
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text(json.dumps({"name": "Mine"}))
    bundle = Bundle(str(tmp_path / "bundle"))
    for run in (tmp_path / "bundle" / "runs" / "own", tmp_path / "sent"):
        run.mkdir(parents=True)
        (run / "model.json").write_text("{}")
    say_whose_code(bundle, None)
    say_whose_code(bundle, "own")
    assert capsys.readouterr().out == ""
    say_whose_code(bundle, str(tmp_path / "sent"), str(tmp_path / "sent" / "model.pt"))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"{tmp_path / 'sent'} lies outside the bundle's runs: its configuration is" in said
    monkeypatch.setattr(os, "getuid", lambda: Path(tmp_path).stat().st_uid + 1)
    say_whose_code(bundle, "own")
    assert "own is another user's: its configuration is code, which runs" in capsys.readouterr().out
