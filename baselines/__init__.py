"""One file, one method: the file name is its name on the command line."""
