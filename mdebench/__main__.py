"""``python -m mdebench``: the command line."""

from mdebench.cli.main import main

main()
