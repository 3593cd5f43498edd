"""Frames around an image in its clip, for methods that learn from motion; means over what has something to learn."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mdebench.methods.contract import Batch


def frames(batch: Batch, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The frames that stand so many places (K) after each image in its clip: (N, K, 3, H, W), as ``batch.images`` are.

    With whether they are there, (N, K) of 1 and 0: in the place of a frame beyond the clip, the clip's nearest stands.
    KeyError where the method does not take "clip".
    """
    if batch.given is None:
        raise KeyError("clip")
    clip, own = batch.given.arrays["clip"], batch.index.numpy()
    begins = np.r_[0, 1 + np.flatnonzero(np.diff(clip)), len(clip)]  # as the frames of a clip follow one another
    place = np.searchsorted(begins, own, side="right")
    still = clip[own] < 0  # of no clip: a clip of its own
    first = np.where(still, own, begins[place - 1])
    last = np.where(still, own, begins[place] - 1)
    wanted = own[:, None] + np.asarray(offsets)
    rows = wanted.clip(first[:, None], last[:, None])
    images = batch.others(torch.from_numpy(rows.reshape(-1)))
    return images.view(*rows.shape, *images.shape[1:]), torch.from_numpy(rows == wanted).to(batch.images)


def mean_where(value: Tensor, counts: Tensor, batch: Batch) -> Tensor:
    """The mean of a value over where it ``counts`` (1, else 0; both (N, …)), in the whole batch; 0 where none does."""
    share = batch.mean(counts.mean())
    return (value * counts).mean() / share.clamp(min=torch.finfo(share.dtype).tiny)
