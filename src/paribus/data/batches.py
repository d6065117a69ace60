"""Batches as a pure function of (seed, step): the same for every arm, number of workers and resume."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paribus.data.counters import stable_key, uniforms
from paribus.data.objectives import IGNORE, OBJECTIVES, input_lengths
from paribus.data.splits import SplitName
from paribus.data.store import Corpus, Split
from paribus.data.windows import TrainingWindows, Windows, evaluation_windows
from paribus.study.spec import Data, Objective

Ints = npt.NDArray[np.int64]

HASHED_STEPS = 10_000
"""Steps that the hash of a plan covers, at most."""
HASHED_TOKENS = 1 << 24
"""Tokens that the hash of a plan covers, at most."""
_DRAWN_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Batch:
    """B pairs with the same split: S input tokens, T target positions; all arrays are int64."""

    input: Ints
    """(B, S)"""
    target: Ints
    """(B, T) tokens fed, the given one first."""
    labels: Ints
    """(B, T) tokens predicted, or -1."""
    input_labels: Ints | None
    """(B, S) tokens predicted by input positions, or -1; None under `loss_on = "target"`."""
    windows: Ints
    """(B,) start of each window in the tokens of its split."""
    documents: Ints
    """(B,) document of each window in its split."""

    @property
    def target_tokens(self) -> int:
        """Target tokens that are predicted."""
        return int((self.labels != IGNORE).sum())

    @property
    def loss_tokens(self) -> int:
        """Tokens that are predicted, on the target and, under `loss_on = "all"`, on the input."""
        on_input = 0 if self.input_labels is None else int((self.input_labels != IGNORE).sum())
        return self.target_tokens + on_input

    @property
    def seen_tokens(self) -> int:
        """Tokens read, input and target together, padding excluded."""
        return self.input.size + self.target_tokens


def batch_hash(previous: str, batch: Batch) -> str:
    """Chain: the hash of all batches so far from that of those before (at first the empty string) and the next."""
    digest = hashlib.blake2b(previous.encode(), digest_size=16)
    for array in (batch.input, batch.target, batch.labels, batch.input_labels):
        if array is not None:
            digest.update(f"{array.shape}".encode())
            digest.update(array.astype("<i4").tobytes())
    return digest.hexdigest()


class _Pairing:
    """Windows of one split to batches."""

    def __init__(self, split: Split, data: Data, objective: Objective, loss_on_input: bool) -> None:
        self._tokens = split.tokens
        self._columns = np.arange(data.window + 1)
        self._objective = OBJECTIVES[objective.name]
        self._loss_on_input = loss_on_input

    def batch(self, windows: Windows, input_length: int) -> Batch:
        """One batch of windows (B,) with one split."""
        documents, starts, lengths = windows
        places = starts[:, None] + np.minimum(self._columns, lengths[:, None] - 1)
        text = self._tokens[places].astype(np.int64)
        pairs = self._objective(text, lengths, input_length, self._loss_on_input)
        return Batch(*pairs, windows=starts, documents=documents)


class TrainingBatches:
    """The training batches of one seed.

    Raises DataError if no training document is long enough for the longest input.
    """

    def __init__(self, corpus: Corpus, data: Data, objective: Objective, batch: int, seed: int) -> None:
        split = corpus.split("train")
        self.window = data.window
        self.batch = batch
        self._windows = TrainingWindows(split, data.window)
        self._loss_on_input = objective.loss_on == "all"
        self._pairing = _Pairing(split, data, objective, self._loss_on_input)
        shares = input_lengths(objective, data.window)
        self._inputs = np.array(list(shares), dtype=np.int64)
        self._until = np.cumsum(list(shares.values()))
        self._key = stable_key("training batches", seed)
        self._windows.eligible_tiles(max(shares))

    def at(self, step: int) -> Batch:
        """The batch of `step`, from 0 on."""
        inputs, windows = self._draw(np.array([step]))
        return self._pairing.batch(Windows(*(array[0] for array in windows)), int(inputs[0]))

    def split_at(self, step: int) -> int:
        """Input tokens S of the batch of `step`."""
        return int(self._inputs_at(np.array([step]))[0])

    def steps(self, tokens: int) -> int:
        """Steps that read `tokens`, padding included."""
        return max(1, -(-tokens // (self.batch * self.window)))

    def data_plan(self, steps: int) -> dict[str, Any]:
        """What a run of `steps` will read, exactly, before anything is spent.

        `seen_tokens` (input and target, padding excluded), `loss_tokens`, `splits` ({S: batches}), and `data_order`: the chained
        `batch_hash` of the first `data_order_steps` batches (all, up to 10,000 steps and 17 M tokens).
        """
        seen = loss = 0
        batches = dict.fromkeys(self._inputs.tolist(), 0)
        at_once = max(1, _DRAWN_AT_ONCE // self.batch)
        for first in range(0, steps, at_once):
            inputs, windows = self._draw(np.arange(first, min(steps, first + at_once)))
            # A window of L tokens feeds L - 1 of them and predicts all but its first S + 1; the input itself, all but its first.
            seen += int((windows.lengths - 1).sum())
            loss += int((windows.lengths - 1 - inputs[:, None]).sum())
            if self._loss_on_input:
                loss += self.batch * int(np.maximum(0, inputs - 1).sum())
            for input_length, count in zip(*np.unique(inputs, return_counts=True), strict=True):
                batches[int(input_length)] += int(count)
        hashed = min(steps, HASHED_STEPS, max(1, HASHED_TOKENS // (self.batch * self.window)))
        order = ""
        for step in range(hashed):
            order = batch_hash(order, self.at(step))
        return {
            "seen_tokens": seen,
            "loss_tokens": loss,
            "splits": batches,
            "data_order": order,
            "data_order_steps": hashed,
        }

    def _inputs_at(self, steps: Ints) -> Ints:
        number = np.searchsorted(self._until[:-1], uniforms(self._key, steps * self._draws), side="right")
        return self._inputs[number]

    @property
    def _draws(self) -> int:
        """Uniform numbers of a step: its split, then tile and jitter of each window."""
        return 1 + 2 * self.batch

    def _draw(self, steps: Ints) -> tuple[Ints, Windows]:
        """Input length (n,) and windows (n, B) of `steps` (n,)."""
        inputs = self._inputs_at(steps)
        counters = (steps * self._draws)[:, None] + 1 + np.arange(2 * self.batch)
        uniform = uniforms(self._key, counters)
        tile, jitter = uniform[:, : self.batch], uniform[:, self.batch :]
        windows = Windows(*(np.empty(tile.shape, dtype=np.int64) for _ in range(3)))
        for input_length in np.unique(inputs):
            rows = inputs == input_length
            for array, drawn in zip(
                windows, self._windows.draw(int(input_length), tile[rows], jitter[rows]), strict=True
            ):
                array[rows] = drawn
        return inputs, windows


class EvaluationBatches:
    """The same windows for every arm and seed, in batches of one split; loss is on the target alone.

    Iterating yields `(indices, batch)`: `indices` (B,) count windows from 0 on, as the rows of the arrays below do.
    Raises DataError if the split has no document that is long enough.
    """

    def __init__(
        self, corpus: Corpus, split_name: SplitName, data: Data, objective: Objective, windows: int, batch: int
    ) -> None:
        split = corpus.split(split_name)
        self._pairing = _Pairing(split, data, objective, loss_on_input=False)
        self._batch = batch
        self._windows, self.split = evaluation_windows(
            split, data.window, input_lengths(objective, data.window), windows
        )
        self.document = self._windows.documents
        self.tokens = self._windows.lengths - 1 - self.split
        self.bytes = np.zeros(len(self), dtype=np.int64)
        self.hash = ""
        """Of all batches, whatever their size."""
        digest = hashlib.blake2b(digest_size=16)
        for indices, pairs in self:
            predicted = pairs.labels != IGNORE
            self.bytes[indices] = np.where(predicted, corpus.token_bytes[np.where(predicted, pairs.labels, 0)], 0).sum(
                1
            )
            for row in range(len(indices)):
                for array in (pairs.input[row], pairs.target[row], pairs.labels[row]):
                    digest.update(f"{array.shape}".encode() + array.astype("<i4").tobytes())
        self.hash = digest.hexdigest()

    document: Ints
    """(windows,) document of each window, by number within the split."""
    tokens: Ints
    """(windows,) loss tokens."""
    bytes: Ints
    """(windows,) bytes of text of these; the end of a document has none."""
    split: Ints
    """(windows,) input tokens S."""

    def __len__(self) -> int:
        return len(self.split)

    def __iter__(self) -> Iterator[tuple[Ints, Batch]]:
        for input_length in np.unique(self.split):
            members = np.flatnonzero(self.split == input_length)
            for first in range(0, len(members), self._batch):
                indices = members[first : first + self._batch]
                windows = Windows(*(array[indices] for array in self._windows))
                yield indices, self._pairing.batch(windows, int(input_length))
