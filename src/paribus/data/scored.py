"""What is scored: fixed windows of the tuning and test splits, the same for every arm and seed, with fixed random bits."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from paribus.data.batches import Batch, Reader, sequence_seeds
from paribus.data.continuation import ask, continuation_shapes, scored_tokens
from paribus.data.counters import random_bits, stable_key
from paribus.data.denoising import only_masked
from paribus.data.objectives import IGNORE, Bits, Ints, Pairs
from paribus.data.shapes import Shape, shapes_of
from paribus.data.splits import SplitName
from paribus.data.store import Corpus
from paribus.data.supervised import Documents
from paribus.data.windows import EvaluationWindows, Windows, evaluation_windows
from paribus.errors import DataError
from paribus.spec.data import Data
from paribus.spec.evaluation import Evaluation
from paribus.spec.objective import Objective

Rows = tuple[Ints, Pairs]
"""Which window each pair belongs to, and the pairs."""


class EvaluationBatches:
    """The same windows for every arm and seed, in batches of one shape; the loss is the objective's own, of the target alone
    where there is one. Under `evaluation.score_on = "continuation"` it is that of the same tokens whatever the objective.

    Iterating yields `(indices, batch)`: `indices` (B,) count windows from 0 on, as the rows of the arrays below do; a
    window that is asked about in several passes has several rows. `whole`: only windows as long as W allows.
    Raises DataError if the split has no document that is long enough, or short enough for the window.
    """

    def __init__(
        self,
        corpus: Corpus,
        split_name: SplitName,
        data: Data,
        objective: Objective,
        windows: int,
        batch: int,
        evaluation: Evaluation | None = None,
        whole: bool = False,
    ) -> None:
        self._evaluation = evaluation or Evaluation()
        self._corpus, self._batch, self._objective = corpus, batch, objective
        self._name: SplitName = split_name
        self.documents_left_out = 0
        """Documents of the split that are pairs too long for the window."""
        self.continues = self._evaluation.score_on == "continuation"
        """Whether the task is the same whatever the objective."""
        self.of_documents = objective.name == "pairs"
        """Whether each window is a document with an input and a target of its own."""
        if self.of_documents:
            self._of_documents(data, windows)
        else:
            self._of_text(data, windows, whole)
        self.document = self._windows.documents
        bits = self._bits(self._windows)
        self.seeds = np.stack([sequence_seeds(bits, 1 + draw) for draw in range(self._evaluation.draws)])
        self.tokens = np.zeros(len(self), dtype=np.int64)
        self.bytes = np.zeros(len(self), dtype=np.int64)
        self._count()

    document: Ints
    """(windows,) document of each window, by number within the split."""
    tokens: Ints
    """(windows,) loss tokens."""
    bytes: Ints
    """(windows,) bytes of text of these; ends of documents and special tokens have none."""
    split: Ints
    """(windows,) input tokens S; of a continuation, those shown before the first token that may be scored."""
    seeds: Ints
    """(draws, windows) of sequences, for visibility drawn per sequence."""
    hash: str
    """Of all that is asked, whatever the size of a batch: the pairs, or of a continuation the text and the scored tokens."""

    def _bits(self, windows: Windows) -> Bits:
        """64 random bits of each window, from where it stands."""
        return random_bits(stable_key("evaluation", self._name), windows.starts)

    def __len__(self) -> int:
        return len(self.split)

    def __iter__(self) -> Iterator[tuple[Ints, Batch]]:
        for members in self._groups:
            for first in range(0, len(members), self._batch):
                indices = members[first : first + self._batch]
                rows, pairs = self._pairs(indices)
                yield from self._passes(indices[rows], pairs)

    def _passes(self, indices: Ints, pairs: Pairs) -> Iterator[tuple[Ints, Batch]]:
        """The pairs, at most a batch at a time."""
        for first in range(0, len(indices), self._batch):
            part = slice(first, first + self._batch)
            source, target, labels, *others = pairs
            more = (None if array is None else array[part] for array in others)
            some = Pairs(source[part], target[part], labels[part], *more)
            own = indices[part]
            starts, documents = self._windows.starts[own], self._windows.documents[own]
            yield own, Batch(*some, seeds=self.seeds[0, own], windows=starts, documents=documents)

    def _of_documents(self, data: Data, count: int) -> None:
        documents = Documents(self._corpus.split(self._name), data.window)
        self.documents_left_out = documents.left_out
        bits = random_bits(stable_key("evaluation windows"), documents.numbers)
        chosen = np.argsort(bits, kind="stable")[:count]
        lengths = documents.inputs + documents.targets
        chosen = chosen[np.lexsort((documents.starts[chosen], lengths[chosen]))]
        self._windows = Windows(documents.numbers[chosen], documents.starts[chosen], lengths[chosen])
        self.split = documents.inputs[chosen]
        self._groups = [np.arange(len(chosen))]
        specials = self._corpus.specials
        self._pairs: Callable[[Ints], Rows] = lambda indices: (
            np.arange(len(indices)),
            documents.pairs(chosen[indices], specials),
        )

    def _of_text(self, data: Data, count: int, whole: bool) -> None:
        split, specials, objective = self._corpus.split(self._name), self._corpus.specials, self._objective
        shapes = shapes_of(objective, data.window)
        if self.continues:
            splits = self._evaluation.continuation_splits or objective.splits
            shapes = continuation_shapes(splits, data.window)
        found = evaluation_windows(split, shapes, count, whole)
        reader = Reader(split, objective, specials)

        def pairs_of(windows: Windows, shape: Shape) -> Pairs:
            return only_masked(reader.pairs(windows, shape, random_bits(self._bits(windows), 0)), specials)

        if objective.name == "mlm" and not self.continues:
            found = self._asking(found, shapes, pairs_of)
        self._windows = found.windows
        self.split = np.array([shape.input for shape in shapes], dtype=np.int64)[found.shapes]
        self._groups = [np.flatnonzero(found.shapes == number) for number in np.unique(found.shapes)]

        def natural(indices: Ints) -> Rows:
            shape = shapes[int(found.shapes[indices[0]])]
            return np.arange(len(indices)), pairs_of(self._windows.at(indices), shape)

        def harmonised(indices: Ints) -> Rows:
            shape = shapes[int(found.shapes[indices[0]])]
            text = reader.text(
                self._windows.at(indices), shape.tokens, random_bits(self._bits(self._windows.at(indices)), 0)
            )
            scored = scored_tokens(text.lengths, shape, self._evaluation.continuation_tokens)
            return ask(text, scored, shape, objective, specials)

        self._pairs = harmonised if self.continues else natural

    def _asking(
        self, found: EvaluationWindows, shapes: Sequence[Shape], pairs_of: Callable[[Windows, Shape], Pairs]
    ) -> EvaluationWindows:
        """The windows in which something is asked: in a short one no chosen token may be under [MASK].

        Left in, they would be whole targets that no model can get right.
        """
        asks = np.zeros(len(found.shapes), dtype=bool)
        for number in np.unique(found.shapes):
            members = np.flatnonzero(found.shapes == number)
            for first in range(0, len(members), self._batch):
                some = members[first : first + self._batch]
                labels = pairs_of(found.windows.at(some), shapes[int(number)]).input_labels
                assert labels is not None
                asks[some] = (labels != IGNORE).any(axis=1)
        if not asks.any():
            mend = "use a larger data.window, or a larger objective.noise_density or objective.masked"
            raise DataError(f"no window of the {self._name} split has a [MASK]: {mend}")
        chosen = np.flatnonzero(asks)
        return EvaluationWindows(found.windows.at(chosen), found.shapes[chosen])

    def _count(self) -> None:
        """Tokens, bytes and hash, from what is really asked."""
        digest = hashlib.blake2b(digest_size=16)
        asked: list[list[bytes]] = [[] for _ in range(len(self))]
        for indices, batch in self:
            for row, index in enumerate(indices.tolist()):
                predicted = batch.labels[row] != IGNORE
                labels = batch.labels[row, predicted]
                # Without padding, which depends on the batch.
                read = [
                    batch.input[row, 0 if batch.padding is None else batch.padding[row] :],
                    batch.target[row, predicted],
                ]
                if batch.input_labels is not None:
                    of_input = batch.input_labels[row] != IGNORE
                    read.append(np.flatnonzero(of_input))
                    labels = np.concatenate([labels, batch.input_labels[row, of_input]])
                self.tokens[index] += len(labels)
                self.bytes[index] += self._corpus.token_bytes[labels].sum()
                # In a continuation the format is each objective's own, the tokens are not.
                arrays = [labels] if self.continues else [*read, labels]
                asked[index] += [array.astype("<i4").tobytes() for array in arrays]
        for index, parts in enumerate(asked):
            window = (self._windows.starts[index], self._windows.lengths[index], self.split[index])
            digest.update(f"{window}".encode() + b"".join(parts))
        self.hash = digest.hexdigest()
