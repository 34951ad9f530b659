"""What MONAI's engines lack: stages of a distillation, batch preparation, inference and evaluation of bundles."""

from .batch import plain_batch
from .batch_inference import BatchInference, BatchReport
from .cross_validation import cross_validate
from .evaluation import MODELS, evaluation_workflow, tabulate_run
from .export import ExportReport, describe_network, export_network, load_exported, read_metadata
from .nested_run import STAGES, keep_settings, train_run
from .parameters import parameters
from .planar_inferer import PlanarInferer
from .processes import process_device, start_processes
from .run_config import running_config, write_run_config
from .stage import Stage
from .step_decay import StepDecay
from .weights import load_weights

__all__ = [
    "MODELS",
    "STAGES",
    "BatchInference",
    "BatchReport",
    "ExportReport",
    "PlanarInferer",
    "Stage",
    "StepDecay",
    "cross_validate",
    "describe_network",
    "evaluation_workflow",
    "export_network",
    "keep_settings",
    "load_exported",
    "load_weights",
    "parameters",
    "plain_batch",
    "process_device",
    "read_metadata",
    "running_config",
    "start_processes",
    "tabulate_run",
    "train_run",
    "write_run_config",
]
