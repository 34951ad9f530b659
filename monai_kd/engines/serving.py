# SPDX-License-Identifier: Apache-2.0
"""What is served changes only for what scores better."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import torch

from monai_kd.networks.feature_tap import unwrapped

from .stage import Stage
from .weights import load_weights, read_weights, replace_weights

__all__ = ["serve_if_better"]


def serve_if_better(stage: Stage, served: str | os.PathLike) -> bool:
    """Put a stage's best weights in the place of those that are served, if they score better in validation.

    Both are scored by the stage's evaluator on the same images, whatever the training has seen in between. The weights
    that are replaced are kept beside the run's as ``replaced.pt``: put back by hand, they are served again.

    Args:
        stage: completed. Its evaluator's network has its best weights afterwards.
        served: the file that is served, and that the training has started from.

    Returns:
        Whether the file was replaced. Without validation images it always is, unless it has these weights already.

    Raises:
        ValueError: when either file holds no weights of the stage's network.
    """
    logger, evaluator = logging.getLogger("monai_kd"), stage.evaluator
    if _are_the_same(served, stage.checkpoint):
        logger.info(f"{stage.name}: {Path(served).name} has these weights already")
        return False
    better, scores = True, "there are no validation images, so nothing was compared"
    network = unwrapped(evaluator.network)  # of averaged weights it is another one than the trainer's
    # By what the trainer's ValidationHandler asks, too: there is nothing to score on.
    if len(evaluator.data_loader):  # type: ignore[arg-type]
        found = []
        for weights in (served, stage.checkpoint):
            load_weights(network, weights)
            evaluator.run()
            found.append(float(evaluator.state.metrics[evaluator.state.key_metric_name]))
        before, after = found
        better = math.isnan(before) or bool(evaluator.metric_cmp_fn(after, before))
        scores = f"{evaluator.state.key_metric_name} {before:.4g} before this training, {after:.4g} after it"
    if stage.trainer.state.rank == 0:
        if better:
            kept = stage.checkpoint.with_name("replaced.pt")
            replace_weights(kept, served)
            replace_weights(served, stage.checkpoint)
            logger.info(f"{stage.name}: {scores}; {Path(served).name} is replaced, and what it was is kept in {kept}")
        else:
            logger.warning(f"{stage.name}: {scores}; {Path(served).name} is not replaced")
    return better


def _are_the_same(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    weights, others = read_weights(one), read_weights(other)
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
