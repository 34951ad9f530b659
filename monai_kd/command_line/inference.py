# SPDX-License-Identifier: Apache-2.0
"""The verbs that apply a student: to images, and to test cases."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai_kd
from monai_kd.bundle import Bundle, plain_path
from monai_kd.files import read_json

from .errors import DONE, SOME_FAILED
from .output import say
from .teachers import activation_of, teacher_of, without_layers
from .trust import check_script, say_whose_code
from .words import config_settings, given, parse, paths, value_of

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

__all__ = ["evaluate", "infer"]


def infer(
    name: str,
    input: str,
    output: str,
    *overrides: str,
    run: str | None = None,
    checkpoint: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    part: str | None = None,
    probabilities: bool = False,
    overlay: bool = False,
    format: str | None = None,
    teacher: bool = False,
    trust: bool = False,
    config: str | None = None,
    **options: Any,
) -> int:
    """Apply the student to a file, a folder, a glob or a zip file of DICOM slices.

    Writes <stem>_pred.<ext> for every input, summary.csv, and failures.csv. The exit status is 1 if some inputs failed.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        input: a file, a folder (with its sub-folders), or a quoted glob. Where volumes are read, the DICOM slices of a
            series, in one folder or in one zip file, are one input.
        output: the folder that the outputs go to.
        overrides: further settings as key=value, by the ids of the bundle's inference.json.
        run: name or path of a run, whose student is used with the networks of that run.
        checkpoint: other weights than models/model.pt or the run's, or an exported student (.onnx, .ts). A .ts file
            (TorchScript) is code, which runs.
        device: cpu, cuda:0, ...
        batch_size: how many inputs go through the network together.
        resume: skip what is done already.
        part: such as 2/4: only the second of four parts, which may be done at the same time, on several machines.
        probabilities: write probability maps as well.
        overlay: write pictures of the input with the outline of the result as well.
        format: dicom_seg writes segmentations of DICOM images as DICOM-SEG.
        teacher: apply the run's teacher instead, and write what it says as soft labels, by which students elsewhere can
            be taught; the last line says by which settings of `train`.
        trust: run a .ts file that `export` did not make.
        config: a JSON or YAML file of settings, laid over the bundle's as key=value is, which it gives way to; several
            with commas between them, or as --config given several times.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    say_whose_code(bundle, run, checkpoint)
    from_files, wanted = config_settings(config, bundle, "inference.json"), parse(overrides, options)
    teacher = value_of(teacher)
    if teacher and (run is None or checkpoint is not None):
        raise ValueError("--teacher needs --run RUN, whose teacher it is, and no --checkpoint")
    weights = None if checkpoint is None else Path(plain_path(checkpoint))
    if weights is not None:
        bundle.check_student(weights)
        check_script(weights, value_of(trust))
    settings = teacher_of(bundle, str(run)) if teacher else bundle.model_of(run, weights)
    if weights is None and run is not None:
        bundle.check_made(Path(settings["checkpoint"]))
    if not teacher and settings and (names := bundle.not_applied(Path(settings["checkpoint"]))):
        say(
            f"{settings['checkpoint']} was trained with {', '.join(names)} of its own, which infer has in its own way: "
            "`evaluate` measures another student than this one"
        )
    if weights is not None:
        settings.update(bundle.settings_in(weights, {**from_files, **wanted}))
    settings.update(from_files)
    settings.update(dataset_dir=plain_path(input), output_dir=plain_path(output), **paths(checkpoint=checkpoint))
    settings.update({} if part is None else {"batch_inference#part": part})
    switches = {"resume": resume, "probabilities": probabilities, "overlay": overlay}
    settings.update(given(**{key: value_of(value) or None for key, value in switches.items()}))
    settings.update(given(device=device, batch_size=value_of(batch_size), format=format))
    workflow = bundle.workflow("inference.json", overrides={**settings, **wanted})
    results = workflow.run()
    workflow.finalize()
    if teacher:
        told = workflow.parser.get_parsed_content("described")["output"] if "described" in workflow.parser else None
        activation = activation_of({**bundle.config("inference.json"), **settings}, told)
        taught = shlex.join([name, f"teacher_dir={plain_path(output)}", f"teacher_activation={activation}"])
        say(f"soft labels to teach by: train {taught} {without_layers(bundle.config('train.json'))}".rstrip())
    return SOME_FAILED if results[-1].failed else DONE


def evaluate(
    name: str,
    *overrides: str,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    run: str | None = None,
    checkpoint: str | None = None,
    output: str | None = None,
    config: str | None = None,
    **options: Any,
) -> int:
    """Measure the student, or a run's teacher, on the test cases: cases.csv with a row per case, and summary.json.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        overrides: further settings as key=value, by the ids of the bundle's train.json and evaluate.json.
        dataset_dir: folder of the data set; by default the run's.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        run: name or path of a run, whose student, networks and split are used.
        checkpoint: other weights than models/model.pt or the run's; with teacher.pt, the teacher's network and images.
        output: the folder of the two files; by default `evaluation` in the run's folder, there or beside its run's
            other files `evaluation_<name>` of other weights, and `evaluation_published` of the bundle's own.
        config: a JSON or YAML file of settings, laid over the bundle's as key=value is, which it gives way to; several
            with commas between them, or as --config given several times.
        options: the same as key=value, as --key value.
    """
    from monai_kd.finite import check_finite_weights  # with PyTorch, which need not be there before

    bundle = Bundle(name)
    say_whose_code(bundle, run, checkpoint)
    files, settings = bundle.evaluation_of(run, checkpoint, datalist)
    bundle.check_made(Path(settings["checkpoint"]))
    settings.update(config_settings(config, bundle, *files))
    settings.update(paths(dataset_dir=dataset_dir, datalist_file=datalist, output_dir=output))
    settings.update(parse(overrides, options))
    workflow = bundle.workflow(*files, overrides=settings)
    _say_whom_it_has_seen(workflow.parser, Path(settings["checkpoint"]))
    # Or what is wrong with them would be said less well.
    check_finite_weights(monai_kd.engines.read_weights(settings["checkpoint"]), str(settings["checkpoint"]))
    workflow.run()
    folder = Path(workflow.parser.get_parsed_content("output_dir"))
    summary = read_json(folder / "summary.json")
    for metric, value in monai_kd.engines.values_of(summary).items():
        score = summary[metric]
        spread = f" +- {monai_kd.engines.score_text(score['std'], value)}" if "std" in score else ""
        spread = f" [{score['low']:.4f}, {score['high']:.4f}]" if "low" in score else spread
        say(f"{metric}: {monai_kd.engines.score_text(value)}{spread} over {score['cases']} cases")
    precision = monai_kd.engines.precision_of(workflow.parser)
    say(f"computed in {precision}; cases.csv and summary.json are in {folder}")
    return DONE


def _say_whom_it_has_seen(parser: ConfigParser, weights: Path) -> None:
    """Say that cases are of patients whom the weights have learned from: what they score tells nothing about others."""
    items = parser.get_parsed_content("validate#dataset#data")
    if seen := monai_kd.engines.seen_patients(weights, items):
        shown = ", ".join(seen[:3]) + (" ..." if len(seen) > 3 else "")
        say(f"{weights} was trained on {len(seen)} of these patients ({shown}): this is no test")
