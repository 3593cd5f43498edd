"""Whatever dialect and layout a data set has, every label stays with its picture: read from the pack's own pixels.

A hundred are drawn here, always the same; ``make dialects`` draws 2,000.
"""

import pytest
from drawn_dialects import SHARES, SOURCES, hold
from hypothesis import HealthCheck, given, settings


@pytest.mark.parametrize("source", SHARES)
def test_labels_are_what_the_pictures_show(source: str) -> None:
    how = settings(max_examples=round(100 * SHARES[source]), derandomize=True, database=None, deadline=None)
    how = settings(how, suppress_health_check=list(HealthCheck))
    how(given(SOURCES[source])(hold))()
