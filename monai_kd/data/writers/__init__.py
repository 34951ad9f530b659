# SPDX-License-Identifier: Apache-2.0
"""Results to files: masks, maps, tables, pictures, DICOM-SEG."""
