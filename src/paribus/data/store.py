"""A corpus as tokens on disk: built once per content, memory-mapped ever after.

`$PARIBUS_CACHE/corpora/HASH/` (by default in the user's cache folder) holds, for each split, `SPLIT.tokens` (flat uint16 or
uint32, little-endian, each document followed by the end token) and `SPLIT.documents.npy` (where documents start), besides
`tokenizer.json` and `meta.json`. HASH covers what the files hold and every setting that changes the tokens.
"""

import errno
import hashlib
import io
import json
import os
import shutil
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import tokenizers
from filelock import FileLock

from paribus.data.counters import random_bits
from paribus.data.documents import read_pieces
from paribus.data.sources import Progress, Source, content_hash, find_source, silent
from paribus.data.splits import SPLITS, SplitName, divide
from paribus.data.spool import Spool
from paribus.data.tokenizer import PIECE, Tokenizer, byte_tokenizer, cut_pieces, train_bpe
from paribus.errors import DataError
from paribus.files import read_json, replacing, write_json
from paribus.study.spec import Data

FORMAT = 1
"""Raise it when the same text would give other tokens, documents or files."""
SAMPLE = 100_000_000
"""Bytes of the training split that the BPE learns from, at most."""
_ENCODED_AT_ONCE = 2 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, eq=False)
class Split:
    """The tokens of one split, on disk."""

    name: SplitName
    tokens: npt.NDArray[Any]
    """(tokens,) uint16 or uint32, memory-mapped."""
    starts: npt.NDArray[np.int64]
    """(documents + 1,): document i is `tokens[starts[i]:starts[i + 1]]`, its end token included; in order of hash."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document (documents,), its end included."""
        return np.diff(self.starts)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus, ready to read."""

    name: str
    folder: Path
    tokenizer: Tokenizer
    meta: dict[str, Any]

    @property
    def hash(self) -> str:
        """Of what the files hold and the settings that shape the tokens; 32 hex digits."""
        return self.folder.name

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self.tokenizer.vocabulary

    @property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """Bytes of text of each token id (vocabulary,)."""
        return self.tokenizer.token_bytes

    def split(self, name: SplitName) -> Split:
        """Map one split into memory."""
        tokens = np.memmap(self.folder / f"{name}.tokens", dtype=self.meta["dtype"], mode="r")
        starts = np.load(self.folder / f"{name}.documents.npy", allow_pickle=False)
        return Split(name, np.asarray(tokens), starts)

    def summary(self) -> dict[str, Any]:
        """What `data.json` says: name, hash, tokenizer, what was left out; documents, bytes and tokens per split."""
        return {"name": self.name, "hash": self.hash, **self.meta}


def prepare(data: Data, progress: Progress | None = None) -> Corpus:
    """Open the corpus of `data`, building its token store first if this content was never seen.

    Several processes may ask at once: one builds, the others wait. Memory stays below 2 GB whatever the size of the corpus.
    Raises DataError, and leaves nothing behind, if the text cannot be used as it is.
    """
    progress = progress or silent
    source = find_source(data.corpus)
    cache = cache_folder()
    folder = cache / "corpora" / _store_hash(content_hash(source, cache / "hashes", progress), data)
    with _writing(cache):
        if not _is_whole(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not _is_whole(folder):
                    _build_beside(folder, source, data, progress)
    meta = read_json(folder / "meta.json")
    _check_window(source.name, meta, data)
    return Corpus(source.name, folder, Tokenizer.load(folder / "tokenizer.json"), meta)


def cache_folder() -> Path:
    """Where token stores live: `$PARIBUS_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("PARIBUS_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("paribus")


def _store_hash(content: str, data: Data) -> str:
    settings: dict[str, Any] = {
        "format": FORMAT,
        "content": content,
        "text_column": data.text_column,
        "tune_fraction": data.tune_fraction,
        "test_fraction": data.test_fraction,
        "tokenizer": data.tokenizer,
    }
    if data.tokenizer == "bpe":
        settings |= {"vocabulary": data.vocabulary, "tokenizers": tokenizers.__version__}
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            mend = "free some, or set PARIBUS_CACHE to another folder"
            raise DataError(f"no space left for the token store in {cache}: {mend}") from error
        fault = f"{error.strerror or error}: set PARIBUS_CACHE to a folder that can be written"
        raise DataError(f"the token store in {cache} cannot be written: {fault}") from error


def _is_whole(folder: Path) -> bool:
    try:
        meta = read_json(folder / "meta.json")
        size = np.dtype(meta["dtype"]).itemsize
        return all(
            (folder / f"{name}.tokens").stat().st_size == meta["splits"][name]["tokens"] * size for name in SPLITS
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _build_beside(folder: Path, source: Source, data: Data, progress: Progress) -> None:
    """Build in a folder of another name and rename it; under the lock, what already has that name is a killed build."""
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        meta = _build(building, source, data, progress)
        _check_window(source.name, meta, data)
        write_json(building / "meta.json", meta)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_window(name: str, meta: dict[str, Any], data: Data) -> None:
    tokens = meta["splits"]["train"]["tokens"]
    if tokens < data.window + 1:
        needs = f"data.window = {data.window} needs {data.window + 1}"
        raise DataError(
            f"{name}: the training split has {tokens} tokens and {needs}: give more text or a smaller window"
        )


def _build(folder: Path, source: Source, data: Data, progress: Progress) -> dict[str, Any]:
    with Spool(folder / "text") as spool:
        _read(spool, source, data, progress)
        starts = spool.starts
        sizes = np.diff(starts)
        try:
            division = divide(spool.hashes, sizes, data.tune_fraction, data.test_fraction)
        except DataError as error:
            whole = len(source.files) > 0 and source.files[0].is_document
            mend = ", or the path of one large file, which is cut into blocks" if whole else ""
            raise DataError(f"{source.name}: {error}{mend}") from error
        sample, sample_bytes = _sample(spool, division.train, starts)
        if data.tokenizer == "bytes":
            tokenizer, sample_bytes = byte_tokenizer(), 0
        else:
            tokenizer = train_bpe(_reported(sample, sample_bytes, progress), data.vocabulary)
            progress("learning the vocabulary", sample_bytes, sample_bytes)
        tokenizer.save(folder / "tokenizer.json")
        dtype = "<u2" if tokenizer.vocabulary <= 1 << 16 else "<u4"
        total, done = int(sizes[np.concatenate(division[:3])].sum()), 0
        splits = {}
        for name in SPLITS:
            numbers: npt.NDArray[np.int64] = getattr(division, name)
            tokens = 0
            with replacing(folder / f"{name}.tokens") as path, open(path, "wb") as file:
                ends = array("q", [0])
                for read, ids, lengths in _encoded(spool, numbers, starts, tokenizer):
                    file.write(ids.astype(dtype).tobytes())
                    for length in lengths:
                        tokens += length
                        ends.append(tokens)
                    done += read
                    progress("encoding", done, total)
            _save(folder / f"{name}.documents.npy", np.frombuffer(ends, dtype=np.int64))
            splits[name] = {"documents": len(numbers), "bytes": int(sizes[numbers].sum()), "tokens": tokens}
    (folder / "text").unlink()
    return {
        "files": len(source.files),
        "files_skipped": source.skipped,
        "documents_read": len(sizes),
        "blank_documents_skipped": spool.blank_documents,
        "duplicates_removed": division.duplicates,
        "duplicate_bytes_removed": division.duplicate_bytes,
        "tokenizer": data.tokenizer,
        "tokenizer_sample_bytes": sample_bytes,
        "vocabulary": tokenizer.vocabulary,
        "vocabulary_wanted": data.vocabulary if data.tokenizer == "bpe" else tokenizer.vocabulary,
        "dtype": dtype,
        "splits": splits,
    }


def _read(spool: Spool, source: Source, data: Data, progress: Progress) -> None:
    before = 0
    for file in source.files:

        def advance(done: int, before: int = before) -> None:
            progress("reading", before + done, source.size)

        for piece in read_pieces(file, data.text_column, advance):
            spool.append(piece)
        before += file.size
        progress("reading", before, source.size)


def _sample(spool: Spool, numbers: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> tuple[Iterator[str], int]:
    """Texts of at most 64 KiB from the documents `numbers`, at most `SAMPLE` bytes, and how many bytes these are.

    Where there is more text, each piece is taken or left by a hash of its document's place and its own.
    """
    sizes = starts[numbers + 1] - starts[numbers]
    counts = -(-sizes // PIECE)
    document = np.repeat(np.arange(len(numbers)), counts)
    piece = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = starts[numbers][document] + piece * PIECE
    lengths = np.minimum(PIECE, sizes[document] - piece * PIECE)
    if int(sizes.sum()) > SAMPLE:
        order = np.argsort(random_bits(random_bits(np.uint64(0), document), piece), kind="stable")
        chosen = np.sort(order[: int(np.searchsorted(np.cumsum(lengths[order]), SAMPLE, side="right"))])
        offsets, lengths = offsets[chosen], lengths[chosen]

    def texts() -> Iterator[str]:
        for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
            # Characters cut by the ends of a piece are left out.
            yield spool.read(offset, length).decode(errors="ignore")

    return texts(), int(lengths.sum())


def _reported(texts: Iterator[str], total: int, progress: Progress) -> Iterator[str]:
    done = 0
    for text in texts:
        yield text
        done += len(text.encode())
        progress("learning the vocabulary", min(done, total), total)


def _encoded(
    spool: Spool, numbers: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], tokenizer: Tokenizer
) -> Iterator[tuple[int, npt.NDArray[np.int64], list[int]]]:
    """Encode documents in order, a bounded part at a time: bytes read, token ids, lengths of the documents that ended."""
    end = np.array([tokenizer.end], dtype=np.int64)
    pieces: list[bytes] = []
    ends: list[bool] = []
    size = open_length = 0

    def encode() -> tuple[int, npt.NDArray[np.int64], list[int]]:
        nonlocal open_length
        parts, lengths = [], []
        for ids, ends_document in zip(tokenizer.encode_pieces(pieces), ends, strict=True):
            parts.append(ids)
            open_length += len(ids)
            if ends_document:
                parts.append(end)
                lengths.append(open_length + 1)
                open_length = 0
        return size, np.concatenate(parts), lengths

    for offset, length in spool.documents(numbers, starts):
        left = length
        for piece in cut_pieces(spool.read, offset, length):
            left -= len(piece)
            pieces.append(piece)
            ends.append(left == 0)
            size += len(piece)
            if size >= _ENCODED_AT_ONCE:
                yield encode()
                pieces, ends, size = [], [], 0
    if pieces:
        yield encode()


def _save(path: Path, values: npt.NDArray[np.int64]) -> None:
    # np.save to a file hides the reason of a failed write; a write of our own keeps it.
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
