"""One file, one protocol: the file name is its name on the command line."""
