"""What is scored: fixed windows, fixed random bits, and one task for arms of different objectives."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import documents, write_folder
from paribus.data.batches import TrainingBatches
from paribus.data.continuation import continuation_shapes, off_distribution, scored_tokens
from paribus.data.scored import EvaluationBatches
from paribus.data.shapes import special_tokens_of
from paribus.data.store import Corpus, prepare
from paribus.errors import DataError
from paribus.spec.data import Data
from paribus.spec.evaluation import Evaluation
from paribus.spec.objective import Objective

WINDOW = 48
NAMES = ("lm", "prefix_lm", "span_corruption", "ul2", "mlm")
CONTINUATION = Evaluation(score_on="continuation", continuation_splits=[0.25, 0.5], continuation_tokens=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("text")
    texts = documents(80) + [f"{number} is a short document" for number in range(80)]
    special = max(special_tokens_of(Objective(name=name), WINDOW) for name in NAMES)  # type: ignore[arg-type]
    return Data(
        corpus=str(write_folder(folder / "docs", texts)),
        vocabulary=400,
        window=WINDOW,
        test_fraction=0.2,
        special_tokens=special,
    )


@pytest.fixture(scope="module")
def corpus(data: Data) -> Corpus:
    return prepare(data)


def objective(name: str) -> Objective:
    return Objective(name=name)  # type: ignore[arg-type]


def continuation(corpus: Corpus, data: Data, name: str, batch: int = 16) -> EvaluationBatches:
    return EvaluationBatches(corpus, "test", data, objective(name), 60, batch, CONTINUATION)


Question = tuple[list[int], int]


def questions(windows: EvaluationBatches, corpus: Corpus) -> list[list[Question]]:
    """For each window what is asked: the text that is visible, without special tokens, and the token that is wanted."""
    found: list[list[Question]] = [[] for _ in range(len(windows))]
    for indices, batch in windows:
        for row, index in enumerate(indices.tolist()):
            empty = 0 if batch.padding is None else int(batch.padding[row])
            source = batch.input[row, empty:].tolist()
            target = batch.target[row].tolist()
            for position, label in enumerate(batch.labels[row].tolist()):
                if label >= 0:
                    found[index].append((of_text(source + target[: position + 1], corpus), label))
            if batch.input_labels is not None:
                for position, label in enumerate(batch.input_labels[row, empty:].tolist()):
                    if label >= 0:
                        assert source[position] == corpus.specials.mask
                        found[index].append((of_text(source, corpus), label))
    return found


def of_text(tokens: list[int], corpus: Corpus) -> list[int]:
    return [token for token in tokens if token < corpus.text_vocabulary]


def test_every_objective_is_asked_for_the_same_tokens_given_the_same_text(corpus: Corpus, data: Data) -> None:
    split = corpus.split("test")
    expected = questions(continuation(corpus, data, "lm"), corpus)
    for name in NAMES:
        windows = continuation(corpus, data, name, batch=7)
        asked = questions(windows, corpus)
        assert asked == expected
        for index, of_window in enumerate(asked):
            begin = split.starts[windows.document[index]]
            whole = split.tokens[begin : split.starts[windows.document[index] + 1]].tolist()
            assert 1 <= len(of_window) <= 5
            for seen, wanted in of_window:
                at = len(seen)
                places = [i for i in range(len(whole) - at) if whole[i : i + at + 1] == [*seen, wanted]]
                assert places, "not the text of the document"
                assert at > windows.split[index]


def test_windows_tokens_bytes_and_hash_of_a_continuation_are_those_of_every_objective(
    corpus: Corpus, data: Data
) -> None:
    every = [continuation(corpus, data, name) for name in NAMES]
    assert len({windows.hash for windows in every}) == 1
    for column in ("document", "tokens", "bytes", "split", "seeds"):
        assert all((getattr(windows, column) == getattr(every[0], column)).all() for windows in every)


def test_no_format_of_a_continuation_is_longer_than_a_window(corpus: Corpus, data: Data) -> None:
    for name in NAMES:
        for _, batch in continuation(corpus, data, name):
            assert batch.input.shape[1] + batch.target.shape[1] <= WINDOW


@given(length=st.integers(2, 200), split=st.sampled_from([0.0, 0.25, 0.5, 0.9]), count=st.integers(1, 20))
def test_scored_tokens_are_distinct_and_evenly_spaced(length: int, split: float, count: int) -> None:
    (shape,) = continuation_shapes([split], 204)
    scored = np.flatnonzero(scored_tokens(np.array([length]), shape, count)[0])
    room = max(0, length - shape.input - 1)
    assert len(scored) == min(count, room)
    if len(scored):
        assert shape.input < scored[0] <= scored[-1] < length
        assert np.ptp(np.diff(scored)) <= 1 if len(scored) > 1 else True


def test_only_what_is_asked_as_trained_is_on_distribution() -> None:
    asked = CONTINUATION.model_copy(update={"continuation_splits": [0.75]})
    off = {name for name in NAMES if off_distribution(objective(name), asked)}
    assert off == {"span_corruption", "mlm"}
    assert not any(off_distribution(objective(name), Evaluation(score_on="objective")) for name in NAMES)
    without = Objective(name="ul2", denoisers=["R"], densities=[0.15], mean_spans=[3.0])
    assert "Without the denoiser S" in str(off_distribution(without, asked))


def test_a_prefix_shorter_or_longer_than_any_in_training_is_off_distribution() -> None:
    """The sequential denoiser always cuts out the last quarter; `prefix_lm` has the splits that its arm says."""
    why = off_distribution(objective("ul2"), CONTINUATION)
    assert why == "It was trained on inputs of 75 % of a text, and this task also has 25 %, 50 %."
    assert off_distribution(objective("lm"), CONTINUATION) is None
    assert off_distribution(objective("prefix_lm"), CONTINUATION) is None
    late = off_distribution(Objective(name="prefix_lm", splits=[0.5, 0.9]), CONTINUATION)
    assert late == "It was trained on inputs of 50 %, 90 % of a text, and this task also has 25 %."


def test_masks_alone_are_scored_and_nothing_under_them_is_seen(corpus: Corpus, data: Data) -> None:
    windows = EvaluationBatches(corpus, "test", data, objective("mlm"), 60, 16)
    share = []
    for indices, batch in windows:
        assert batch.input_labels is not None
        asked = batch.input_labels >= 0
        assert (batch.input[asked] == corpus.specials.mask).all()
        assert (batch.input[~asked] != corpus.specials.mask).all()
        assert (windows.tokens[indices] == asked.sum(1)).all()
        share.append(asked.mean())
    assert np.mean(share) == pytest.approx(0.12, abs=0.02)


def test_every_window_that_is_scored_asks_for_something(tmp_path: Path) -> None:
    """Of 8 tokens one is chosen, and one in five of these is not under [MASK]: such a window could never be an exact match."""
    texts = documents(20, words=100) + [f"{number:03} so short" for number in range(300)]
    data = Data(corpus=str(write_folder(tmp_path / "docs", texts)), tokenizer="bytes", window=32, special_tokens=9)
    corpus = prepare(data)
    windows = EvaluationBatches(corpus, "test", data, objective("mlm"), 1000, 16)
    assert len(windows) > 20
    assert (windows.tokens > 0).all()
    assert sorted({index for indices, _ in windows for index in indices.tolist()}) == list(range(len(windows)))
    hopeless = Objective(name="mlm", masked=1e-9, random=0.0)
    with pytest.raises(DataError, match=r"^no window of the test split has a \[MASK\]: use [^\n]+$"):
        EvaluationBatches(corpus, "test", data, hopeless, 1000, 16)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_pairs_are_scored_whatever_the_size_of_a_batch(corpus: Corpus, data: Data, name: str) -> None:
    for evaluation in (Evaluation(), CONTINUATION):
        one, two = (EvaluationBatches(corpus, "test", data, objective(name), 50, n, evaluation) for n in (3, 32))
        assert one.hash == two.hash
        assert sorted({index for indices, _ in one for index in indices.tolist()}) == list(range(len(one)))


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_counts_what_the_batches_hold(corpus: Corpus, data: Data, name: str) -> None:
    batches = TrainingBatches(corpus, data, objective(name), 5, seed=1)
    plan, read = batches.data_plan(80), [batches.at(step) for step in range(80)]
    assert plan["seen_tokens"] == sum(batch.seen_tokens for batch in read)
    assert plan["loss_tokens"] == sum(batch.loss_tokens for batch in read)
    assert plan["seen_tokens"] == sum((S + T) * count for (S, T, _), count in plan["pairs"].items())
    assert plan["loss_tokens"] == sum((T + P) * count for (_, T, P), count in plan["pairs"].items())
    assert sum(plan["pairs"].values()) == 5 * 80
    assert plan["documents_left_out"] == batches.documents_left_out


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**9))
def test_sequences_have_seeds_of_their_own_below_2_to_the_31(corpus: Corpus, data: Data, seed: int, step: int) -> None:
    batches = TrainingBatches(corpus, data, objective("prefix_lm"), 6, seed)
    seeds = batches.at(step).seeds
    assert ((seeds >= 0) & (seeds < 2**31)).all()
    assert len(set(seeds.tolist())) == 6
    assert set(seeds.tolist()).isdisjoint(batches.at(step + 1).seeds.tolist())


def test_corrupted_windows_read_long_and_short_documents_by_their_length(tmp_path: Path) -> None:
    texts = documents(20, words=300) + [f"{number:04} sentence of some words" for number in range(2000)]
    data = Data(corpus=str(write_folder(tmp_path / "docs", texts)), tokenizer="bytes", window=64, special_tokens=20)
    corpus = prepare(data)
    lengths = corpus.split("train").lengths
    batches = TrainingBatches(corpus, data, objective("span_corruption"), 4, seed=0)
    assert batches.documents_left_out == 0
    read = [batches.at(step) for step in range(600)]
    windows = [(batch.input.shape[1], document) for batch in read for document in batch.documents.tolist()]
    assert {S for S, document in windows if lengths[document] >= 64} == {read_shape(64)}
    assert {S for S, document in windows if 16 <= lengths[document] < 32} == {read_shape(16)}
    # Every tile is equally probable, so text of short documents has its share.
    short = sum(lengths[lengths < 64] // 13 + 1)
    long = sum(lengths[lengths >= 64] // 57 + 1)
    assert np.mean([S < 50 for S, _ in windows]) == pytest.approx(short / (short + long), abs=0.08)


def read_shape(budget: int) -> int:
    """Input tokens of the budget, by hand: 57 tokens less 9 in 3 spans, or 13 less 2 in 1."""
    return {64: 57 - 9 + 3, 16: 13 - 2 + 1}[budget]
