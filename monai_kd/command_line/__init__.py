# SPDX-License-Identifier: Apache-2.0
"""What the command line is made of: its words, its errors, and a module for every verb or a few of a kind.

PyTorch and MONAI are imported when a verb needs them, so that help is at hand at once.
"""
