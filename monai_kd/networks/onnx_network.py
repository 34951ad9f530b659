# SPDX-License-Identifier: Apache-2.0
"""A network that is stored as ONNX."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

__all__ = ["OnnxNetwork"]


class OnnxNetwork(nn.Module):
    """Apply a network from an ONNX file through onnxruntime, in the place of any network that is only evaluated.

    It has no parameters, no layers to look at and no gradients. On the CPU it uses as many threads as PyTorch does.

    Args:
        file: an ONNX model with one tensor (B, C, *spatial), float32, as input; its first output is the prediction.
        device: where onnxruntime computes. A CUDA device needs ``onnxruntime-gpu``, and is the CPU without it.

    Raises:
        ImportError: when onnxruntime is not installed.
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no ONNX model, or one with several inputs.
    """

    def __init__(self, file: str | os.PathLike, device: str | torch.device = "cpu") -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(f'{file}: ONNX needs onnxruntime: pip install "monai_kd[export]"') from error
        if not os.path.isfile(file):
            raise FileNotFoundError(f"{file}: there is no such file: check the path of the ONNX network")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised; errors would be printed as well
        wanted = ["CPUExecutionProvider"]
        if torch.device(device).type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            wanted.insert(0, "CUDAExecutionProvider")
        try:
            self.session = onnxruntime.InferenceSession(os.fspath(file), options, wanted)
        except Exception as error:  # onnxruntime has a class for every kind of damage
            raise ValueError(f"{file}: not an ONNX model that onnxruntime can read; export it again") from error
        inputs = [node.name for node in self.session.get_inputs()]
        if len(inputs) != 1:
            raise ValueError(f"{file}: expected a network with one input, got {', '.join(inputs) or 'none'}")
        self.file = file
        self.input = inputs[0]

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself, by name."""
        return self.session.get_modelmeta().custom_metadata_map

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images (B, C, *spatial).

        Returns:
            What the network gives, float32, on the device of ``x``.

        Raises:
            ValueError: when it cannot be applied to images of that shape.
        """
        images = x.detach().float().cpu().numpy()
        try:
            prediction = self.session.run(None, {self.input: images})[0]
        except Exception as error:  # from inside the network, of any class
            shape = self.session.get_inputs()[0].shape
            sizes = [str(size) if isinstance(size, int) else "*" for size in shape]
            raise ValueError(
                f"{self.file}: expected images ({', '.join(sizes)}), perhaps only of the size it was exported for, "
                f"got {tuple(x.shape)}; export the network for that size, or use the checkpoint that it was made of "
                f"({str(error).partition(chr(10))[0]})"
            ) from error
        return torch.from_numpy(prediction).to(x.device)
