# SPDX-License-Identifier: Apache-2.0
"""Networks as files of their own: ONNX, TorchScript and 8-bit integers, compared with what they were made of."""

from __future__ import annotations

import copy
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from monai.data import save_net_with_metadata
from monai.engines import SupervisedEvaluator
from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn

from monai_kd.files import remove_unfinished, whole_file

from .export_parity import classes_of, evaluate_network, largest_difference, observe_network
from .placement import without_placement

__all__ = ["EXPORTED", "FORMATS", "ExportReport", "export_network", "load_exported"]

FORMATS = {"onnx": ".onnx", "torchscript": ".ts", "int8": ".onnx"}
"""Suffix of each format."""

EXPORTED = tuple(sorted(set(FORMATS.values())))
"""Suffixes of exported networks."""

_LONGER_NAMES = 1 << 16  # bytes that a TorchScript file may be larger by, as all of its parts have its name
_CLOSE = 1e-3  # relative; single precision in another order of operations stays below 1e-4


@dataclass
class ExportReport:
    """How an exported network compares with what it was made of.

    Args:
        file: where it is.
        difference: largest norm of the difference of two outputs, relative to the norm of the original's.
        samples: images that went through both.
        metric: name of the key metric; empty when there were no cases to measure it on.
        before: the original's value.
        after: the exported network's value.
        classes: the same two values for each class by name, where the metric has several.
    """

    file: Path
    difference: float
    samples: int
    metric: str = ""
    before: float = float("nan")
    after: float = float("nan")
    classes: dict[str, tuple[float, float]] = field(default_factory=dict)


def export_network(
    network: nn.Module,
    file: str | os.PathLike,
    format: str,
    shape: Sequence[int],
    metadata: Mapping[str, Any] | None = None,
    evaluator: SupervisedEvaluator | None = None,
    tolerance: float = 0.01,
    config: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write a network as a file that needs neither its Python code nor its configuration, and compare the two.

    Both see the same images, and the key metric of an evaluation is taken of both. Only a file that passes is left.

    - ``onnx``: one file, for any number of images; of any size where the network takes any size.
    - ``torchscript``: the same, by `torch.jit.script`.
    - ``int8``: ONNX in 8-bit integers, quantised statically: activations by their extreme values on the evaluator's
      cases, weights by channel, in 7 bits, because 8 overflow on processors without VNNI. Its outputs are compared by
      the metric alone.

    Args:
        network: on the CPU, with its weights.
        file: where to; ``.onnx``, or ``.ts`` for TorchScript.
        format: one of :data:`FORMATS`.
        shape: (C, *spatial) of the images that are made up where there is no evaluator.
        metadata: what the file is to say about itself, by name; values as JSON.
        evaluator: of the validation cases, never the test cases, on the CPU and with a key metric.
        tolerance: largest loss of the key metric, >= 0.
        config: the ``inference.json`` that TorchScript files hold, as those of MONAI's ``ckpt_export`` do.

    Raises:
        ImportError: when ONNX is wanted and not installed.
        FloatingPointError: when either gives NaN or infinite values.
        ValueError: when the format or the suffix is another one, when ``int8`` lacks an evaluator, when the outputs
            differ by more than 0.1 %, or when the metric loses more than ``tolerance``.
    """
    path = Path(file)
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if path.suffix != FORMATS[format]:
        raise ValueError(f"a file of the format {format} ends in {FORMATS[format]}, by which it is known; got {path}")
    if format == "int8" and evaluator is None:
        raise ValueError("int8 is calibrated on validation cases: give the data set")
    network = without_placement(copy.deepcopy(network)).eval()
    if evaluator is None:
        images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
        samples, metric, before = list(images.split([1, 2])), "", float("nan")
    else:
        samples, metric, before = observe_network(network, evaluator)

    by_class = [] if evaluator is None else classes_of(evaluator)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    with whole_file(path) as written:
        if format == "torchscript":
            embedded = {} if config is None else {"inference.json": json.dumps(config).encode()}
            _write_torchscript(torch.jit.script(network), written, metadata, embedded)
        else:
            _write_onnx(network, written, samples, quantise=format == "int8")
            _write_metadata(written, metadata or {})
        exported = load_exported(written)
        difference = largest_difference(network, exported, samples)
        if format != "int8" and not difference <= _CLOSE:
            raise ValueError(f"{path}: the outputs differ by {difference:.2g} of their size, more than {_CLOSE}")
        report = ExportReport(path, difference, sum(map(len, samples)), metric, before)
        if evaluator is not None:
            report.after = evaluate_network(exported, evaluator)
            report.classes = _named(zip(by_class, classes_of(evaluator)), metadata or {})
            higher_is_better = evaluator.metric_cmp_fn(1.0, 0.0)
            both = {metric: (before, report.after)}
            both |= {f"{metric}_{name}": values for name, values in report.classes.items()}
            for name, (was, is_now) in both.items():
                if not (was - is_now if higher_is_better else is_now - was) <= tolerance:
                    raise ValueError(
                        f"{path}: {name} goes from {was:.4f} to {is_now:.4f} on the validation cases, a loss of more "
                        f"than the tolerance {tolerance}; the outputs differ by {difference:.2g} of their size"
                    )
    return report


def _named(values: Iterable[tuple[float, float]], metadata: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The values of the classes by name; the background's, if it is told, is none of them."""
    pairs, told = list(values), metadata.get("class_names", ())
    names = [str(name) for name in (told.values() if isinstance(told, Mapping) else told)][-len(pairs) or None :]
    return dict(zip(names if len(names) == len(pairs) else map(str, range(len(pairs))), pairs))


def load_exported(file: str | os.PathLike, device: str | torch.device = "cpu") -> nn.Module:
    """The network of an exported file, in the manner that its suffix, one of :data:`EXPORTED`, asks for."""
    # A bundle whose network is MONAI's need not wait for timm.
    from monai_kd.networks.onnx_network import OnnxNetwork
    from monai_kd.networks.torchscript_network import TorchScriptNetwork

    return OnnxNetwork(file, device) if _is_onnx(file) else TorchScriptNetwork(file)


def _is_onnx(file: str | os.PathLike) -> bool:
    return Path(file).suffix == FORMATS["onnx"]


def _write_torchscript(
    scripted: torch.jit.ScriptModule, file: Path, metadata: Mapping[str, Any] | None, embedded: Mapping[str, bytes]
) -> None:
    # PyTorch's own writer ends the process where the disk is full, so Python tries first whether there is room. The
    # writer is needed: the parts of a file have its name, where MONAI Deploy looks, only if it was written as a file.
    content = io.BytesIO()
    save_net_with_metadata(scripted, content, meta_values=metadata, more_extra_files=embedded)
    file.write_bytes(content.getvalue() + bytes(_LONGER_NAMES))
    save_net_with_metadata(scripted, str(file), meta_values=metadata, more_extra_files=embedded)


def _write_onnx(network: nn.Module, file: Path, samples: Sequence[Tensor], quantise: bool) -> None:
    try:
        import onnxruntime.quantization as quantization
        import onnxscript  # noqa: F401
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ImportError(f'{error}; writing ONNX needs: pip install "monai_kd[export]"') from error

    example = samples[0][:1].repeat_interleave(2, dim=0)  # a batch of one would be taken for the only size there is
    axes = {axis: torch.export.Dim.AUTO for axis in range(example.ndim) if axis != 1}
    with warnings.catch_warnings(), _same_for_every_size(network):
        warnings.simplefilter("ignore", FutureWarning)  # torch copies what it has deprecated itself
        torch.onnx.export(
            network,
            (example,),
            file,
            dynamo=True,
            external_data=False,
            dynamic_shapes=(axes,),
            input_names=["image"],
            output_names=["pred"],
            verbose=False,
        )
    if not quantise:
        return

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(samples)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image.numpy()}

    simplified = file.with_name("simplified.onnx")
    quant_pre_process(file, simplified, skip_symbolic_shape=True)
    quantization.quantize_static(
        simplified,
        file,
        Reader(),
        op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul"],
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )


def _write_metadata(file: Path, metadata: Mapping[str, Any]) -> None:
    import onnx

    model = onnx.load(file)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata.items()})
    onnx.save(model, file)


@contextmanager
def _same_for_every_size(network: nn.Module) -> Iterator[None]:
    """Let the U-Nets of MONAI pad by the same operations for every size, as an ONNX model knows no other."""
    joints: list[Any] = [module for module in network.modules() if isinstance(module, UpCat) and module.is_pad]
    for joint in joints:
        joint.forward = MethodType(_join_any_size, joint)
    try:
        yield
    finally:
        for joint in joints:
            del joint.forward


def _join_any_size(joint: Any, x: Tensor, x_e: Tensor | None) -> Tensor:
    """`UpCat.forward`, where the last position of an axis is repeated if the encoder's map is longer."""
    x = joint.upsample(x)
    if x_e is None:
        return joint.convs(x)
    for axis in range(2, x.ndim):
        positions = torch.arange(x_e.shape[axis], device=x.device).clamp(max=x.shape[axis] - 1)
        x = x.index_select(axis, positions)
    return joint.convs(torch.cat([x_e, x], dim=1))
