# SPDX-License-Identifier: Apache-2.0
"""The verb ``label_app``: an app for MONAI Label's server."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import monai_kd
from monai_kd.bundle import Bundle, plain_path
from monai_kd.files import read_json, remove_unfinished, whole_folder, write_json, write_text
from monai_kd.id_roles import CALL, FILES, PLACES, STEPS
from monai_kd.stage_names import SECTIONS

from .errors import DONE
from .output import say
from .teachers import teacher_file
from .trust import say_whose_code

__all__ = ["label_app"]

_APP = """from monai_kd.networks.torchvision_operators import import_timm

import_timm()  # MONAI Label imports torchvision, which this cures where it was built for another PyTorch

from monai_kd.label_app import LabelApp  # noqa: E402, F401
"""
# What a run's configuration says of one place and one call, and not of the networks and their training.
_OF_THE_CALL = PLACES | FILES | CALL | STEPS | {"device"}


def label_app(dir: str, bundles: str | None = None, run: str | None = None) -> int:
    """Make an app for MONAI Label, whose server outlines by students and fine-tunes them on corrected outlines.

    Args:
        dir: a new folder, or an earlier app, which gets further bundles.
        bundles: names or paths of bundles that segment, with commas between them; by default all that come with
            monai_kd, can be served and have weights.
        run: name or path of a run, whose student, teacher and settings are used. By default models/model.pt, for which
            a teacher is trained when it is fine-tuned.
    """
    target = Path(plain_path(dir)).resolve()
    is_app = (target / "main.py").is_file()
    for place in (target.parent, target, target / "model"):
        remove_unfinished(place)
    if target.exists() and any(target.iterdir()) and not is_app:
        raise FileExistsError(f"{target} is neither empty nor an app; choose a new folder")
    chosen = [Bundle(name) for name in (monai_kd.bundle_names() if bundles is None else bundles.split(","))]
    if bundles is None:
        chosen = [bundle for bundle in chosen if bundle.can_be_served]
    if bundles is None and run is None:
        empty = [bundle.root.name for bundle in chosen if not bundle.has_weights]
        chosen = [bundle for bundle in chosen if bundle.has_weights]
        if not chosen:
            raise FileNotFoundError(
                "no bundle has weights, models/model.pt: name a bundle that you trained by --bundles and its --run"
            )
        if empty:
            say(f"without weights, so left out: {', '.join(empty)}. With a trained one: --bundles NAME --run RUN")
    if run is not None and os.sep in run and len(chosen) > 1:
        raise ValueError(f"the run {run} is of one bundle: name that one by --bundles, and add others by further calls")
    trained = ",".join(bundle.root.name for bundle in chosen if run in bundle.runs)
    if bundles is None and trained and not all(run in bundle.runs for bundle in chosen):
        raise ValueError(f"not every bundle has a run {run}: name those that have it by --bundles {trained}")
    for bundle in chosen:
        if not bundle.segments:
            raise ValueError(f"{bundle.root.name} does not outline anything, which MONAI Label is for here")
        if not bundle.can_be_served:
            raise ValueError(
                f"{bundle.root.name} learns from files that MONAI Label does not make; use `infer`, or what the bundle "
                "exports to"
            )
        if (target / "model" / bundle.root.name).exists():
            raise FileExistsError(f"{target} has {bundle.root.name} already; choose a new folder")
        if run is not None:
            student = bundle.completed_run(run) / "model.pt"
            bundle.check_made(student)
            say_whose_code(bundle, run)
            _check_networks(bundle, run)
            bundle.check_applied(student)
        elif not bundle.has_weights:
            raise FileNotFoundError(f"{bundle.root.name} has no models/model.pt; name the --run of a student")
    models = target / "model"
    with whole_folder(models if is_app else target) as made:  # a server finds an app with all of them, or none
        for bundle in chosen:
            name = bundle.root.name
            _add_to_app(bundle, made / name if is_app else made / "model" / name, models / name, run)
        if not is_app:
            write_text(made / "main.py", _APP)
    write_text(target / "main.py", _APP)
    say(f"{target} is ready; start it with: monailabel start_server --app {target} --studies FOLDER")
    return DONE


def _add_to_app(bundle: Bundle, target: Path, place: Path, run: str | None) -> None:
    """A copy of a bundle, with the networks and settings of a run, whose model becomes what it is trained to.

    MONAI Label offers every file in models/ as the student, also while a training goes on. So trainings write to a run
    of the copy, where the teacher lies, and end by putting the student into models/.
    """
    bundle.copy_to(target, place)
    train, inference = (read_json(target / "configs" / file) for file in ("train.json", "inference.json"))
    model = target / "models" / "model.pt"
    if run is not None:
        student = bundle.model_of(run)
        monai_kd.engines.replace_weights(model, student.pop("checkpoint"))
        inference.update(student)
        trained = read_json(bundle.existing_run(run) / "model.json")
        teacher = teacher_file(bundle, run)
        trained.pop(monai_kd.engines.TRAINED_ON, None)  # an app may go to others, and these are names of patients
        train = {**trained, **{key: train[key] for key in sorted(_OF_THE_CALL)}}
        if teacher is None:
            train["teacher_checkpoint"] = None
            train["run"] = monai_kd.engines.run_steps([SECTIONS["distill"]])
        elif teacher.is_file():
            # Without its configuration, which would be compared with that of the new data.
            (target / "runs" / "default").mkdir(parents=True)
            shutil.copyfile(teacher, target / "runs" / "default" / "teacher.pt")
    # A request's `max_epochs` replaces that of `train#trainer`, which the teacher's would be a copy of.
    if train["teacher_training"]["trainer"] == "%train#trainer":
        train["teacher_training"]["trainer"] = copy.deepcopy(train["train"]["trainer"])
    # The learning rate's schedule is to be as long as what the request wants.
    train["train"]["trainer"]["max_epochs"] = train["train"]["epochs"]
    train["train"]["epochs"] = "@train#trainer#max_epochs"
    train["run"].append("$monai_kd.engines.serve_if_better(@train#stage, @bundle_root + '/models/model.pt')")
    for file, config in (("train.json", train), ("inference.json", inference)):
        write_json(target / "configs" / file, config)


def _check_networks(bundle: Bundle, run: str) -> None:
    """Refuse weights of another network, or it would be found out when the server is asked, and a damaged teacher."""
    teacher = teacher_file(bundle, run)
    if teacher is not None and teacher.is_file() and teacher.suffix not in monai_kd.engines.EXPORTED:
        monai_kd.engines.read_weights(teacher)  # or it would be found damaged when the server trains
    settings = bundle.model_of(run)
    checkpoint = settings.pop("checkpoint")
    parser = bundle.workflow("inference.json", overrides=settings).parser
    monai_kd.engines.load_weights(parser.get_parsed_content("network_def"), checkpoint)
