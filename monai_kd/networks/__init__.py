# SPDX-License-Identifier: Apache-2.0
"""Networks that MONAI and timm lack, and what distillation puts on and beside networks."""

from .attention_rollout import AttentionRollout
from .bundle_network import BundleNetwork
from .data_fidelity import DataFidelity
from .dc_cnn import DCCNN, DCUNet, convolution_layers
from .deep_vessel_net import CrossHairConvolution, DeepVesselNet
from .encoder_unet import EncoderUNet
from .ensemble_network import EnsembleNetwork
from .feature_tap import FeatureTap
from .hybrid_classifier import HybridClassifier
from .kt_vit import KTViT
from .multi_task_vit import MultiTaskViT
from .onnx_network import OnnxNetwork
from .paraphraser import Paraphraser
from .preprocessed import preprocessed
from .projectors import ChannelEnergy, LayerProjectors, MeanOfLayers, SelectChannels
from .slicewise import Slicewise
from .student_friendly import StudentFriendlyTeacher
from .student_unet import decoder_stages, fused_stages, student_unet
from .timm_models import create_timm_model
from .torchscript_network import TorchScriptNetwork
from .trans_unet import TransUNet
from .unet_plus_plus import UNetPlusPlus
from .unet_vit import UNetViT
from .vc_net import VCNet
from .vdsr import VDSR

__all__ = [
    "AttentionRollout",
    "BundleNetwork",
    "ChannelEnergy",
    "CrossHairConvolution",
    "DCCNN",
    "DCUNet",
    "DataFidelity",
    "DeepVesselNet",
    "EncoderUNet",
    "EnsembleNetwork",
    "FeatureTap",
    "HybridClassifier",
    "KTViT",
    "LayerProjectors",
    "MeanOfLayers",
    "MultiTaskViT",
    "OnnxNetwork",
    "Paraphraser",
    "SelectChannels",
    "Slicewise",
    "StudentFriendlyTeacher",
    "TorchScriptNetwork",
    "TransUNet",
    "UNetPlusPlus",
    "UNetViT",
    "VCNet",
    "VDSR",
    "convolution_layers",
    "create_timm_model",
    "decoder_stages",
    "fused_stages",
    "preprocessed",
    "student_unet",
]
