"""``python -m mdebench``: the command line."""

from mdebench.cli import main

main()
