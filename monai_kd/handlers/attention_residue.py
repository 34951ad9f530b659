# SPDX-License-Identifier: Apache-2.0
"""How far the student's attention is from the teacher's, block by block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_kd.csv_tables import rounded, write_table
from monai_kd.files import whole_file
from monai_kd.networks.feature_tap import FeatureTap

__all__ = ["AttentionResidue"]

_ROWS = ("teacher", "student", "residue")


class AttentionResidue:
    """Draw the attention maps of teacher and student in some layers, and their difference; a row a case in a table.

    The map of a layer is ``mean_c F^2`` in the middle slice, of unit length; the residue is the absolute difference of
    the two networks' maps, and its number the length of the difference, 0 to 1.42. ``attention_residue.csv`` has one
    column for each layer, ``attention_residue.png`` shows the first case: figure 6 of M. N. Gayathri et al.,
    "SFT-KD-Recon", MIDL 2023.

    Args:
        student: the evaluated network, with its weights.
        teacher: the teacher, with its weights.
        student_layers: names of layers.
        teacher_layers: names of as many.
        output_dir: folder of both files, made if need be.

    Raises:
        ValueError: when the numbers of layers differ.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_layers: Sequence[str],
        teacher_layers: Sequence[str],
        output_dir: str | os.PathLike,
    ) -> None:
        if not student_layers or len(student_layers) != len(teacher_layers):
            raise ValueError(
                f"expected as many of the teacher's layers as of the student's, got {list(student_layers)} and "
                f"{list(teacher_layers)}"
            )
        self.networks = {"teacher": teacher, "student": student}
        self.layers = {"teacher": list(teacher_layers), "student": list(student_layers)}
        self.output_dir = Path(output_dir)
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: an evaluator of volumes or slices, one a batch.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _started(self, engine: Engine) -> None:
        self._rows = []

    def _add(self, engine: Any) -> None:
        image: Any = engine.state.output[Keys.IMAGE]
        meta = getattr(image, "meta", {})
        name = meta.get("filename_or_obj", "")
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        image = image[..., image.shape[-1] // 2] if image.ndim == 5 else image
        maps = {side: self._maps(side, image[:1]) for side in self.networks}
        residues = [(student - teacher).abs() for student, teacher in zip(maps["student"], maps["teacher"])]
        numbers = {layer: rounded(float(one.norm())) for layer, one in zip(self.layers["student"], residues)}
        if not self._rows:
            self._draw({**maps, "residue": residues})
        self._rows.append({"input": str(name[0] if isinstance(name, (list, tuple)) else name), **numbers})

    def _maps(self, side: str, image: Tensor) -> list[Tensor]:
        """One map (X, Y) of unit length for each layer."""
        network, layers = self.networks[side], self.layers[side]
        network.to(image.device).eval()
        tap = FeatureTap(network, layers)
        try:
            with torch.no_grad():
                network(image)
            features = tap.pop()
        finally:
            tap.remove()
        maps = [features[layer].float().square().mean(1)[0] for layer in layers]
        return [one / one.norm().clamp(min=1e-12) for one in maps]

    def _draw(self, maps: dict[str, list[Tensor]]) -> None:
        from matplotlib.figure import Figure  # which takes its time, and most that is done with handlers draws nothing

        columns = len(maps["residue"])
        figure = Figure(figsize=(2 * columns, 2 * len(_ROWS)), layout="constrained")
        axes = figure.subplots(len(_ROWS), columns, squeeze=False)
        for column in range(columns):
            brightest = max(float(maps[side][column].max()) for side in ("teacher", "student")) or 1.0
            for row, side in zip(axes, _ROWS):
                row[column].imshow(maps[side][column].cpu().numpy().T, cmap="gray", vmin=0, vmax=brightest)
                row[column].set_xticks([])
                row[column].set_yticks([])
            axes[0][column].set_title(f"{column + 1}")
        for row, side in zip(axes, _ROWS):
            row[0].set_ylabel(side)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with whole_file(self.output_dir / "attention_residue.png") as written:
            figure.savefig(written, format="png", dpi=100)

    def _write(self, engine: Engine) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_table(self.output_dir / "attention_residue.csv", self._rows)
