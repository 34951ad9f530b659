# SPDX-License-Identifier: Apache-2.0
"""Generated data sets in the file formats of the real ones."""
