# SPDX-License-Identifier: Apache-2.0
"""Which files there are, whose they are, and on which side of the split they stand."""
