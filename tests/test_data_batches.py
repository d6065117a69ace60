"""Batches: a pure function of seed and step, windows that never leave a document, evaluation windows that never change."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import documents, write_folder
from paribus.data.batches import TrainingBatches, batch_hash
from paribus.data.scored import EvaluationBatches
from paribus.data.store import Corpus, prepare
from paribus.errors import DataError
from paribus.spec.data import Data
from paribus.spec.objective import Objective

WINDOW = 48


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("text")
    texts = documents(60) + [f"a short document, number {number}" for number in range(60)]
    return Data(corpus=str(write_folder(folder / "docs", texts)), vocabulary=400, window=WINDOW, test_fraction=0.2)


@pytest.fixture(scope="module")
def corpus(data: Data) -> Corpus:
    return prepare(data)


def same(a: object, b: object) -> bool:
    return batch_hash("", a) == batch_hash("", b)  # type: ignore[arg-type]


def test_a_batch_depends_on_seed_and_step_alone(corpus: Corpus, data: Data) -> None:
    forwards, backwards = (TrainingBatches(corpus, data, Objective(), 4, seed=7) for _ in range(2))
    first = [forwards.at(step) for step in range(20)]
    second = {step: backwards.at(step) for step in reversed(range(20))}
    assert all(same(first[step], second[step]) for step in range(20))
    assert not same(first[0], first[1])
    assert not same(first[0], TrainingBatches(corpus, data, Objective(), 4, seed=8).at(0))


def test_another_process_draws_the_same_batches(corpus: Corpus, data: Data) -> None:
    script = (
        "import sys\nfrom paribus.data.batches import TrainingBatches\nfrom paribus.data.store import prepare\n"
        "from paribus.spec.objective import Objective\nfrom paribus.spec.data import Data\n"
        "data = Data.model_validate_json(sys.argv[1])\n"
        "print(TrainingBatches(prepare(data), data, Objective(), 4, 7).data_plan(50)['data_order'])\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    done = subprocess.run(
        [sys.executable, "-c", script, data.model_dump_json()],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == TrainingBatches(corpus, data, Objective(), 4, 7).data_plan(50)["data_order"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**9), batch=st.integers(1, 9))
def test_a_window_is_consecutive_tokens_of_one_document(
    corpus: Corpus, data: Data, seed: int, step: int, batch: int
) -> None:
    split = corpus.split("train")
    drawn = TrainingBatches(corpus, data, Objective(), batch, seed).at(step)
    assert drawn.input.shape[1] + drawn.target.shape[1] == WINDOW
    for row in range(batch):
        begin, end = split.starts[drawn.documents[row]], split.starts[drawn.documents[row] + 1]
        text = split.tokens[begin:end].astype(np.int64)
        at = drawn.windows[row] - begin
        real = int((drawn.labels[row] >= 0).sum())
        length = drawn.input.shape[1] + 1 + real
        fed = np.concatenate([drawn.input[row], drawn.target[row]])[: length - 1]
        assert (fed == text[at : at + length - 1]).all()
        assert (drawn.labels[row][:real] == text[at + drawn.input.shape[1] + 1 : at + length]).all()
        assert (drawn.labels[row][real:] == -1).all()
        assert real == drawn.labels.shape[1] or at + length == len(text)


def test_the_plan_counts_what_the_batches_hold(corpus: Corpus, data: Data) -> None:
    for objective in (Objective(), Objective(loss_on="all", splits=[0.0, 0.5])):
        batches = TrainingBatches(corpus, data, objective, 5, seed=1)
        plan = batches.data_plan(40)
        read = [batches.at(step) for step in range(40)]
        assert plan["seen_tokens"] == sum(batch.seen_tokens for batch in read)
        assert plan["loss_tokens"] == sum(batch.loss_tokens for batch in read)
        order = ""
        for batch in read:
            order = batch_hash(order, batch)
        assert plan["data_order"] == order
        assert sum(plan["pairs"].values()) == 40 * 5


def test_split_points_follow_their_weights_and_are_one_per_batch(corpus: Corpus, data: Data) -> None:
    objective = Objective(splits=[0.25, 0.75], split_weights=[3, 1])
    batches = TrainingBatches(corpus, data, objective, 2, seed=0)
    splits = Counter(batches.at(step).input.shape[1] for step in range(4000))
    assert splits[12] / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(splits) == {12, 36}


def test_every_token_of_long_documents_is_read_about_equally_often(corpus: Corpus, data: Data) -> None:
    split = corpus.split("train")
    batches = TrainingBatches(corpus, data, Objective(splits=[0.25]), 16, seed=0)
    seen = np.zeros(len(split.tokens))
    for step in range(1500):
        batch = batches.at(step)
        for start in batch.windows:
            seen[start : start + WINDOW] += 1
    long = np.flatnonzero(split.lengths > 4 * WINDOW)
    inner = np.concatenate([seen[split.starts[d] + WINDOW : split.starts[d + 1] - WINDOW] for d in long])
    assert inner.std() / inner.mean() < 0.35
    edge = np.concatenate([seen[split.starts[d] : split.starts[d] + WINDOW // 2] for d in long])
    assert 0.5 < edge.mean() / inner.mean() < 2


def test_evaluation_windows_share_no_predicted_token_and_never_change(corpus: Corpus, data: Data) -> None:
    one, two = (EvaluationBatches(corpus, "test", data, Objective(), 200, batch) for batch in (7, 32))
    assert one.hash == two.hash
    predicted: list[int] = []
    for indices, batch in one:
        tokens = (batch.labels >= 0).sum(1)
        assert (tokens == one.tokens[indices]).all()
        for row, index in enumerate(indices):
            first = int(batch.windows[row]) + int(one.split[index]) + 1
            predicted += range(first, first + int(tokens[row]))
    assert len(predicted) == len(set(predicted))
    assert len(set(one.document.tolist())) > 5


def test_evaluation_windows_count_the_bytes_of_what_is_predicted(corpus: Corpus, data: Data) -> None:
    windows = EvaluationBatches(corpus, "test", data, Objective(), 40, 8)
    for indices, batch in windows:
        for row, index in enumerate(indices):
            labels = [int(token) for token in batch.labels[row] if token >= 0 and token != corpus.tokenizer.end]
            assert windows.bytes[index] == sum(int(corpus.token_bytes[token]) for token in labels)


def test_loss_on_all_asks_the_input_for_its_own_next_tokens(corpus: Corpus, data: Data) -> None:
    batch = TrainingBatches(corpus, data, Objective(loss_on="all", splits=[0.5]), 3, seed=0).at(0)
    assert batch.input_labels is not None
    assert (batch.input_labels[:, :-1] == batch.input[:, 1:]).all()
    assert (batch.input_labels[:, -1] == -1).all()


def test_documents_shorter_than_any_input_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "docs", [f"tiny {number}" for number in range(30)])
    data = Data(corpus=str(folder), tokenizer="bytes", window=64)
    with pytest.raises(DataError) as told:
        TrainingBatches(prepare(data), data, Objective(), 2, 0)
    assert "\n" not in str(told.value)


def test_a_corrupted_window_that_is_too_long_for_all_documents_asks_for_longer_ones_alone(tmp_path: Path) -> None:
    """No window of corrupted text is shorter than 8 tokens, and `splits` are none of theirs."""
    (tmp_path / "short.jsonl").write_text("".join(json.dumps({"text": f"{n:04}"}) + "\n" for n in range(200)))
    data = Data(corpus=str(tmp_path / "short.jsonl"), tokenizer="bytes", window=16, special_tokens=10)
    with pytest.raises(DataError, match=r"a corrupted window needs 8: give longer documents$"):
        TrainingBatches(prepare(data), data, Objective(name="mlm"), 2, 0)


def test_processes_that_ask_at_once_build_one_store_and_agree(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "docs", documents(40, seed=9))
    data = Data(corpus=str(folder), vocabulary=350, window=32)
    script = (
        "import sys, json\nfrom paribus.data.store import prepare\nfrom paribus.spec.data import Data\n"
        "stages = set()\ncorpus = prepare(Data.model_validate_json(sys.argv[1]), lambda stage, done, total: stages.add(stage))\n"
        "print(json.dumps([corpus.hash, int(corpus.split('train').tokens.sum()), len(stages)]))\n"
    )
    environment = {**os.environ, "PARIBUS_CACHE": str(tmp_path / "cache")}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, data.model_dump_json()], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(3)
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert {process.returncode for process in running} == {0}
    assert len({(entry[0], entry[1]) for entry in said}) == 1
    stores = list((tmp_path / "cache").rglob("meta.json"))
    assert len(stores) == 1
