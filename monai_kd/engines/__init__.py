"""What MONAI's engines lack: stages of a distillation, batch preparation, inference and evaluation of bundles."""

from .batch import plain_batch
from .batch_inference import BatchInference, BatchReport
from .cross_validation import cross_validate
from .evaluation import tabulate_run
from .parameters import parameters
from .planar_inferer import PlanarInferer
from .processes import process_device, start_processes
from .run_config import running_config, write_run_config
from .stage import Stage

__all__ = [
    "BatchInference",
    "BatchReport",
    "PlanarInferer",
    "Stage",
    "cross_validate",
    "parameters",
    "plain_batch",
    "process_device",
    "running_config",
    "start_processes",
    "tabulate_run",
    "write_run_config",
]
