"""Documents to the files of a token store: read once to a spool, divided, tokenised a bounded part at a time."""

import io
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paribus.data.counters import random_bits
from paribus.data.documents import read_pieces
from paribus.data.sources import Progress, Source
from paribus.data.splits import SPLITS, Division, divide
from paribus.data.spool import Spool
from paribus.data.tables import columns_of
from paribus.data.tasks import TaskSource
from paribus.data.tokenizer import (
    PIECE,
    Tokenizer,
    WordTokenizer,
    byte_tokenizer,
    cut_pieces,
    train_bpe,
    train_words,
)
from paribus.errors import DataError
from paribus.files import replacing
from paribus.spec.data import Data

SAMPLE = 100_000_000
"""Bytes of the training split that the BPE learns from, at most."""
_ENCODED_AT_ONCE = 2 << 20

Ints = npt.NDArray[np.int64]


def build(folder: Path, source: Source | TaskSource, data: Data, progress: Progress) -> dict[str, Any]:
    """Write the tokens, documents and tokenizer of `source` into `folder`; returns what `meta.json` says of them.

    Raises DataError if the text cannot be used as it is.
    """
    with Spool(folder / "text") as spool:
        _read(spool, source, data, progress)
        sizes = np.diff(spool.starts)
        division = _divided(spool, source, sizes, data)
        tokenizer, sample_bytes = _tokenizer(spool, division.train, data, progress)
        tokenizer.save(folder / "tokenizer.json")
        dtype = "<u2" if tokenizer.vocabulary <= 1 << 16 else "<u4"
        total, done = int(sizes[np.concatenate(division[:3])].sum()), 0
        splits: dict[str, dict[str, int]] = {}
        for name in SPLITS:
            numbers: Ints = getattr(division, name)
            tokens = unknown = 0
            with replacing(folder / f"{name}.tokens") as path, open(path, "wb") as file:
                ends, cuts = array("q", [0]), array("q")
                for read, ids, lengths in _encoded(*spool.parts(numbers), spool.is_pairs, spool, tokenizer):
                    file.write(ids.astype(dtype).tobytes())
                    if isinstance(tokenizer, WordTokenizer):
                        unknown += int((ids == tokenizer.unknown).sum())
                    for length, is_input in lengths:
                        tokens += length
                        if is_input:
                            cuts.append(length)
                        else:
                            ends.append(tokens)
                    done += read
                    progress("encoding", done, total)
            _save(folder / f"{name}.documents.npy", np.frombuffer(ends, dtype=np.int64))
            splits[name] = {"documents": len(numbers), "bytes": int(sizes[numbers].sum()), "tokens": tokens}
            if spool.is_pairs:
                _save(folder / f"{name}.cuts.npy", np.frombuffer(cuts, dtype=np.int64))
            if isinstance(tokenizer, WordTokenizer):
                splits[name]["unknown_words"] = unknown
    (folder / "text").unlink()
    return {
        "files": len(source.files),
        "files_skipped": source.skipped,
        "official_splits": source.official,
        "pairs": spool.is_pairs,
        "documents_read": len(sizes),
        "blank_documents_skipped": spool.blank_documents,
        "duplicates_removed": division.duplicates,
        "duplicate_bytes_removed": division.duplicate_bytes,
        "inputs_in_test_and_train": _shared_inputs(spool, division),
        "tokenizer": data.tokenizer_kind,
        "tokenizer_sample_bytes": sample_bytes,
        "vocabulary": tokenizer.vocabulary,
        "vocabulary_wanted": data.vocabulary if data.tokenizer_kind == "bpe" else tokenizer.vocabulary,
        "dtype": dtype,
        "splits": splits,
    }


def _read(spool: Spool, source: Source | TaskSource, data: Data, progress: Progress) -> None:
    if isinstance(source, TaskSource):
        for done, piece in enumerate(source.pieces(), 1):
            spool.append(piece)
            if done % 1024 == 0 or done == source.examples:
                progress("generating", done, source.examples)
        return
    before, columns, official = 0, columns_of(data), bool(source.official)
    for file in source.files:

        def advance(done: int, before: int = before) -> None:
            progress("reading", before + done, source.size)

        for piece in read_pieces(file, columns, advance):
            spool.append(piece, file.split if official else None)
        before += file.size
        progress("reading", before, source.size)


def _divided(spool: Spool, source: Source | TaskSource, sizes: Ints, data: Data) -> Division:
    official = spool.splits
    for name in source.official:
        if official is None or SPLITS.index(name) not in official:
            raise DataError(f"{source.name}: its files of the {name} split hold no document: mend or remove them")
    try:
        return divide(spool.hashes, sizes, data.tune_fraction, data.test_fraction, spool.keys, official)
    except DataError as error:
        whole = not source.official and any(file.is_document for file in source.files)
        mend = ", or the path of one large file, which is cut into blocks" if whole and not spool.is_pairs else ""
        blank = spool.blank_documents
        left_out = (
            f"; left out were {blank} with a blank {'input or target' if data.reads_pairs else 'text'}" if blank else ""
        )
        raise DataError(f"{source.name}: {error}{mend}{left_out}") from error


def _shared_inputs(spool: Spool, division: Division) -> int:
    """Test pairs whose input is also that of a training pair, with another target: official splits may hold some."""
    keys = spool.keys
    if keys is None:
        return 0
    return int(np.isin(keys[division.test, 0], keys[division.train, 0]).sum())


def _tokenizer(spool: Spool, train: Ints, data: Data, progress: Progress) -> tuple[Tokenizer, int]:
    """The tokenizer that `data` asks for, and the bytes of text it learned from."""
    if data.tokenizer_kind == "bytes":
        return byte_tokenizer(), 0
    if data.tokenizer_kind == "file":
        return Tokenizer.load(Path(data.tokenizer).expanduser()), 0
    offsets, sizes = spool.parts(train)
    if data.tokenizer_kind == "words":
        size = int(sizes.sum())
        pieces = (
            piece.decode()
            for offset, length in _in_turn(offsets, sizes)
            for piece in cut_pieces(spool.read, offset, length)
        )
        tokenizer: Tokenizer = train_words(_reported(pieces, size, progress))
    else:
        sample, size = _sample(spool, offsets, sizes)
        tokenizer = train_bpe(_reported(sample, size, progress), data.vocabulary)
    progress("learning the vocabulary", size, size)
    return tokenizer, size


def _in_turn(offsets: Ints, sizes: Ints) -> Iterator[tuple[int, int]]:
    """Offsets and sizes as Python's numbers, a part of them at a time."""
    for first in range(0, len(offsets), 1 << 16):
        some = slice(first, first + (1 << 16))
        yield from zip(offsets[some].tolist(), sizes[some].tolist(), strict=True)


def _sample(spool: Spool, parts: Ints, sizes: Ints) -> tuple[Iterator[str], int]:
    """Texts of at most 64 KiB from parts of the spool at offsets `parts`, at most `SAMPLE` bytes, and how many bytes these are.

    Where there is more text, each piece is taken or left by a hash of its part's place and its own.
    """
    counts = -(-sizes // PIECE)
    part = np.repeat(np.arange(len(parts)), counts)
    piece = np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = parts[part] + piece * PIECE
    lengths = np.minimum(PIECE, sizes[part] - piece * PIECE)
    if int(sizes.sum()) > SAMPLE:
        order = np.argsort(random_bits(random_bits(np.uint64(0), part), piece), kind="stable")
        chosen = np.sort(order[: int(np.searchsorted(np.cumsum(lengths[order]), SAMPLE, side="right"))])
        offsets, lengths = offsets[chosen], lengths[chosen]

    def texts() -> Iterator[str]:
        for offset, length in _in_turn(offsets, lengths):
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
    offsets: Ints, sizes: Ints, pairs: bool, spool: Spool, tokenizer: Tokenizer
) -> Iterator[tuple[int, Ints, list[tuple[int, bool]]]]:
    """Encode parts of the spool in order, a bounded amount at a time: bytes read, token ids, lengths of the parts that ended.

    With each length comes whether the part is the input of a pair; any other is followed by an end token, which counts.
    """
    end = np.array([tokenizer.end], dtype=np.int64)
    pieces: list[bytes] = []
    last_of: list[int | None] = []
    size = open_length = 0

    def encode() -> tuple[int, Ints, list[tuple[int, bool]]]:
        nonlocal open_length
        ids, lengths = [], []
        for some, part in zip(tokenizer.encode_pieces(pieces), last_of, strict=True):
            ids.append(some)
            open_length += len(some)
            if part is not None:
                is_input = pairs and part % 2 == 0
                if not is_input:
                    ids.append(end)
                lengths.append((open_length + (not is_input), is_input))
                open_length = 0
        return size, np.concatenate(ids), lengths

    for part, (offset, length) in enumerate(_in_turn(offsets, sizes)):
        left = length
        for piece in cut_pieces(spool.read, offset, length):
            left -= len(piece)
            pieces.append(piece)
            last_of.append(None if left else part)
            size += len(piece)
            if size >= _ENCODED_AT_ONCE:
                yield encode()
                pieces, last_of, size = [], [], 0
    if pieces:
        yield encode()


def _save(path: Path, values: Ints) -> None:
    # np.save to a file hides the reason of a failed write; a write of our own keeps it.
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
