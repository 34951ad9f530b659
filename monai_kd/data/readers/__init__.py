"""Files to arrays: pictures, volumes, DICOM, MATLAB slices, k-space."""
