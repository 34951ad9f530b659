# SPDX-License-Identifier: Apache-2.0
"""The verb ``publish``: a run's student becomes the bundle's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.csv_tables import rounded
from monai_kd.files import read_json, remove_unfinished, whole_file, write_json
from monai_kd.verification import LARGEST_MODEL

from .errors import DONE
from .inference import evaluate
from .output import say
from .trust import say_whose_code

__all__ = ["fit", "halve", "publish"]


def publish(name: str, run: str, data: str | None = None) -> int:
    """Make a run's student the bundle's own: models/model.pt, with docs/model_card.md and the metrics in metadata.json.

    A student of more than 16 MB is stored in half precision, provided that no metric of the test cases moves.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        run: name or path of a completed run.
        data: what it was trained on, and the licence, in a sentence for model card and metadata, where it is not the
            data set that the bundle is made for.
    """
    bundle = Bundle(name)
    if Path(monai_kd.run_dir(bundle.root)).parents[1] != bundle.root:
        raise ValueError(
            f"{bundle.root} belongs to an installed package; copy the bundle first, and publish to the copy"
        )
    folder = bundle.completed_run(run)
    say_whose_code(bundle, run)
    monai_kd.engines.check_origin(folder / "model.pt")
    bundle.check_applied(folder / "model.pt")
    own, trained = bundle.config("inference.json"), bundle.model_of(run)
    differing = [key for key, value in trained.items() if key != "checkpoint" and value != own.get(key)]
    if others := ", ".join(key for key in differing if key not in own.get("free_ids", ())):
        raise ValueError(
            f"the run differs from inference.json in {others}, so its student does not fit the bundle; copy the "
            "bundle, set these in the copy's inference.json and train.json, and publish there"
        )
    if differing:
        say(f"its weights serve any {', '.join(differing)}: `infer` takes what inference.json says, so see to it there")
    checkpoint = folder / "model.pt"
    summary = _measure(bundle, folder, checkpoint, "distilled_student")
    if checkpoint.stat().st_size > LARGEST_MODEL:
        checkpoint = halve(checkpoint)
        halved = _measure(bundle, folder, checkpoint, "half_precision")
        values = monai_kd.engines.values_of(halved)
        for metric, before in monai_kd.engines.values_of(summary).items():
            if abs(values[metric] - before) > 1e-3:
                raise ValueError(f"half precision moves {metric} from {before} to {values[metric]}")
        summary = halved
    if differing:
        checkpoint = fit(bundle, checkpoint)
    trained_by = read_json(folder / "model.json")
    trained_on = data or monai_kd.engines.describe_data(trained_by, bundle.metadata)
    text = _model_card(bundle, folder, trained_by, trained_on, summary)
    published = bundle.root / "models" / "model.pt"
    card = bundle.root / "docs" / "model_card.md"
    for place in (published.parent, card.parent):
        place.mkdir(exist_ok=True)
        remove_unfinished(place)
    with whole_file(card) as written:
        written.write_text(text, encoding="utf-8")
        monai_kd.engines.replace_weights(published, checkpoint)  # the card follows it, or neither is replaced
    _note_origin(bundle, trained_by, trained_on, summary)
    say(f"published {checkpoint} as {published}, described in {card}")
    return DONE


def _measure(bundle: Bundle, run: Path, checkpoint: Path, name: str) -> dict[str, Any]:
    """Summary of a run's checkpoint on the test cases, evaluated unless that was done before."""
    summary = run / "evaluation" / name / "summary.json"
    if not summary.is_file() or summary.stat().st_mtime < checkpoint.stat().st_mtime:
        evaluate(str(bundle.root), run=str(run), checkpoint=str(checkpoint), output=str(summary.parent))
    return read_json(summary)


def halve(checkpoint: Path) -> Path:
    """A copy of a checkpoint, beside it, with the weights of its layers in half precision.

    What normalises, and what is added, stays as it is: it takes hardly any room.
    """
    import torch

    weights = monai_kd.engines.read_weights(checkpoint)
    is_large = {name: value.is_floating_point() and value.ndim > 1 for name, value in weights.items()}
    half = {name: value.half() if is_large[name] else value for name, value in weights.items()}
    copied = checkpoint.with_name("model_half.pt")
    torch.save(half, copied)
    return copied


def fit(bundle: Bundle, checkpoint: Path) -> Path:
    """A copy of a checkpoint, beside it, that has what the bundle's own network has and no more.

    A mask of k-space, for instance, belongs to one size of images: the bundle's takes the place of the run's.
    """
    import torch

    network = bundle.workflow("inference.json", overrides={}).network_def
    own, weights = network.state_dict(), monai_kd.engines.read_weights(checkpoint)
    monai_kd.engines.load_weights(network, checkpoint)  # or what it lacks would come from an untrained network
    copied = checkpoint.with_name("model_fitted.pt")
    torch.save({name: weights.get(name, value) for name, value in own.items()}, copied)
    return copied


def _model_card(
    bundle: Bundle, run: Path, trained: Mapping[str, Any], trained_on: str, summary: Mapping[str, Any]
) -> str:
    """What a published student says about itself."""
    monai_kd.engines.tabulate_run(run, bundle.root, keep=True)
    teacher = monai_kd.engines.taught_by(run, bundle.root)
    rows = [["metric", "value or mean over cases", "standard deviation over cases", "median", "interval", "cases"]]
    for metric, value in monai_kd.engines.values_of(summary).items():
        score = summary[metric]
        spread = [monai_kd.engines.score_text(score[key], value) if key in score else "" for key in ("std", "median")]
        limits = f"{score['low']:.4f} to {score['high']:.4f}" if "low" in score else ""
        rows.append([metric, monai_kd.engines.score_text(value), *spread, limits, str(score["cases"])])
    return monai_kd.engines.describe_model(
        bundle.metadata,
        {
            "Data": trained_on,
            "Licence": monai_kd.engines.describe_licence(bundle.root, bundle.metadata),
            "Size": f"{summary['parameters']:,} parameters.",
        },
        [
            "The student, as it is published:",
            monai_kd.engines.markdown_table(rows),
            "Beside the networks of its run:",
            (run / "table.md").read_text(encoding="utf-8"),
        ],
        monai_kd.engines.reproduce(bundle.root, trained, taught_by=teacher),
        monai_kd.engines.plain_settings(trained),
        origin=monai_kd.engines.describe_other_teacher(trained, teacher),
    )


def _note_origin(bundle: Bundle, trained: Mapping[str, Any], trained_on: str, summary: Mapping[str, Any]) -> None:
    """Write what the published student was trained on, and what it scores, into the bundle's metadata."""
    metadata = bundle.metadata
    noted = {
        "eval_metrics": {metric: rounded(value) for metric, value in monai_kd.engines.values_of(summary).items()},
        "training_data": trained_on,
        "generated": monai_kd.engines.is_generated(trained),
    }
    write_json(bundle.root / "configs" / "metadata.json", {**metadata, **noted})
