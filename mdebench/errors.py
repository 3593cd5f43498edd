"""What ends a command without a traceback: a mistake that a person can put right, and a stop that was asked for."""


class UserError(Exception):
    """What is wrong, where, and what to do, in words for the person who meets it; never shown as a traceback."""


class Interrupted(Exception):
    """Ctrl-C or a polite kill: the state after the last whole update is on disk."""
