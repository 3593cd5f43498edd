"""Text for people that several rooms write: lists and durations in words."""

from collections.abc import Iterable


def duration(seconds: float) -> str:
    """ "48 s", "3 min 05 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def words(items: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
