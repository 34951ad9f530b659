"""Networks that MONAI and timm lack, and what distillation puts on and beside networks."""

from .feature_tap import FeatureTap
from .hybrid_classifier import HybridClassifier
from .projectors import MeanOfLayers, SelectChannels
from .timm_models import create_timm_model
from .torchscript_network import TorchScriptNetwork
from .unet_plus_plus import UNetPlusPlus
from .unet_vit import UNetViT

__all__ = [
    "FeatureTap",
    "HybridClassifier",
    "MeanOfLayers",
    "SelectChannels",
    "TorchScriptNetwork",
    "UNetPlusPlus",
    "UNetViT",
    "create_timm_model",
]
