# SPDX-License-Identifier: Apache-2.0
"""Distillation losses, each called as ``loss(student, teacher)``, and their weighted sum."""

from __future__ import annotations

from monai_kd.losses.attention_transfer import AttentionTransferLoss
from monai_kd.losses.channel_wise import ChannelWiseLoss
from monai_kd.losses.correlation_congruence import CorrelationCongruenceLoss
from monai_kd.losses.decoupled_soft_target import DecoupledSoftTargetLoss
from monai_kd.losses.distillation import DistillationLoss, DistillationTerm
from monai_kd.losses.factor_transfer import FactorTransferLoss
from monai_kd.losses.flow_of_solution import FlowOfSolutionLoss
from monai_kd.losses.foreground_hint import ForegroundHintLoss
from monai_kd.losses.hint import HintLoss
from monai_kd.losses.hybrid_reconstruction import HybridReconstructionLoss
from monai_kd.losses.hybrid_segmentation import HybridSegmentationLoss
from monai_kd.losses.layerwise import LayerwiseLoss
from monai_kd.losses.multi_task import MultiTaskBCELoss
from monai_kd.losses.neuron_selectivity_transfer import NeuronSelectivityTransferLoss
from monai_kd.losses.pooled_feature import PooledFeatureLoss
from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.probabilistic_knowledge_transfer import ProbabilisticKnowledgeTransferLoss
from monai_kd.losses.relational import RelationalLoss
from monai_kd.losses.similarity_preserving import SimilarityPreservingLoss
from monai_kd.losses.soft_target import BinarySoftTargetLoss, SoftTargetLoss
from monai_kd.losses.structural_similarity import StructuralSimilarityLoss
from monai_kd.losses.student_friendly import StudentFriendlyLoss

__all__ = [
    "AttentionTransferLoss",
    "BinarySoftTargetLoss",
    "ChannelWiseLoss",
    "CorrelationCongruenceLoss",
    "DecoupledSoftTargetLoss",
    "DistillationLoss",
    "DistillationTerm",
    "FactorTransferLoss",
    "FlowOfSolutionLoss",
    "ForegroundHintLoss",
    "HintLoss",
    "HybridReconstructionLoss",
    "HybridSegmentationLoss",
    "LayerwiseLoss",
    "MultiTaskBCELoss",
    "NeuronSelectivityTransferLoss",
    "PooledFeatureLoss",
    "ProbabilisticKnowledgeTransferLoss",
    "RelationalLoss",
    "SimilarityPreservingLoss",
    "SoftTargetLoss",
    "StructuralSimilarityLoss",
    "StudentFriendlyLoss",
    "at_least_float32",
]
