"""How well scores tell a binary answer, and how sure that is: five statistics as means of one number per image.

Of each statistic T of n images the numbers are T + influence_i, where the influence is the derivative of T by the
weight of image i (Hampel 1974). Their mean is T and their spread its sampling uncertainty, whatever T is: of a plain
mean they are the numbers averaged, of the area under the ROC curve they come from the placements of DeLong, DeLong and
Clarke-Pearson (1988).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mdebench.evaluation.metrics import Floats
from mdebench.evaluation.readouts import Predictions

BINS = 15  # of the calibration error (Guo et al. 2017)

Flags = npt.NDArray[np.bool_]
Statistic = Callable[[Floats, Flags], Floats]  # scores (n,) and truth (n,) → (n,) in %, whose mean is the statistic


def error(scores: Floats, truth: Flags) -> Floats:
    """The share of wrong answers; a score above 0.5 says yes."""
    return np.where((scores > 0.5) != truth, 100.0, 0.0)


def balanced_accuracy(scores: Floats, truth: Flags) -> Floats:
    """The mean of sensitivity and specificity (half the trace of the row-normalised confusion matrix)."""
    right = ((scores > 0.5) == truth).astype(np.float64)
    rates = right[truth].mean(), right[~truth].mean()
    influence = (right - np.where(truth, *rates)) / np.where(truth, truth.mean(), (~truth).mean())
    return np.asarray(100 * (sum(rates) + influence) / 2)


def auc(scores: Floats, truth: Flags) -> Floats:
    """The area under the ROC curve: how often a positive image has the higher score of two; ties count a half."""
    placements = np.empty(len(scores))
    for own, sign in ((truth, 1.0), (~truth, -1.0)):
        others, mine = np.sort(sign * scores[~own]), sign * scores[own]
        below = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        placements[own] = below / (2 * len(others))
    value = placements[truth].mean()
    influence = (placements - value) / np.where(truth, truth.mean(), (~truth).mean())
    return np.asarray(100 * (value + influence))


def average_precision(scores: Floats, truth: Flags) -> Floats:
    """The precision at the score of each positive image, their mean: Σ (R_k − R_{k−1}) P_k, as scikit-learn has it."""
    places, counts = np.unique(scores, return_inverse=True, return_counts=True)[1:]
    positive = np.bincount(places, truth)
    reached = counts[::-1].cumsum()[::-1]  # images with at least that score
    precision = positive[::-1].cumsum()[::-1] / reached
    value = (positive @ precision) / positive.sum()
    # Image i is in the precision at every score up to its own: it adds (yᵢ − precision) / reached there.
    gained, paid = (positive / reached).cumsum(), (positive * precision / reached).cumsum()
    influence = np.where(truth, precision[places] - value + gained[places], 0.0) - paid[places]
    return np.asarray(100 * (value + influence / truth.mean()))


def calibration_error(scores: Floats, truth: Flags) -> Floats:
    """The expected calibration error of scores clipped to [0, 1] as probabilities, in 15 bins of equal width.

    Each bin counts by |positive images − sum of probabilities|. It is above 0 even for perfect probabilities, the more
    the fewer images there are.
    """
    probability = scores.clip(0, 1)
    bins = np.minimum((BINS * probability).astype(np.int64), BINS - 1)
    excess = truth - probability
    return np.asarray(100 * np.sign(np.bincount(bins, excess))[bins] * excess)


STATISTICS: dict[str, Statistic] = {
    "attribute_error": error,
    "balanced_accuracy": balanced_accuracy,
    "auc": auc,
    "average_precision": average_precision,
    "calibration_error": calibration_error,
}
OF_BOTH = ("balanced_accuracy", "auc", "average_precision")  # need images with and without


def per_image(statistic: Statistic, predictions: Predictions, targets: Predictions) -> Floats:
    """(n,): the numbers of a statistic, in %, of predictions (draws, n) for targets (n,) of 0, 1 and NaN; their mean
    over the draws. An image whose target is unknown has the statistic itself: it has no influence."""
    known = ~np.isnan(targets)
    found = np.mean(
        [statistic(scores[known].astype(np.float64), targets[known] == 1) for scores in predictions], axis=0
    )
    value = found.mean()
    numbers = np.full(len(targets), value)
    numbers[known] += (found - value) / known.mean()
    return numbers
