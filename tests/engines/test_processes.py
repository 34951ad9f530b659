# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from monai_kd.engines import process_device, start_processes


def test_every_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert process_device() == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert process_device() == torch.device("cpu")


def test_processes_that_torchrun_started_join_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    try:
        start_processes()
        start_processes()
        assert (torch.distributed.get_backend(), torch.distributed.get_world_size()) == ("gloo", 1)
    finally:
        torch.distributed.destroy_process_group()


def test_a_process_that_torchrun_did_not_start_is_told_so(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError, match="torchrun --nproc_per_node=2"):
        start_processes()
