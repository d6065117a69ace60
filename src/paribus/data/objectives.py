"""What is read and what is predicted: an objective turns windows of text into pairs. It never knows the architecture.

Each is a pure function of the tokens of a window, its shape (`data.shapes`), 64 random bits and the special tokens; windows
of a batch do not know of each other. B windows of a batch, S input tokens, T target tokens fed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.data.shapes import Shape
from paribus.data.specials import Specials
from paribus.spec.objective import Objective

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

IGNORE = -1
"""The label where nothing is predicted."""
PADDING = 0
"""What stands where there is no token; nobody sees it before an input, and no label asks for it after a target."""


class Text(NamedTuple):
    """Windows of text, each of its own document."""

    tokens: Ints
    """(B, `shape.tokens`); anything after the end of a shorter window."""
    lengths: Ints
    """(B,) tokens of each window."""
    keys: Bits
    """(B,) random bits of each window."""


class Pairs(NamedTuple):
    """Pairs of one shape."""

    input: Ints
    """(B, S) tokens read before the target."""
    target: Ints
    """(B, T) tokens fed to the target side, the given one first."""
    labels: Ints
    """(B, T) the token each target position predicts, or `IGNORE`."""
    input_labels: Ints | None = None
    """(B, S) the token each input position predicts, or `IGNORE`; None where no loss is taken on the input."""
    padding: Ints | None = None
    """(B,) empty positions before each input; None where there are none."""


Make = Callable[[Text, Shape, Objective, Specials], Pairs]
OBJECTIVES: dict[str, Make] = {}
"""By name, as a study file says it; `pairs` reads documents and not windows (`data.supervised`)."""


def objective(*names: str) -> Callable[[Make], Make]:
    """Register an objective under the names that `objective.name` uses."""

    def register(function: Make) -> Make:
        OBJECTIVES.update(dict.fromkeys(names, function))
        return function

    return register


@objective("lm", "prefix_lm")
def prefix_lm(text: Text, shape: Shape, section: Objective, specials: Specials) -> Pairs:
    """A window w cut in two: the input is `w[:S]`, the target `w[S:]`, whose first token is given and predicts the next.

    The plain language model has S = 0.
    """
    S = shape.input
    within = np.arange(text.tokens.shape[1]) < text.lengths[:, None]
    tokens = np.where(within, text.tokens, PADDING)
    return Pairs(tokens[:, :S], tokens[:, S:-1], np.where(within, tokens, IGNORE)[:, S + 1 :])


def with_input_loss(pairs: Pairs) -> Pairs:
    """The same pairs, the input's own next tokens predicted too (`loss_on = "all"`).

    Input position i < S - 1 predicts input token i + 1; the last one would predict the given token, which no arm predicts.
    """
    labels: Ints = np.full_like(pairs.input, IGNORE)
    labels[:, :-1] = pairs.input[:, 1:]
    if pairs.padding is not None:
        labels[np.arange(labels.shape[1]) < pairs.padding[:, None]] = IGNORE
    return pairs._replace(input_labels=labels)
