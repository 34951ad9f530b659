# SPDX-License-Identifier: Apache-2.0
"""What MONAI's engines lack: stages of a distillation, batch preparation, inference and evaluation of bundles."""

from monai_kd.stage_names import MODELS, STAGES

from .batch import plain_batch
from .batch_inference import BatchInference, BatchReport
from .cross_validation import cross_validate
from .ensemble import ensemble, trained_network
from .epoch_table import EPOCH_COLUMNS, read_epochs
from .evaluation import (
    TEACHER_AS_ASKED,
    KeptNetwork,
    compared_metrics,
    evaluation_workflow,
    kept_network,
    tell_scores,
    values_of,
)
from .export import EXPORTED, ExportReport, export_network, load_exported
from .exported_metadata import describe_network, embedded_config, latest_scores, read_metadata
from .model_card import describe_data, describe_licence, describe_model, generated_by, is_generated
from .nested_run import keep_settings, rehearse_run, run_steps, train_run
from .operations import count_operations
from .parameters import parameters
from .placement import place_network
from .planar_inferer import PlanarInferer
from .precision import PRECISIONS, PrecisionInferer, choose_precision, has_bfloat16, precision_of
from .processes import process_device, start_processes
from .provenance import TRAINED_ON, check_data, check_origin, differing_settings, seen_patients
from .rehearsal import rehearse
from .reproduction import reproduce
from .run_config import CROSS_VALIDATED, plain_settings, read_run_config, running_config, write_run_config
from .run_table import tabulate_run
from .serving import serve_if_better
from .settings import check_settings
from .stage import Stage
from .step_decay import StepDecay
from .tables import markdown_table
from .taught_by import describe_other_teacher, taught_by, teacher_checkpoint
from .weights import explain_unreadable, load_weights, read_checkpoint, read_weights, replace_weights
from .wording import score_text

__all__ = [
    "CROSS_VALIDATED",
    "EPOCH_COLUMNS",
    "EXPORTED",
    "MODELS",
    "STAGES",
    "TEACHER_AS_ASKED",
    "TRAINED_ON",
    "BatchInference",
    "BatchReport",
    "ExportReport",
    "KeptNetwork",
    "PRECISIONS",
    "PlanarInferer",
    "PrecisionInferer",
    "Stage",
    "StepDecay",
    "check_data",
    "check_origin",
    "check_settings",
    "choose_precision",
    "compared_metrics",
    "count_operations",
    "cross_validate",
    "describe_data",
    "describe_licence",
    "describe_model",
    "describe_network",
    "describe_other_teacher",
    "differing_settings",
    "embedded_config",
    "ensemble",
    "evaluation_workflow",
    "explain_unreadable",
    "export_network",
    "generated_by",
    "has_bfloat16",
    "is_generated",
    "keep_settings",
    "kept_network",
    "latest_scores",
    "load_exported",
    "load_weights",
    "markdown_table",
    "parameters",
    "place_network",
    "plain_batch",
    "plain_settings",
    "precision_of",
    "process_device",
    "read_checkpoint",
    "read_epochs",
    "read_metadata",
    "read_run_config",
    "read_weights",
    "rehearse",
    "rehearse_run",
    "replace_weights",
    "reproduce",
    "run_steps",
    "running_config",
    "score_text",
    "seen_patients",
    "serve_if_better",
    "start_processes",
    "tabulate_run",
    "taught_by",
    "teacher_checkpoint",
    "tell_scores",
    "train_run",
    "trained_network",
    "values_of",
    "write_run_config",
]
