"""The command line: every verb works on any bundle, by what the bundle's configuration says.

PyTorch and MONAI are imported when a verb needs them, so that help is at hand at once.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from typing import Any

import fire

import monai_kd

from .bundle import Bundle, check_known, plain_path, read_json
from .verification import CHECKS, EXPORTS, LARGEST_MODEL

__all__ = ["main"]

_STAGES = {"teacher": "teacher_training", "student_alone": "student_alone", "distill": "train"}
_DONE, _SOME_FAILED, _WRONG_CALL = 0, 1, 2
_APP = """from monai_kd.networks.torchvision_operators import import_timm

import_timm()  # MONAI Label imports torchvision, which this cures where it was built for another PyTorch

from monai_kd.label_app import LabelApp  # noqa: E402, F401
"""
# What a run's configuration says of one place and one call, and not of the networks and their training.
_OF_THE_CALL = ["bundle_root", "ckpt_dir", "dataset_dir", "datalist_file", "teacher_checkpoint"]
_OF_THE_CALL += ["device", "resume", "run", "training"]
_MISFIT = "Error(s) in loading state_dict for "  # torch's words


def list_bundles() -> int:
    """Show the bundles, what each one reads, and whether trained weights are there."""
    for name in monai_kd.bundle_names():
        bundle = Bundle(name)
        metadata = bundle.metadata
        weights = "yes" if (bundle.root / "models" / "model.pt").is_file() else "no (train one, or use --run)"
        _say(f"{name}\n    {metadata['task']}\n    data:    {metadata['data_source']}")
        _say(f"    reads:   {metadata['data_type']}")
        _say(f"    weights: {weights}\n    runs:    {', '.join(bundle.runs) or 'none'}")
    return _DONE


def generate(name: str, out: str, cases: int = 100, seed: int = 0, **options: Any) -> int:
    """Write a generated data set in the file format of the bundle's real one.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        out: a new or empty folder, or one with an earlier generated data set, which is replaced.
        cases: how many cases.
        seed: the same seed gives the same data.
        options: further arguments of the bundle's generator, such as --difficulty hard.
    """
    bundle = Bundle(name)
    overrides = {f"generator#{key}": value for key, value in _parse((), options).items()}
    generator = bundle.workflow("train.json", overrides=overrides).parser.get_parsed_content("generator")
    folder = generator(plain_path(out), cases=int(cases), seed=int(seed))
    _say(f"{cases} generated cases in {folder}")
    return _DONE


def train(
    name: str,
    *overrides: str,
    stages: str | None = None,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    run: str | None = None,
    demo: bool = False,
    cross_validation: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> int:
    """Train the teacher if the run has none, then distil it into the student.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        overrides: further settings as key=value, by the ids of the bundle's train.json.
        stages: some of teacher,student_alone,distill instead.
        dataset_dir: folder of the data set.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        run: name or path of the run's folder.
        demo: generated data and small networks: all three stages and a table in a few minutes.
        cross_validation: all stages and a table for every fold of the data set, where the bundle has folds.
        resume: go on with an interrupted run; what is completed is kept.
        overwrite: train again what the run has completed, over it.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    settings: dict[str, Any] = _paths(dataset_dir=dataset_dir, datalist_file=datalist)
    settings.update(_given(resume=_value(resume) or None))
    if run is not None:
        settings["ckpt_dir"] = str(bundle.run_folder(run))
    if stages is not None:
        chosen = stages.split(",")
        for stage in chosen:
            check_known(stage, _STAGES, "stage")
        settings["run"] = ["$monai_kd.data.require(@train#dataset#data)"]
        settings["run"] += [f"$@{section}#stage.run()" for stage, section in _STAGES.items() if stage in chosen]
        if "distill" not in chosen and "distillation_checks" in bundle.config("train.json"):
            settings["distillation_checks"] = []
    demo, cross_validation, overwrite = (_value(switch) for switch in (demo, cross_validation, overwrite))
    overlays = [file for file, wanted in (("demo.json", demo), ("cross_validate.json", cross_validation)) if wanted]
    for file in overlays:
        if not (bundle.root / "configs" / file).is_file():
            raise ValueError(f"the bundle {bundle.root.name} has no {file}, so it cannot be trained in this way")
    workflow = bundle.workflow("train.json", *overlays, overrides={**settings, **_parse(overrides, options)})
    _check_stages(workflow.parser, may_overwrite=overwrite or (demo and run is None))
    workflow.run()
    workflow.finalize()
    return _DONE


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
        checkpoint: other weights than models/model.pt or the run's, or an exported student (.onnx, .ts).
        device: cpu, cuda:0, ...
        batch_size: how many inputs go through the network together.
        resume: skip what is done already.
        part: such as 2/4: only the second of four parts, which may be done at the same time, on several machines.
        probabilities: write probability maps as well.
        overlay: write pictures of the input with the outline of the result as well.
        format: dicom_seg writes segmentations of DICOM images as DICOM-SEG.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    wanted = _parse(overrides, options)
    settings: dict[str, Any] = {"dataset_dir": plain_path(input), "output_dir": plain_path(output)}
    if run is not None:
        settings.update(bundle.model_of(run))
    if checkpoint is not None:
        weights = Path(plain_path(checkpoint))
        bundle.check_student(weights)
        settings.update(bundle.settings_in(weights, wanted))
    if part is not None:
        settings["batch_inference#part"] = part
    switches = {"resume": resume, "probabilities": probabilities, "overlay": overlay}
    settings.update(_given(**{key: _value(value) or None for key, value in switches.items()}))
    settings.update(_paths(checkpoint=checkpoint), **_given(device=device, batch_size=_value(batch_size)))
    settings.update(_given(format=format))
    results = bundle.run("inference.json", overrides={**settings, **wanted})
    return _SOME_FAILED if results[-1].failed else _DONE


def evaluate(
    name: str,
    *overrides: str,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    run: str | None = None,
    checkpoint: str | None = None,
    output: str | None = None,
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
        output: the folder of the two files; by default the run's `evaluation`, or `evaluation_<name>` of other weights.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    files, settings = bundle.evaluation_of(run, checkpoint)
    settings.update(_paths(dataset_dir=dataset_dir, datalist_file=datalist, output_dir=output))
    settings.update(_parse(overrides, options))
    workflow = bundle.workflow(*files, overrides=settings)
    monai_kd.engines.read_weights(settings["checkpoint"])  # or what is wrong with them would be said less well
    workflow.run()
    folder = Path(workflow.parser.get_parsed_content("output_dir"))
    summary = read_json(folder / "summary.json")
    for metric, value in monai_kd.engines.values_of(summary).items():
        score = summary[metric]
        spread = f" +- {score['std']:.4f}" if "std" in score else ""
        spread = f" [{score['low']:.4f}, {score['high']:.4f}]" if "low" in score else spread
        _say(f"{metric}: {value:.4f}{spread} over {score['cases']} cases")
    _say(f"cases.csv and summary.json are in {folder}")
    return _DONE


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
    **options: Any,
) -> int:
    """Write the student as one file that `infer --checkpoint` reads, and compare it with the original.

    Both go through the same validation cases. A file that differs, or whose metric is worse by more than the tolerance,
    is not kept.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        out: the file: .onnx, or .ts for torchscript.
        overrides: further settings as key=value, by the ids of the bundle's train.json and evaluate.json.
        format: onnx, torchscript, or int8 (ONNX in 8-bit integers, calibrated on the validation cases).
        run: name or path of a run, whose student, networks and split are used.
        checkpoint: other weights than models/model.pt or the run's.
        dataset_dir: folder of the data set; by default the run's.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        tolerance: largest loss of the metric.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    files, settings = bundle.evaluation_of(run, checkpoint)
    bundle.check_student(Path(settings["checkpoint"]))
    needs_data = format == "int8" or dataset_dir is not None or datalist is not None
    settings.update(_paths(dataset_dir=dataset_dir, datalist_file=datalist))
    settings.update({"device": "cpu", **_parse(overrides, options)})
    settings.update({"validate#dataset#data": "$@datalist['validation']", "validate#handlers": []})
    settings["run"] = ["$monai_kd.data.require(@validate#dataset#data)"]
    workflow = bundle.workflow(*files, overrides=settings)
    parser = workflow.parser
    network = parser.get_parsed_content("network_def")
    monai_kd.engines.load_weights(network, settings["checkpoint"])
    data = parser.get_parsed_content("validate#dataset#data")
    if needs_data:
        workflow.run()
    inference = bundle.config("inference.json")
    inference.update({key: parser[key] for key in inference["model_ids"]})
    metadata = bundle.metadata
    report = monai_kd.engines.export_network(
        network,
        plain_path(out),
        format,
        shape=_input_shape(metadata),
        metadata=monai_kd.engines.describe_network(inference, metadata, (bundle.root / "LICENSE").read_text()),
        evaluator=parser.get_parsed_content("validate#evaluator") if data else None,
        tolerance=float(tolerance),
    )
    _say(f"{report.file}: {report.file.stat().st_size / 1e6:.2f} MB")
    _say(f"outputs differ by {report.difference:.2g} of their size over {report.samples} images")
    if report.metric:
        _say(f"{report.metric}: {report.before:.4f} before, {report.after:.4f} after, {len(data)} validation cases")
    else:
        _say("compared by random images alone; name a --dataset_dir to compare the metric on its validation cases too")
    return _DONE


def compare(
    name: str,
    *overrides: str,
    dataset_dir: str | None = None,
    datalist: str | None = None,
    seeds: int | None = None,
    device: str | None = None,
    out: str | None = None,
    effort: str = "equal",
    demo: bool = False,
    dry_run: bool = False,
    terms: bool = False,
    methods: bool = False,
    paper: bool = False,
    **options: Any,
) -> int:
    """Say whether distillation helped: train and test teacher, student alone and distilled student with several seeds.

    Writes report.html, table.md, table.csv, results.json and model_card.md. What is completed is kept: the same command
    goes on with an interrupted comparison.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        overrides: further settings as key=value, by the ids of the bundle's train.json.
        dataset_dir: folder of the data set.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        seeds: how many seeds; 3, or 1 with --demo.
        device: cpu, cuda:0, ...
        out: the folder of the comparison.
        effort: how long the student alone trains: equal (as many steps as the student takes with the teacher in all
            stages) or schedule (as many as in the distillation).
        demo: generated data and small networks.
        dry_run: only say what would be trained, what is there, and how long the rest may take.
        terms: also train each term of the distillation alone, and all but each.
        methods: also train the other distillation methods that the bundle offers.
        paper: put the paper's published numbers beside the results.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    demo, dry_run, terms, methods, paper = (_value(switch) for switch in (demo, dry_run, terms, methods, paper))
    folder = monai_kd.run_dir(bundle.root, "compare_demo" if demo else "compare") if out is None else plain_path(out)
    settings = {**_paths(dataset_dir=dataset_dir, datalist_file=datalist), **_given(device=device)}
    number = (1 if demo else 3) if seeds is None else _value(seeds)
    chosen = {"seeds": number, "effort": effort, "terms": terms, "methods": methods}
    if dry_run:
        call = f"$monai_kd.comparison.plan(@ckpt_dir, **{chosen})"
    else:
        chosen["paper"] = paper
        call = f"$monai_kd.comparison.compare(@ckpt_dir, @dataset_dir, @datalist, @bundle_root, **{chosen})"
    settings |= {"ckpt_dir": folder, "run": [call]}
    overlays = ["demo.json"] if demo else []
    results = bundle.run("train.json", *overlays, overrides={**settings, **_parse(overrides, options)})
    _say(results[-1] if dry_run else f"the comparison is in {folder}: open report.html, or read table.md")
    return _DONE


def verify(name: str) -> int:
    """Check everything that a bundle must satisfy: files, metadata, configurations, network, weights, export.

    These are the rules of MONAI's bundles and of its model zoo, as far as they can be checked without a network. The
    exports, which take longest, are tried when all else is well.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
    """
    bundle = Bundle(name)
    failed = 0
    for check in (*CHECKS, *EXPORTS):
        title = (check.__doc__ or "").rstrip(".")
        if failed and check in EXPORTS:
            _say(f"skipped {title}: mend the above first")
            continue
        try:
            check(bundle)
            _say(f"ok      {title}")
        except Exception as error:
            failed += 1
            _say(f"FAILED  {title}: {_reason(error)}")
    return _SOME_FAILED if failed else _DONE


def copy(name: str, dir: str) -> int:
    """Copy a bundle to change it and to train it on one's own data.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        dir: a new folder. MONAI Label takes the task from its name, so keep `segmentation` or `classification` in it.
    """
    bundle = Bundle(name)
    target = Path(plain_path(dir)).resolve()
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} exists and is not empty; choose a new folder")
    bundle.copy_to(target)
    _say(f"{target} is yours; train it with: python -m monai_kd train {target} --dataset_dir ...")
    return _DONE


def label_app(dir: str, bundles: str | None = None, run: str | None = None) -> int:
    """Make an app for MONAI Label, whose server outlines by students and fine-tunes them on corrected outlines.

    Args:
        dir: a new folder, or an earlier app, which gets further bundles.
        bundles: names or paths of bundles that segment, with commas between them; by default all that come with
            monai_kd.
        run: name or path of a run, whose student, teacher and settings are used. By default models/model.pt, for which
            a teacher is trained when it is fine-tuned.
    """
    target = Path(plain_path(dir)).resolve()
    if target.exists() and any(target.iterdir()) and not (target / "main.py").is_file():
        raise FileExistsError(f"{target} is neither empty nor an app; choose a new folder")
    chosen = [Bundle(name) for name in (monai_kd.bundle_names() if bundles is None else bundles.split(","))]
    if bundles is None:
        chosen = [bundle for bundle in chosen if bundle.segments]
    if run is not None and os.sep in run and len(chosen) > 1:
        raise ValueError(f"the run {run} is of one bundle: name that one by --bundles, and add others by further calls")
    for bundle in chosen:
        if not bundle.segments:
            raise ValueError(f"{bundle.root.name} does not outline anything, which MONAI Label is for here")
        if (target / "model" / bundle.root.name).exists():
            raise FileExistsError(f"{target} has {bundle.root.name} already; choose a new folder")
        if run is not None:
            bundle.completed_run(run)
            bundle.model_of(run)
        elif not (bundle.root / "models" / "model.pt").is_file():
            raise FileNotFoundError(f"{bundle.root.name} has no models/model.pt; name the --run of a student")
    for bundle in chosen:
        _add_to_app(bundle, target / "model" / bundle.root.name, run)
    (target / "main.py").write_text(_APP)
    _say(f"{target} is ready; start it with: monailabel start_server --app {target} --studies FOLDER")
    return _DONE


def publish(name: str, run: str) -> int:
    """Make a run's student the bundle's own: models/model.pt, with docs/model_card.md.

    A student of more than 20 MB is stored in half precision, provided that no metric of the test cases moves.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        run: name or path of a completed run.
    """
    bundle = Bundle(name)
    if Path(monai_kd.run_dir(bundle.root)).parents[1] != bundle.root:
        raise ValueError(
            f"{bundle.root} belongs to an installed package; copy the bundle first, and publish to the copy"
        )
    folder = bundle.completed_run(run)
    for key, value in bundle.model_of(run).items():
        if key != "checkpoint" and value != bundle.config("inference.json").get(key):
            raise ValueError(
                f"the run's {key} differs from inference.json, so its student does not fit the bundle; copy the "
                f"bundle, set {key} in the copy's inference.json and train.json, and publish there"
            )
    checkpoint = folder / "model.pt"
    summary = _measure(bundle, folder, checkpoint, "distilled_student")
    if checkpoint.stat().st_size > LARGEST_MODEL:
        checkpoint = _halve(checkpoint)
        halved = _measure(bundle, folder, checkpoint, "half_precision")
        values = monai_kd.engines.values_of(halved)
        for metric, before in monai_kd.engines.values_of(summary).items():
            if abs(values[metric] - before) > 1e-3:
                raise ValueError(f"half precision moves {metric} from {before} to {values[metric]}")
        summary = halved
    published = bundle.root / "models" / "model.pt"
    monai_kd.engines.replace_weights(published, checkpoint)
    card = bundle.root / "docs" / "model_card.md"
    card.write_text(_model_card(bundle, read_json(folder / "model.json"), summary))
    _say(f"published {checkpoint} as {published}, described in {card}")
    return _DONE


_VERBS: dict[str, Callable[..., int]] = {
    "list": list_bundles,
    "generate": generate,
    "train": train,
    "infer": infer,
    "evaluate": evaluate,
    "compare": compare,
    "export": export,
    "verify": verify,
    "copy": copy,
    "label_app": label_app,
    "publish": publish,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``python -m monai_kd``; by default those of this process.

    Returns:
        The exit status: 0 all done; 1 some cases failed, or the work broke off; 2 the call itself is wrong.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if words in ([], ["-h"], ["--help"]):
        return _show_verbs()
    try:
        _check_options(words)
        words = [words[0], *(_as_typed(word, _switches(words[0])) for word in words[1:])]
        status = fire.Fire(_VERBS, command=words, name="monai_kd", serialize=lambda result: None)
        return status if isinstance(status, int) else _DONE
    except SystemExit as exit_:  # fire's own, on a call that does not fit
        return int(exit_.code or 0)
    except KeyboardInterrupt:
        cure = "; go on with --resume" if words[0] in ("train", "infer") else ""
        cure = "; the same command goes on" if words[0] == "compare" else cure
        sys.stderr.write(f"interrupted{cure}\n")
        return _SOME_FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {_reason(error)}\n")
        cause = _root_cause(error)
        wrong = isinstance(cause, (OSError, ValueError, TypeError, KeyError)) or _MISFIT in str(cause)
        return _WRONG_CALL if wrong else _SOME_FAILED
    finally:
        _wait_for_readers()


def _show_verbs() -> int:
    """Show what there is to do."""
    _say("python -m monai_kd VERB ...\n")
    for name, verb in _VERBS.items():
        _say(f"  {name:<9} {(verb.__doc__ or '').splitlines()[0]}")
    _say("\npython -m monai_kd VERB --help shows what a verb takes; --debug shows the trace of an error")
    return _DONE


def _wait_for_readers() -> None:
    """Let the threads that fill MONAI's caches end: after an error its pool leaves them alone.

    Python would stop them in the middle of a file, in code that aborts the process then, or waits for ever.
    """
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(timeout=60)


def _check_options(words: Sequence[str]) -> None:
    """Refuse what a verb does not take before it does anything; fire would complain afterwards."""
    verb = _VERBS.get(words[0]) if words else None
    if verb is None or "--help" in words or "--" in words:
        return
    parameters = inspect.signature(verb).parameters
    for word, after in zip(words[1:], [*words[2:], "--"]):
        name = word[2:].replace("-", "_") if word.startswith("--") else ""
        if name in parameters and parameters[name].default is not False and after.startswith("--"):
            raise ValueError(f"{word} needs a value behind it")
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for word in words[1:]:
            if word.startswith("--"):
                check_known(word[2:].partition("=")[0].replace("-", "_"), parameters, "option")
        taken = [word for before, word in zip(words, words[1:]) if word.startswith("--") or not before.startswith("--")]
        if len(taken) > len(parameters):
            raise ValueError(f"{words[0]} takes {', '.join(parameters) or 'no further words'}, got {' '.join(taken)}")


def _switches(verb: str) -> set[str]:
    """The options of a verb that are on when they are named."""
    if verb not in _VERBS:
        return set()
    parameters = inspect.signature(_VERBS[verb]).parameters.values()
    return {f"--{parameter.name}" for parameter in parameters if parameter.default is False}


def _as_typed(word: str, switches: set[str]) -> str:
    """A word that fire, which reads every word as Python, takes for the text that was typed.

    It would cut ``train#trainer=...`` at the comment sign, turn a run called 007 into a number, and take the word
    behind ``--resume`` for its value.
    """
    if word in switches:
        return f"{word}=True"
    if word.startswith("-"):
        option, equals, value = word.partition("=")
        return f"{option}={value!r}" if equals else word
    return repr(word)


def _add_to_app(bundle: Bundle, target: Path, run: str | None) -> None:
    """A copy of a bundle, with the networks and settings of a run, whose model becomes what it is trained to.

    MONAI Label offers every file in models/ as the student, also while a training goes on. So trainings write to a run
    of the copy, where the teacher lies, and end by putting the student into models/.
    """
    from monai.bundle import ConfigParser

    bundle.copy_to(target)
    train, inference = (read_json(target / "configs" / file) for file in ("train.json", "inference.json"))
    model = target / "models" / "model.pt"
    if run is not None:
        student = bundle.model_of(run)
        monai_kd.engines.replace_weights(model, student.pop("checkpoint"))
        inference.update(student)
        trained = read_json(bundle.existing_run(run) / "model.json")
        teacher = ConfigParser(trained).get_parsed_content("teacher_checkpoint")
        trained.pop(monai_kd.engines.TRAINED_ON, None)  # an app may go to others, and these are names of patients
        train = {**trained, **{key: train[key] for key in _OF_THE_CALL}}
        if teacher is None:
            train["teacher_checkpoint"] = None
            train["run"].remove(f"$@{_STAGES['teacher']}#stage.run()")
        elif Path(teacher).is_file():
            # Without its configuration, which would be compared with that of the new data.
            (target / "runs" / "default").mkdir(parents=True)
            shutil.copyfile(teacher, target / "runs" / "default" / "teacher.pt")
    train["run"].append("$monai_kd.engines.replace_weights(@bundle_root + '/models/model.pt', @train#stage#checkpoint)")
    for file, config in (("train.json", train), ("inference.json", inference)):
        monai_kd.engines.write_json(target / "configs" / file, config)


def _measure(bundle: Bundle, run: Path, checkpoint: Path, name: str) -> dict[str, Any]:
    """Summary of a run's checkpoint on the test cases, evaluated unless that was done before."""
    summary = run / "evaluation" / name / "summary.json"
    if not summary.is_file() or summary.stat().st_mtime < checkpoint.stat().st_mtime:
        evaluate(str(bundle.root), run=str(run), checkpoint=str(checkpoint), output=str(summary.parent))
    return read_json(summary)


def _halve(checkpoint: Path) -> Path:
    """A copy of a checkpoint, beside it, with its weights in half precision."""
    import torch

    weights = monai_kd.engines.read_weights(checkpoint)
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    copied = checkpoint.with_name("model_half.pt")
    torch.save({"model": half}, copied)
    return copied


def _model_card(bundle: Bundle, trained: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What a published student says about itself."""
    rows = [["metric", "value or mean over cases", "standard deviation over cases", "median", "interval", "cases"]]
    for metric, value in monai_kd.engines.values_of(summary).items():
        score = summary[metric]
        spread = [f"{score[key]:.4f}" if key in score else "" for key in ("std", "median")]
        limits = f"{score['low']:.4f} to {score['high']:.4f}" if "low" in score else ""
        rows.append([metric, f"{value:.4f}", *spread, limits, str(score["cases"])])
    return monai_kd.engines.describe_model(
        bundle.metadata,
        {
            "Data": monai_kd.engines.describe_data(trained, bundle.metadata),
            "Size": f"{summary['parameters']:,} parameters.",
        },
        [monai_kd.engines.markdown_table(rows)],
        f"python -m monai_kd train {bundle.root.name}",
        monai_kd.engines.plain_settings(trained),
    )


def _input_shape(metadata: Mapping[str, Any]) -> list[int]:
    """(C, *spatial) of the images that a bundle's network is made for."""
    image = metadata["network_data_format"]["inputs"]["image"]
    return [image["num_channels"], *image["spatial_shape"]]


def _check_stages(parser: Any, may_overwrite: bool) -> None:
    """Refuse to train over what a run has completed, and to distil without a completed teacher of the same data."""
    steps = json.dumps(parser["run"]).replace("::", "#")
    trained = {stage for stage, section in _STAGES.items() if f"@{section}#stage.run()" in steps}
    if not (may_overwrite or parser.get_parsed_content("resume")):
        for stage in sorted(trained - {"teacher"}):  # a completed teacher is used again
            checkpoint = Path(parser.get_parsed_content(f"{_STAGES[stage]}#stage#checkpoint"))
            if checkpoint.is_file() and not _resume_file(parser, stage, checkpoint).is_file():
                raise FileExistsError(
                    f"{checkpoint} is completed: keep it by --resume, train another --run, or replace it by --overwrite"
                )
    teacher = parser.get_parsed_content("teacher_checkpoint")
    if "distill" in trained and "teacher" not in trained and teacher is not None:
        if not Path(teacher).is_file():
            raise FileNotFoundError(
                f"there is no teacher at {teacher}: train one by --stages teacher,distill, or name another one as "
                "teacher_checkpoint=FILE"
            )
        if _resume_file(parser, "teacher", Path(teacher)).is_file():
            raise ValueError(f"{teacher} is not completed: go on with --stages teacher,distill --resume")
        ids, datalist = parser[f"{_STAGES['teacher']}#stage#data_ids"], parser.get_parsed_content("datalist")
        monai_kd.engines.check_data(Path(teacher), parser.get(), ids, datalist)


def _resume_file(parser: Any, stage: str, checkpoint: Path) -> Path:
    """What lies beside a checkpoint until its stage is completed."""
    return checkpoint.with_name(f"{parser.get_parsed_content(f'{_STAGES[stage]}#stage#name')}_resume.pt")


def _parse(overrides: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from words like ``key=value`` and from options like ``--key value``."""
    parsed: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"expected key=value, got {override!r}")
        parsed[key] = _value(text)
    parsed.update({key: _value(value) for key, value in options.items()})
    return {key: _absolute(key, value) for key, value in parsed.items()}


def _absolute(key: str, value: Any) -> Any:
    """A setting whose paths, one or a list, mean the same in every folder."""
    if isinstance(value, list) and value and all(_names_path(key, element) for element in value):
        return [plain_path(element) for element in value]
    return plain_path(value) if _names_path(key, value) else value


def _names_path(key: str, value: Any) -> bool:
    """Whether a setting is a path, which means the current folder now and when a run's configuration is used later."""
    if not isinstance(value, str) or value[:1] in ("$", "@", "%"):
        return False
    return key.endswith(("_dir", "_file", "checkpoint")) or os.path.isfile(value)


def _value(text: Any) -> Any:
    """What a word means as JSON, else as Python, else the word itself."""
    if not isinstance(text, str):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _paths(**settings: str | None) -> dict[str, str]:
    return {key: plain_path(value) for key, value in settings.items() if value is not None}


def _given(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _root_cause(error: BaseException) -> BaseException:
    """What was said before MONAI wrapped it: a transform or a part of a configuration fails as a RuntimeError."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    cause = _root_cause(error)
    if isinstance(cause, KeyError) and cause.args and " " not in str(cause.args[0]):
        return f"there is no {cause.args[0]!r} to choose; look at the settings"
    text = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
    if _MISFIT in text:
        text = _misfit(text)
    return " ".join(text.split()) or type(cause).__name__


def _misfit(text: str) -> str:
    """What torch says on a page about weights of another network, in a line."""
    before, _, page = text.partition(_MISFIT)
    missing, unexpected = (
        re.findall(r'"([^"]+)"', "".join(re.findall(rf"{kind} key\(s\) in state_dict: (.*)", page)))
        for kind in ("Missing", "Unexpected")
    )
    other_shape = re.findall(r"size mismatch for ([^:\s]+):", page)
    found = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    counts = ", ".join(f"{len(names)} {kind} (such as {names[0]})" for kind, names in found.items() if names)
    where = before if "weights belong to another network" in before else "these weights belong to another network: "
    return f"{where}{counts}; name the --run that they were trained in, or other weights"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
