"""Which part of which document a model reads: windows that never leave one document.

A model reads at most W tokens and predicts at most W, so a window is W + 1 consecutive tokens of one document, or all of a
shorter one. With an input of S tokens a window needs S + 2: the input, the given token, one token to predict.
A document of n tokens has max(1, ceil((n - 1) / W)) tiles, which cover its n - 1 predicted tokens.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.data.counters import random_bits, stable_key
from paribus.data.store import Split
from paribus.errors import DataError

Ints = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """Places in a split; all three arrays have one shape."""

    documents: Ints
    starts: Ints
    """Of the window, counted from the start of the split."""
    lengths: Ints
    """Tokens, at most W + 1."""


class TrainingWindows:
    """Draws a tile, uniformly among those of the documents that are long enough, and moves it by up to half a tile."""

    def __init__(self, split: Split, window: int) -> None:
        lengths = split.lengths
        self.window = window
        # Longest first, so that the documents long enough for a split point are the first ones.
        self.order = np.argsort(-lengths, kind="stable").astype(np.int64)
        self.lengths = lengths[self.order]
        self.starts = split.starts[:-1][self.order]
        self.tiles = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(tile_counts(self.lengths, window))])
        self._split = split

    def eligible_tiles(self, input_length: int) -> int:
        """Tiles of the documents with at least `input_length` + 2 tokens. Raises DataError if there are none."""
        count = int(np.searchsorted(-self.lengths, -(input_length + 2), side="right"))
        if count == 0:
            raise too_short(self._split.name, input_length, int(self.lengths[0]))
        return int(self.tiles[count])

    def draw(self, input_length: int, tile: npt.NDArray[np.float64], jitter: npt.NDArray[np.float64]) -> Windows:
        """Windows from two arrays of one shape, of uniform numbers in [0, 1): which tile, and where around it."""
        W = self.window
        chosen = (tile * self.eligible_tiles(input_length)).astype(np.int64)
        rank = np.searchsorted(self.tiles, chosen, side="right") - 1
        offset = (chosen - self.tiles[rank]) * W + (jitter * (W + 1)).astype(np.int64) - W // 2
        length = self.lengths[rank]
        offset = np.clip(offset, 0, np.maximum(0, length - W - 1))
        return Windows(self.order[rank], self.starts[rank] + offset, np.minimum(length, W + 1))


def tile_counts(lengths: Ints, window: int) -> Ints:
    """Tiles of documents of `lengths` tokens."""
    return np.maximum(1, -(-(lengths - 1) // window))


def too_short(split: str, input_length: int, longest: int) -> DataError:
    """No document of a split can be cut at `input_length`."""
    needs = f"an input of {input_length} tokens needs {input_length + 2}"
    mend = "use a smaller data.window or smaller objective.splits, or give longer documents"
    return DataError(f"the longest document of the {split} split has {longest} tokens and {needs}: {mend}")


def evaluation_windows(split: Split, window: int, shares: dict[int, float], count: int) -> tuple[Windows, Ints]:
    """Choose at most `count` tiles for evaluation, each with the length of its input; the same whatever the seed.

    Tiles of one document share no predicted token. They come from as many documents as possible: one of each document,
    in an order fixed by a hash, then a second of each, and so on. `shares` maps the length of the input to its share of
    the windows, which is kept as closely as the documents' lengths allow. The result is sorted by length of input,
    document and start. Raises DataError if no document is long enough for the longest input.
    """
    lengths = split.lengths
    counts = tile_counts(lengths, window)
    documents = np.repeat(np.arange(len(lengths)), counts)
    tile = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    sizes = np.minimum(window + 1, lengths[documents] - tile * window)
    if sizes.max() < max(shares) + 2:
        raise too_short(split.name, max(shares), int(lengths.max()))
    usable = sizes >= min(shares) + 2
    documents, tile, sizes = documents[usable], tile[usable], sizes[usable]
    bits = random_bits(random_bits(stable_key("evaluation windows"), documents), tile)
    by_document = np.lexsort((bits, documents))
    first = np.searchsorted(documents, documents)
    round_ = np.empty(len(documents), dtype=np.int64)
    round_[by_document] = np.arange(len(documents)) - first[by_document]
    order = np.lexsort((bits, round_))
    chosen, inputs = _apportion(order, sizes, shares, min(count, len(order)))
    starts = split.starts[documents[chosen]] + tile[chosen] * window
    sort = np.lexsort((starts, inputs))
    chosen = chosen[sort]
    return Windows(documents[chosen].astype(np.int64), starts[sort], sizes[chosen]), inputs[sort]


def _apportion(order: Ints, sizes: Ints, shares: dict[int, float], count: int) -> tuple[Ints, Ints]:
    """Walk the tiles in order; each takes, of the split points it is long enough for, the one furthest behind its quota."""
    exact = {input_length: count * share / sum(shares.values()) for input_length, share in shares.items()}
    quota = {input_length: int(value) for input_length, value in exact.items()}
    for input_length in sorted(exact, key=lambda length: quota[length] - exact[length])[: count - sum(quota.values())]:
        quota[input_length] += 1
    left = dict(quota)
    chosen, inputs = [], []
    for index in order.tolist():
        options = [length for length in left if left[length] and length + 2 <= sizes[index]]
        if options:
            taken = max(options, key=lambda length: left[length] / quota[length])
            left[taken] -= 1
            chosen.append(index)
            inputs.append(taken)
            if len(chosen) == count:
                break
    return np.array(chosen, dtype=np.int64), np.array(inputs, dtype=np.int64)
