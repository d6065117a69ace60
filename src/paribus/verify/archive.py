"""A finished study as one file without its weights, the same bytes each time; and back, from anyone's hands, safely."""

import gzip
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from paribus.errors import UserError
from paribus.files import replacing
from paribus.records.manifest import NAME, altered, read_manifest

FOLDER = "study"
"""The one folder in an archive."""
SUFFIXES = (".tar.xz", ".tar.gz")
MOST_FILES = 200_000
MOST_BYTES = 4 << 30
"""More than any study comes to; an archive that says more is not unpacked."""
_BLOCK = 512
_COPIED_AT_ONCE = 1 << 20


def pack(directory: Path, file: Path) -> Path:
    """Write what the manifest of `directory` lists, weights left out, to `file` (`.tar.xz` or `.tar.gz`) and return its path.

    The same study gives the same bytes: names sorted, times and owners zero. Raises UserError where the study is unfinished or
    its files are not as the manifest says, and where `file` exists.
    """
    if not file.name.endswith(SUFFIXES):
        raise UserError(f"{file}: an archive's name ends in {' or '.join(SUFFIXES)}")
    if file.exists():
        raise UserError(f"{file}: exists already; choose another name, or remove it")
    if not (directory / "plan.json").is_file():
        raise UserError(
            f"{directory}: no study directory, plan.json is missing; give the folder that `paribus run` wrote"
        )
    names = read_manifest(directory)["files"]
    for name, how in altered(directory, names):
        raise UserError(f"{directory}: {name} is {how} since the run; see paribus verify {directory}")
    try:
        with (
            replacing(file) as temporary,
            _compressing(temporary, file.name) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name in sorted([*names, NAME]):
                member = tarfile.TarInfo(f"{FOLDER}/{name}")
                member.size, member.mode = (directory / name).stat().st_size, 0o644
                with open(directory / name, "rb") as content:
                    archive.addfile(member, content)
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror or error}") from error
    return file


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The study's directory: `path` itself, or, where it is an archive, a temporary folder that it is unpacked to.

    Raises UserError where there is nothing, or no archive, or one that asks for more than regular files within its own folder.
    """
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="paribus-") as folder:
        try:
            _unpack(path, Path(folder))
        except (lzma.LZMAError, EOFError, OSError, zlib.error, tarfile.TarError, UnicodeError) as error:
            said = str(getattr(error, "strerror", None) or error).splitlines()
            raise UserError(
                f"{path}: a file, but no archive of paribus pack, or a damaged one ({said[0] if said else error!r}); "
                "give the folder that paribus run --out wrote, or an archive of it"
            ) from error
        yield Path(folder) / FOLDER


def _unpack(path: Path, folder: Path) -> None:
    """Read members one by one: only regular files, only below the one folder, only so many and so large."""
    seen: set[str] = set()
    left = MOST_BYTES
    with _decompressing(path) as stream:
        # Headers are read here and not by tarfile's own loop, which would follow links, long names and sparse maps.
        while any(header := _exactly(stream, _BLOCK)):
            member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            name = PurePosixPath(member.name)
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise UserError(
                    f"{path}: holds something that is no regular file ({member.name!r}); nothing was unpacked"
                )
            inside = not name.is_absolute() and name.parts[:1] == (FOLDER,) and len(name.parts) > 1
            if not inside or ".." in name.parts or "\\" in member.name or "\0" in member.name or str(name) in seen:
                raise UserError(f"{path}: holds a file that lies outside its folder or comes twice ({member.name!r})")
            seen.add(str(name))
            left -= member.size
            if left < 0 or member.size < 0 or len(seen) > MOST_FILES:
                raise UserError(f"{path}: more than {MOST_FILES:,} files or {MOST_BYTES >> 30} GiB; that is no study")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                for first in range(0, member.size, _COPIED_AT_ONCE):
                    file.write(_exactly(stream, min(_COPIED_AT_ONCE, member.size - first)))
            _exactly(stream, -member.size % _BLOCK)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError("it ends too early")
    return content


@contextmanager
def _compressing(path: Path, name: str) -> Iterator[IO[bytes]]:
    with open(path, "wb") as raw:
        if name.endswith(".xz"):
            with lzma.open(raw, "wb", preset=6) as stream:
                yield stream
        else:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped:
                yield zipped  # type: ignore[misc]  # a GzipFile is a binary stream in all but name


@contextmanager
def _decompressing(path: Path) -> Iterator[IO[bytes]]:
    with open(path, "rb") as raw:
        magic = raw.read(2)
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) if magic == b"\x1f\x8b" else lzma.LZMAFile(raw) as stream:
            yield stream  # type: ignore[misc]
