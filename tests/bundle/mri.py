# SPDX-License-Identifier: Apache-2.0
"""The two MRI bundles made tiny, and in what they differ."""

from __future__ import annotations

from types import SimpleNamespace

SIZE, BLOCKS = 48, 3

RECONSTRUCTION = SimpleNamespace(
    NAME="mri_reconstruction",
    TINY={
        "num_workers": 0,
        "split": "index",
        "image_size": SIZE,
        "centre_lines": 4,
        "max_epochs": 2,
        "teacher_epochs": 1,
        "n_blocks": BLOCKS,
        "channels": 4,
    },
    METHODS={
        "at": "attention_transfer",
        "fitnets": "hint",
        "cc": "correlation_congruence",
        "fsp": "flow_of_solution",
        "sp": "similarity_preserving",
    },
    LARGEST_LOSS=10,  # times the task's
    OF_THE_IMAGES={"image_size": 40, "slices": 1, "acceleration": 5, "noise_std": 0.1, "fidelity_weight": 3},
    BRANCH_TENSORS=6 * (BLOCKS - 1),
)
SUPER_RESOLUTION = SimpleNamespace(
    NAME="mri_super_resolution",
    TINY={"num_workers": 0, "split": "index", "image_size": SIZE, "max_epochs": 2, "teacher_epochs": 1, "channels": 4},
    METHODS={
        "at": "attention_transfer",
        "fitnets": "hint",
        "cc": "correlation_congruence",
        "pkt": "probabilistic_transfer",
        "ft": "factor_transfer",
        "ft_paraphraser": "factor_transfer",
        "nst": "neuron_selectivity",
    },
    LARGEST_LOSS=100,
    OF_THE_IMAGES={"image_size": 40, "slices": 1, "acceleration": 2},
    BRANCH_TENSORS=6,
)
