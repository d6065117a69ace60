"""Generated tasks: exact answers, found again here by other means; the same examples always; no test input in training."""

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.data.store import prepare
from paribus.data.tasks import TASKS, Draw, TaskSource, find_task, least_squares, value_of
from paribus.errors import DataError
from paribus.spec.data import Data


def small(name: str, **fields: object) -> TaskSource:
    return find_task(Data.model_validate({"corpus": f"task:{name}", "examples": 500, **fields}))


def summed(words: list[str], base: int) -> list[str]:
    """By Python's whole numbers instead of digit by digit."""
    plus = words.index("+")
    one, other = (
        sum(int(digit) * base**place for place, digit in enumerate(part)) for part in (words[:plus], words[plus + 1 :])
    )
    return [str((one + other) // base**place % base) for place in range(plus + 1)]


def looked_up(words: list[str]) -> list[str]:
    """By a dictionary of the words between which the question stands."""
    mark = words.index("?")
    asked = words[1:2] if mark == 0 else words[mark + 1 :]
    facts = words[2:] if mark == 0 else words[:mark]
    known = dict(zip(facts[::2], facts[1::2], strict=True))
    assert len(known) == len(facts) // 2
    return [known[key] for key in asked]


ANSWERS: dict[str, Callable[[list[str], int], list[str]]] = {
    "copy": lambda words, symbols: words,
    "reverse": lambda words, symbols: [words[-1 - place] for place in range(len(words))],
    "addition": summed,
    "recall": lambda words, symbols: looked_up(words),
    "early_question": lambda words, symbols: looked_up(words),
    "late_question": lambda words, symbols: looked_up(words),
}


@pytest.mark.parametrize("name", ANSWERS)
@given(length=st.integers(1, 9), symbols=st.integers(9, 20), index=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_every_answer_is_exact(name: str, length: int, symbols: int, index: int) -> None:
    example = small(name, task_length=length, task_symbols=symbols).example(index)
    assert example.target.split(" ") == ANSWERS[name](example.input.split(" "), symbols)


def test_inputs_have_the_declared_length_and_symbols() -> None:
    words = {
        "copy": 5,
        "reverse": 5,
        "addition": 11,
        "recall": 16,
        "early_question": 12,
        "late_question": 12,
        "regression": 11,
    }
    assert set(words) == set(TASKS)
    for name, count in words.items():
        examples = list(small(name, task_length=5, task_symbols=7))
        assert {len(example.input.split(" ")) for example in examples} == {count}
        numbers = {word.strip("kvxy") for example in examples for word in example.input.split(" ")} - {"?", "+"}
        assert numbers == {str(number) for number in range(7)}


def test_the_points_of_a_regression_lie_within_half_a_level_of_one_line() -> None:
    symbols = 16
    for example in small("regression", task_length=6, task_symbols=symbols):
        words = [*example.input.split(" "), example.target]
        x = value_of(np.array([int(word[1:]) for word in words[::2]]), symbols)
        y = value_of(np.array([int(word[1:]) for word in words[1::2]]), symbols)
        assert [word[0] for word in words] == ["x", "y"] * 7
        # A line through all strips: at most 1 / symbols from each middle. Chebyshev's fit by linear programming.
        from scipy.optimize import linprog

        rows = np.concatenate([np.stack([sign * np.ones(7), sign * x, -np.ones(7)], 1) for sign in (1, -1)])
        fitted = linprog([0, 0, 1], rows, np.concatenate([y, -y]), bounds=[(None, None)] * 3)
        assert fitted.fun <= 1 / symbols + 1e-9


def test_least_squares_is_the_textbook_line_and_finds_most_answers() -> None:
    symbols, right = 16, 0
    examples = list(small("regression", task_length=8, task_symbols=symbols))
    for example in examples:
        numbers = [Fraction(2 * int(word[1:]) + 1, symbols) - 1 for word in example.input.split(" ")]
        x, y, last = numbers[:-1:2], numbers[1::2], numbers[-1]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        spread = sum((a - mean_x) ** 2 for a in x)
        guess = least_squares(example.input, symbols)
        if spread:
            slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
            level = (mean_y + slope * (last - mean_x) + 1) / 2 * symbols
            # Exact sums may lie on the border of two levels, where rounding decides.
            assert guess == min(max(int(level // 1), 0), symbols - 1) or abs(level - round(level)) < 1e-9
        right += example.target == f"y{guess}"
    commonest = max(sum(example.target == f"y{level}" for example in examples) for level in range(symbols))
    assert right / len(examples) > 0.75
    assert commonest / len(examples) < 0.25


def test_early_and_late_questions_ask_about_the_same_examples_in_the_same_splits() -> None:
    early, late = (list(small(name)) for name in ("early_question", "late_question"))
    for one, other in zip(early, late, strict=True):
        words = one.input.split(" ")
        assert " ".join([*words[2:], *words[:2]]) == other.input
        assert one.target == other.target
    stores = [prepare(Data(corpus=f"task:{name}", examples=500)) for name in ("early_question", "late_question")]
    for split in ("train", "tune", "test"):
        one, other = (store.split(split) for store in stores)  # type: ignore[arg-type]
        words = [store.render(half.tokens) for store, half in zip(stores, (one, other), strict=True)]
        rows = [[row.split(" ") for row in text.removesuffix(" <|end|>").split(" <|end|> ")] for text in words]
        assert [[*row[2:-1], *row[:2], row[-1]] for row in rows[0]] == rows[1]


@pytest.mark.parametrize("name", TASKS)
def test_an_example_depends_on_its_index_alone(name: str) -> None:
    few, many = small(name, examples=7), small(name, examples=3000)
    assert list(few) == list(many)[:7]
    assert [many.example(index) for index in (0, 6, 2999)] == [list(many)[index] for index in (0, 6, 2999)]
    assert len(set(many)) > 2990


def test_another_process_generates_the_same_examples() -> None:
    script = (
        "from paribus.data.tasks import TASKS, TaskSource\n"
        "print([TaskSource(name, 9, task.length, task.symbols).example(8) for name, task in TASKS.items()])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert said.strip() == str([TaskSource(n, 9, t.length, t.symbols).example(8) for n, t in TASKS.items()])


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_a_corpus_whose_test_inputs_are_never_trained_on(name: str) -> None:
    source = small(name, task_length=3, task_symbols=4, examples=2000)
    corpus = prepare(Data(corpus=f"task:{name}", task_length=3, task_symbols=4, examples=2000))
    inputs, pairs = {}, set()
    for split_name in ("train", "tune", "test"):
        split = corpus.split(split_name)  # type: ignore[arg-type]
        assert split.cuts is not None
        rows = [split.tokens[a:b].tolist() for a, b in zip(split.starts, split.starts[1:], strict=False)]
        found = [
            (corpus.tokenizer.decode(row[:cut]), corpus.tokenizer.decode(row[cut:]))
            for row, cut in zip(rows, split.cuts.tolist(), strict=True)
        ]
        inputs[split_name] = {source for source, _ in found}
        pairs |= set(found)
    assert pairs == {(example.input, example.target) for example in source}
    assert all(inputs.values())
    assert not inputs["test"] & inputs["train"]
    assert not inputs["tune"] & inputs["train"]
    assert not inputs["test"] & inputs["tune"]
    assert corpus.name == f"task:{name}"


def test_numbers_of_a_task_are_part_of_its_store() -> None:
    stores = {
        small("copy", **fields).hash
        for fields in ({}, {"examples": 501}, {"task_length": 3}, {"task_symbols": 3}, {"task_length": 16})
    }
    assert len(stores) == 4
    assert small("copy").hash != small("reverse").hash


def test_draws_are_uniform_and_distinct() -> None:
    draw = Draw("a seed", np.arange(4000))
    numbers = draw.integers(3, 5)
    counts = np.bincount(numbers.flatten(), minlength=5)
    assert (abs(counts - 2400) < 250).all()
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 0.06
    chosen = draw.distinct(3, 6)
    assert all(len(set(row)) == 3 for row in chosen.tolist())
    assert (abs(np.bincount(chosen.flatten(), minlength=6) - 2000) < 200).all()


def test_wrong_names_and_numbers_give_one_line() -> None:
    with pytest.raises(DataError, match=r"no such task: did you mean 'task:recall'\?"):
        prepare(Data(corpus="task:recal"))
    with pytest.raises(DataError, match="the tasks are copy, reverse, addition, recall"):
        prepare(Data(corpus="task:xyzzy"))
    with pytest.raises(DataError, match=r"task_symbols = 4: recall with data\.task_length = 8 needs at least 8"):
        prepare(Data(corpus="task:recall", task_symbols=4))
    with pytest.raises(DataError, match="distinct inputs, but train, tune and test need one each"):
        prepare(Data(corpus="task:copy", task_symbols=2, task_length=1))
    with pytest.raises(ValueError, match="the examples of task:copy are pairs"):
        Data(corpus="task:copy", pairs=False)
