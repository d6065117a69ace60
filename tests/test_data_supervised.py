"""Supervised pairs: seeded epochs of whole documents, sorted in pools, padded before the input and after the target."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.data.batches import TrainingBatches, batch_hash
from paribus.data.scored import EvaluationBatches
from paribus.data.store import Corpus, prepare
from paribus.data.supervised import POOL
from paribus.errors import DataError
from paribus.spec.data import Data
from paribus.spec.objective import Objective

PAIRS = Objective(name="pairs")
WINDOW = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Inputs of 3 to 40 letters, targets half as long, and a few that no window holds."""
    path, rng = tmp_path_factory.mktemp("pairs") / "pairs.jsonl", random.Random(0)
    lengths = [rng.randint(3, 40) for _ in range(400)] + [300, 400, 500] * 20
    records = []
    for number, length in enumerate(lengths):
        text = "".join(rng.choices("abcdefgh", k=length))
        records.append({"input": f"{number}{text}", "target": text[: length // 2]})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return Data(corpus=str(path), pairs=True, tokenizer="bytes", window=WINDOW, special_tokens=1)


@pytest.fixture(scope="module")
def corpus(data: Data) -> Corpus:
    return prepare(data)


def as_read(corpus: Corpus, split: str) -> list[tuple[list[int], list[int]]]:
    """Input and target of each document, straight from the store."""
    part = corpus.split(split)  # type: ignore[arg-type]
    assert part.cuts is not None
    found = []
    for start, end, cut in zip(part.starts[:-1], part.starts[1:], part.cuts, strict=True):
        found.append((part.tokens[start : start + cut].tolist(), part.tokens[start + cut : end].tolist()))
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**6), batch=st.integers(1, 12))
def test_a_batch_holds_whole_documents_padded_on_both_sides(
    corpus: Corpus, data: Data, seed: int, step: int, batch: int
) -> None:
    pairs, documents = TrainingBatches(corpus, data, PAIRS, batch, seed).at(step), as_read(corpus, "train")
    start = corpus.specials.start
    for row in range(batch):
        source, target = documents[pairs.documents[row]]
        empty = 0 if pairs.padding is None else int(pairs.padding[row])
        assert pairs.input[row, empty:].tolist() == source
        assert pairs.labels[row].tolist() == target + [-1] * (pairs.labels.shape[1] - len(target))
        assert pairs.target[row, : len(target)].tolist() == [start, *target[:-1]]
        assert target[-1] == corpus.tokenizer.end
        assert len(source) + len(target) <= WINDOW
    assert pairs.seen_tokens == sum(sum(map(len, documents[number])) for number in pairs.documents)


def test_every_epoch_reads_every_pair_that_fits_once(corpus: Corpus, data: Data) -> None:
    batches = TrainingBatches(corpus, data, PAIRS, 4, seed=0)
    fitting = [number for number, pair in enumerate(as_read(corpus, "train")) if sum(map(len, pair)) <= WINDOW]
    assert batches.documents_left_out == len(as_read(corpus, "train")) - len(fitting) > 0
    steps = POOL * 4 * len(fitting) // 4  # as many pools as bring 32 epochs to an end
    read = Counter(number for step in range(steps) for number in batches.at(step).documents.tolist())
    assert read == dict.fromkeys(fitting, 32)


def test_batches_do_not_depend_on_where_a_run_begins(corpus: Corpus, data: Data) -> None:
    through, resumed = (TrainingBatches(corpus, data, PAIRS, 5, seed=3) for _ in range(2))
    first = [batch_hash("", through.at(step)) for step in range(300)]
    assert [batch_hash("", resumed.at(step)) for step in reversed(range(300))] == first[::-1]
    assert first[0] != batch_hash("", TrainingBatches(corpus, data, PAIRS, 5, seed=4).at(0))


def test_pairs_of_a_batch_are_about_as_long_and_widths_repeat(corpus: Corpus, data: Data) -> None:
    batches = TrainingBatches(corpus, data, PAIRS, 8, seed=0)
    read = [batches.at(step) for step in range(200)]
    empty = sum(int(batch.padding.sum()) for batch in read if batch.padding is not None)
    fed = sum(batch.input.size for batch in read)
    assert empty / fed < 0.25  # at random order: 0.4
    assert len({(batch.input.shape, batch.target.shape) for batch in read}) <= 24
    assert [batch.input.shape[1] for batch in read] != sorted(batch.input.shape[1] for batch in read)


@pytest.mark.parametrize("loss_on", ["target", "all"])
def test_the_plan_counts_what_the_batches_hold(corpus: Corpus, data: Data, loss_on: str) -> None:
    batches = TrainingBatches(corpus, data, Objective(name="pairs", loss_on=loss_on), 5, seed=1)  # type: ignore[arg-type]
    plan, read = batches.data_plan(150), [batches.at(step) for step in range(150)]
    assert plan["seen_tokens"] == sum(batch.seen_tokens for batch in read)
    assert plan["loss_tokens"] == sum(batch.loss_tokens for batch in read)
    documents = as_read(corpus, "train")
    lengths = Counter(tuple(map(len, documents[number])) for batch in read for number in batch.documents)
    assert plan["pairs"] == {(S, T, S - 1 if loss_on == "all" else 0): count for (S, T), count in lengths.items()}
    assert plan["seen_tokens"] == sum(sum(pair) * count for pair, count in lengths.items())


def test_a_budget_is_that_of_real_tokens_on_average(corpus: Corpus, data: Data) -> None:
    batches = TrainingBatches(corpus, data, PAIRS, 8, seed=0)
    seen = batches.data_plan(batches.steps(100_000))["seen_tokens"]
    assert seen == pytest.approx(100_000, rel=0.01)


def test_test_pairs_are_scored_once_each_and_those_too_long_are_counted(corpus: Corpus, data: Data) -> None:
    windows = EvaluationBatches(corpus, "test", data, PAIRS, 1000, 7)
    documents = as_read(corpus, "test")
    fitting = [number for number, pair in enumerate(documents) if sum(map(len, pair)) <= WINDOW]
    assert sorted(windows.document.tolist()) == fitting
    assert windows.documents_left_out == len(documents) - len(fitting)
    assert windows.tokens.tolist() == [len(documents[number][1]) for number in windows.document]
    assert windows.bytes.tolist() == [len(documents[number][1]) - 1 for number in windows.document]
    few = EvaluationBatches(corpus, "test", data, PAIRS, 9, 32)
    assert set(few.document.tolist()) < set(fitting)
    assert len(few) == 9
    assert windows.hash == EvaluationBatches(corpus, "test", data, PAIRS, 1000, 64).hash != few.hash


def test_what_cannot_be_read_as_pairs_is_refused_in_one_line(corpus: Corpus, data: Data, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="use a larger data"):
        TrainingBatches(corpus, data.model_copy(update={"window": 4}), PAIRS, 2, 0)
    (tmp_path / "text.txt").write_text("some text, " * 9000)
    plain = Data(corpus=str(tmp_path / "text.txt"), tokenizer="bytes", window=32)
    with pytest.raises(DataError, match=r"set data.pairs = true"):
        TrainingBatches(prepare(plain), plain, PAIRS, 2, 0)


def test_pairs_of_one_length_are_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"input": f"{n:05}", "target": f"{n:03}"}) + "\n" for n in range(200)))
    data = Data(corpus=str(path), pairs=True, tokenizer="bytes", window=32, special_tokens=1)
    batch = TrainingBatches(prepare(data), data, PAIRS, 4, 0).at(0)
    assert batch.padding is None
    assert (batch.input.shape, batch.target.shape) == ((4, 5), (4, 4))
    assert np.unique(batch.target[:, 0]).tolist() == [257]


def test_a_batch_without_padded_inputs_is_no_wider_than_the_window(tmp_path: Path) -> None:
    """Learned positions have as many rows as the window, and only padding says that what lies beyond is empty."""
    path, rng = tmp_path / "pairs.jsonl", random.Random(1)
    lengths = [(rng.choice([2, 8, 16]), rng.randint(1, 17)) for _ in range(400)]
    records = [{"input": f"{n:016}"[-i:], "target": "x" * t} for n, (i, t) in enumerate(lengths)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    data = Data(corpus=str(path), pairs=True, tokenizer="bytes", window=20, special_tokens=1)
    batches = [TrainingBatches(prepare(data), data, PAIRS, 1, 0).at(step) for step in range(64)]
    unpadded = [batch for batch in batches if batch.padding is None]
    assert {batch.input.shape[1] for batch in unpadded} >= {8, 16}
    assert max(batch.input.shape[1] + batch.target.shape[1] for batch in unpadded) == 20
