# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_kd.handlers import GradientClipping


def _moved(*handlers, samples: int = 1) -> torch.Tensor:
    """How far one step of SGD with rate 1 moves two weights of gradients 6 and 8, in as many iterations as samples."""
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    sample = {"image": torch.tensor([3.0, 4.0]), "label": torch.tensor([-1.0])}
    opposite = {"image": torch.tensor([3.0, 4.0]), "label": torch.tensor([0.5])}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset([sample, opposite][:samples]), batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=nn.MSELoss(),
        train_handlers=list(handlers),
        decollate=False,
        accumulation_steps=samples,
    )
    trainer.run()
    return network.weight.detach()[0]


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    torch.testing.assert_close(_moved(), torch.tensor([-6.0, -8.0]))
    torch.testing.assert_close(_moved(GradientClipping(5)), torch.tensor([-3.0, -4.0]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(_moved(GradientClipping(11)), torch.tensor([-6.0, -8.0]))
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        GradientClipping(0)


def test_of_iterations_taken_together_the_sum_is_shortened():
    torch.testing.assert_close(_moved(samples=2), torch.tensor([-1.5, -2.0]))  # (6, 8) and (-3, -4), averaged
    torch.testing.assert_close(_moved(GradientClipping(2.6), samples=2), torch.tensor([-1.5, -2.0]))
    torch.testing.assert_close(_moved(GradientClipping(1), samples=2), torch.tensor([-0.6, -0.8]), rtol=1e-5, atol=1e-5)
