# SPDX-License-Identifier: Apache-2.0
"""Ids of a configuration that say where and how the work is done, by their role.

Whoever asks whether two configurations mean the same leaves out the roles that mean nothing to the question.
"""

__all__ = ["CACHES", "CALL", "FILES", "MACHINE", "NOTES", "OF_INFERENCE", "PLACES", "PRECISION", "PROGRAM", "STEPS"]
__all__ += ["TRAINED_ON"]

TRAINED_ON = "trained_on"
"""Id that a kept configuration is given beside its own: ``{"patients": [...]}``, who the network was trained on."""

PLACES = frozenset({"bundle_root", "ckpt_dir", "dataset_dir"})  # what lies there is compared by itself
FILES = frozenset({"datalist_file", "teacher_checkpoint"})  # paths of single files of one machine
MACHINE = frozenset({"device", "num_workers", "cache_rate"})
CACHES = frozenset({"teacher_cache", "teacher_cache_gb"})  # not teacher_cache_half, which rounds what is kept
CALL = frozenset({"resume"})
STEPS = frozenset({"run", "training"})  # which stages a call trains
PROGRAM = frozenset({"imports", "initialize", "finalize"})
NOTES = frozenset({"_meta_", TRAINED_ON})  # to publish a student changes what a bundle says of itself
PRECISION = frozenset({"amp", "channels_last", "compute_precision", "precision"})  # a training is another one by it
OF_INFERENCE = frozenset({"output_dir", "checkpoint", "batch_size", "part"})  # of which batch_size decides a training
