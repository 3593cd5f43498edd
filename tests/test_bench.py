"""What `bench step` reports adds up; how fast anything is belongs to the machine and is not tested."""

import pytest

from mdebench.bench import bench_step, measure_step
from mdebench.errors import UserError


def test_a_step_of_any_method_is_timed_and_counted():
    small = measure_step("glcic", "tiny", 3, {"width": "4"}, 32, 2)
    twice = measure_step("glcic", "tiny", 3, {"width": "4"}, 32, 4)
    assert small.ratio_low <= small.ratio <= small.ratio_high and small.plain_ms > 0
    # Twice the images, twice the operations, but for gradients of weights and windows: those grow alike here.
    assert twice.gflop == pytest.approx(2 * small.gflop, rel=0.02)
    assert small.share_of_peak == pytest.approx(small.gflop / small.ours_ms * 1000 / small.peak)


def test_all_players_of_a_game_in_phases_are_timed():
    joint = measure_step("glcic", "tiny", 3, {"width": "4"}, 32, 2)
    alone = measure_step("glcic", "tiny", 3, {"width": "4", "phases": "1,0,0"}, 32, 2)
    assert joint.gflop > 1.3 * alone.gflop  # the generator alone, against it and both discriminators


def test_what_is_said_names_the_method_and_its_batch(console):
    bench_step("rec", "tiny", 3, {"width": "2", "code": "4"}, 16, 2, console)
    said = console.file.getvalue()
    assert "rec at scale tiny, 16×16 pixels, batch 2, 3 rounds" in said and "share of the peak" in said


def test_a_method_without_training_has_no_step():
    with pytest.raises(UserError, match="pixels has nothing to train"):
        measure_step("pixels", "tiny", 3, {}, None, None)
