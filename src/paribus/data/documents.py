r"""Files to documents, in pieces of bounded size, so that memory stays flat whatever a file holds.

What a document is:

- text (`.txt .text .md .rst .tex .py`): what lies between lines that hold only `<|endoftext|>`, however long. In a file
  without such lines: the whole file if it lies in a folder (or in `stdlib`) and has at most 4 MiB; otherwise blocks of
  about 16 KiB that end at the nearest paragraph, else line, else space, else character.
- `.jsonl`, `.ndjson`: the string under `text_column` of the object on each line.
- `.csv`: the field under `text_column` of each record (RFC 4180: quoted fields may hold newlines). The first record names
  the columns, unless the column is given by its place: `#1` is the first, and then every record is a document.
- `.tsv`: the same with tabs. Quotes mean nothing, so no field holds a tab or a newline (IANA text/tab-separated-values).
- `.parquet`: the string under `text_column` of each row.

Where pairs are read, a document is an input, from `input_column`, and a target, from `target_column`, of one record of
these tables; text files have none.

`.gz` and `.xz` of these are read alike. Text is UTF-8; a byte order mark is dropped, nothing else changes. Missing values
(JSON null, parquet null) and documents that are empty or all blanks are left out and counted, and so is a pair whose
input or target is.
"""

import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from paribus.data.sources import TextFile
from paribus.data.streams import Advance, checked_utf8, opened, read_chunks
from paribus.data.tables import Columns, read_records
from paribus.errors import DataError

BLOCK = 16 << 10
"""Bytes of a block of text that nothing divides into documents."""
WHOLE_FILE = 4 << 20
"""Bytes up to which a text file of a folder is one document."""

_SEPARATOR = re.compile(rb"\r?\n<\|endoftext\|>\r?(?=\n)")
_SEPARATOR_SPAN = len(b"\r\n<|endoftext|>\r\n")
_BOUNDARIES = (b"\n\n", b"\n\r\n", b"\n", b" ", b"\t")


class Piece(NamedTuple):
    """A part of a document: valid UTF-8, cut between characters."""

    data: bytes
    ends: bool
    """Whether the document ends with it."""
    cut: int | None = None
    """Bytes of it that are the input of a pair, which is one piece; None for a text."""
    key: bytes | None = None
    """What decides a pair's split, where that is not its input."""


def pair(input_text: bytes, target_text: bytes, key: bytes | None = None) -> Piece:
    """A pair as a document; one without input or target is blank."""
    if not input_text.strip() or not target_text.strip():
        return Piece(b"", True, 0)
    return Piece(input_text + target_text, True, len(input_text), key)


def read_pieces(file: TextFile, columns: Columns, advance: Advance) -> Iterator[Piece]:
    """Read the documents of `file` in order, calling `advance` with the bytes of the file read so far.

    Raises DataError, in one line, for a file that is binary, damaged, not UTF-8 or not what its suffix says.
    """
    try:
        if file.format == "text":
            yield from _text(file, advance)
        else:
            for texts in read_records(file, columns, advance):
                yield Piece(texts[0], True) if len(columns) == 1 else pair(*texts)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(f"{file.name} is damaged or cut off ({error}): make it again") from error


def _text(file: TextFile, advance: Advance) -> Iterator[Piece]:
    with opened(file) as (stream, position):
        separated = _has_separator(read_chunks(stream, position, lambda done: None))
    with opened(file) as (stream, position):
        chunks = checked_utf8(file, read_chunks(stream, position, advance))
        if separated:
            yield from _between_separators(chunks)
        elif file.is_document:
            yield from _file_or_blocks(chunks)
        else:
            yield from _blocks(chunks)


def _has_separator(chunks: Iterator[bytes]) -> bool:
    tail = b"\n"
    for chunk in chunks:
        if _SEPARATOR.search(tail + chunk):
            return True
        tail = (tail + chunk)[-_SEPARATOR_SPAN:]
    return _SEPARATOR.search(tail + b"\n") is not None


def _between_separators(chunks: Iterator[bytes]) -> Iterator[Piece]:
    """A separator is its line and the newlines on both sides; the ends of the file count as newlines."""
    buffer, at_start = b"\n", True  # at_start: the buffer begins with a newline that belongs to no document
    for chunk in chunks:
        buffer += chunk
        buffer, at_start, pieces = _split_off(buffer, at_start, keep=_SEPARATOR_SPAN)
        yield from pieces
    buffer, at_start, pieces = _split_off(buffer + b"\n", at_start, keep=1)
    yield from pieces
    if not at_start:
        yield Piece(b"", True)


def _split_off(buffer: bytes, at_start: bool, keep: int) -> tuple[bytes, bool, list[Piece]]:
    pieces, position = [], 0
    for match in _SEPARATOR.finditer(buffer):
        pieces.append(Piece(buffer[position + at_start : match.start()], True))
        position, at_start = match.end(), True
    end = max(position, len(buffer) - keep)
    while end > position and buffer[end] & 0xC0 == 0x80:
        end -= 1
    if end <= position + at_start:
        return buffer[position:], at_start, pieces
    pieces.append(Piece(buffer[position + at_start : end], False))
    return buffer[end:], False, pieces


def _file_or_blocks(chunks: Iterator[bytes]) -> Iterator[Piece]:
    read, size = [], 0
    for chunk in chunks:
        read.append(chunk)
        size += len(chunk)
        if size > WHOLE_FILE:
            yield from _blocks(_chained(read, chunks))
            return
    yield Piece(b"".join(read), True)


def _chained(read: list[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from read
    yield from chunks


def _blocks(chunks: Iterator[bytes]) -> Iterator[Piece]:
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        start = 0
        while len(buffer) - start > BLOCK * 3 // 2:
            end = _block_end(buffer, start)
            yield Piece(buffer[start:end], True)
            start = end
        buffer = buffer[start:]
    yield Piece(buffer, True)


def _block_end(buffer: bytes, start: int) -> int:
    """Find the boundary nearest to one block from `start`, at most half a block away."""
    low, target, high = start + BLOCK // 2, start + BLOCK, start + BLOCK * 3 // 2
    for mark in _BOUNDARIES:
        found = (buffer.rfind(mark, low, target), buffer.find(mark, target, high))
        ends = [position + len(mark) for position in found if position >= 0]
        if ends:
            return min(ends, key=lambda end: abs(end - target))
    while buffer[target] & 0xC0 == 0x80:
        target -= 1
    return target
