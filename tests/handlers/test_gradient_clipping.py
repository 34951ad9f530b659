# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_kd.handlers import GradientClipping


def _moved(*handlers) -> torch.Tensor:
    """How far one step of SGD with rate 1 moves two weights of gradients 6 and 8."""
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    sample = {"image": torch.tensor([3.0, 4.0]), "label": torch.tensor([-1.0])}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset([sample]), batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=nn.MSELoss(),
        train_handlers=list(handlers),
        decollate=False,
    )
    trainer.run()
    return network.weight.detach()[0]


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    torch.testing.assert_close(_moved(), torch.tensor([-6.0, -8.0]))
    torch.testing.assert_close(_moved(GradientClipping(5)), torch.tensor([-3.0, -4.0]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(_moved(GradientClipping(11)), torch.tensor([-6.0, -8.0]))
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        GradientClipping(0)
