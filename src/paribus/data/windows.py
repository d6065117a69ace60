"""Which part of which document a model reads: windows that never leave one document.

Documents are cut into tiles as `data.shapes.Tiling` says. Under `lm` and `prefix_lm` a model reads at most W tokens and
predicts at most W, so a window is W + 1 consecutive tokens of one document, or all of a shorter one; with an input of S tokens
it needs S + 2: the input, the given token, one token to predict. A document of n tokens has max(1, ceil((n - 1) / W)) tiles,
which cover its n - 1 predicted tokens. Windows that are corrupted are always full.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.data.counters import random_bits, stable_key
from paribus.data.shapes import Shape
from paribus.data.store import Split
from paribus.errors import DataError

Ints = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """Places in a split; all three arrays have one shape."""

    documents: Ints
    starts: Ints
    """Of the window, counted from the start of the split."""
    lengths: Ints
    """Tokens."""

    def at(self, index: Ints | int) -> "Windows":
        """Some of the windows."""
        return Windows(self.documents[index], self.starts[index], self.lengths[index])


class TrainingWindows:
    """Draws, for a shape, a tile uniformly among those of long enough documents, and moves it by up to half a tile."""

    def __init__(self, split: Split) -> None:
        lengths = split.lengths
        # Longest first, so that the documents of a range of lengths stand together.
        self._order = np.argsort(-lengths, kind="stable").astype(np.int64)
        self._lengths = lengths[self._order]
        self._starts = split.starts[:-1][self._order]
        self._tiles: dict[tuple[int, int, int, int], Ints] = {}

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return int(self._lengths[0])

    def documents(self, shape: Shape) -> tuple[int, int]:
        """The ranks, by length, of the documents that a shape reads: from, and up to but without."""
        first = 0 if shape.tiling.below is None else self._longer(shape.tiling.below)
        return first, self._longer(shape.least)

    def count(self, shape: Shape) -> int:
        """Tiles of these documents."""
        return int(self._up_to(shape)[-1])

    def draw(self, shape: Shape, tile: npt.NDArray[np.float64], jitter: npt.NDArray[np.float64]) -> Windows:
        """Windows from two arrays of one shape, of uniform numbers in [0, 1): which tile, and where around it."""
        tiles, stride, tokens = self._up_to(shape), _stride(shape), shape.tokens
        first, _ = self.documents(shape)
        chosen = (tile * tiles[-1]).astype(np.int64)
        nth = np.searchsorted(tiles, chosen, side="right") - 1
        offset = (chosen - tiles[nth]) * stride + (jitter * (stride + 1)).astype(np.int64) - stride // 2
        rank = first + nth
        length = self._lengths[rank]
        offset = np.clip(offset, 0, np.maximum(0, length - tokens))
        return Windows(self._order[rank], self._starts[rank] + offset, np.minimum(length, tokens))

    def _longer(self, least: int) -> int:
        """How many documents have at least so many tokens."""
        return int(np.searchsorted(-self._lengths, -least, side="right"))

    def _up_to(self, shape: Shape) -> Ints:
        """Tiles of the documents of a shape before each, and of all: (documents + 1,)."""
        first, last = self.documents(shape)
        key = (first, last, _stride(shape), shape.tokens)
        if key not in self._tiles:
            counts = _tile_counts(self._lengths[first:last], _stride(shape), shape.tokens)
            self._tiles[key] = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        return self._tiles[key]


def _stride(shape: Shape) -> int:
    """Tokens from tile to tile in training: no token of a document is left out where a shape reads fewer than a tile."""
    return shape.tokens if shape.tiling.whole else shape.tiling.stride


def _tile_counts(lengths: Ints, stride: int, tokens: int) -> Ints:
    """Tiles of documents of `lengths` tokens that cover all their tokens, but for what a tile shares with the one before."""
    return np.maximum(1, -(-(lengths - (tokens - stride)) // stride))


def too_short(split: str, needed: int, longest: int, shape: Shape) -> DataError:
    """No document of a split has the `needed` tokens of a shape."""
    whole = shape.tiling.whole
    what = "a corrupted window" if whole else f"an input of {shape.input} tokens"
    smaller = "" if whole else "use a smaller data.window or smaller objective.splits, or "
    return DataError(
        f"the longest document of the {split} split has {longest} tokens and {what} needs {needed}: "
        f"{smaller}give longer documents"
    )


class EvaluationWindows(NamedTuple):
    """Fixed windows of a split, sorted by shape, document and start."""

    windows: Windows
    shapes: Ints
    """(windows,) the shape of each, by number."""


def evaluation_windows(split: Split, shapes: Sequence[Shape], count: int, whole: bool = False) -> EvaluationWindows:
    """Choose at most `count` tiles for evaluation; the same whatever the seed.

    Tiles of one document share no predicted token. They come from as many documents as possible: one of each document,
    in an order fixed by a hash, then a second of each, and so on. Each kind of shape has its share of the windows, as closely
    as the documents' lengths allow. With `whole`, only windows that are as long as a shape's may be. Raises DataError if a
    kind has no document that is long enough.
    """
    tiles = _Tiles(split, shapes)
    for kind in sorted({shape.kind for shape in shapes}):
        own = [shape for shape in shapes if shape.kind == kind]
        if not any(tiles.fitting(shape, whole).any() for shape in own):
            shape = min(own, key=lambda shape: shape.least)
            needed = shape.tokens if whole else shape.least
            raise too_short(split.name, needed, int(split.lengths.max()), shape)
    chosen, numbers = _apportion(tiles, shapes, count, whole)
    # The shape's own tokens stand somewhere in the tile, so that the ends of documents are read too.
    tokens = np.array([shape.tokens for shape in shapes])[numbers]
    slack = np.maximum(0, tiles.sizes[chosen] - tokens)
    starts = tiles.starts[chosen] + (tiles.bits[chosen] % (slack + 1).astype(np.uint64)).astype(np.int64)
    found = Windows(tiles.documents[chosen], starts, np.minimum(tiles.sizes[chosen], tokens))
    sort = np.lexsort((starts, numbers))
    return EvaluationWindows(found.at(sort), numbers[sort])


class _Tiles:
    """All tiles of a split."""

    def __init__(self, split: Split, shapes: Sequence[Shape]) -> None:
        lengths = split.lengths
        documents, starts, sizes, self.tilings = [], [], [], sorted({shape.tiling for shape in shapes}, key=repr)
        which = []
        for number, tiling in enumerate(self.tilings):
            chosen = np.flatnonzero((lengths >= tiling.least) & (lengths < (tiling.below or np.iinfo(np.int64).max)))
            some = lengths[chosen]
            counts = some // tiling.tokens if tiling.whole else _tile_counts(some, tiling.stride, tiling.tokens)
            document = np.repeat(chosen, counts)
            tile = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
            start = tile * tiling.stride
            if tiling.whole:
                left = (some - counts * tiling.tokens + 1).astype(np.uint64)
                shift = (
                    (random_bits(stable_key("evaluation tiles"), chosen) % left).astype(np.int64) if len(some) else some
                )
                start = start + np.repeat(shift, counts)
            documents.append(document)
            starts.append(start)
            sizes.append(np.minimum(tiling.tokens, lengths[document] - start))
            which.append(np.full(len(document), number))
        self.documents = np.concatenate(documents).astype(np.int64)
        offsets = np.concatenate(starts)
        self.sizes = np.concatenate(sizes)
        self.tiling = np.concatenate(which)
        self.starts = split.starts[self.documents] + offsets
        by_place = np.lexsort((offsets, self.documents))
        tile = np.empty(len(offsets), dtype=np.int64)
        ordered = self.documents[by_place]
        tile[by_place] = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        self.bits = random_bits(random_bits(stable_key("evaluation windows"), self.documents), tile)

    def fitting(self, shape: Shape, whole: bool) -> npt.NDArray[np.bool_]:
        """Which tiles a shape can have."""
        needed = shape.tiling.tokens if whole else shape.least
        found: npt.NDArray[np.bool_] = (self.tiling == self.tilings.index(shape.tiling)) & (self.sizes >= needed)
        return found & (shape.tiling.below is None) if whole else found

    @cached_property
    def order(self) -> Ints:
        """The first tile of each document in an order fixed by a hash, then the second ones, and so on."""
        by_document = np.lexsort((self.bits, self.documents))
        first = np.searchsorted(self.documents[by_document], self.documents[by_document])
        nth = np.empty(len(by_document), dtype=np.int64)
        nth[by_document] = np.arange(len(by_document)) - first
        return np.lexsort((self.bits, nth))


def _apportion(tiles: _Tiles, shapes: Sequence[Shape], count: int, whole: bool) -> tuple[Ints, Ints]:
    """Walk the tiles in order; each takes, of the kinds it is long enough for, the one furthest behind its quota."""
    shares = {shape.kind: shape.share for shape in shapes}
    by_kind: dict[int, npt.NDArray[np.int64]] = {kind: np.full(len(tiles.sizes), -1) for kind in shares}
    for number, shape in enumerate(shapes):
        by_kind[shape.kind][tiles.fitting(shape, whole)] = number
    usable = np.any([fits >= 0 for fits in by_kind.values()], axis=0)
    order = tiles.order[usable[tiles.order]]
    count = min(count, len(order))
    exact = {kind: count * share / sum(shares.values()) for kind, share in shares.items()}
    quota = {kind: int(value) for kind, value in exact.items()}
    for kind in sorted(exact, key=lambda kind: quota[kind] - exact[kind])[: count - sum(quota.values())]:
        quota[kind] += 1
    left = dict(quota)
    chosen, numbers = [], []
    for index in order.tolist():
        options = [kind for kind in left if left[kind] and by_kind[kind][index] >= 0]
        if options:
            taken = max(options, key=lambda kind: left[kind] / quota[kind])
            left[taken] -= 1
            chosen.append(index)
            numbers.append(int(by_kind[taken][index]))
            if len(chosen) == count:
                break
    return np.array(chosen, dtype=np.int64), np.array(numbers, dtype=np.int64)
