"""Frames around an image: by hand from a pack in which each image holds its own number."""

import numpy as np
import pytest
import torch

from mdebench.baselines._clips import frames, mean_where
from mdebench.methods.contract import Batch, Beside

CLIP = np.array([-1, -1, 4, 4, 4, 0, 0, 9], np.int32)


def batch(index: list[int], clip: np.ndarray | None = CLIP) -> Batch:
    def numbered(rows: torch.Tensor) -> torch.Tensor:
        return rows.to(torch.float64)[:, None, None, None].expand(-1, 3, 2, 2)

    rows = torch.tensor(index)
    given = None if clip is None else Beside({"clip": clip}, numbered)
    return Batch(numbered(rows), rows, 0, 0, 0, torch.Generator(), 1, given=given)


def test_frames_stay_in_their_clip_and_the_nearest_stands_for_those_beyond():
    index, offsets = [0, 1, 2, 3, 4, 5, 6, 7], (-2, -1, 0, 1)
    found, there = frames(batch(index), offsets)
    assert found.shape == (8, 4, 3, 2, 2) and found.dtype == torch.float64
    for n, row in enumerate(index):
        of_clip = [r for r in index if CLIP[r] == CLIP[row]] if CLIP[row] >= 0 else [row]
        for k, offset in enumerate(offsets):
            nearest = min(of_clip, key=lambda r, place=row + offset: abs(r - place))
            assert (found[n, k] == nearest).all() and there[n, k] == (row + offset in of_clip)


def test_a_method_that_takes_no_clips_is_given_none():
    for given in (batch([0], None), Batch(**{**vars(batch([0])), "given": Beside({}, lambda rows: rows)})):
        with pytest.raises(KeyError):
            frames(given, [1])


def test_a_mean_over_what_counts_is_that_of_the_parts_of_a_batch_together():
    """Two halves, of which the second counts more places: the mean of the halves' losses is that of the whole."""
    value, counts = torch.rand(4, 5), torch.tensor([[1.0, 0, 0, 0, 0], [0.0] * 5, [1.0] * 5, [1.0, 1, 0, 0, 1]])
    whole = counts.mean()

    class Half(Batch):
        def mean(self, value: torch.Tensor) -> torch.Tensor:
            return whole

    halves = [mean_where(value[part], counts[part], Half(**vars(batch([0])))) for part in (slice(2), slice(2, 4))]
    alone = mean_where(value, counts, batch([0]))
    torch.testing.assert_close(alone, value[counts > 0].mean())
    torch.testing.assert_close(sum(halves) / 2, alone)
    assert mean_where(value, torch.zeros(4, 5), batch([0])) == 0
