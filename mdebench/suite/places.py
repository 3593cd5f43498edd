"""Where tasks are done: here, or on the machines of a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from mdebench.suite.cluster import connect
from mdebench.suite.workers import Here, Workers, default_jobs


@contextmanager
def workers(where: str | None, jobs: int | None) -> Iterator[Workers]:
    """Those of ``--on where`` and ``--jobs``; UserError when they cannot be had."""
    if where is None:
        yield Here(jobs or default_jobs())
    else:
        with connect(where, jobs) as cluster:
            yield cluster
