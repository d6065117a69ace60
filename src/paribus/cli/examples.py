"""The command `list NAMES --show NAME`: one example of an objective or a task, readable in 80 columns."""

from collections.abc import Iterator

import numpy as np

from paribus.cli.audit import preparation
from paribus.cli.studies import wrapped
from paribus.data.batches import Batch, TrainingBatches
from paribus.data.objectives import IGNORE
from paribus.data.shapes import special_tokens_of
from paribus.data.store import Corpus, prepare
from paribus.data.tasks import TASKS, find_task
from paribus.errors import UserError
from paribus.spec.data import Data
from paribus.spec.objective import OBJECTIVES, Objective
from paribus.spec.problems import printable
from paribus.spec.section import nearest_of

WINDOW = 64
"""Tokens of the example's window."""
_COLUMNS = 76
_MOST_STEPS = 500


def show_objective(name: str, corpus: str | None) -> None:
    """Print input and target of real windows: one of each kind of pair that the objective makes.

    `corpus`: as `data.corpus`; by default the standard library, or under `pairs` a task. Raises UserError for a name that is
    no objective, or a corpus that cannot be read.
    """
    if name not in OBJECTIVES:
        raise _unknown("objective", name, list(OBJECTIVES))
    objective = Objective.model_validate({"name": name})
    data = Data(
        corpus=corpus or ("task:late_question" if name == "pairs" else "stdlib"),
        window=WINDOW,
        special_tokens=special_tokens_of(objective, WINDOW),
    )
    if name == "pairs" and not data.is_task:
        data = Data.model_validate(data.model_dump() | {"pairs": True})
    with preparation() as report:
        prepared = prepare(data, report)
    wrapped(f"{name}: {OBJECTIVES[name]}", 0)
    wrapped(f"Windows of {WINDOW} tokens of {prepared.name}; \\n is the end of a line.", 0)
    for batch in _kinds(TrainingBatches(prepared, data, objective, 1, seed=0), prepared):
        _print(batch, prepared)


def show_task(name: str) -> None:
    """Print the first example of a generated task. Raises UserError for a name that is no task."""
    if name not in TASKS:
        raise _unknown("task", name, list(TASKS))
    source = find_task(Data(corpus=f"task:{name}"))
    example = source.example(0)
    print(f"task:{name}, length {source.length}, {source.symbols} symbols")
    _print_part("input", example.input)
    _print_part("target", example.target)


def _unknown(what: str, name: str, names: list[str]) -> UserError:
    near = nearest_of(name, names)
    mend = f"did you mean {near}?" if near else f"use one of {', '.join(names)}"
    return UserError(f"--show {printable(name)}: no such {what}; {mend}")


def _kinds(batches: TrainingBatches, corpus: Corpus) -> Iterator[Batch]:
    """The first batch, or where the objective has modes the first of each."""
    shown: set[int] = set()
    modes = {corpus.specials.mode(mode) for mode in "RSX"} if corpus.special_tokens > 2 else set()
    for step in range(_MOST_STEPS):
        batch = batches.at(step)
        begins = int(batch.input[0, 0]) if batch.input.size else -1
        kind = begins if begins in modes else -1
        if kind not in shown:
            shown.add(kind)
            yield batch
        if kind == -1 or len(shown) == len(modes):
            return


def _print(batch: Batch, corpus: Corpus) -> None:
    empty = 0 if batch.padding is None else int(batch.padding[0])
    source, target = batch.input[0, empty:], batch.target[0, : int((batch.labels[0] != IGNORE).sum())]
    print(f"\n{len(source)} tokens of input, {len(target)} of target")
    _print_part("input", corpus.render(source) if len(source) else "(empty)")
    if batch.input_labels is None:
        labels = batch.labels[0]
        _print_part("target, of which the first token is given", corpus.render(target))
        _print_part("predicted", corpus.render(labels[labels != IGNORE]))
    else:
        labels = batch.input_labels[0]
        places = np.flatnonzero(labels != IGNORE)
        seen = (f"{corpus.render(source[[place]])!r} is {corpus.render(labels[[place]])!r}" for place in places)
        _print_part("predicted in place", ", ".join(seen))


def _print_part(title: str, text: str) -> None:
    print(f"{title}:")
    text = text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    for first in range(0, len(text), _COLUMNS):
        print(f"  {text[first : first + _COLUMNS]}")
