"""Objectives that corrupt a full window of n tokens and ask for what is gone: span corruption, UL2's mixture, BERT's masks.

B windows, n tokens of each, k spans that are cut out.
"""

import numpy as np
import numpy.typing as npt

from paribus.data.counters import random_bits, uniforms
from paribus.data.objectives import IGNORE, Bits, Ints, Pairs, Text, objective
from paribus.data.shapes import Shape
from paribus.data.specials import Specials
from paribus.spec.objective import Objective


@objective("span_corruption", "ul2")
def span_corruption(text: Text, shape: Shape, section: Objective, specials: Specials) -> Pairs:
    """Spans are cut out; each leaves a sentinel, and the target says what stood there (arXiv 1910.10683, 3.1.4).

    Input: the mode, if any, and the text with sentinel i for span i. Predicted: sentinel 0, span 0, sentinel 1, span 1, ..., and
    a last sentinel; fed: the start token, then the same. Text and spans alternate, each of at least one token. As in T5's code
    text comes first, so that the last span ends the text. UL2's modes R and X may also begin with a span and end with text:
    they have few spans, and one alone would otherwise always be the end, which is the sequential denoiser's, mode S (arXiv
    2205.05131, 3.1.2).
    """
    B, n = text.tokens.shape
    kept = n - shape.noise
    if shape.mode == "S":
        lengths = np.tile(np.array([kept, shape.noise]), (B, 1))
    else:
        anywhere = shape.mode is not None
        cut = segmentation(text.keys, 0, shape.noise, shape.spans)
        left = segmentation(text.keys, n, kept + 2 * anywhere, shape.spans + anywhere)
        lengths = np.zeros((B, 2 * shape.spans + anywhere), dtype=np.int64)
        lengths[:, 0::2], lengths[:, 1::2] = left, cut
        if anywhere:  # the first and the last text may be empty
            lengths[:, [0, -1]] -= 1
    return corrupted(text.tokens, lengths, shape.mode, specials)


def segmentation(keys: Bits, first: int, items: int, segments: int) -> Ints:
    """Divide `items` into segments of at least one, each division equally likely: lengths (B, segments).

    Draws the random numbers from counter `first` on, `items` - 1 of each window.
    """
    bits = random_bits(keys[:, None], first + np.arange(items - 1))
    ends = np.zeros((len(keys), segments + 1), dtype=np.int64)
    ends[:, 1:-1] = np.sort(np.argsort(bits, axis=1, kind="stable")[:, : segments - 1], axis=1) + 1
    ends[:, -1] = items
    return np.diff(ends, axis=1)


def corrupted(tokens: Ints, lengths: Ints, mode: str | None, specials: Specials) -> Pairs:
    """Tokens (B, n) with the odd ones of their segments cut out, of which each row has as many, k, and as many tokens of them.

    `lengths` (B, 2k), or (B, 2k + 1) where text may follow the last span; only the first and the last text may be empty.
    """
    B, n = tokens.shape
    segments = lengths.shape[1]
    starts = np.zeros((B, n + 1), dtype=np.int64)  # an empty last text would start behind the end
    np.put_along_axis(starts, np.cumsum(lengths, axis=1)[:, :-1], 1, axis=1)
    starts = starts[:, :n]
    segment = np.cumsum(starts, axis=1)
    is_cut = segment % 2 == 1
    begins = is_cut & (starts == 1)
    sentinel = specials.sentinel(0) + segment // 2
    last = specials.sentinel(segments // 2)
    source = np.where(begins, sentinel, tokens)[~is_cut | begins].reshape(B, -1)
    if mode is not None:
        source = np.concatenate([np.full((B, 1), specials.mode(mode)), source], axis=1)
    doubled = np.stack([sentinel, tokens], axis=2)
    spans = doubled[np.stack([begins, is_cut], axis=2)].reshape(B, -1)
    labels = np.concatenate([spans, np.full((B, 1), last)], axis=1)
    target = np.concatenate([np.full((B, 1), specials.start), spans], axis=1)
    return Pairs(source, target, labels)


@objective("mlm")
def mlm(text: Text, shape: Shape, section: Objective, specials: Specials) -> Pairs:
    """Chosen tokens are predicted in place (arXiv 1810.04805, 3.1).

    Of the chosen ones, a share `masked` becomes [MASK], a share `random` a random token of text, and the rest stay. Label i is
    token i itself where it was chosen. There is no target.
    """
    B, n = text.tokens.shape
    chosen, action = chosen_tokens(text.keys, n, shape.noise)
    source = text.tokens.copy()
    becomes_random = chosen & (action >= section.masked) & (action < section.masked + section.random)
    drawn = (uniforms(text.keys[:, None], 2 * n + np.arange(n)) * specials.first).astype(np.int64)
    source[becomes_random] = drawn[becomes_random]
    source[chosen & (action < section.masked)] = specials.mask
    nothing = np.zeros((B, 0), dtype=np.int64)
    return Pairs(source, nothing, nothing, np.where(chosen, text.tokens, IGNORE))


def chosen_tokens(keys: Bits, length: int, count: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which `count` of `length` tokens are chosen, and a uniform number for each token: both (B, length)."""
    bits = random_bits(keys[:, None], np.arange(length))
    chosen = np.zeros(bits.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(bits, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen, uniforms(keys[:, None], length + np.arange(length))


def only_masked(pairs: Pairs, specials: Specials) -> Pairs:
    """The same pairs, predicting only what stands under [MASK]: the input shows the other chosen tokens, or may."""
    if pairs.input_labels is None:
        return pairs
    return pairs._replace(input_labels=np.where(pairs.input == specials.mask, pairs.input_labels, IGNORE))
