"""All documents of a corpus in one file of UTF-8, while its store is built."""

import hashlib
from array import array
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from paribus.data.documents import Piece
from paribus.data.splits import SPLITS, SplitName


class Spool:
    """Documents by number, on disk; 24 bytes of memory each, 48 where they are pairs, one more with official splits."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b")  # noqa: SIM115
        self._ends = array("q", [0])
        self._hashes = array("Q")
        self._keys = array("Q")
        self._cuts = array("q")
        self._splits = array("b")
        self._size = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._blank = True
        self.blank_documents = 0
        """Documents left out because they hold nothing but blanks."""

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, piece: Piece, split: SplitName | None = None) -> None:
        """Add the next piece of the current document, which files of `split` hold. A pair comes in one piece."""
        self._file.write(piece.data)
        self._size += len(piece.data)
        self._digest.update(piece.data)
        self._blank = self._blank and (not piece.data or piece.data.isspace())
        if not piece.ends:
            return
        if self._blank:
            self.blank_documents += 1
            if self._size > self._ends[-1]:
                self._size = self._ends[-1]
                self._file.seek(self._size)
                self._file.truncate()
        else:
            self._ends.append(self._size)
            if piece.cut is not None:
                # The same text cut elsewhere is another pair.
                self._digest.update(b"%d" % piece.cut)
                self._cuts.append(piece.cut)
                key = piece.data[: piece.cut] if piece.key is None else piece.key
                self._keys.extend(_halves(hashlib.blake2b(key, digest_size=16)))
            if split is not None:
                self._splits.append(SPLITS.index(split))
            self._hashes.extend(_halves(self._digest))
        self._digest = hashlib.blake2b(digest_size=16)
        self._blank = True

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Hash of each document (documents, 2)."""
        return np.frombuffer(self._hashes, dtype=np.uint64).reshape(-1, 2).copy()

    @property
    def keys(self) -> npt.NDArray[np.uint64] | None:
        """Hash of what must not straddle splits, a pair's input (documents, 2); None where documents are no pairs."""
        return np.frombuffer(self._keys, dtype=np.uint64).reshape(-1, 2).copy() if len(self._keys) else None

    @property
    def is_pairs(self) -> bool:
        """Whether documents are pairs."""
        return len(self._cuts) > 0

    def parts(self, numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Offsets and sizes of the documents `numbers` (n,); of pairs, of the input and target of each in turn (2 n,)."""
        starts = np.frombuffer(self._ends, dtype=np.int64)
        first, last = starts[numbers], starts[numbers + 1]
        if not self.is_pairs:
            return first, last - first
        between = first + np.frombuffer(self._cuts, dtype=np.int64)[numbers]
        sizes = np.stack([between - first, last - between], axis=1)
        return np.stack([first, between], axis=1).flatten(), sizes.flatten()

    @property
    def splits(self) -> npt.NDArray[np.int8] | None:
        """Index in `SPLITS` of each document's official split (documents,); None where there are none."""
        return np.frombuffer(self._splits, dtype=np.int8).copy() if len(self._splits) else None

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each document starts, and the last one ends (documents + 1,)."""
        return np.frombuffer(self._ends, dtype=np.int64).copy()

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes from anywhere."""
        self._file.seek(offset)
        return self._file.read(size)


def _halves(digest: "hashlib.blake2b") -> tuple[int, int]:
    data = digest.digest()
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
