"""Results to files: masks, maps, tables, pictures, DICOM-SEG."""
