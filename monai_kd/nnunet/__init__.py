# SPDX-License-Identifier: Apache-2.0
"""nnU-Net as a bundle: its folders, networks, samples, loss and sliding window for this package's stages and verbs.

nnU-Net is imported when something is made of it; without it, everything else works.
"""

from .cases import nnunet_datalist, nnunet_items
from .description import channel_names, describe_student
from .ensemble import NnunetEnsemble, nnunet_teacher, take_members
from .inferer import NnunetInferer
from .loss import NnunetLoss
from .model_folder import ModelFolder
from .network import NnunetNetwork, head_layers, head_weights, hint_projectors, stage_features, stage_layers
from .planning import plan_and_preprocess, preprocessed_dir, samples_folder
from .plans import NnunetPlans, class_names, has_regions, label_names, plain_plans, student_plans
from .samples import NnunetSamples, planned_batch_size
from .settling import take_plans
from .soft_labels import NnunetSoftLabels, nnunet_soft_labels
from .teacher import NnunetTeacherStage
from .trained import TrainedFolder, read_nnunet_checkpoint
from .transforms import ClassMasks, ClassMasksd, NnunetPreprocess, NnunetPreprocessd, NnunetSegmentationd
from .unlabelled import NnunetMixedSamples, nnunet_epoch, unlabelled_samples

__all__ = [
    "ClassMasks",
    "ClassMasksd",
    "ModelFolder",
    "NnunetEnsemble",
    "NnunetInferer",
    "NnunetLoss",
    "NnunetMixedSamples",
    "NnunetNetwork",
    "NnunetPlans",
    "NnunetPreprocess",
    "NnunetPreprocessd",
    "NnunetSamples",
    "NnunetSegmentationd",
    "NnunetSoftLabels",
    "NnunetTeacherStage",
    "TrainedFolder",
    "channel_names",
    "class_names",
    "describe_student",
    "has_regions",
    "head_layers",
    "head_weights",
    "hint_projectors",
    "label_names",
    "nnunet_datalist",
    "nnunet_epoch",
    "nnunet_items",
    "nnunet_soft_labels",
    "nnunet_teacher",
    "plain_plans",
    "plan_and_preprocess",
    "planned_batch_size",
    "preprocessed_dir",
    "read_nnunet_checkpoint",
    "samples_folder",
    "stage_features",
    "stage_layers",
    "student_plans",
    "take_members",
    "take_plans",
    "unlabelled_samples",
]
