"""One task for arms of different objectives: some tokens of a text, each predicted from all that stands before it.

A prefix of S tokens is shown; scored positions are evenly spaced over what follows, without the first token after the prefix,
which `prefix_lm` is given. Every objective asks in the format it was trained on, or the nearest it has, and always about the same
tokens given the same text:

- `lm`: an empty input; the whole window is target, of which only these tokens count.
- `prefix_lm`: the prefix is input, the rest target.
- `span_corruption`: the prefix and sentinel 0 are input; the target is the start token, sentinel 0 and the text. No training
  example has one span up to the end of the text, as long as that.
- `ul2`: the same after the token of mode S, which is what its sequential denoiser trains on, for inputs of one share of the
  text.
- `mlm`: a pass for each token, over everything before it with [MASK] last. In training the text goes on behind a mask.

B windows, R tokens of each.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from paribus.data.objectives import IGNORE, PADDING, Ints, Pairs, Text
from paribus.data.shapes import Shape, cut_shapes
from paribus.data.specials import Specials
from paribus.spec.evaluation import Evaluation
from paribus.spec.objective import Objective

SAME_SPLIT = 0.05
"""Shares of a window that are no further apart are taken for the same."""
EXTRA = 4
"""Positions of a window that the text leaves to special tokens: the mode, two sentinels and the start of the target, less the
last token of the text, which nothing reads."""

Scored = npt.NDArray[np.bool_]
Rows = tuple[Ints, Pairs]
"""Which of the windows each pair belongs to, and the pairs."""
Ask = Callable[[Text, Scored, Shape, Objective, Specials], Rows]


def continuation_shapes(splits: list[float], window: int) -> list[Shape]:
    """The shapes of the task: windows cut in two, with room for special tokens."""
    return cut_shapes(splits, None, window - EXTRA)


def scored_tokens(lengths: Ints, shape: Shape, count: int) -> Scored:
    """Which tokens of windows (B, R) of `lengths` (B,) are scored: at most `count` of each."""
    first = shape.input + 1
    room = np.maximum(0, lengths - first)
    number = np.minimum(count, room)[:, None]
    nth = np.arange(count)
    places = first + ((2 * nth + 1) * room[:, None]) // np.maximum(1, 2 * number)
    scored = np.zeros((len(lengths), shape.tokens), dtype=bool)
    rows, columns = np.nonzero(nth < number)
    scored[rows, places[rows, columns]] = True
    return scored


def ask(text: Text, scored: Scored, shape: Shape, section: Objective, specials: Specials) -> Rows:
    """The pairs in which the objective `section` is asked for the scored tokens."""
    within = np.arange(text.tokens.shape[1]) < text.lengths[:, None]
    text = text._replace(tokens=np.where(within, text.tokens, PADDING))
    return _FORMATS[section.name](text, scored, shape, section, specials)


def off_distribution(section: Objective, evaluation: Evaluation) -> str | None:
    """Why what an arm is scored on is not what its objective trains on, in a sentence; None where it is."""
    if evaluation.score_on != "continuation":
        return None
    if section.name == "span_corruption":
        return "Span corruption cuts out short spans, and this task all that follows the prefix."
    if section.name == "mlm":
        return "Under mlm the text goes on behind a [MASK] and holds several; here [MASK] is the last token, and alone."
    if section.name in ("lm", "pairs"):
        return None
    trained = section.splits
    if section.name == "ul2":
        cut = [density for mode, density in zip(section.denoisers, section.densities, strict=True) if mode == "S"]
        if not cut:
            return "Without the denoiser S nothing was cut out up to the end of a text, as in this task."
        trained = [1 - density for density in cut]
    asked = evaluation.continuation_splits or section.splits
    others = [split for split in asked if min(abs(split - known) for known in trained) > SAME_SPLIT]
    if not others:
        return None
    return f"It was trained on inputs of {_shares(trained)} of a text, and this task also has {_shares(others)}."


def _shares(splits: list[float]) -> str:
    return ", ".join(f"{100 * split:.3g} %" for split in sorted(set(splits)))


def _labels(text: Text, scored: Scored) -> Ints:
    return np.where(scored, text.tokens, IGNORE)


def _all(text: Text) -> Ints:
    return np.arange(len(text.tokens))


def _lm(text: Text, scored: Scored, shape: Shape, section: Objective, specials: Specials) -> Rows:
    empty = np.zeros((len(text.tokens), 0), dtype=np.int64)
    return _all(text), Pairs(empty, text.tokens[:, :-1], _labels(text, scored)[:, 1:])


def _prefix_lm(text: Text, scored: Scored, shape: Shape, section: Objective, specials: Specials) -> Rows:
    S = shape.input
    return _all(text), Pairs(text.tokens[:, :S], text.tokens[:, S:-1], _labels(text, scored)[:, S + 1 :])


def _infilling(text: Text, scored: Scored, shape: Shape, section: Objective, specials: Specials) -> Rows:
    S, B = shape.input, len(text.tokens)

    def column(token: int) -> Ints:
        return np.full((B, 1), token)

    mode = [column(specials.mode("S"))] if section.name == "ul2" else []
    source = np.concatenate([*mode, text.tokens[:, :S], column(specials.sentinel(0))], axis=1)
    target = np.concatenate([column(specials.start), column(specials.sentinel(0)), text.tokens[:, S:-1]], axis=1)
    labels = np.concatenate([column(IGNORE), _labels(text, scored)[:, S:]], axis=1)
    return _all(text), Pairs(source, target, labels)


def _mlm(text: Text, scored: Scored, shape: Shape, section: Objective, specials: Specials) -> Rows:
    rows, places = np.nonzero(scored)
    width = int(places.max(initial=0)) + 1
    padding = width - 1 - places
    column = np.arange(width) - padding[:, None]
    source = np.where(column >= 0, text.tokens[rows[:, None], np.maximum(column, 0)], PADDING)
    source[:, -1] = specials.mask
    labels = np.full(source.shape, IGNORE, dtype=np.int64)
    labels[:, -1] = text.tokens[rows, places]
    nothing = np.zeros((len(rows), 0), dtype=np.int64)
    return rows, Pairs(source, nothing, nothing, labels, padding if padding.any() else None)


_FORMATS: dict[str, Ask] = {
    "lm": _lm,
    "prefix_lm": _prefix_lm,
    "span_corruption": _infilling,
    "ul2": _infilling,
    "mlm": _mlm,
}
