"""Batches as a pure function of (seed, step): the same for every arm, number of workers and resume."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import paribus.data.denoising  # noqa: F401 - registers its objectives
from paribus.data.counters import random_bits, stable_key, uniforms
from paribus.data.objectives import IGNORE, OBJECTIVES, Ints, Pairs, Text, with_input_loss
from paribus.data.shapes import Shape, shapes_of
from paribus.data.specials import Specials
from paribus.data.store import Corpus, Split
from paribus.data.supervised import Documents, Epochs
from paribus.data.windows import TrainingWindows, Windows, too_short
from paribus.spec.data import Data
from paribus.spec.objective import Objective

HASHED_STEPS = 10_000
"""Steps that the hash of a plan covers, at most."""
HASHED_TOKENS = 1 << 24
"""Tokens that the hash of a plan covers, at most."""
_DRAWN_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Batch:
    """B pairs of one shape: S input tokens, T target positions; all arrays are int64."""

    input: Ints
    """(B, S)"""
    target: Ints
    """(B, T) tokens fed, the given one first."""
    labels: Ints
    """(B, T) tokens predicted, or -1."""
    input_labels: Ints | None
    """(B, S) tokens predicted by input positions, or -1; None where no loss is taken on the input."""
    padding: Ints | None
    """(B,) empty positions before each input; None where there are none."""
    seeds: Ints
    """(B,) one of each sequence, below 2**31, for visibility drawn per sequence."""
    windows: Ints
    """(B,) start of each window in the tokens of its split."""
    documents: Ints
    """(B,) document of each window in its split."""
    input_weight: float = 1.0
    """Weight of an input position's loss; a target position's is 1."""

    @property
    def target_tokens(self) -> int:
        """Target tokens that are predicted."""
        return int((self.labels != IGNORE).sum())

    @property
    def loss_tokens(self) -> int:
        """Tokens that are predicted, on the target and on the input."""
        on_input = 0 if self.input_labels is None else int((self.input_labels != IGNORE).sum())
        return self.target_tokens + on_input

    @property
    def seen_tokens(self) -> int:
        """Tokens read, input and target together, padding excluded."""
        empty = 0 if self.padding is None else int(self.padding.sum())
        return self.input.size - empty + self.target_tokens


def batch_hash(previous: str, batch: Batch) -> str:
    """Chain: the hash of all batches so far from that of those before (at first the empty string) and the next."""
    digest = hashlib.blake2b(previous.encode(), digest_size=16)
    for name in ("input", "target", "labels", "input_labels", "padding", "seeds"):
        array = getattr(batch, name)
        if array is not None:
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.astype("<i4").tobytes())
    return digest.hexdigest()


def sequence_seeds(key: npt.NDArray[np.uint64] | np.uint64, numbers: npt.ArrayLike) -> Ints:
    """Seeds of sequences, below 2**31."""
    return (random_bits(key, numbers) >> np.uint64(33)).astype(np.int64)


class Reader:
    """Windows of one split to pairs."""

    def __init__(self, split: Split, objective: Objective, specials: Specials) -> None:
        self._tokens, self._objective, self._specials = split.tokens, objective, specials

    def text(self, windows: Windows, tokens: int, keys: npt.NDArray[np.uint64]) -> Text:
        """Windows (B,) as rows of `tokens` tokens."""
        places = windows.starts[:, None] + np.minimum(np.arange(tokens), windows.lengths[:, None] - 1)
        return Text(self._tokens[places].astype(np.int64), windows.lengths, keys)

    def pairs(self, windows: Windows, shape: Shape, keys: npt.NDArray[np.uint64]) -> Pairs:
        """The pairs of windows (B,) of one shape, from random bits of each (B,)."""
        text = self.text(windows, shape.tokens, keys)
        return OBJECTIVES[self._objective.name](text, shape, self._objective, self._specials)


class _Plan(Protocol):
    """What the two ways of drawing, windows of text and whole documents, have in common."""

    left_out: int
    """Documents that are never read."""
    tokens: float
    """Tokens of a step, on average; after a short target, empty positions count."""

    def at(self, step: int) -> tuple[Pairs, Windows]:
        """The pairs of a step, and where they stand."""

    def lengths(self, steps: Ints) -> tuple[Ints, Ints, Ints]:
        """Of all pairs of consecutive steps (n, B): tokens of input and of target fed, padding excluded; of each target token fed
        one is predicted; and input positions that predict something under the objective's own loss."""


class _TextPlan:
    """A shape for each step, and its windows."""

    def __init__(self, corpus: Corpus, data: Data, objective: Objective, batch: int, seed: int) -> None:
        split = corpus.split("train")
        self._windows = TrainingWindows(split)
        self._batch = batch
        self._key, self._corruption = stable_key("training batches", seed), stable_key("corruption", seed)
        self._reader = Reader(split, objective, corpus.specials)
        every = shapes_of(objective, data.window)
        for kind in sorted({shape.kind for shape in every}):
            own = [shape for shape in every if shape.kind == kind]
            if not any(_is_read(self._windows, shape) for shape in own):
                shape = min(own, key=lambda shape: shape.least)
                raise too_short(split.name, shape.least, self._windows.longest, shape)
        self._shapes = [shape for shape in every if _is_read(self._windows, shape)]
        tiles = {shape: self._windows.count(shape) for shape in self._shapes}
        of_kind: Counter[int] = Counter()
        for shape, count in tiles.items():
            of_kind[shape.kind] += count
        # Within a kind every tile is equally probable, so that documents count by their length.
        shares = np.array([shape.share * tiles[shape] / of_kind[shape.kind] for shape in self._shapes])
        self._until = np.cumsum(shares)
        self.tokens = batch * float(shares @ [shape.input + shape.target for shape in self._shapes])
        self.left_out = int((split.lengths < min(shape.least for shape in self._shapes)).sum())

    def at(self, step: int) -> tuple[Pairs, Windows]:
        numbers, windows = self._draw(np.array([step]))
        keys = random_bits(self._corruption, step * self._batch + np.arange(self._batch))
        row = Windows(*(array[0] for array in windows))
        return self._reader.pairs(row, self._shapes[int(numbers[0])], keys), row

    def lengths(self, steps: Ints) -> tuple[Ints, Ints, Ints]:
        numbers, windows = self._draw(steps)
        table = np.array([[s.input, s.target, s.tokens, s.noise] for s in self._shapes], dtype=np.int64)
        inputs, targets, tokens, noise = (column[:, None] for column in table[numbers].T)
        fed = targets - (tokens - windows.lengths)  # windows that may be shorter end with their target
        inputs = np.broadcast_to(inputs, fed.shape)
        fed = np.where(targets == 0, 0, fed)
        return inputs, fed, np.broadcast_to(np.where(targets == 0, noise, 0), fed.shape)

    @property
    def _draws(self) -> int:
        """Uniform numbers of a step: its shape, then tile and jitter of each window."""
        return 1 + 2 * self._batch

    def _draw(self, steps: Ints) -> tuple[Ints, Windows]:
        """Shape (n,), by number, and windows (n, B) of `steps` (n,)."""
        numbers = np.searchsorted(self._until[:-1], uniforms(self._key, steps * self._draws), side="right")
        counters = (steps * self._draws)[:, None] + 1 + np.arange(2 * self._batch)
        uniform = uniforms(self._key, counters)
        tile, jitter = uniform[:, : self._batch], uniform[:, self._batch :]
        windows = Windows(*(np.empty(tile.shape, dtype=np.int64) for _ in range(3)))
        for number in np.unique(numbers):
            rows = numbers == number
            drawn = self._windows.draw(self._shapes[int(number)], tile[rows], jitter[rows])
            for array, values in zip(windows, drawn, strict=True):
                array[rows] = values
        return numbers, windows


def _is_read(windows: TrainingWindows, shape: Shape) -> bool:
    first, last = windows.documents(shape)
    return last > first


class _PairsPlan:
    """Whole documents, in epochs."""

    def __init__(self, corpus: Corpus, data: Data, objective: Objective, batch: int, seed: int) -> None:
        self._documents = Documents(corpus.split("train"), data.window)
        self._epochs = Epochs(self._documents, batch, stable_key("epochs", seed))
        self._specials = corpus.specials
        self.tokens = batch * float((self._documents.inputs + self._documents.targets).mean())
        self.left_out = self._documents.left_out

    def at(self, step: int) -> tuple[Pairs, Windows]:
        chosen, documents = self._epochs.at(step), self._documents
        lengths = documents.inputs[chosen] + documents.targets[chosen]
        place = Windows(documents.numbers[chosen], documents.starts[chosen], lengths)
        return documents.pairs(chosen, self._specials), place

    def lengths(self, steps: Ints) -> tuple[Ints, Ints, Ints]:
        chosen = self._epochs.of(steps)
        targets = self._documents.targets[chosen]
        return self._documents.inputs[chosen], targets, np.zeros_like(targets)


class TrainingBatches:
    """The training batches of one seed.

    Raises DataError if no training document is long enough for the longest input, or short enough for the window.
    """

    def __init__(self, corpus: Corpus, data: Data, objective: Objective, batch: int, seed: int) -> None:
        self.batch = batch
        self._window = data.window
        self._on_all = objective.loss_on == "all"
        self._weight = objective.input_loss_weight if self._on_all else 1.0
        make = _PairsPlan if objective.name == "pairs" else _TextPlan
        self._plan: _Plan = make(corpus, data, objective, batch, seed)
        self._seeds = stable_key("sequences", seed)

    @property
    def documents_left_out(self) -> int:
        """Training documents that are never read: too short for any shape of the objective, or pairs too long for the window."""
        return self._plan.left_out

    def at(self, step: int) -> Batch:
        """The batch of `step`, from 0 on."""
        pairs, places = self._plan.at(step)
        if self._on_all:
            pairs = with_input_loss(pairs)
        seeds = sequence_seeds(self._seeds, step * self.batch + np.arange(self.batch))
        return Batch(*pairs, seeds=seeds, windows=places.starts, documents=places.documents, input_weight=self._weight)

    def steps(self, tokens: int) -> int:
        """Steps that read `tokens`, on average; empty positions after a document that is shorter than its window count."""
        return max(1, math.ceil(tokens / round(self._plan.tokens, 6)))

    def counted(self, first: int, last: int) -> tuple[int, int, Counter[tuple[int, int, int]]]:
        """Of steps `first` to `last` - 1: `seen_tokens`, `loss_tokens` and `pairs`, as `data_plan` has them."""
        seen = loss = 0
        counts: Counter[tuple[int, int, int]] = Counter()
        at_once = max(1, _DRAWN_AT_ONCE // self.batch)
        for begin in range(first, last, at_once):
            inputs, targets, predicting = self._plan.lengths(np.arange(begin, min(last, begin + at_once)))
            if self._on_all:
                predicting = np.maximum(0, inputs - 1)
            seen += int(inputs.sum() + targets.sum())
            loss += int(targets.sum() + predicting.sum())
            lengths = np.stack([inputs.ravel(), targets.ravel(), predicting.ravel()])
            rows, times = np.unique(lengths, axis=1, return_counts=True)
            for S, T, P, number in zip(*rows.tolist(), times.tolist(), strict=True):
                counts[S, T, P] += number
        return seen, loss, counts

    def data_plan(self, steps: int) -> dict[str, Any]:
        """What a run of `steps` will read, exactly, before anything is spent.

        `seen_tokens` (input and target, padding excluded), `loss_tokens`, `pairs` ({(S, T, P): how many have so many tokens of
        input and of target fed, padding excluded, and so many input positions that predict something}),
        `documents_left_out`, and `data_order`: the chained `batch_hash` of the first `data_order_steps` batches (all, up to
        10,000 steps and 17 M tokens).
        """
        seen, loss, counts = self.counted(0, steps)
        hashed = min(steps, HASHED_STEPS, max(1, HASHED_TOKENS // (self.batch * self._window)))
        order = ""
        for step in range(hashed):
            order = batch_hash(order, self.at(step))
        return {
            "seen_tokens": seen,
            "loss_tokens": loss,
            "pairs": dict(counts),
            "documents_left_out": self.documents_left_out,
            "data_order": order,
            "data_order_steps": hashed,
        }
