r"""Files to documents, in pieces of bounded size, so that memory stays flat whatever a file holds.

What a document is:

- text (`.txt .text .md .rst .tex .py`): what lies between lines that hold only `<|endoftext|>`, however long. In a file
  without such lines: the whole file if it lies in a folder (or in `stdlib`) and has at most 4 MiB; otherwise blocks of
  about 16 KiB that end at the nearest paragraph, else line, else space, else character.
- `.jsonl`, `.ndjson`: the string under `text_column` of the object on each line.
- `.csv`: the field under `text_column` of each record (RFC 4180: quoted fields may hold newlines). The first record names
  the columns.
- `.tsv`: the same with tabs. Quotes mean nothing, so no field holds a tab or a newline (IANA text/tab-separated-values).
- `.parquet`: the string under `text_column` of each row.

`.gz` and `.xz` of these are read alike. Text is UTF-8; a byte order mark is dropped, nothing else changes. Missing values
(JSON null, parquet null) and documents that are empty or all blanks are left out and counted.
"""

import csv
import gzip
import json
import lzma
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import IO, Any, NamedTuple, cast

from paribus.data.sources import CHUNK, TextFile
from paribus.errors import DataError

BLOCK = 16 << 10
"""Bytes of a block of text that nothing divides into documents."""
WHOLE_FILE = 4 << 20
"""Bytes up to which a text file of a folder is one document."""
RECORD = 64 << 20
"""Bytes of the longest line of jsonl, csv and tsv: such a record is held in memory."""

_SEPARATOR = re.compile(rb"\r?\n<\|endoftext\|>\r?(?=\n)")
_SEPARATOR_SPAN = len(b"\r\n<|endoftext|>\r\n")
_BOUNDARIES = (b"\n\n", b"\n\r\n", b"\n", b" ", b"\t")

Advance = Callable[[int], None]


class Piece(NamedTuple):
    """A part of a document: valid UTF-8, cut between characters."""

    data: bytes
    ends: bool
    """Whether the document ends with it."""


def read_pieces(file: TextFile, column: str, advance: Advance) -> Iterator[Piece]:
    """Read the documents of `file` in order, calling `advance` with the bytes of the file read so far.

    Raises DataError, in one line, for a file that is binary, damaged, not UTF-8 or not what its suffix says.
    """
    try:
        if file.format == "parquet":
            yield from _parquet(file, column, advance)
        elif file.format == "text":
            yield from _text(file, advance)
        else:
            records = _jsonl if file.format == "jsonl" else _csv
            with _opened(file) as (stream, position):
                for data in records(file, _lines(file, _utf8(file, _chunks(stream, position, advance))), column):
                    yield Piece(data, True)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(f"{file.name} is damaged or cut off ({error}): make it again") from error


@contextmanager
def _opened(file: TextFile) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    try:
        raw = open(file.path, "rb")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{file.name} cannot be read: {error.strerror}") from error
    with raw:
        if file.compression == "gz":
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield cast(IO[bytes], stream), raw.tell
        elif file.compression == "xz":
            with lzma.LZMAFile(raw, "rb") as stream:
                yield cast(IO[bytes], stream), raw.tell
        else:
            yield raw, raw.tell


def _chunks(stream: IO[bytes], position: Callable[[], int], advance: Advance) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        advance(position())
        yield chunk


def _utf8(file: TextFile, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Check that the bytes are UTF-8 text, and cut them between characters."""
    rest, offset = b"", 0
    for number, chunk in enumerate(chunks):
        if number == 0:
            if chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{file.name} is UTF-16: save it as UTF-8")
            if chunk.startswith(b"\xef\xbb\xbf"):
                chunk, offset = chunk[3:], 3
        if (nul := chunk.find(b"\0")) >= 0:
            where = offset + len(rest) + nul
            raise DataError(f"{file.name}: byte {where} is zero, so this is a binary file or UTF-16: give UTF-8 text")
        data, rest = rest + chunk, b""
        try:
            data.decode()
        except UnicodeDecodeError as error:
            # Only a character cut by the end of the chunk may be repaired by the next one.
            if error.reason != "unexpected end of data":
                raise _not_utf8(file, offset + error.start, data[error.start]) from error
            data, rest = data[: error.start], data[error.start :]
        offset += len(data)
        if data:
            yield data
    if rest:
        raise _not_utf8(file, offset, rest[0])


def _not_utf8(file: TextFile, offset: int, byte: int) -> DataError:
    return DataError(f"{file.name}: byte {offset} (0x{byte:02x}) is not UTF-8: save the file as UTF-8")


def _text(file: TextFile, advance: Advance) -> Iterator[Piece]:
    with _opened(file) as (stream, position):
        separated = _has_separator(_chunks(stream, position, lambda done: None))
    with _opened(file) as (stream, position):
        chunks = _utf8(file, _chunks(stream, position, advance))
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


def _lines(file: TextFile, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their newline, the last one perhaps without."""
    parts: list[bytes] = []
    size, number = 0, 1
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*parts, line, b"\n"])
            parts.clear()
            size = 0
            number += 1
        parts.append(last)
        size += len(last)
        if size > RECORD:
            raise DataError(
                f"{file.name}: line {number} is longer than {RECORD >> 20} MiB: cut it into several records"
            )
    if size:
        yield b"".join(parts)


def _jsonl(file: TextFile, lines: Iterator[bytes], column: str) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        where = f"{file.name}: line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is not JSON ({error}): write one object per line") from error
        if not isinstance(record, dict):
            raise DataError(f"{where} is a JSON {type(record).__name__}: write one object per line")
        if column not in record:
            raise _no_column(where, column, list(record))
        text = record[column]
        if text is None:
            yield b""
        elif not isinstance(text, str):
            raise DataError(
                f"{where}: {column!r} is a JSON {type(text).__name__}, not a string: name another text_column"
            )
        else:
            yield _encoded(where, text)


def _encoded(where: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise DataError(f"{where} holds {half}, half of a surrogate pair and no character: mend or drop it") from error


def _no_column(where: str, column: str, columns: list[str]) -> DataError:
    near = get_close_matches(column, columns, n=1)
    mend = f"did you mean data.text_column = {near[0]!r}?" if near else "set data.text_column to one of these"
    shown = ", ".join(repr(name) for name in columns[:20]) + (", …" if len(columns) > 20 else "")
    return DataError(f"{where} has no column {column!r}, only {shown or 'none'}: {mend}")


def _csv(file: TextFile, lines: Iterator[bytes], column: str) -> Iterator[bytes]:
    texts = (line.decode() for line in lines)
    tabs = file.format == "tsv"
    reader = csv.reader(texts, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(texts, strict=True)
    # The limit is the csv module's own global; a quote that is never closed must not swallow the whole file.
    csv.field_size_limit(max(RECORD, csv.field_size_limit()))
    try:
        header = next(reader, None)
        if header is None:
            raise DataError(f"{file.name} is empty: its first line must name the columns")
        if column not in header:
            raise _no_column(file.name, column, header)
        index = header.index(column)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                fault = f"has {len(row)} fields, the header {len(header)}"
                raise DataError(f"{file.name}: line {reader.line_num} {fault}: quote or mend it")
            yield row[index].encode()
    except csv.Error as error:
        mend = "is a quote left open or not doubled?"
        raise DataError(f"{file.name}: line {reader.line_num} is not {file.format} ({error}): {mend}") from error


def _parquet(file: TextFile, column: str, advance: Advance) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with _opened(file) as (stream, position), tempfile.TemporaryFile() as unpacked:
        seekable: Any = stream
        if file.compression:
            # Parquet is read from its end, which a compressed stream cannot do.
            shutil.copyfileobj(stream, unpacked, CHUNK)
            unpacked.seek(0)
            seekable = unpacked
        try:
            table = parquet.ParquetFile(seekable, pre_buffer=False, buffer_size=CHUNK)
            schema, metadata = table.schema_arrow, table.metadata
            if column not in schema.names:
                raise _no_column(file.name, column, schema.names)
            kind = schema.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
                raise DataError(f"{file.name}: column {column!r} is {kind}, not string: name another text_column")
            index = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column)
            done = 0
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                size = metadata.row_group(group).column(index).total_uncompressed_size // max(rows, 1)
                if size > RECORD:
                    raise DataError(
                        f"{file.name}: rows of {size >> 20} MiB on average: cut texts into {RECORD >> 20} MiB"
                    )
                at_once = max(1, min(4096, (4 << 20) // max(size, 1)))
                batches = table.iter_batches(at_once, row_groups=[group], columns=[column], use_threads=False)
                for batch in batches:
                    for text in batch.column(0).to_pylist():
                        yield Piece(text.encode() if text is not None else b"", True)
                    done += batch.num_rows
                    advance(position() if file.compression else file.size * done // max(metadata.num_rows, 1))
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(
                f"{file.name} is no readable parquet ({str(error).splitlines()[0]}): make it again"
            ) from error
