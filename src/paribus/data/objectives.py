"""What is read and what is predicted: an objective turns windows of text into pairs. It never knows the architecture.

Shapes: B windows of a batch, W tokens a model reads, S of them input, T = W - S target.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.study.spec import Objective

Ints = npt.NDArray[np.int64]

IGNORE = -1
"""The label where nothing is predicted."""
PADDING = 0
"""What stands after the end of a window that is shorter than W + 1; no label asks for it."""


class Pairs(NamedTuple):
    """Pairs of one shape."""

    input: Ints
    """(B, S) tokens read before the target."""
    target: Ints
    """(B, T) tokens fed to the target side, the given one first."""
    labels: Ints
    """(B, T) the token each target position predicts, or `IGNORE`."""
    input_labels: Ints | None
    """(B, S) the token each input position predicts, or `IGNORE`; None where no loss is taken on the input."""


def prefix_lm(windows: Ints, lengths: Ints, input_length: int, loss_on_input: bool) -> Pairs:
    """Cut `windows` (B, W + 1), of `lengths` (B,) tokens, in two.

    The input is `w[:S]`. The target is `w[S:]`: its first token is given, and each token is fed to predict the next.
    With `loss_on_input`, input position i < S - 1 predicts input token i + 1; the last one would predict the given token,
    which no arm predicts.
    """
    S = input_length
    within = np.arange(windows.shape[1]) < lengths[:, None]
    windows = np.where(within, windows, PADDING)
    labels = np.where(within, windows, IGNORE)[:, S + 1 :]
    input_labels = None
    if loss_on_input:
        input_labels = np.full((len(windows), S), IGNORE, dtype=np.int64)
        input_labels[:, : max(0, S - 1)] = windows[:, 1 : max(1, S)]
    return Pairs(windows[:, :S], windows[:, S:-1], labels, input_labels)


OBJECTIVES: dict[str, Callable[[Ints, Ints, int, bool], Pairs]] = {"prefix_lm": prefix_lm}
"""By name, as a study file says it."""


def input_lengths(objective: Objective, window: int) -> dict[int, float]:
    """Lengths of the input, in tokens, and how probable each is; at least one position is left to the target."""
    weights = objective.split_weights or [1.0] * len(objective.splits)
    lengths: dict[int, float] = {}
    for share, weight in sorted(zip(objective.splits, weights, strict=True)):
        length = min(round(share * window), window - 1)
        lengths[length] = lengths.get(length, 0.0) + weight / sum(weights)
    return lengths
