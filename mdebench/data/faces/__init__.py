"""Sources of faces, one file each."""
