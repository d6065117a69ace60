"""Where text comes from: the files of a corpus, their formats, and a hash of what they hold.

Official splits: where a folder holds tables (jsonl, csv, tsv, parquet), `.txt` or `.text` files whose path below it begins with
`train` (or `training`) and others that begin with `test`, `tune` (or `tuning`, `valid`, `validation`, `val`, `dev`), these are
its splits and nothing else in it is read: `train.jsonl`, `test-00001.parquet`, `valid/part.csv`. No letter follows the
word, so that `testimony.txt` is a text like any other.
"""

import difflib
import hashlib
import json
import os
import platform
import re
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from paribus.data.splits import SPLITS, SplitName
from paribus.errors import DataError
from paribus.files import read_json, write_json

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and of how much (None if nobody knows)."""

Format = Literal["text", "jsonl", "csv", "tsv", "parquet"]
Compression = Literal["", "gz", "xz"]

FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
    ".tex": "text",
    ".py": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".xz": "xz"}

CHUNK = 1 << 20
"""Bytes read from a file at a time."""

_NOT_STDLIB = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__"}
_OFFICIAL: dict[SplitName, str] = {
    "train": "train(ing)?",
    "tune": "tun(e|ing)|val(id(ation)?)?|dev",
    "test": "test",
}
_SOURCE_TEXT = (".md", ".rst", ".tex", ".py")
_REMEMBERED_SIZE = 16 << 20
_RACY_NANOSECONDS = 2 * 10**9


def silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class TextFile:
    """One file of a corpus."""

    path: Path
    name: str
    """As an error names it."""
    format: Format
    compression: Compression
    size: int
    """Bytes on disk."""
    is_document: bool
    """Whether a text file without separators is one document (files of a folder), or is cut into blocks."""
    split: SplitName | None = None
    """The split that its name says it is; None where documents are divided by their hash."""


@dataclass(frozen=True)
class Source:
    """The files of a corpus, in order."""

    name: str
    files: tuple[TextFile, ...]
    skipped: int
    """Files of the folder that are not read: in no format that can be, no tables where pairs are read, or in no split."""

    @property
    def official(self) -> list[SplitName]:
        """The splits that have files of their own."""
        return [name for name in SPLITS if any(file.split == name for file in self.files)]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)


def find_source(corpus: str, pairs: bool = False) -> Source:
    """Find the files of `corpus`: `stdlib`, a file, or a folder (recursively, hidden files left out).

    With `pairs` the text files of a folder are left out: only tables have an input and a target.
    Raises DataError if nothing is there, or nothing that can be read.
    """
    if corpus == "stdlib":
        if pairs:
            raise _no_pairs("data.corpus = 'stdlib'")
        return _stdlib()
    if corpus.startswith("hf:"):
        raise DataError(f"data.corpus = {corpus!r}: save the data set as parquet or jsonl, and give the path of that")
    path = Path(corpus).expanduser()
    if path.is_dir():
        return _folder(path, pairs)
    if path.is_file():
        found = _text_file(path, str(path), is_document=False)
        if found is None:
            raise DataError(
                f"{path}: the suffix {path.suffix!r} is not one of {_suffixes()}: rename or convert the file"
            )
        if found.size == 0:
            raise DataError(f"{path} is empty: give a file that holds text")
        if pairs and found.format == "text":
            raise _no_pairs(str(path))
        return Source(path.name, (found,), 0)
    if path.exists():
        raise DataError(f"{path} is neither a file nor a folder: give one of these")
    raise DataError(f"data.corpus = {corpus!r}: no such file or folder in {path.absolute().parent}{_suggestion(path)}")


def content_hash(source: Source, remembered: Path, progress: Progress = silent) -> str:
    """Hash what the files hold and how they are read; names, order and times do not matter.

    The hashes of large files are kept in the folder `remembered`, by path, size and time of change.
    """
    total, done = source.size, 0
    lines = []
    for file in source.files:
        progress("hashing", done, total)
        with _reading(file.name):
            digest = _file_hash(file.path, remembered)
        lines.append(f"{file.format} {file.compression} {file.is_document} {file.split} {digest}")
        done += file.size
    progress("hashing", done, total)
    return hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=16).hexdigest()


class _reading:
    """Turn an OSError while reading into one line that names the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise DataError(f"{self.name} cannot be read: {error.strerror or error}") from error


def _stdlib() -> Source:
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_STDLIB]
        for name in names:
            # _sysconfigdata holds the paths and flags of one machine's build.
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                path = Path(folder, name)
                relative = path.relative_to(root).as_posix()
                files.append(TextFile(path, f"stdlib/{relative}", "text", "", path.stat().st_size, True))
    if not files:
        raise DataError(f"data.corpus = 'stdlib': no modules in {root}: give the path of a text file instead")
    files.sort(key=lambda file: file.name)
    return Source(f"stdlib of Python {platform.python_version()}", tuple(files), 0)


def _no_pairs(what: str) -> DataError:
    mend = "give jsonl, csv, tsv or parquet with data.input_column and data.target_column"
    return DataError(f"{what} is text, which has no pairs of input and target: {mend}")


def _folder(root: Path, pairs: bool) -> Source:
    files, skipped = [], 0

    def stop(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    for folder, folders, names in os.walk(root, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            file = _text_file(path, str(path), is_document=True)
            if file is None:
                skipped += 1
            else:
                files.append(file)
    if not files:
        raise DataError(f"{root} holds no file with one of the suffixes {_suffixes()}")
    files.sort(key=lambda file: file.path.relative_to(root).as_posix())
    if pairs:
        tables = [file for file in files if file.format != "text"]
        if not tables:
            raise _no_pairs(f"{root}: each of its {len(files)} files")
        skipped += len(files) - len(tables)
        files = tables
    split = [file for file in (_with_split(file, root) for file in files) if file.split]
    if {"train"} < {file.split for file in split}:
        skipped += len(files) - len(split)
        files = split
    if not any(file.size for file in files):
        raise DataError(f"{root}: all its files are empty: give files that hold text")
    return Source(root.resolve().name, tuple(files), skipped)


def _with_split(file: TextFile, root: Path) -> TextFile:
    """The file with the split that its path below `root` begins with, if any."""
    if Path(file.path.name.removesuffix(file.path.suffix) if file.compression else file.path).suffix in _SOURCE_TEXT:
        return file
    first, *below = file.path.relative_to(root).parts
    for name, pattern in _OFFICIAL.items():
        if re.match(rf"({pattern})(?![^\W\d_])", first, re.IGNORECASE):
            # A file that is a whole split holds more than one document.
            return replace(file, split=name, is_document=bool(below))
    return file


def _text_file(path: Path, name: str, is_document: bool) -> TextFile | None:
    compression = COMPRESSIONS.get(path.suffix.lower(), "")
    inner = Path(path.stem) if compression else path
    kind = FORMATS.get(inner.suffix.lower())
    if kind is None:
        return None
    with _reading(name):
        return TextFile(path, name, kind, compression, path.stat().st_size, is_document)


def _suffixes() -> str:
    return f"{', '.join(FORMATS)} (each also .gz, .xz)"


def _suggestion(path: Path) -> str:
    parent = path.absolute().parent
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*names, "stdlib"], n=3)
    if near:
        return f": did you mean {' or '.join(near)}?"
    return ": give a path, or 'stdlib'" if parent.is_dir() else ": that folder does not exist either"


def _file_hash(path: Path, remembered: Path) -> str:
    status = path.stat()
    mark = [status.st_size, status.st_mtime_ns, status.st_ino]
    note = remembered / f"{hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()}.json"
    large = status.st_size >= _REMEMBERED_SIZE
    if large:
        with suppress(OSError, json.JSONDecodeError, KeyError, TypeError):
            known = read_json(note)
            if known["mark"] == mark:
                return str(known["hash"])
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        # A file that changed just now may change again within one tick of the clock, unseen: do not remember it.
        settled = os.fstat(file.fileno()).st_mtime_ns + _RACY_NANOSECONDS < time.time_ns()
    if large and settled:
        with suppress(OSError):
            write_json(note, {"mark": mark, "hash": digest.hexdigest()})
    return digest.hexdigest()
