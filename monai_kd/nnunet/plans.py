# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's plans and description of a data set as plain settings: what a configuration, a run or a file can hold."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_kd.files import read_json

from .installed import nnunet

__all__ = [
    "NnunetPlans",
    "class_names",
    "has_regions",
    "label_names",
    "plain_plans",
    "read_description",
    "read_plans",
    "student_plans",
]

STANDARD_TRAINER = "nnUNetTrainer"
MIRROR_AXES = "inference_allowed_mirroring_axes"
"""nnU-Net's name, in a checkpoint, for the axes that may be mirrored: a list, or None; here plans may have it too."""

_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
_PER_STAGE = ("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder")
# One class of a module: a longer path leads anywhere through modules' names, as `torch.nn.functional.torch.os.system`.
_SOURCES = re.compile(
    r"(torch\.nn\.(modules\.\w+\.)?|dynamic_network_architectures\.(architectures|building_blocks)\.\w+\.)[A-Z]\w*"
)


class NnunetPlans:
    """nnU-Net's own managers of plans, made when they are needed.

    Args:
        plans: as :func:`plain_plans` gives them, with one configuration.
        description: what ``dataset.json`` says: ``channel_names``, ``labels``, ``file_ending``.
    """

    def __init__(self, plans: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        handler = nnunet("utilities.plans_handling.plans_handler")
        self.manager = handler.PlansManager(copy.deepcopy(dict(plans)))
        self.description = copy.deepcopy(dict(description))
        self.configuration_name = configuration_of(plans)
        self.configuration = self.manager.get_configuration(self.configuration_name)
        _check_sources(self.architecture, "the plans")  # which a file may have brought
        self.labels = self.manager.get_label_manager(self.description)

    @property
    def architecture(self) -> dict[str, Any]:
        """Name and arguments of the network."""
        return self.configuration.configuration["architecture"]


def configuration_of(plans: Mapping[str, Any]) -> str:
    """The name of the one configuration that plain plans have."""
    return next(iter(plans["configurations"]))


def read_plans(file: Path, configuration: str) -> dict[str, Any]:
    """The plans of one configuration from a file of nnU-Net.

    Args:
        file: ``plans.json`` of a results folder, or ``<plans>.json`` of the preprocessed data.
        configuration: such as ``3d_fullres``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, of nnU-Net v1 or a newer one, of a cascade's second stage, or lacks the
            configuration.
    """
    return plain_plans(_read(file), configuration, str(file))


def plain_plans(plans: Mapping[str, Any], configuration: str, where: str = "the plans") -> dict[str, Any]:
    """Plans with one configuration, which inherits nothing and is in the present format.

    Args:
        plans: nnU-Net's, of version 2.
        configuration: such as ``3d_fullres``.
        where: they come from, for errors.

    Raises:
        ValueError: as :func:`read_plans` does.
    """
    if "configurations" not in plans:
        old = "plans_per_stage" in plans or "num_stages" in plans
        raise ValueError(
            f"{where}: expected plans of nnU-Net v2, got {'those of v1' if old else 'none of nnU-Net'}; "
            "plan and train it anew with nnunetv2"
        )
    known = plans["configurations"]
    if configuration not in known:
        raise ValueError(f"{where} has no configuration {configuration!r}; there are: {', '.join(known)}")
    handler = nnunet("utilities.plans_handling.plans_handler")
    try:
        with _without_warnings():
            manager = handler.PlansManager(copy.deepcopy(dict(plans))).get_configuration(configuration)
        chosen = {key: value for key, value in manager.configuration.items() if key != "inherits_from"}
        architecture = chosen["architecture"]
        network, arguments = architecture["network_class_name"], architecture["arch_kwargs"]
        number = len(arguments["features_per_stage"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{where}: the configuration {configuration} is none that this nnU-Net knows ({error}): its plans are "
            "damaged, or of a newer nnU-Net; update nnunetv2"
        ) from error
    if chosen.get("previous_stage"):
        raise ValueError(
            f"{where}: {configuration} is the second stage of a cascade, which reads the first one's outlines and is "
            "not supported; distil 3d_fullres or 3d_lowres"
        )
    if network.rpartition(".")[2] not in _NETWORKS or number < 2:
        known_networks = " and ".join(_NETWORKS)
        raise ValueError(f"{where}: the network {network} is not supported; {known_networks} are")
    _check_sources(architecture, where)
    return json.loads(json.dumps({**plans, "configurations": {configuration: chosen}}))


def _check_sources(architecture: Mapping[str, Any], where: str) -> None:
    """Refuse code from anywhere else than PyTorch and nnU-Net's networks: nnU-Net would import it by its name."""
    arguments = architecture["arch_kwargs"]
    named = [architecture["network_class_name"], *(arguments.get(key) for key in architecture["_kw_requires_import"])]
    for name in filter(None, named):
        if not isinstance(name, str) or not _SOURCES.fullmatch(name):
            raise ValueError(f"{where} names {name!r}, which is neither PyTorch's nor nnU-Net's: it is not run")


def student_plans(plans: Mapping[str, Any], reduction: int = 1, convolutions: int | None = None) -> dict[str, Any]:
    """The plans of a narrower network: as nnU-Net plans it, with a share of the channels.

    Args:
        plans: as :func:`plain_plans` gives them.
        reduction: the channels of every stage are divided by it, >= 1; at least one is left.
        convolutions: largest number of convolutions (or residual blocks) of a stage, >= 1; None leaves it.

    Returns:
        The plans, under a name of their own (``nnUNetPlans_r4``), which keeps their results apart.

    Raises:
        ValueError: when a number is too small.

    >>> arguments = {"features_per_stage": [32, 64, 320], "n_conv_per_stage": [2, 2, 2]}
    >>> plans = {"plans_name": "p", "configurations": {"2d": {"architecture": {"arch_kwargs": arguments}}}}
    >>> student = student_plans(plans, reduction=4)
    >>> student["plans_name"], student["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"]
    ('p_r4', [8, 16, 80])
    """
    for name, number in (("reduction", reduction), ("convolutions", convolutions)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
            raise ValueError(f"{name} must be a whole number from 1, got {number!r}")
    student = copy.deepcopy(dict(plans))
    arguments = student["configurations"][configuration_of(plans)]["architecture"]["arch_kwargs"]
    if reduction > 1:
        student["plans_name"] += f"_r{reduction}"
        arguments["features_per_stage"] = [max(1, number // reduction) for number in arguments["features_per_stage"]]
    if convolutions is not None:
        student["plans_name"] += f"_c{convolutions}"
        for key in _PER_STAGE:
            if key in arguments:
                own = arguments[key]
                arguments[key] = [min(convolutions, count) for count in ([own] if isinstance(own, int) else own)]
    return student


def read_description(file: Path) -> dict[str, Any]:
    """What a ``dataset.json`` says of channels and labels.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, or no description of nnU-Net v2.
    """
    content = _read(file)
    content.setdefault("channel_names", content.pop("modality", None))
    kept = {key: content[key] for key in ("channel_names", "labels", "regions_class_order") if content.get(key)}
    labels = kept.get("labels")
    if not isinstance(labels, dict) or labels.get("background") != 0 or not isinstance(kept.get("channel_names"), dict):
        raise ValueError(
            f"{file}: expected channel_names and labels by name, with background 0, as nnU-Net v2 has them; "
            "data sets of v1 and of the Decathlon are converted by nnUNetv2_convert_MSD_dataset"
        )
    return {**kept, "file_ending": content.get("file_ending", ".nii.gz")}


def has_regions(description: Mapping[str, Any]) -> bool:
    """Whether a data set's labels are regions that may hold each other: a sigmoid for each then, instead of a softmax.

    >>> has_regions({"labels": {"background": 0, "all": [1, 2], "core": [2]}})
    True
    """
    return any(isinstance(value, list) and len(value) > 1 for value in description["labels"].values())


def class_names(description: Mapping[str, Any]) -> list[str]:
    """The names of the foreground classes in the order of their numbers, or of the regions in that of the channels.

    >>> class_names({"labels": {"background": 0, "edema": 2, "core": [1], "ignore": 3}})
    ['core', 'edema']
    """
    labels = {name: value for name, value in description["labels"].items() if name not in ("background", "ignore")}
    if has_regions(description):
        return list(labels)
    return sorted(labels, key=lambda name: labels[name][0] if isinstance(labels[name], list) else labels[name])


def label_names(description: Mapping[str, Any]) -> list[str]:
    """What the numbers of a segmentation mean, from 1 on; of regions it is the one that is drawn last over the others.

    >>> label_names({"labels": {"background": 0, "all": [1, 2], "core": [2]}, "regions_class_order": [1, 2]})
    ['all', 'core']
    """
    names = class_names(description)
    return [names[channel] for channel in drawing_order(description)]


def drawing_order(description: Mapping[str, Any]) -> list[int]:
    """The foreground channels in the order of the numbers that a segmentation has for them.

    >>> labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": 2}
    >>> drawing_order({"labels": labels, "regions_class_order": [1, 3, 2]})
    [0, 2, 1]
    """
    channels = range(len(class_names(description)))
    order = description.get("regions_class_order") or channels
    return sorted(channels, key=order.__getitem__)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}, which nnU-Net writes; name the folder that holds it")
    return read_json(file, encoding=None)


def _without_warnings() -> Any:
    import warnings

    return warnings.catch_warnings(action="ignore")  # nnU-Net warns of plans in an older format, which it reads
