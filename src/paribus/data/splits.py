"""Documents to train, tune and test, by the hash of what they hold."""

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
    hashes: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64], tune_fraction: float, test_fraction: float
) -> Division:
    """Divide documents with `hashes` (n, 2) and `sizes` (n,) in bytes.

    Of equal documents one is kept. In order of hash, the first documents up to `test_fraction` of the bytes are test, the next up
    to `tune_fraction` tune, the others train. A document larger than a split's whole share is passed over, unless there
    is no smaller one: then the split is the smallest document alone. So a document's split hardly depends on the others.
    Raises DataError for fewer than three distinct documents.
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0])).astype(np.int64)
    ordered = hashes[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    duplicates = order[~first]
    unique = order[first]
    if len(unique) < 3:
        found = f"{len(unique)} distinct document{'s' if len(unique) != 1 else ''}"
        raise DataError(f"the corpus has {found}, but train, tune and test need one each: give more text")
    total = int(sizes[unique].sum())
    test, unique = _take(unique, sizes, test_fraction * total, leave=2)
    tune, train = _take(unique, sizes, tune_fraction * total, leave=1)
    return Division(train, tune, test, len(duplicates), int(sizes[duplicates].sum()))


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
