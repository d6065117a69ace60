"""The bytes of a file, unpacked and checked, a bounded part at a time."""

import gzip
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from paribus.data.sources import CHUNK, TextFile
from paribus.errors import DataError

Advance = Callable[[int], None]


@contextmanager
def opened(file: TextFile) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """The unpacked bytes of a file, and how many bytes of the file itself are read. Raises DataError if it cannot be read."""
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


def read_chunks(stream: IO[bytes], position: Callable[[], int], advance: Advance) -> Iterator[bytes]:
    """The bytes of `stream`, calling `advance` with how many bytes of the file are read."""
    while chunk := stream.read(CHUNK):
        advance(position())
        yield chunk


def checked_utf8(file: TextFile, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Check that the bytes are UTF-8 text, and cut them between characters. Raises DataError if they are not."""
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
