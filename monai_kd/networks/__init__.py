"""Networks that MONAI and timm lack, and what distillation puts on and beside networks."""

from .feature_tap import FeatureTap
from .projectors import MeanOfLayers, SelectChannels
from .timm_models import create_timm_model
from .unet_vit import UNetViT

__all__ = ["FeatureTap", "MeanOfLayers", "SelectChannels", "UNetViT", "create_timm_model"]
