"""Documents are divided by what they hold, and by nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.data.splits import divide
from paribus.errors import DataError


def random_documents(count: int, seed: int, repeats: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**63, (count, 2), dtype=np.uint64)
    sizes = generator.integers(1, 5000, count)
    again = generator.integers(0, count, repeats)
    order = generator.permutation(count + repeats)
    return np.concatenate([hashes, hashes[again]])[order], np.concatenate([sizes, sizes[again]])[order]


@given(st.integers(3, 200), st.integers(0, 50), st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.2, 0.45]))
@settings(max_examples=60, deadline=None)
def test_no_document_crosses_splits_and_none_is_lost(count: int, repeats: int, seed: int, fraction: float) -> None:
    hashes, sizes = random_documents(count, seed, repeats)
    division = divide(hashes, sizes, fraction, fraction)
    parts = [{hashes[i].tobytes() for i in part} for part in division[:3]]
    assert all(parts)
    assert sum(len(part) for part in division[:3]) == len(parts[0] | parts[1] | parts[2]) == count
    assert division.duplicates == repeats


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_splits_do_not_depend_on_the_order_of_the_files(seed: int) -> None:
    hashes, sizes = random_documents(100, seed)
    order = np.random.default_rng(seed + 1).permutation(100)
    here, there = divide(hashes, sizes, 0.1, 0.1), divide(hashes[order], sizes[order], 0.1, 0.1)
    for part, other in zip(here[:3], there[:3], strict=True):
        assert part.tolist() == order[other].tolist()


def test_splits_have_the_declared_share_of_bytes() -> None:
    hashes, sizes = random_documents(20_000, 0)
    division = divide(hashes, sizes, 0.05, 0.1)
    total = sizes.sum()
    assert sizes[division.tune].sum() / total == pytest.approx(0.05, abs=0.001)
    assert sizes[division.test].sum() / total == pytest.approx(0.1, abs=0.001)


def test_a_document_larger_than_a_split_is_trained_on() -> None:
    for seed in range(20):
        hashes, _ = random_documents(5, seed)
        sizes = np.array([10, 1_000_000, 12, 9, 11])
        assert 1 in divide(hashes, sizes, 0.05, 0.05).train


def test_few_documents_of_one_size_give_one_to_each_small_split() -> None:
    hashes, _ = random_documents(4, 0)
    division = divide(hashes, np.full(4, 100), 0.05, 0.05)
    assert [len(part) for part in division[:3]] == [2, 1, 1]


def test_duplicates_are_counted_with_their_bytes() -> None:
    hashes, _ = random_documents(4, 0)
    division = divide(hashes[[0, 1, 2, 3, 1, 1]], np.array([5, 7, 5, 5, 7, 7]), 0.1, 0.1)
    assert (division.duplicates, division.duplicate_bytes) == (2, 14)


def test_fewer_than_three_distinct_documents_are_refused() -> None:
    hashes, _ = random_documents(2, 0)
    with pytest.raises(DataError, match="2 distinct documents, but train, tune and test need one each"):
        divide(hashes[[0, 1, 1, 0]], np.array([5, 7, 7, 5]), 0.1, 0.1)


@given(st.integers(0, 1000), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_keys_stay_together_and_official_splits_stay_as_they_are(seed: int, tune: bool, test: bool) -> None:
    generator = np.random.default_rng(seed)
    hashes, sizes = random_documents(120, seed, repeats=30)
    keys = np.stack([hashes[:, 0] % np.uint64(17), np.zeros(len(hashes), dtype=np.uint64)], axis=1)
    official = generator.choice([0] + [1] * tune + [2] * test, len(hashes)).astype(np.int8)
    given_splits = set(official.tolist())
    division = divide(hashes, sizes, 0.1, 0.1, keys, official if tune or test else None)
    parts = [{hashes[i].tobytes() for i in part} for part in division[:3]]
    assert all(parts)
    assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, division[:3])) == 120
    for split in range(1, 3):
        if split in given_splits:
            # All that later splits do not hold too.
            own = {hashes[i].tobytes() for i in np.flatnonzero(official == split)}
            later = {hashes[i].tobytes() for i in np.flatnonzero(official > split)}
            assert parts[split] == own - later
    free = [part for number, part in enumerate(division[:3]) if number == 0 or number not in given_splits]
    of_key = [set(keys[part, 0].tolist()) for part in free]
    assert sum(map(len, of_key)) == len(set.union(*of_key))


def test_training_files_without_enough_for_the_missing_splits_are_refused() -> None:
    hashes, sizes = random_documents(4, 0)
    with pytest.raises(DataError, match="1 distinct document, but train and tune need one each"):
        divide(hashes, sizes, 0.1, 0.1, None, np.array([0, 2, 2, 2], dtype=np.int8))
    with pytest.raises(DataError, match="0 distinct documents, but train needs one"):
        divide(hashes[[0, 1, 0, 1]], sizes, 0.1, 0.1, None, np.array([0, 0, 1, 2], dtype=np.int8))
