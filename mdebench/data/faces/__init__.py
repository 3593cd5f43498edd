"""Sources of faces beyond CelebA, one file each."""
