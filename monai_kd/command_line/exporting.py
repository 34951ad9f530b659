# SPDX-License-Identifier: Apache-2.0
"""The verb ``export``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.bundle import Bundle, plain_path

from .errors import DONE
from .output import say
from .trust import say_whose_code
from .words import config_settings, parse, paths

__all__ = ["export"]

_OF_PUBLISHED = ("eval_metrics", "training_data", "generated")
"""What the metadata say of models/model.pt alone."""


def export(
    name: str,
    out: str,
    *overrides: str,
    format: str = "onnx",
    run: str | None = None,
    checkpoint: str | None = None,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    tolerance: float = 0.01,
    config: str | None = None,
    **options: Any,
) -> int:
    """Write the student as one file that `infer --checkpoint` reads, and compare it with the original.

    Both go through the same validation cases. A file that differs, or whose metric is worse by more than the tolerance,
    is not kept.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        out: the file: .onnx, or .ts for torchscript; what the bundle's own formats ask for.
        overrides: further settings as key=value, by the ids of the bundle's train.json and evaluate.json.
        format: onnx, torchscript, int8 (ONNX in 8-bit integers, calibrated on the validation cases), or one of the
            bundle's own.
        run: name or path of a run, whose student, networks and split are used.
        checkpoint: other weights than models/model.pt or the run's.
        dataset_dir: folder of the data set; by default the run's.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        tolerance: largest loss of the metric.
        config: a JSON or YAML file of settings, laid over the bundle's as key=value is, which it gives way to; several
            with commas between them, or as --config given several times.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    say_whose_code(bundle, run, checkpoint)
    files, settings = bundle.evaluation_of(run, checkpoint, datalist)
    bundle.check_made(Path(settings["checkpoint"]))
    bundle.check_student(Path(settings["checkpoint"]))
    bundle.check_applied(Path(settings["checkpoint"]))  # or the file would describe another preprocessing
    needs_data = format == "int8" or dataset_dir is not None or datalist is not None
    settings.update(config_settings(config, bundle, *files))
    settings.update(paths(dataset_dir=dataset_dir, datalist_file=datalist))
    settings.update({"device": "cpu", **parse(overrides, options)})
    settings.update({"validate#dataset#data": "$@datalist['validation']", "validate#handlers": []})
    settings["run"] = ["$monai_kd.data.require(@validate#dataset#data)"]
    workflow = bundle.workflow(*files, overrides=settings)
    parser = workflow.parser
    network = parser.get_parsed_content("network_def")
    monai_kd.engines.load_weights(network, settings["checkpoint"])
    data = parser.get_parsed_content("validate#dataset#data")
    if needs_data:
        workflow.run()
    evaluator = parser.get_parsed_content("validate#evaluator") if data else None
    if format in (parser.get("export_formats") or {}):
        if (parser["datalist"] or {}).get("_target_") == monai_kd.engines.CROSS_VALIDATED:
            raise ValueError(f"{run} is a fold of a comparison, which is none of the folds that {format} knows")
        say(*parser.get_parsed_content(f"export_formats#{format}")(network, plain_path(out), evaluator))
        return DONE
    inference = bundle.config("inference.json")
    inference.update({key: parser[key] for key in inference["model_ids"] if key in parser})
    described = _describe(bundle, inference, Path(settings["checkpoint"]))
    report = monai_kd.engines.export_network(
        network,
        plain_path(out),
        format,
        shape=[described["input"]["channels"], *described["input"]["size"]],
        metadata=described,
        evaluator=evaluator,
        tolerance=float(tolerance),
        config=monai_kd.engines.embedded_config(inference),
    )
    computes_in, precision = "int8" if format == "int8" else "float32", monai_kd.engines.precision_of(parser)
    size = report.file.stat().st_size / 1e6
    say(f"{report.file}: {size:.2f} MB, computes in {computes_in}; compared with the student in {precision}")
    say(f"outputs differ by {report.difference:.2g} of their size over {report.samples} images")
    if report.metric:
        say(f"{report.metric}: {report.before:.4f} before, {report.after:.4f} after, {len(data)} validation cases")
        for name, (was, is_now) in report.classes.items():
            say(f"{report.metric}_{name}: {was:.4f} before, {is_now:.4f} after")
    else:
        say("compared by random images alone; name a --dataset_dir to compare the metric on its validation cases too")
    return DONE


def _describe(bundle: Bundle, config: Mapping[str, Any], weights: Path) -> dict[str, Any]:
    """What the file says about itself: of the bundle's own weights, and of those of a run, whatever is known."""
    metadata, licence = bundle.metadata, (bundle.root / "LICENSE").read_text(encoding="utf-8")
    if weights == bundle.root / "models" / "model.pt":
        return monai_kd.engines.describe_network(config, metadata, licence, scores=metadata.get("eval_metrics"))
    for key in _OF_PUBLISHED:
        metadata.pop(key, None)
    trained, scores = monai_kd.engines.read_run_config(weights), monai_kd.engines.latest_scores(weights)
    return monai_kd.engines.describe_network(config, metadata, licence, trained, scores)
