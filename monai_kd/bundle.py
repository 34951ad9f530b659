# SPDX-License-Identifier: Apache-2.0
"""A bundle's directory: its configurations as MONAI's workflows, its runs, and what may be asked of it.

PyTorch and MONAI are imported when a workflow is built.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai_kd

from .files import read_json, write_json, write_text
from .idle_settings import without_effect
from .locations import identity, is_bundle, literal, teacher_overlay
from .names import check_known
from .overrides import check_choices, check_overrides
from .stage_names import is_run

__all__ = ["Bundle", "bundles_in", "plain_path"]

_README = """# {name}

A copy of the bundle `{original}`, made to be changed. `README_of_the_original.md` describes the settings that both
have; what it says of the task, the data and the results is about the original.
"""
_LICENCE = """What follows is about the data of the bundle {original}, of which this one is a copy.
Replace it by the licence of the data that this one is trained on.

"""


class Bundle:
    """A bundle's directory and its configurations.

    Args:
        name: a bundle's name, or the path of a bundle's directory.

    Raises:
        ValueError: when there is no such bundle; it names the closest one.
    """

    def __init__(self, name: str) -> None:
        path = Path(name)
        if is_bundle(path):
            self.root = path.resolve()
        else:
            check_known(name, monai_kd.bundle_names(), "bundle")
            self.root = Path(monai_kd.bundle_root(name))

    @property
    def metadata(self) -> dict[str, Any]:
        """What metadata.json says."""
        return read_json(self.root / "configs" / "metadata.json")

    @property
    def identity(self) -> str:
        """What tells it from other bundles, wherever it lies and whatever it is called."""
        return identity(self.root)

    @property
    def segments(self) -> bool:
        """Whether the bundle's network outlines something."""
        return self.metadata["network_data_format"]["outputs"]["pred"]["format"] == "segmentation"

    @property
    def can_be_served(self) -> bool:
        """Whether MONAI Label can serve and train it."""
        return self.segments and self.metadata.get("label_app", True)

    @property
    def has_weights(self) -> bool:
        """Whether it comes with a trained student, models/model.pt."""
        return (self.root / "models" / "model.pt").is_file()

    @property
    def runs(self) -> list[str]:
        """Names of the runs in the bundle's own place for them."""
        return _runs(Path(monai_kd.run_dir(self.root, "")))

    def copy_to(self, target: Path, place: Path | None = None) -> None:
        """Copy it without its runs and data, as the same bundle in another place, where it may get other weights.

        So nothing is said of what they were trained on and how they score, by its metadata or a model card.

        Args:
            target: the folder of the copy.
            place: where that is going to lie; there by default.
        """
        left_out = shutil.ignore_patterns("runs", "data", "__pycache__", "model_card.md")
        shutil.copytree(self.root, target, ignore=left_out, dirs_exist_ok=True)
        write_json(target / "configs" / "metadata.json", self._without_results())
        self._settle(target, self.identity, place or target)

    def derive_to(self, target: Path, place: Path | None = None) -> None:
        """Make another bundle of it, to be changed: without its weights and results, and with an identity of its own.

        What its documents say of the original's task and data is marked as such. Arguments as of :meth:`copy_to`.
        """
        left_out = ["runs", "data", "models", "__pycache__", "paper_results.json", "model_card.md"]
        shutil.copytree(self.root, target, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True)
        own, before = f"{target.name}-{secrets.token_hex(4)}", self._without_results()
        of_it: dict[str, Any] = {"identity": own, "copied_from": self.identity, "name": target.name}
        of_it["changelog"] = {before["version"]: f"a copy of {self.identity} {before['version']}, to be changed"}
        write_json(target / "configs" / "metadata.json", {**before, **of_it})
        docs = target / "docs"
        os.replace(docs / "README.md", docs / "README_of_the_original.md")
        write_text(docs / "README.md", _README.format(name=target.name, original=self.identity))
        licence = docs / "data_license.txt"
        write_text(licence, _LICENCE.format(original=self.identity) + licence.read_text(encoding="utf-8"))
        self._settle(target, own, place or target)

    def _without_results(self) -> dict[str, Any]:
        """Its metadata without what its weights were trained on, and how they score."""
        known = {key: value for key, value in self.metadata.items() if key not in ("training_data", "generated")}
        return {**known, "eval_metrics": {}}

    def _settle(self, target: Path, own: str, place: Path) -> None:
        """Let the configurations of a copy look for their root by its identity."""
        for path in (target / "configs").glob("*.json"):
            config = read_json(path)
            if "bundle_root" in config:
                root = f"$monai_kd.bundle_root({literal(own)}, {literal(str(place))})"
                text = path.read_text(encoding="utf-8")
                write_text(path, text.replace(json.dumps(config["bundle_root"]), json.dumps(root), 1))

    def config_file(self, file: str | Path) -> str:
        """The path of a configuration file that is given by its name; another path as it is."""
        return str(file if isinstance(file, Path) else self.root / "configs" / file)

    def config(self, *files: str | Path) -> dict[str, Any]:
        """The content of configuration files, later ones laid over earlier ones."""
        from monai.bundle import ConfigParser

        paths = [self.config_file(file) for file in files]
        for path in paths:
            read_json(Path(path))  # which says which file is damaged
        return ConfigParser.load_config_files(paths)

    def workflow(self, *files: str | Path, overrides: Mapping[str, Any]) -> Any:
        """MONAI's workflow over configuration files, initialised. Unknown ids in ``overrides`` are errors."""
        check_overrides(self.config(*files), overrides)
        from monai.bundle import ConfigWorkflow

        logging.getLogger("monai.bundle.workflows").addFilter(_is_news)
        workflow = ConfigWorkflow(
            config_file=[self.config_file(file) for file in files],
            meta_file=self.config_file("metadata.json"),
            logging_file=self.config_file("logging.conf"),
            workflow_type="infer" if "inference.json" in files else "train",
            **{"bundle_root": str(self.root), **overrides},
        )
        for handler in logging.getLogger().handlers:
            handler.addFilter(_is_news)
        check_choices(workflow.parser)
        idle = without_effect(workflow.parser.get(), overrides) if files == ("train.json",) else []
        if idle:
            logging.getLogger("monai_kd").warning(
                f"{', '.join(idle)}: no effect with these settings, since what is laid over the configuration left "
                "nothing that refers to it"
            )
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
        path = Path(plain_path(run))
        return path if os.sep in run or is_run(path) else Path(monai_kd.run_dir(self.root, run))

    def existing_run(self, run: str) -> Path:
        """The folder of a run that has begun."""
        folder = self.run_folder(run)
        if not is_run(folder):
            known = ", ".join(_runs(folder.parent)) or "none"
            raise FileNotFoundError(f"{folder} is not the folder of a run; there are: {known}")
        return folder

    def completed_run(self, run: str) -> Path:
        """The folder of a run whose student is trained."""
        folder = self.existing_run(run)
        if not (folder / "model.pt").is_file() or (folder / "distillation_resume.pt").is_file():
            raise FileNotFoundError(
                f"the run {folder} has no completed student; go on with: train ... --run {run} --resume"
            )
        return folder

    def model_of(self, run: str | None, weights: Path | None = None) -> dict[str, Any]:
        """Overrides of inference.json that give the student of a run, or the network of other weights.

        Other weights go by the configuration that is kept beside them, and where there is none by the run's; weights
        of no run, with none beside them, by the bundle's.
        """
        if weights is not None and _kept(weights):
            own = weights.with_suffix(".json")
        elif run is None:
            return {}
        else:
            own = self._student_config(run)
        trained, folder = read_json(own), own.parent
        self.check_is_own(folder, trained)
        ids = self.config("inference.json")["model_ids"]
        missing = [key for key in ids if key not in trained]
        # A setting that came later has a default by which this bundle's earlier runs stay what they were.
        if missing and trained.get("_meta_", {}).get("identity") != self.identity:
            raise ValueError(f"the run {folder} is of another bundle or an earlier version: no {', '.join(missing)}")
        checkpoint = folder / "model.pt" if weights is None else weights
        return {"checkpoint": str(checkpoint), **{key: trained[key] for key in ids if key in trained}}

    def not_applied(self, weights: Path) -> list[str]:
        """What `infer` leaves out of the preprocessing and the inferer that weights were trained with.

        Empty where all that was changed are settings that inference.json has, and where nothing is kept of them.
        """
        from monai.bundle import ConfigParser

        trained, inference = _kept(weights), self.config("inference.json")
        if not trained:
            return []
        parsers = [ConfigParser(config) for config in (trained, self.config("train.json"))]
        for parser in parsers:
            parser.resolve_macro_and_relative_ids()
        looked_at = ["validate#preprocessing", "validate#inferer"]
        names = monai_kd.engines.differing_settings(*(parser.get() for parser in parsers), looked_at)
        return [name for name in names if name.partition("#")[0] not in inference]

    def check_applied(self, weights: Path) -> None:
        """Refuse weights of which :meth:`not_applied` names something: they would see other images than they know."""
        if names := self.not_applied(weights):
            raise ValueError(
                f"{weights} was trained with {', '.join(names)} of its own, which inference.json has in its own way: "
                "copy the bundle, change both files, and train there"
            )

    def check_is_own(self, made: Path, config: Mapping[str, Any]) -> None:
        """Refuse what another bundle made, by the metadata kept with it: its classes may have other meanings.

        A copy takes what its original made while both mean the same.
        """
        kept, metadata = config.get("_meta_", {}), self.metadata
        origin = kept.get("identity", self.identity)  # earlier versions kept none
        same = all(kept.get(key) == metadata.get(key) for key in ("task", "network_data_format"))
        copied = same and origin == metadata.get("copied_from")
        if origin != self.identity and not copied:
            raise ValueError(f"{made} is of the bundle {origin!r}, not of {self.identity!r}")

    def _student_config(self, run: str) -> Path:
        """The configuration file that a run keeps of its student."""
        folder = self.existing_run(run)
        if not (folder / "model.json").is_file():
            raise FileNotFoundError(f"the run {folder} has no student yet; go on with: train ... --run {run} --resume")
        return folder / "model.json"

    def evaluation_of(
        self, run: str | None, checkpoint: str | None, datalist: str | None = None
    ) -> tuple[list[str | Path], dict[str, Any]]:
        """The configuration files of an evaluation, and overrides that name the weights and a teacher's network.

        Another list than a run's is taken as it stands, also where the run's was dealt into folds.
        """
        folder = self.root / "models" if run is None else self.existing_run(run)
        weights = folder / "model.pt" if checkpoint is None else Path(plain_path(checkpoint))
        settings = {"checkpoint": str(weights)}
        if run is None or weights.resolve() != (folder / "model.pt").resolve():  # what is known of its student stays
            if run is not None:
                scores = folder
            else:
                scores = weights.parent if _kept(weights) else Path(monai_kd.run_dir(self.root, "default"))
            name = weights.stem if weights.stem != "model" else f"{weights.resolve().parent.name}_model"
            settings["output_dir"] = str(scores / f"evaluation_{'published' if checkpoint is None else name}")
        files: list[str | Path] = ["train.json", "evaluate.json"]
        if _kept(weights):
            files[0] = weights.with_suffix(".json")  # a run can hold networks of several settings
        elif run is not None:
            files[0] = self._student_config(run)
        else:
            inference = self.config("inference.json")  # what is of no run is used as `infer` uses it
            settings |= {key: inference[key] for key in inference.get("free_ids", ())}
        config = read_json(self.root / "configs" / files[0])
        if files[0] != "train.json":
            made = weights.parent if run is None else folder
            settings["ckpt_dir"] = str(made)
            self.check_is_own(made, config)
        dealt = config.get("datalist", {})
        if datalist is not None and dealt.get("_target_") == monai_kd.engines.CROSS_VALIDATED:
            settings["datalist"] = dealt["datalist"]
        if self._is_teacher(weights) or (run is not None and _names(config, weights)):
            # It may see other images than the student, or be measured otherwise, and yet fit the student's network.
            settings["evaluated_network"] = "@teacher"
            if _names(config, weights) and config.get("teacher_preprocessing"):
                settings["evaluated_network"] = monai_kd.engines.TEACHER_AS_ASKED
            overlay = teacher_overlay(self.root, "evaluate", config)
            files += [] if overlay is None else [overlay.name]
        return files, settings

    @staticmethod
    def check_made(weights: Path) -> None:
        """Refuse weights that the configuration beside them did not make, or another teacher than the run's taught."""
        if weights.is_file() and weights.suffix not in monai_kd.engines.EXPORTED:
            monai_kd.engines.check_origin(weights)

    def check_student(self, weights: Path) -> None:
        """Refuse another bundle's weights, and a teacher's: they may fit the student's network, and not its images."""
        self.check_is_own(weights, monai_kd.engines.read_run_config(weights))
        if self._is_teacher(weights):
            raise ValueError(
                f"{weights} is a teacher, and a student is needed here: name its checkpoint, or `evaluate` the teacher"
            )

    def _is_teacher(self, weights: Path) -> bool:
        return weights.name == "teacher.pt" or _names(monai_kd.engines.read_run_config(weights), weights)

    def settings_in(self, checkpoint: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides of inference.json that an exported student carries; none for a file of weights.

        Only plain values are taken: a file that somebody sent must not bring code. Those that inference.json names as
        ``exported_ids`` are in the exported network itself; to want another one is refused.
        """
        if not checkpoint.is_file() or checkpoint.suffix not in monai_kd.engines.EXPORTED:
            return {}
        exported = monai_kd.engines.read_metadata(checkpoint)
        if exported.get("bundle") != self.metadata["name"]:  # which is what earlier versions wrote there
            self.check_is_own(checkpoint, {"_meta_": {"identity": exported.get("bundle", self.identity)}})
        config = self.config("inference.json")
        known, fixed = exported.get("model_ids", {}), config.get("exported_ids", ())
        settings = monai_kd.engines.plain_settings(known, tables=True)
        settings |= {key: value for key, value in known.items() if value is None}  # which may be no default
        # A file that decides what is in the network: where it is not on this machine, that is an error by its name.
        settings |= {key: known[key] for key in fixed if isinstance(known.get(key), str) and os.path.isabs(known[key])}
        for key in fixed:
            if key in wanted and wanted[key] != settings.get(key):
                raise ValueError(
                    f"{checkpoint} was exported with {key}={settings.get(key)}, and cannot do {wanted[key]}; export a "
                    "student that was trained for it"
                )
        return {key: value for key, value in settings.items() if key in config["model_ids"]}


def bundles_in(folder: Path) -> list[Path]:
    """The bundles in a folder, sorted, or the folder itself if it is one.

    Raises:
        FileNotFoundError: when there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return [folder] if is_bundle(folder) else sorted(path for path in folder.iterdir() if is_bundle(path))


def _kept(weights: Path) -> dict[str, Any]:
    """The configuration beside weights; empty of an exported student, which has its own within."""
    return {} if weights.suffix in monai_kd.engines.EXPORTED else monai_kd.engines.read_run_config(weights)


def _names(config: Mapping[str, Any], weights: Path) -> bool:
    """Whether a configuration takes these weights for its teacher's."""
    kept = config.get("teacher_checkpoint")
    return isinstance(kept, str) and Path(kept).resolve() == weights.resolve()


def _runs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if is_run(path))


def _check_device(device: Any) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        raise ValueError(f"the device {device!r} cannot be used; there are: {', '.join(['cpu', *gpus])}") from error


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the log says something that is neither wanted nor said again as the error."""
    message = record.getMessage()
    return not (message.startswith("Not all config files are in") or "run is terminating due to exception" in message)


def plain_path(text: str) -> str:
    """A path that means the same in every folder and survives MONAI's reading of a configuration.

    Raises:
        ValueError: when it is empty, or has a ``#``, which MONAI takes for a separator.
    """
    if not text.strip():
        raise ValueError("an empty word is no path; the current folder is .")
    if "#" in text:
        raise ValueError(f"{text}: MONAI reads the # in a path as a separator of ids; rename or link the folder")
    return os.path.abspath(os.path.expanduser(text))
