"""Generated tasks with exact answers: `corpus = "task:NAME"` is a corpus of pairs like any other.

Example i is a pure function of (task, length, symbols, i). Words of an example stand between single spaces, so that the tokenizer
`words` gives each one id. Examples are divided by a hash of their input, as all pairs are: no input of the test split is in
training, and of equal examples one is kept.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.data.counters import random_bits, stable_key
from paribus.data.documents import Piece, pair
from paribus.data.splits import SplitName
from paribus.errors import DataError
from paribus.spec.data import Data

VERSION = 1
"""Raise it when a task would give other examples."""
_AT_ONCE = 1 << 20

Ints = npt.NDArray[np.int64]


class Example(NamedTuple):
    """An input and its answer."""

    input: str
    target: str
    key: str | None = None
    """What decides the example's split, where that is not its input."""


class Draw:
    """Random numbers of n examples, one stream for each."""

    def __init__(self, seed: str, indices: Ints) -> None:
        self._keys = random_bits(stable_key("task", VERSION, seed), indices)
        self._drawn = 0

    def bits(self, count: int) -> npt.NDArray[np.uint64]:
        """The next `count` numbers of each stream (n, count)."""
        counters = self._drawn + np.arange(count)
        self._drawn += count
        return random_bits(self._keys[:, None], counters)

    def uniforms(self, count: int) -> npt.NDArray[np.float64]:
        """Uniform numbers in [0, 1) (n, count)."""
        return (self.bits(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, count: int, below: int) -> Ints:
        """Whole numbers from 0 to `below` - 1 (n, count)."""
        return (self.uniforms(count) * below).astype(np.int64)

    def distinct(self, count: int, below: int) -> Ints:
        """Distinct whole numbers from 0 to `below` - 1 in random order (n, count)."""
        return np.argsort(self.bits(below), axis=1, kind="stable")[:, :count]


Make = Callable[[Draw, int, int], Iterator[Example]]
"""Examples from random numbers, a length and a number of symbols."""


def _two(length: int) -> int:
    return 2


def _one_key_for_each_pair(length: int) -> int:
    return max(2, length)


@dataclass(frozen=True)
class Task:
    """What a task is, and what its two numbers mean."""

    says: str
    """One line."""
    make: Make
    length: int
    """Default of `data.task_length`."""
    length_means: str
    symbols: int
    """Default of `data.task_symbols`."""
    symbols_mean: str
    fewest: Callable[[int], int] = _two
    """The fewest symbols that do for a length."""
    seed: str | None = None
    """Tasks of one seed ask about the same examples; by default a task's is its name."""


def _copy(draw: Draw, length: int, symbols: int) -> Iterator[Example]:
    for row in draw.integers(length, symbols).tolist():
        text = _words(row)
        yield Example(text, text)


def _reverse(draw: Draw, length: int, symbols: int) -> Iterator[Example]:
    for row in draw.integers(length, symbols).tolist():
        yield Example(_words(row), _words(row[::-1]))


def _addition(draw: Draw, length: int, symbols: int) -> Iterator[Example]:
    for row in draw.integers(2 * length, symbols).tolist():
        digits, carry = [], 0
        for one, other in zip(row[:length], row[length:], strict=True):
            carry, digit = divmod(one + other + carry, symbols)
            digits.append(digit)
        yield Example(f"{_words(row[:length])} + {_words(row[length:])}", _words([*digits, carry]))


def _recall(draw: Draw, length: int, symbols: int) -> Iterator[Example]:
    keys, values = draw.distinct(length, symbols).tolist(), draw.integers(length, symbols).tolist()
    for key, value, order in zip(keys, values, draw.distinct(length, length).tolist(), strict=True):
        queries = _words((key[i] for i in order), "k")
        yield Example(f"{_facts(key, value)} ? {queries}", _words((value[i] for i in order), "v"))


def _question(early: bool) -> Make:
    def make(draw: Draw, length: int, symbols: int) -> Iterator[Example]:
        keys, values = draw.distinct(length, symbols).tolist(), draw.integers(length, symbols).tolist()
        for key, value, (asked,) in zip(keys, values, draw.integers(1, length).tolist(), strict=True):
            facts, question = _facts(key, value), f"? k{key[asked]}"
            late = f"{facts} {question}"
            yield Example(f"{question} {facts}" if early else late, f"v{value[asked]}", late)

    return make


def _regression(draw: Draw, length: int, symbols: int) -> Iterator[Example]:
    lines, places = draw.uniforms(2) - 0.5, draw.integers(length + 1, symbols)
    heights = level_of(lines[:, :1] + lines[:, 1:] * value_of(places, symbols), symbols)
    for x, y in zip(places.tolist(), heights.tolist(), strict=True):
        shown = " ".join(f"x{a} y{b}" for a, b in zip(x[:-1], y[:-1], strict=True))
        yield Example(f"{shown} x{x[-1]}", f"y{y[-1]}")


def value_of(level: npt.NDArray[np.int64], symbols: int) -> npt.NDArray[np.float64]:
    """The middle of a level: `symbols` levels of equal width cover [-1, 1]."""
    return (2 * level + 1) / symbols - 1


def level_of(value: npt.NDArray[np.float64], symbols: int) -> Ints:
    """The level in which a value lies; values outside [-1, 1] belong to the outermost levels."""
    return np.clip(np.floor((value + 1) / 2 * symbols), 0, symbols - 1).astype(np.int64)


def least_squares(example_input: str, symbols: int) -> int:
    """The level of y that the line of least squares through an example's points has at its last x.

    It reads what a model reads, the levels alone, so no method that knows only the points does much better. Points with one x,
    which fix no line, give that of the smallest coefficients.
    """
    levels = np.array([int(word[1:]) for word in example_input.split(" ")])
    x, y = value_of(levels[::2], symbols), value_of(levels[1::2], symbols)
    design = np.stack([np.ones_like(x), x], axis=1)
    line = np.linalg.lstsq(design[:-1], y, rcond=None)[0]
    return int(level_of(design[-1:] @ line, symbols)[0])


def _words(numbers: Iterable[int], prefix: str = "") -> str:
    return " ".join(f"{prefix}{number}" for number in numbers)


def _facts(keys: list[int], values: list[int]) -> str:
    return " ".join(f"k{key} v{value}" for key, value in zip(keys, values, strict=True))


_PAIRS = "pairs of key and value"
_KEYS = "distinct keys, and as many values"

TASKS: dict[str, Task] = {
    "copy": Task("the input again", _copy, 16, "symbols of the input", 32, "distinct symbols"),
    "reverse": Task("the input backwards", _reverse, 16, "symbols of the input", 32, "distinct symbols"),
    "addition": Task(
        "the sum of two numbers; all digits, the sum's too, from the least significant on, with zeros up to full length",
        _addition,
        5,
        "digits of each number; the sum has one more",
        10,
        "the base",
    ),
    "recall": Task(
        "multi-query associative recall (after arXiv 2312.04927): pairs of key and value, then the keys in another order, "
        "whose values are the target",
        _recall,
        8,
        _PAIRS,
        16,
        _KEYS,
        _one_key_for_each_pair,
    ),
    "early_question": Task(
        "look-up: a key, then pairs of key and value; the target is that key's value",
        _question(early=True),
        8,
        _PAIRS,
        16,
        _KEYS,
        _one_key_for_each_pair,
        "question",
    ),
    "late_question": Task(
        "look-up: pairs of key and value, then a key, as in early_question and about the same examples",
        _question(early=False),
        8,
        _PAIRS,
        16,
        _KEYS,
        _one_key_for_each_pair,
        "question",
    ),
    "regression": Task(
        "in-context linear regression (after arXiv 2208.01066) on one line a + b x, a and b uniform in [-0.5, 0.5): points x y, "
        "then an x, whose y is the target; x and y lie in [-1, 1] and are rounded to levels of equal width, each a word",
        _regression,
        8,
        "points before the last x",
        32,
        "levels of x, and as many of y",
    ),
}
"""By name, as a study file says it after `task:`."""


@dataclass(frozen=True)
class TaskSource:
    """A task as a corpus: where others have files, it has examples."""

    task: str
    examples: int
    length: int
    symbols: int

    files: tuple[()] = ()
    skipped = 0

    @property
    def name(self) -> str:
        """As a study says it."""
        return f"task:{self.task}"

    @property
    def official(self) -> list[SplitName]:
        """No split has files of its own."""
        return []

    @property
    def hash(self) -> str:
        """Of everything that decides the examples."""
        content = [VERSION, self.task, self.examples, self.length, self.symbols]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def example(self, index: int) -> Example:
        """Example `index`, from 0 on."""
        return next(self._made(np.array([index])))

    def __iter__(self) -> Iterator[Example]:
        at_once = max(1, _AT_ONCE // (self.length + self.symbols))
        for first in range(0, self.examples, at_once):
            yield from self._made(np.arange(first, min(self.examples, first + at_once)))

    def pieces(self) -> Iterator[Piece]:
        """All examples as documents."""
        for example in self:
            key = None if example.key is None else example.key.encode()
            yield pair(example.input.encode(), example.target.encode(), key)

    def _made(self, indices: Ints) -> Iterator[Example]:
        task = TASKS[self.task]
        draw = Draw(f"{task.seed or self.task} {self.length} {self.symbols}", indices)
        return task.make(draw, self.length, self.symbols)


def find_task(data: Data) -> TaskSource:
    """The task that `data.corpus` names. Raises DataError if there is none, or if its numbers do not fit together."""
    name = data.corpus.removeprefix("task:")
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        mend = f"did you mean 'task:{near[0]}'?" if near else f"the tasks are {', '.join(TASKS)}"
        raise DataError(f"data.corpus = {data.corpus!r}: no such task: {mend}")
    task = TASKS[name]
    length = task.length if data.task_length is None else data.task_length
    symbols = task.symbols if data.task_symbols is None else data.task_symbols
    if symbols < (fewest := task.fewest(length)):
        what = f"{name} with data.task_length = {length} needs at least {fewest} ({task.symbols_mean})"
        raise DataError(f"data.task_symbols = {symbols}: {what}: use more")
    return TaskSource(name, data.examples, length, symbols)
