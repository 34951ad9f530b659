# SPDX-License-Identifier: Apache-2.0
import torch

from monai_kd.command_line.publishing import halve


def test_norms_and_biases_stay_in_single_precision(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    halved = torch.load(halve(tmp_path / "model.pt"), weights_only=True)
    assert {name: value.dtype for name, value in halved.items()} == {
        "0.weight": torch.float16,
        "0.bias": torch.float32,
        "1.weight": torch.float32,
        "1.bias": torch.float32,
        "1.running_mean": torch.float32,
        "1.running_var": torch.float32,
        "1.num_batches_tracked": torch.int64,
    }
    torch.testing.assert_close(halved["0.weight"].float(), network[0].weight.detach(), rtol=1e-3, atol=1e-4)
