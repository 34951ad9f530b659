"""The command line: every verb works on any bundle, by what the bundle's configuration says.

PyTorch and MONAI are imported when a verb needs them, so that help is at hand at once.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import json
import logging
import os
import re
import shutil
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from typing import Any

import fire

import monai_kd

__all__ = ["main"]

_STAGES = {"teacher": "teacher_training", "student_alone": "student_alone", "distill": "train"}
_DONE, _SOME_FAILED, _WRONG_CALL = 0, 1, 2
_MISFIT = "Error(s) in loading state_dict for "  # torch's words
_LARGEST_MODEL = 20_000_000  # bytes that can travel with a bundle
_EXPORTED = (".onnx", ".ts")


def list_bundles() -> int:
    """Show the bundles, what each one reads, and whether trained weights are there."""
    for name in monai_kd.bundle_names():
        root = Path(monai_kd.bundle_root(name))
        metadata = _read_json(root / "configs" / "metadata.json")
        weights = "yes" if (root / "models" / "model.pt").is_file() else "no (train one, or use --run)"
        runs = _runs(Path(monai_kd.run_dir(root, "")))
        _say(f"{name}\n    {metadata['task']}\n    data:    {metadata['data_source']}")
        _say(f"    reads:   {metadata['data_type']}")
        _say(f"    weights: {weights}\n    runs:    {', '.join(runs) or 'none'}")
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
    bundle = _Bundle(name)
    overrides = {f"generator#{key}": value for key, value in _parse((), options).items()}
    generator = bundle.workflow("train.json", overrides=overrides).parser.get_parsed_content("generator")
    folder = generator(str(_path(out)), cases=int(cases), seed=int(seed))
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
    bundle = _Bundle(name)
    settings = _given(dataset_dir=_path(dataset_dir), datalist_file=_path(datalist), resume=_value(resume) or None)
    if run is not None:
        settings["ckpt_dir"] = str(bundle.run_folder(run))
    if stages is not None:
        chosen = stages.split(",")
        for stage in chosen:
            _known(stage, _STAGES, "stage")
        settings["run"] = ["$monai_kd.data.require(@train#dataset#data)"]
        settings["run"] += [f"$@{section}#stage.run()" for stage, section in _STAGES.items() if stage in chosen]
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
    **options: Any,
) -> int:
    """Apply the student to a file, a folder or a glob.

    Writes <stem>_pred.<ext> for every input, summary.csv, and failures.csv. The exit status is 1 if some inputs failed.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        input: a file, a folder (with its sub-folders), or a quoted glob.
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
        options: the same as key=value, as --key value.
    """
    bundle = _Bundle(name)
    settings: dict[str, Any] = {"dataset_dir": _path(input), "output_dir": _path(output)}
    if run is not None:
        settings.update(bundle.model_of(run))
    if checkpoint is not None:
        settings.update(bundle.settings_in(Path(str(_path(checkpoint)))))
    if part is not None:
        settings["batch_inference#part"] = part
    switches = {"resume": resume, "probabilities": probabilities, "overlay": overlay}
    settings.update(_given(**{key: _value(value) or None for key, value in switches.items()}))
    settings.update(_given(checkpoint=_path(checkpoint), device=device, batch_size=_value(batch_size)))
    results = bundle.run("inference.json", overrides={**settings, **_parse(overrides, options)})
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
    """Measure the student on the test cases: cases.csv with a row per case, and summary.json.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        overrides: further settings as key=value, by the ids of the bundle's train.json and evaluate.json.
        dataset_dir: folder of the data set; by default the run's.
        datalist: a Decathlon-style JSON list instead of the data set's own layout.
        run: name or path of a run, whose student, networks and split are used.
        checkpoint: other weights than models/model.pt or the run's.
        output: the folder of the two files.
        options: the same as key=value, as --key value.
    """
    bundle = _Bundle(name)
    first, settings = bundle.evaluation_of(run, checkpoint)
    settings.update(_given(dataset_dir=_path(dataset_dir), datalist_file=_path(datalist)))
    settings.update(_given(output_dir=_path(output)))
    settings.update({**_parse(overrides, options)})
    workflow = bundle.workflow(first, "evaluate.json", overrides=settings)
    _check_checkpoint(settings["checkpoint"])
    workflow.run()
    folder = Path(workflow.parser.get_parsed_content("output_dir"))
    for metric, value in _scores(_read_json(folder / "summary.json")).items():
        spread = f" +- {value['std']:.4f}" if "std" in value else ""
        spread = f" [{value['low']:.4f}, {value['high']:.4f}]" if "low" in value else spread
        _say(f"{metric}: {_score(value):.4f}{spread} over {value['cases']} cases")
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
    bundle = _Bundle(name)
    first, settings = bundle.evaluation_of(run, checkpoint)
    needs_data = format == "int8" or dataset_dir is not None or datalist is not None
    settings.update(_given(dataset_dir=_path(dataset_dir), datalist_file=_path(datalist)))
    settings.update({"device": "cpu", **_parse(overrides, options)})
    settings.update({"validate#dataset#data": "$@datalist['validation']", "validate#handlers": []})
    settings["run"] = ["$monai_kd.data.require(@validate#dataset#data)"]
    workflow = bundle.workflow(first, "evaluate.json", overrides=settings)
    _check_checkpoint(settings["checkpoint"])
    parser = workflow.parser
    data = parser.get_parsed_content("validate#dataset#data")
    if needs_data:
        workflow.run()
    network = parser.get_parsed_content("network_def")
    monai_kd.engines.load_weights(network, settings["checkpoint"])
    inference = bundle.config("inference.json")
    inference.update({key: parser[key] for key in inference["model_ids"]})
    metadata = _read_json(bundle.root / "configs" / "metadata.json")
    report = monai_kd.engines.export_network(
        network,
        str(_path(out)),
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
    bundle = _Bundle(name)
    demo, dry_run, terms, methods, paper = (_value(switch) for switch in (demo, dry_run, terms, methods, paper))
    folder = _path(out) or monai_kd.run_dir(bundle.root, "compare_demo" if demo else "compare")
    settings = _given(dataset_dir=_path(dataset_dir), datalist_file=_path(datalist), device=device)
    chosen = {"seeds": _value(seeds) or (1 if demo else 3), "effort": effort, "terms": terms, "methods": methods}
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
    bundle = _Bundle(name)
    failed = 0
    checks = [_check_files, _check_metadata, _check_paths, _check_properties, _check_network, _check_models]
    for check in [*checks, _check_load, _check_torchscript, _check_onnx]:
        title = (check.__doc__ or "").rstrip(".")
        if failed and check not in checks:
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
    bundle = _Bundle(name)
    target = Path(str(_path(dir))).resolve()
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} exists and is not empty; choose a new folder")
    shutil.copytree(
        bundle.root, target, ignore=shutil.ignore_patterns("runs", "data", "__pycache__"), dirs_exist_ok=True
    )
    for path in (target / "configs").glob("*.json"):
        config = _read_json(path)
        if "bundle_root" in config:
            # The copy's own folder, or its runs would end up in the original.
            text = path.read_text().replace(json.dumps(config["bundle_root"]), json.dumps(str(target)), 1)
            path.write_text(text)
    _say(f"{target} is yours; train it with: python -m monai_kd train {target} --dataset_dir ...")
    return _DONE


def publish(name: str, run: str) -> int:
    """Make a run's student the bundle's own: models/model.pt, with docs/model_card.md.

    A student of more than 20 MB is stored in half precision, provided that no metric of the test cases moves.

    Args:
        name: a bundle's name, or the path of a bundle's directory.
        run: name or path of a completed run.
    """
    bundle = _Bundle(name)
    if Path(monai_kd.run_dir(bundle.root)).parents[1] != bundle.root:
        raise ValueError(
            f"{bundle.root} belongs to an installed package; copy the bundle first, and publish to the copy"
        )
    folder = bundle.existing_run(run)
    if not (folder / "model.pt").is_file() or (folder / "distillation_resume.pt").is_file():
        raise FileNotFoundError(
            f"the run {folder} has no completed student; go on with: train {name} --run {run} --resume"
        )
    for key, value in bundle.model_of(run).items():
        if key != "checkpoint" and value != bundle.config("inference.json").get(key):
            raise ValueError(
                f"the run's {key} differs from inference.json, so its student does not fit the bundle; copy the "
                f"bundle, set {key} in the copy's inference.json and train.json, and publish there"
            )
    checkpoint = folder / "model.pt"
    summary = _measure(bundle, folder, checkpoint, "distilled_student")
    if checkpoint.stat().st_size > _LARGEST_MODEL:
        checkpoint = _halve(checkpoint)
        halved = _measure(bundle, folder, checkpoint, "half_precision")
        for metric, value in _scores(summary).items():
            before, after = _score(value), _score(halved[metric])
            if abs(after - before) > 1e-3:
                raise ValueError(f"half precision moves {metric} from {before} to {after}")
        summary = halved
    (bundle.root / "models").mkdir(exist_ok=True)
    published = bundle.root / "models" / "model.pt"
    shutil.copyfile(checkpoint, published.with_suffix(".tmp"))
    os.replace(published.with_suffix(".tmp"), published)
    card = bundle.root / "docs" / "model_card.md"
    card.write_text(_model_card(bundle, _read_json(folder / "model.json"), summary))
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
                _known(word[2:].partition("=")[0].replace("-", "_"), parameters, "option")
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


def _measure(bundle: _Bundle, run: Path, checkpoint: Path, name: str) -> dict[str, Any]:
    """Summary of a run's checkpoint on the test cases, evaluated unless that was done before."""
    summary = run / "evaluation" / name / "summary.json"
    if not summary.is_file() or summary.stat().st_mtime < checkpoint.stat().st_mtime:
        evaluate(str(bundle.root), run=str(run), checkpoint=str(checkpoint), output=str(summary.parent))
    return _read_json(summary)


def _halve(checkpoint: Path) -> Path:
    """A copy of a checkpoint, beside it, with its weights in half precision."""
    import torch

    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    copied = checkpoint.with_name("model_half.pt")
    torch.save({"model": half}, copied)
    return copied


class _Bundle:
    """A bundle's directory and its configurations."""

    def __init__(self, name: str) -> None:
        path = Path(name)
        if (path / "configs" / "metadata.json").is_file():
            self.root = path.resolve()
        else:
            _known(name, monai_kd.bundle_names(), "bundle")
            self.root = Path(monai_kd.bundle_root(name))

    def _file(self, file: str | Path) -> str:
        return str(file if isinstance(file, Path) else self.root / "configs" / file)

    def config(self, *files: str | Path) -> dict[str, Any]:
        """The content of configuration files, later ones laid over earlier ones."""
        from monai.bundle import ConfigParser

        return ConfigParser.load_config_files([self._file(file) for file in files])

    def workflow(self, *files: str | Path, overrides: Mapping[str, Any]) -> Any:
        """MONAI's workflow over configuration files, initialised. Unknown ids in ``overrides`` are errors."""
        _check_ids(self.config(*files), overrides)
        from monai.bundle import ConfigWorkflow

        logging.getLogger("monai.bundle.workflows").addFilter(_is_news)
        workflow = ConfigWorkflow(
            config_file=[self._file(file) for file in files],
            meta_file=self._file("metadata.json"),
            logging_file=self._file("logging.conf"),
            workflow_type="infer" if "inference.json" in files else "train",
            **{"bundle_root": str(self.root), **overrides},
        )
        for handler in logging.getLogger().handlers:
            handler.addFilter(_is_news)
        _check_choices(workflow.parser)
        if "device" in overrides:
            _check_device(workflow.parser.get_parsed_content("device"))
        workflow.initialize()
        return workflow

    def run(self, *files: str | Path, overrides: Mapping[str, Any]) -> list[Any]:
        """Run the workflow over configuration files; what its last section gave."""
        workflow = self.workflow(*files, overrides=overrides)
        results = workflow.run()
        workflow.finalize()
        return results

    def run_folder(self, run: str) -> Path:
        """A run's folder: a path as it is, a bare name in the bundle's own place for runs."""
        path = Path(str(_path(run)))
        return path if os.sep in run or _is_run(path) else Path(monai_kd.run_dir(self.root, run))

    def existing_run(self, run: str) -> Path:
        """The folder of a run that has begun."""
        folder = self.run_folder(run)
        if not _is_run(folder):
            known = ", ".join(_runs(folder.parent)) or "none"
            raise FileNotFoundError(f"{folder} is not the folder of a run; there are: {known}")
        return folder

    def model_of(self, run: str) -> dict[str, Any]:
        """Overrides of inference.json that give the student of a run."""
        folder = self.existing_run(run)
        if not (folder / "model.json").is_file():
            raise FileNotFoundError(f"the run {folder} has no student yet; go on with: train ... --run {run} --resume")
        trained = _read_json(folder / "model.json")
        ids = self.config("inference.json")["model_ids"]
        return {"checkpoint": str(folder / "model.pt"), **{key: trained[key] for key in ids}}

    def evaluation_of(self, run: str | None, checkpoint: str | None) -> tuple[str | Path, dict[str, Any]]:
        """The configuration file under evaluate.json, and overrides that name a student's weights."""
        if run is None:
            return "train.json", {"checkpoint": _path(checkpoint) or str(self.root / "models" / "model.pt")}
        folder = self.existing_run(run)
        weights = Path(_path(checkpoint) or folder / "model.pt")
        own = weights.with_suffix(".json")  # a run can hold networks of several settings
        first = own if own.is_file() else folder / "model.json"
        return first, {"ckpt_dir": str(folder), "checkpoint": str(weights)}

    def settings_in(self, checkpoint: Path) -> dict[str, Any]:
        """Overrides of inference.json that an exported student carries; none for a file of weights.

        Only plain values are taken: a file that somebody sent must not bring code.
        """
        if checkpoint.suffix not in _EXPORTED or not checkpoint.is_file():
            return {}
        metadata = monai_kd.engines.read_metadata(checkpoint)
        own, ids = (
            _read_json(self.root / "configs" / "metadata.json")["name"],
            self.config("inference.json")["model_ids"],
        )
        if metadata.get("bundle", own) != own:
            raise ValueError(f"{checkpoint} is a student of the bundle {metadata['bundle']!r}, not of {own!r}")
        return {
            key: value for key, value in metadata.get("model_ids", {}).items() if key in ids and _is_setting(key, value)
        }


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("teacher.json", "student_alone.json", "model.json"))


def _runs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if _is_run(path))


def _check_files(bundle: _Bundle) -> None:
    """the bundle has all its files, and none that is too large to travel."""
    configs = [
        "metadata.json",
        "logging.conf",
        "train.json",
        "inference.json",
        "train_teacher.json",
        "student_alone.json",
    ]
    configs += ["evaluate.json", "multi_gpu_train.json", "demo.json"]
    wanted = ["LICENSE", "docs/README.md", "docs/data_license.txt", *(f"configs/{name}" for name in configs)]
    missing = [name for name in wanted if not (bundle.root / name).is_file()]
    if missing:
        raise FileNotFoundError(f"missing: {', '.join(missing)}")
    empty = [name for name in ("LICENSE", "docs/README.md", "docs/data_license.txt") if not _size(bundle.root / name)]
    if empty:
        raise ValueError(f"empty: {', '.join(empty)}")
    folders = [
        bundle.root / "configs",
        bundle.root / "docs",
    ]  # runs and data do not travel, and models are checked below
    large = [str(path) for folder in folders for path in folder.rglob("*") if _size(path) > _LARGEST_MODEL]
    if large:
        raise ValueError(f"more than {_LARGEST_MODEL:,} bytes: {', '.join(large)}")


def _check_metadata(bundle: _Bundle) -> None:
    """metadata.json names versions, changes, task, licence and the network's input and output."""
    metadata = _read_json(bundle.root / "configs" / "metadata.json")
    wanted = ["version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"]
    wanted += ["task", "description", "authors", "copyright", "data_source", "intended_use", "network_data_format"]
    missing = [key for key in wanted if not metadata.get(key)]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    newest = max(metadata["changelog"], key=lambda version: [int(number) for number in re.findall(r"\d+", version)])
    if metadata["version"] != newest:
        raise ValueError(f"the version is {metadata['version']}, but the changelog's newest is {newest}")
    wanted = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"]
    for side in ("inputs", "outputs"):
        for tensor, described in metadata["network_data_format"][side].items():
            missing = [key for key in wanted if key not in described]
            if missing:
                raise ValueError(f"network_data_format: {side} {tensor} lacks {', '.join(missing)}")


def _check_paths(bundle: _Bundle) -> None:
    """no configuration names a path of somebody's machine."""
    for path in sorted((bundle.root / "configs").glob("*.json")):
        for key, value in _read_json(path).items():
            found = re.search(r'"(/[^"]+|~[^"]*|[A-Za-z]:\\[^"]*)"', json.dumps(value))
            if found and key != "bundle_root":  # which a copy states, and every workflow may override
                raise ValueError(f"{path.name}: {key} names {found.group(1)}; start paths at @bundle_root")


def _check_properties(bundle: _Bundle) -> None:
    """train.json and inference.json have MONAI's bundle properties."""
    for file in ("train.json", "inference.json"):
        missing = bundle.workflow(file, overrides={}).check_properties()
        if missing:
            raise ValueError(f"{file} lacks {', '.join(missing)}")


def _check_network(bundle: _Bundle) -> None:
    """the network takes and gives what metadata.json says."""
    from monai.bundle import verify_net_in_out

    verify_net_in_out("network_def", bundle._file("metadata.json"), bundle._file("inference.json"), device="cpu")


def _check_load(bundle: _Bundle) -> None:
    """the network and its weights are loaded by MONAI's load."""
    from monai.bundle import load

    with _with_weights(bundle) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI tells everybody that a configuration is code
        load(folder.name, bundle_dir=str(folder.parent), workflow_type="inference", device="cpu", key_in_ckpt="model")


def _check_torchscript(bundle: _Bundle) -> None:
    """the network exports to TorchScript by MONAI's ckpt_export."""
    from monai.bundle import ckpt_export

    with _with_weights(bundle) as folder:
        ckpt_export(**_to_export(bundle, folder, "model.ts"))


def _check_onnx(bundle: _Bundle) -> None:
    """the network exports to ONNX by MONAI's onnx_export, where onnx is installed."""
    import importlib.util

    from monai.bundle import onnx_export

    if importlib.util.find_spec("onnxscript") is None:
        return
    with _with_weights(bundle) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch copies what it has deprecated itself
        as_one_file = {"external_data": False, "verbose": False}
        onnx_export(**_to_export(bundle, folder, "model.onnx"), use_trace=True, converter_kwargs=as_one_file)


def _to_export(bundle: _Bundle, folder: Path, file: str) -> dict[str, Any]:
    return {
        "net_id": "network_def",
        "filepath": str(folder / file),
        "ckpt_file": str(folder / "models" / "model.pt"),
        "meta_file": bundle._file("metadata.json"),
        "config_file": bundle._file("inference.json"),
        "key_in_ckpt": "model",
    }


@contextlib.contextmanager
def _with_weights(bundle: _Bundle) -> Iterator[Path]:
    """A passing copy of a bundle's configurations and weights; untrained weights where there are none."""
    import tempfile

    import torch

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, bundle.root.name)
        shutil.copytree(bundle.root / "configs", folder / "configs")
        (folder / "models").mkdir()
        if (bundle.root / "models" / "model.pt").is_file():
            shutil.copy(bundle.root / "models" / "model.pt", folder / "models")
        else:
            network = bundle.workflow("inference.json", overrides={}).network_def
            torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
        yield folder


def _size(path: Path) -> int:
    return path.stat().st_size


def _check_models(bundle: _Bundle) -> None:
    """models/ holds at most the student, which fits the network and is small enough to travel."""
    import torch

    files = sorted(path.name for path in (bundle.root / "models").glob("*"))
    if files not in ([], ["model.pt"]):
        raise ValueError(f"only model.pt may lie in models/, found {', '.join(files)}")
    if files:
        path = bundle.root / "models" / "model.pt"
        network = bundle.workflow("inference.json", overrides={}).network_def
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
        if path.stat().st_size > _LARGEST_MODEL:
            raise ValueError(f"model.pt has {path.stat().st_size:,} bytes; at most {_LARGEST_MODEL:,} can travel along")


def _model_card(bundle: _Bundle, trained: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    metadata = _read_json(bundle.root / "configs" / "metadata.json")
    results = []
    for metric, value in _scores(summary).items():
        spread = [f"{value[key]:.4f}" if key in value else "" for key in ("std", "median")]
        results.append(f"| {metric} | {_score(value):.4f} | {' | '.join(spread)} | {value['cases']} |")
    settings = [f"- `{key}`: `{json.dumps(value)}`" for key, value in trained.items() if _is_setting(key, value)]
    return "\n".join(
        [
            f"# Model card: {metadata['name']} {metadata['version']}",
            "",
            metadata["description"] + ".",
            "",
            f"**Intended use.** {metadata['intended_use']}.",
            f"**Data.** {_data_source(trained, metadata)}",
            f"**Size.** {summary['parameters']:,} parameters.",
            "",
            "## Results on the test cases",
            "",
            "| metric | value or mean over cases | standard deviation over cases | median | cases |",
            "|---|---|---|---|---|",
            *results,
            "",
            "## How it was trained",
            "",
            f"By `python -m monai_kd train {bundle.root.name}` with these settings:",
            "",
            *settings,
            "",
            "## References",
            "",
            *(f"- {reference}" for reference in metadata.get("references", [])),
            "",
        ]
    )


def _data_source(trained: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Which data a run was trained on, by the configuration that it keeps."""
    folder = str(trained.get("dataset_dir", ""))
    if trained.get("datalist_file"):
        return f"Those that `{Path(trained['datalist_file']).name}` lists."
    if "@generator" in folder or (Path(folder) / "generated.json").is_file():
        return "GENERATED images, no patient's: the results say nothing about real ones."
    return f"{metadata['data_source']}. See `data_license.txt`."


def _is_setting(key: str, value: Any) -> bool:
    """Whether an id of a configuration is a plain setting that is no path of somebody's machine."""
    if isinstance(value, list):
        return all(_is_setting(key, element) for element in value)
    if isinstance(value, str):
        return value[:1] not in ("$", "@", "%") and not os.path.isabs(value)
    return isinstance(value, (bool, int, float)) and key != "resume"


def _scores(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of a summary: over cases (mean, std, median) or one value for all cases."""
    return {name: value for name, value in summary.items() if isinstance(value, dict)}


def _score(value: Mapping[str, Any]) -> float:
    return value["value"] if "value" in value else value["mean"]


def _input_shape(metadata: Mapping[str, Any]) -> list[int]:
    """(C, *spatial) of the images that a bundle's network is made for."""
    image = metadata["network_data_format"]["inputs"]["image"]
    return [image["num_channels"], *image["spatial_shape"]]


def _check_stages(parser: Any, may_overwrite: bool) -> None:
    """Refuse to train over what a run has completed, and to distil without a teacher."""
    steps = json.dumps(parser["run"]).replace("::", "#")
    trained = {stage for stage, section in _STAGES.items() if f"@{section}#stage.run()" in steps}
    if not (may_overwrite or parser.get_parsed_content("resume")):
        for stage in sorted(trained - {"teacher"}):  # a completed teacher is used again
            checkpoint = Path(parser.get_parsed_content(f"{_STAGES[stage]}#stage#checkpoint"))
            name = parser.get_parsed_content(f"{_STAGES[stage]}#stage#name")
            if checkpoint.is_file() and not checkpoint.with_name(f"{name}_resume.pt").is_file():
                raise FileExistsError(
                    f"{checkpoint} is completed: keep it by --resume, train another --run, or replace it by --overwrite"
                )
    if "distill" in trained and "teacher" not in trained:
        teacher = parser.get_parsed_content("teacher_checkpoint")
        if teacher is not None and not Path(teacher).is_file():
            raise FileNotFoundError(
                f"there is no teacher at {teacher}: train one by --stages teacher,distill, or name another one as "
                "teacher_checkpoint=FILE"
            )


def _check_choices(parser: Any) -> None:
    """Where a configuration chooses from a table, as ``$@losses[@loss]`` does, refuse what the table does not have."""
    for value in parser.get().values():
        choice = re.fullmatch(r"\$@(\w+)\[@(\w+)\]", value) if isinstance(value, str) else None
        if choice:
            table, key = choice.groups()
            _known(str(parser.get_parsed_content(key)), parser[table], key)


def _check_device(device: Any) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        raise ValueError(f"the device {device!r} cannot be used; there are: {', '.join(['cpu', *gpus])}") from error


def _check_checkpoint(path: str | os.PathLike) -> None:
    import torch

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no trained network at {path}; train one, or name another checkpoint or run")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # another one for every kind of file
        raise ValueError(f"{path} is no checkpoint that torch can read; name another one") from error


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the log says something that is neither wanted nor said again as the error."""
    message = record.getMessage()
    return not (message.startswith("Not all config files are in") or "run is terminating due to exception" in message)


def _check_ids(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse ids that a configuration does not have, naming the closest one; MONAI would accept them in silence."""
    for key, value in overrides.items():
        node: Any = config
        parts = key.replace("::", "#").split("#")
        for depth, part in enumerate(parts):
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, Mapping) and part in node:
                node = node[part]
            elif (
                depth == len(parts) - 1 and isinstance(node, Mapping) and "_target_" in node and not _close(part, node)
            ):
                node = None  # a further argument of a component; the component knows whether it takes it
            else:
                choices = [str(choice) for choice in node] if isinstance(node, Mapping) else []
                _known(
                    part, choices, f"option or configuration key {key!r}:" if depth else "option or configuration key"
                )
        is_number = isinstance(node, (int, float)) and not isinstance(node, bool)
        if is_number and isinstance(value, str) and value[:1] not in ("$", "@", "%"):
            raise ValueError(f"{key} must be a number, such as {node}, got {value!r}")


def _known(word: str, choices: Iterable[str], kind: str) -> None:
    choices = list(choices)
    if word in choices:
        return
    close = _close(word, choices, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(choices) or 'none'}"
    raise ValueError(f"unknown {kind} {word!r}; {hint}")


def _close(word: str, choices: Iterable[str], cutoff: float = 0.85) -> list[str]:
    return difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)


def _parse(overrides: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from words like ``key=value`` and from options like ``--key value``."""
    parsed: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"expected key=value, got {override!r}")
        parsed[key] = _value(text)
    parsed.update({key: _value(value) for key, value in options.items()})
    return {key: _path(value) if _names_path(key, value) else value for key, value in parsed.items()}


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


def _path(text: str | None) -> str | None:
    """A path that means the same in every folder and survives MONAI's reading of a configuration."""
    if text is not None and not text.strip():
        raise ValueError("an empty word is no path; the current folder is .")
    if text is not None and "#" in text:
        raise ValueError(f"{text}: MONAI reads the # in a path as a separator of ids; rename or link the folder")
    return None if text is None else os.path.abspath(os.path.expanduser(text))


def _given(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


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
