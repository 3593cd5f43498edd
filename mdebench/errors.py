"""The one exception for mistakes a person can put right; the command line prints it as one sentence."""


class UserError(Exception):
    """What is wrong, where, and what to do, in words for the person who meets it; never shown as a traceback."""


class Interrupted(Exception):
    """Ctrl-C or a polite kill: the state after the last whole update is on disk."""
