# SPDX-License-Identifier: Apache-2.0
"""Files to arrays: pictures, volumes, DICOM, MATLAB slices, k-space."""
