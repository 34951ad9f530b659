# SPDX-License-Identifier: Apache-2.0
"""Settings by which a bundle trains in a second."""

__all__ = ["SEGMENTATION"]

SEGMENTATION = {
    "image_size": 32,
    "batch_size": 4,
    "num_workers": 0,
    "max_epochs": 2,
    "student_features": [2, 2, 4, 4, 4, 2],
    "teacher_features": [4, 4, 4, 8, 8, 4],
    "teacher_def#vit": "vit_tiny_patch16_224",
    "teacher_def#vit_kwargs": {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 2},
}
"""Of ``brain_tumor_segmentation``."""
