"""The objective `pairs`: each document is an input and a target text.

The target that is fed begins with the start token; predicted are all tokens of the target text and the document's end. Pairs of
a batch differ in length: inputs are padded before their first token, targets after their last. Pairs longer than W tokens,
input and fed target together, are left out and counted.

Batches come from pools of 8 batches, consecutive in a permutation of the documents (one for each epoch): within a pool the
pairs are sorted by length, cut into batches, and the batches shuffled, so that little is padded. All of it is a function of
(seed, step). Widths are rounded up to multiples of 8, so that shapes repeat, but not beyond the longest pair. Where no input of
a batch is padded, both together are no wider than the window: there positions that learned tables lack would be read.
"""

from functools import lru_cache

import numpy as np

from paribus.data.counters import random_bits
from paribus.data.objectives import IGNORE, PADDING, Ints, Pairs
from paribus.data.specials import Specials
from paribus.data.store import Split
from paribus.errors import DataError

POOL = 8
"""Batches of a pool."""
_WIDTHS = 8


class Documents:
    """The pairs of a split that fit a window of W tokens. Raises DataError if the documents are no pairs, or none fits."""

    def __init__(self, split: Split, window: int) -> None:
        if split.cuts is None:
            raise DataError('objective.name = "pairs": the corpus was read as plain text: set data.pairs = true')
        lengths = split.lengths
        fits = lengths <= window
        self._split, self._window = split, window
        self.numbers: Ints = np.flatnonzero(fits)
        """(documents,) of those that fit, in order."""
        if not len(self.numbers):
            shortest = f"the shortest pair of the {split.name} split has {int(lengths.min())} tokens"
            raise DataError(f"{shortest} and data.window = {window}: use a larger data.window")
        self.left_out = int(len(lengths) - len(self.numbers))
        """Pairs that are too long."""
        self.inputs: Ints = split.cuts[fits].astype(np.int64)
        """(documents,) input tokens."""
        self.targets: Ints = (lengths - split.cuts)[fits].astype(np.int64)
        """(documents,) target tokens, the end included."""
        self.starts: Ints = split.starts[:-1][fits]

    def pairs(self, chosen: Ints, specials: Specials) -> Pairs:
        """The pairs of documents `chosen` (B,), by their place among those that fit."""
        inputs, targets = self.inputs[chosen], self.targets[chosen]
        S, T = (_width(some, everything) for some, everything in ((inputs, self.inputs), (targets, self.targets)))
        tokens, starts = self._split.tokens, self.starts[chosen][:, None]
        padding = S - inputs
        if not padding.any():
            T = min(T, self._window - S)
        column = np.arange(S) - padding[:, None]
        source = np.where(column >= 0, tokens[starts + np.maximum(column, 0)].astype(np.int64), PADDING)
        place = np.minimum(np.arange(T), targets[:, None] - 1)
        text = tokens[starts + inputs[:, None] + place].astype(np.int64)
        labels = np.where(np.arange(T) < targets[:, None], text, IGNORE)
        fed = np.concatenate([np.full((len(chosen), 1), specials.start), labels[:, :-1]], axis=1)
        return Pairs(source, np.where(fed == IGNORE, PADDING, fed), labels, None, padding if padding.any() else None)


def _width(lengths: Ints, of_all: Ints) -> int:
    longest = int(lengths.max())
    return min(-(-longest // _WIDTHS) * _WIDTHS, int(of_all.max()))


class Epochs:
    """Which documents each step reads."""

    def __init__(self, documents: Documents, batch: int, key: np.uint64) -> None:
        self._lengths = documents.inputs + documents.targets
        self._batch, self._key = batch, key
        self._permuted = lru_cache(maxsize=4)(self._permutation)
        self._pool = lru_cache(maxsize=4)(lambda pool: self._batches(np.array([pool]))[0])

    def at(self, step: int) -> Ints:
        """The documents of a step (B,)."""
        found: Ints = self._pool(step // POOL)[step % POOL]
        return found

    def of(self, steps: Ints) -> Ints:
        """The documents of consecutive steps (n, B)."""
        first, last = int(steps[0]) // POOL, int(steps[-1]) // POOL
        batches = self._batches(np.arange(first, last + 1)).reshape(-1, self._batch)
        return batches[steps - first * POOL]

    def _batches(self, pools: Ints) -> Ints:
        """The documents of the batches of pools (n, POOL, B)."""
        size = POOL * self._batch
        places = pools[:, None] * size + np.arange(size)
        epochs, nth = np.divmod(places, len(self._lengths))
        documents = np.empty(places.shape, dtype=np.int64)
        for epoch in range(int(epochs.min()), int(epochs.max()) + 1):
            of_epoch = epochs == epoch
            documents[of_epoch] = self._permuted(epoch)[nth[of_epoch]]
        order = np.argsort(self._lengths[documents], axis=1, kind="stable")
        batches = np.take_along_axis(documents, order, axis=1).reshape(len(pools), POOL, self._batch)
        shuffled = np.argsort(random_bits(self._keys(1, pools)[:, None], np.arange(POOL)), axis=1, kind="stable")
        return np.take_along_axis(batches, shuffled[:, :, None], axis=1)

    def _permutation(self, epoch: int) -> Ints:
        return np.argsort(random_bits(self._keys(0, np.array([epoch])), np.arange(len(self._lengths))), kind="stable")

    def _keys(self, use: int, numbers: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        """Random bits of each epoch (use 0) or pool (use 1)."""
        return random_bits(random_bits(self._key, use), numbers)
