"""All documents of a corpus in one file of UTF-8, while its store is built."""

import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from paribus.data.documents import Piece


class Spool:
    """Documents by number, on disk; 24 bytes of memory each."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b")  # noqa: SIM115
        self._ends = array("q", [0])
        self._hashes = array("Q")
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

    def append(self, piece: Piece) -> None:
        """Add the next piece of the current document."""
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
            digest = self._digest.digest()
            self._hashes.append(int.from_bytes(digest[:8], "big"))
            self._hashes.append(int.from_bytes(digest[8:], "big"))
        self._digest = hashlib.blake2b(digest_size=16)
        self._blank = True

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Hash of each document (documents, 2)."""
        return np.frombuffer(self._hashes, dtype=np.uint64).reshape(-1, 2).copy()

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each document starts, and the last one ends (documents + 1,)."""
        return np.frombuffer(self._ends, dtype=np.int64).copy()

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes from anywhere."""
        self._file.seek(offset)
        return self._file.read(size)

    def documents(self, numbers: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Offset and size of each of the documents `numbers`, given `starts`."""
        for begin in range(0, len(numbers), 1 << 16):
            some = numbers[begin : begin + (1 << 16)]
            yield from zip(starts[some].tolist(), (starts[some + 1] - starts[some]).tolist(), strict=True)
