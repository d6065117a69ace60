"""Tables to records: the texts of named columns of jsonl, csv, tsv and parquet, one record at a time."""

import csv
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple

from paribus.data.sources import CHUNK, TextFile
from paribus.data.streams import Advance, checked_utf8, opened, read_chunks
from paribus.errors import DataError
from paribus.spec.data import Data

RECORD = 64 << 20
"""Bytes of the longest line of jsonl, csv and tsv: such a record is held in memory."""


class Column(NamedTuple):
    """A column or key of a table that is read."""

    field: str
    """The field of the study that names it."""
    name: str

    @property
    def place(self) -> int | None:
        """Its place, from 0 on, where it is given as `#1` and so on."""
        return int(self.name[1:]) - 1 if re.fullmatch(r"#[1-9]\d{0,5}", self.name) else None


Columns = tuple[Column, ...]
"""One column of texts, or those of input and target."""


def columns_of(data: Data) -> Columns:
    """The columns that a corpus is read from."""
    if data.reads_pairs:
        return Column("data.input_column", data.input_column), Column("data.target_column", data.target_column)
    return (Column("data.text_column", data.text_column),)


def read_records(file: TextFile, columns: Columns, advance: Advance) -> Iterator[list[bytes]]:
    """The texts of each record of a table, one for each column."""
    if file.format == "parquet":
        yield from _parquet(file, columns, advance)
        return
    records = _jsonl if file.format == "jsonl" else _csv
    with opened(file) as (stream, position):
        yield from records(file, _lines(file, checked_utf8(file, read_chunks(stream, position, advance))), columns)


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


def _jsonl(file: TextFile, lines: Iterator[bytes], columns: Columns) -> Iterator[list[bytes]]:
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
        yield [_of_json(where, record, column) for column in columns]


def _of_json(where: str, record: dict[str, Any], column: Column) -> bytes:
    if column.name not in record:
        raise _no_column(where, column, list(record))
    text = record[column.name]
    if text is None:
        return b""
    if not isinstance(text, str):
        kind = f"a JSON {type(text).__name__}, not a string"
        raise DataError(f"{where}: {column.name!r} is {kind}: name another {column.field.removeprefix('data.')}")
    return _encoded(where, text)


def _encoded(where: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise DataError(f"{where} holds {half}, half of a surrogate pair and no character: mend or drop it") from error


def _no_column(where: str, column: Column, names: list[str], by_place: bool = False) -> DataError:
    near = get_close_matches(column.name, names, n=1)
    mend = f"did you mean {column.field} = {near[0]!r}?" if near else f"set {column.field} to one of these"
    if by_place and not near:
        mend += ", or to '#1' and so on if no line names the columns"
    shown = ", ".join(repr(name) for name in names[:20]) + (", …" if len(names) > 20 else "")
    return DataError(f"{where} has no column {column.name!r}, only {shown or 'none'}: {mend}")


def _csv(file: TextFile, lines: Iterator[bytes], columns: Columns) -> Iterator[list[bytes]]:
    texts = (line.decode() for line in lines)
    tabs = file.format == "tsv"
    reader = csv.reader(texts, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(texts, strict=True)
    # The limit is the csv module's own global; a quote that is never closed must not swallow the whole file.
    csv.field_size_limit(max(RECORD, csv.field_size_limit()))
    try:
        first = next(reader, None)
        if first is None:
            raise DataError(f"{file.name} is empty: its first line must name the columns")
        places, named = _places(file, columns, first)
        for row in chain([] if named else [first], reader):
            if not row:
                continue
            if len(row) != len(first):
                fault = f"has {len(row)} fields, the {'header' if named else 'first line'} {len(first)}"
                raise DataError(f"{file.name}: line {reader.line_num} {fault}: quote or mend it")
            yield [row[place].encode() for place in places]
    except csv.Error as error:
        mend = "is a quote left open or not doubled?"
        raise DataError(f"{file.name}: line {reader.line_num} is not {file.format} ({error}): {mend}") from error


def _places(file: TextFile, columns: Columns, first: list[str]) -> tuple[list[int], bool]:
    """Where the columns stand in each record, and whether the first record names them."""
    places = [column.place for column in columns]
    given = [place for place in places if place is not None]
    if not given:
        for column in columns:
            if column.name not in first:
                raise _no_column(file.name, column, first, by_place=True)
        return [first.index(column.name) for column in columns], True
    for column, place in zip(columns, places, strict=True):
        if place is None:
            raise DataError(f"{file.name}: {column.field} = {column.name!r}: give the place of both columns, as '#1'")
        if place >= len(first):
            raise DataError(f"{file.name}: {column.field} = {column.name!r}: its first line has {len(first)} fields")
    return given, False


def _parquet(file: TextFile, columns: Columns, advance: Advance) -> Iterator[list[bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with opened(file) as (stream, position), tempfile.TemporaryFile() as unpacked:
        seekable: Any = stream
        if file.compression:
            # Parquet is read from its end, which a compressed stream cannot do.
            shutil.copyfileobj(stream, unpacked, CHUNK)
            unpacked.seek(0)
            seekable = unpacked
        try:
            table = parquet.ParquetFile(seekable, pre_buffer=False, buffer_size=CHUNK)
            schema, metadata = table.schema_arrow, table.metadata
            for column in columns:
                if column.name not in schema.names:
                    raise _no_column(file.name, column, schema.names)
                kind = schema.field(column.name).type
                kind = kind.value_type if pa.types.is_dictionary(kind) else kind
                if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
                    other = column.field.removeprefix("data.")
                    raise DataError(f"{file.name}: column {column.name!r} is {kind}, not string: name another {other}")
            names = [column.name for column in columns]
            read = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path in names]
            done = 0
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                size = sum(metadata.row_group(group).column(i).total_uncompressed_size for i in read) // max(rows, 1)
                if size > RECORD:
                    raise DataError(
                        f"{file.name}: rows of {size >> 20} MiB on average: cut texts into {RECORD >> 20} MiB"
                    )
                at_once = max(1, min(4096, (4 << 20) // max(size, 1)))
                batches = table.iter_batches(at_once, row_groups=[group], columns=names, use_threads=False)
                for batch in batches:
                    for texts in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                        yield [b"" if text is None else text.encode() for text in texts]
                    done += batch.num_rows
                    advance(position() if file.compression else file.size * done // max(metadata.num_rows, 1))
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(
                f"{file.name} is no readable parquet ({str(error).splitlines()[0]}): make it again"
            ) from error
