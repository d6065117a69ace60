"""Documents to train, tune and test, by the hash of what they hold."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.errors import DataError

SplitName = Literal["train", "tune", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "tune", "test")


class Division(NamedTuple):
    """Which document goes where: indices into the documents as read, ordered by hash."""

    train: npt.NDArray[np.int64]
    tune: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    duplicates: int
    """Documents left out because an equal one is kept."""
    duplicate_bytes: int


def divide(
    hashes: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int64],
    tune_fraction: float,
    test_fraction: float,
    keys: npt.NDArray[np.uint64] | None = None,
    official: npt.NDArray[np.int8] | None = None,
) -> Division:
    """Divide documents with `hashes` (n, 2) and `sizes` (n,) in bytes.

    Of equal documents one is kept. In order of hash, the first documents up to `test_fraction` of the bytes are test, the next up
    to `tune_fraction` tune, the others train. A document larger than a split's whole share is passed over, unless there
    is no smaller one: then the split is the smallest document alone. So a document's split hardly depends on the others.

    Documents with equal `keys` (n, 2) go the same way together, in order of key: of pairs, those with the same input.
    `official` (n,) gives each document its split, as an index in `SPLITS`: such splits stay as they are, but of equal
    documents test keeps one before tune, and tune before train. A split that is not among them is taken from train as above.
    Raises DataError where train, tune and test cannot have one key each.
    """
    keys = hashes if keys is None else keys
    place = np.zeros(len(hashes), dtype=np.int8) if official is None else official
    order = np.lexsort((-place, hashes[:, 1], hashes[:, 0])).astype(np.int64)
    first = _changes(hashes[order])
    duplicates, unique = order[~first], order[first]
    if keys is not hashes:
        unique = unique[np.lexsort((keys[unique, 1], keys[unique, 0]))]
    parts = [unique[place[unique] == index] for index in range(len(SPLITS))]
    wanted: list[SplitName] = ["test", "tune"]
    missing = [name for name in wanted if official is None or SPLITS.index(name) not in official]
    groups = _changes(keys[parts[0]])
    if groups.sum() < 1 + len(missing):
        raise _too_few(int(groups.sum()), keys is not hashes, official is not None, missing)
    fractions = {"test": test_fraction, "tune": tune_fraction}
    for name, documents in _taken(parts[0], groups, sizes, {name: fractions[name] for name in missing}).items():
        parts[SPLITS.index(name)] = documents
    train, tune, test = parts
    return Division(train, tune, test, len(duplicates), int(sizes[duplicates].sum()))


def _too_few(count: int, pairs: bool, official: bool, missing: Sequence[SplitName]) -> DataError:
    found = f"{count} distinct {'input' if pairs else 'document'}{'s' if count != 1 else ''}"
    needed = ["train", *(name for name in SPLITS if name in missing)]
    if official:
        found = f"the training files have, besides what other splits hold, {found}"
        each = f"{' and '.join(needed)} need one each" if missing else "train needs one"
        return DataError(f"{found}, but {each}: give more text")
    return DataError(f"the corpus has {found}, but train, tune and test need one each: give more text")


def _changes(ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Where a row differs from the one before (n,)."""
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return first


def _taken(
    documents: npt.NDArray[np.int64],
    first: npt.NDArray[np.bool_],
    sizes: npt.NDArray[np.int64],
    fractions: dict[SplitName, float],
) -> dict[SplitName, npt.NDArray[np.int64]]:
    """What each of `fractions` takes of `documents` and what is left to train; where `first` is false, a group goes on."""
    group = np.cumsum(first) - 1
    group_sizes = np.add.reduceat(sizes[documents], np.flatnonzero(first))
    total, left = int(group_sizes.sum()), np.arange(len(group_sizes))
    of_group = np.zeros(len(group_sizes), dtype=np.int8)
    for place, (name, fraction) in enumerate(fractions.items()):
        taken, left = _take(left, group_sizes, fraction * total, leave=len(fractions) - place)
        of_group[taken] = SPLITS.index(name)
    return {name: documents[of_group[group] == SPLITS.index(name)] for name in ("train", *fractions)}


def _take(
    documents: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], share: float, leave: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    length = sizes[documents]
    fitting = np.flatnonzero(length <= share)
    if len(fitting):
        count = int(np.searchsorted(np.cumsum(length[fitting]), share, side="right"))
        chosen = fitting[: min(count, len(documents) - leave)]
    else:
        chosen = np.array([int(np.argmin(length))])
    taken = np.zeros(len(documents), dtype=bool)
    taken[chosen] = True
    return documents[taken], documents[~taken]
