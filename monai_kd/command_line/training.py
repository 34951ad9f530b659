# SPDX-License-Identifier: Apache-2.0
"""The verb ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.bundle import Bundle
from monai_kd.folder_lock import held_by_this_process
from monai_kd.names import check_known
from monai_kd.stage_names import SECTIONS

from .errors import DONE
from .output import say
from .stages import check_stages, start_anew
from .teachers import taught_by_files, without_teacher
from .trust import check_scripts
from .words import config_settings, given, parse, paths, value_of

__all__ = ["train"]


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
    trust: bool = False,
    config: str | None = None,
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
        cross_validation: all stages for every fold or draw of the split, where the bundle has them, and a table of all.
        resume: go on with an interrupted run; what is completed is kept.
        overwrite: train anew what the run has begun or completed, its teacher too if that is one of the stages.
        trust: run TorchScript files, which are code, that `export` did not make, such as a teacher.
        config: a JSON or YAML file of settings, laid over the bundle's as key=value is, which it gives way to; several
            with commas between them, or as --config given several times.
        options: the same as key=value, as --key value.
    """
    bundle = Bundle(name)
    settings: dict[str, Any] = paths(dataset_dir=dataset_dir, datalist_file=datalist)
    settings.update(given(resume=value_of(resume) or None))
    if run is not None:
        settings["ckpt_dir"] = str(bundle.run_folder(run))
    if stages is not None:
        chosen = stages.split(",")
        for stage in chosen:
            check_known(stage, SECTIONS, "stage")
        settings["run"] = monai_kd.engines.run_steps([SECTIONS[stage] for stage in SECTIONS if stage in chosen])
        if "distill" not in chosen and "distillation_checks" in bundle.config("train.json"):
            settings["distillation_checks"] = []
    demo, cross_validation, overwrite = (value_of(switch) for switch in (demo, cross_validation, overwrite))
    overlays = [file for file, wanted in (("demo.json", demo), ("cross_validate.json", cross_validation)) if wanted]
    for file in overlays:
        if not (bundle.root / "configs" / file).is_file():
            raise ValueError(f"the bundle {bundle.root.name} has no {file}, so it cannot be trained in this way")
    wanted = {**config_settings(config, bundle, "train.json", *overlays), **settings, **parse(overrides, options)}
    check_scripts(wanted, value_of(trust))
    wanted = taught_by_files(wanted, bundle.config("train.json"))
    merged = {**bundle.config("train.json", *overlays), **wanted}
    if merged["teacher_checkpoint"] is None and stages is None:  # there is no teacher to be trained
        wanted["run"] = without_teacher(merged["run"])
    elsewhere = wanted.get("teacher_checkpoint")
    if isinstance(elsewhere, str) and elsewhere[:1] not in ("$", "@", "%") and not Path(elsewhere).is_file():
        say(f"{elsewhere} is not there yet, so a teacher is trained into it; with another path in mind, end this now")
    workflow = bundle.workflow("train.json", *overlays, overrides=wanted)
    check_stages(workflow.parser, may_overwrite=overwrite or (demo and run is None))
    folder = Path(workflow.parser.get_parsed_content("ckpt_dir"))
    if "require(" in str(workflow.parser["run#0"]):
        workflow.parser.get_parsed_content("run#0")  # nothing is made or removed where there are no data to train on
    with held_by_this_process(folder, "another training", "name another --run"):
        if overwrite:
            start_anew(workflow.parser)
        workflow.run()
    workflow.finalize()
    return DONE
