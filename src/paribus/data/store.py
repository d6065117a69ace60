"""A corpus as tokens on disk: built once per content, memory-mapped ever after.

`$PARIBUS_CACHE/corpora/HASH/` (by default in the user's cache folder) holds, for each split, `SPLIT.tokens` (flat uint16 or
uint32, little-endian, each document followed by the end token), `SPLIT.documents.npy` (where documents start) and, of pairs,
`SPLIT.cuts.npy` (how many tokens are input), besides `tokenizer.json` and `meta.json`. HASH covers what the files hold, or what
a task is, and every setting that changes the tokens of the text; special tokens stand above these and do not change it.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import tokenizers
from filelock import FileLock

from paribus.data.building import build
from paribus.data.rendering import render
from paribus.data.sources import Progress, Source, content_hash, find_source, silent
from paribus.data.specials import Specials
from paribus.data.splits import SPLITS, SplitName
from paribus.data.tables import columns_of
from paribus.data.tasks import TaskSource, find_task
from paribus.data.tokenizer import Tokenizer
from paribus.errors import DataError
from paribus.files import read_json, write_json
from paribus.spec.data import Data

FORMAT = 2
"""Raise it when the same text would give other tokens, documents or files."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, eq=False)
class Split:
    """The tokens of one split, on disk."""

    name: SplitName
    tokens: npt.NDArray[Any]
    """(tokens,) uint16 or uint32, memory-mapped."""
    starts: npt.NDArray[np.int64]
    """(documents + 1,): document i is `tokens[starts[i]:starts[i + 1]]`, its end token included; in order of hash."""
    cuts: npt.NDArray[np.int64] | None = None
    """(documents,): the first `cuts[i]` tokens of document i are the input of a pair; None where documents are no pairs."""

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
    special_tokens: int = 0
    """Ids above the text's own."""

    @property
    def hash(self) -> str:
        """Of what the files hold and the settings that shape the tokens; 32 hex digits."""
        return self.folder.name

    @property
    def text_vocabulary(self) -> int:
        """Number of token ids of text, the end of a document included."""
        return self.tokenizer.vocabulary

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special tokens included."""
        return self.text_vocabulary + self.special_tokens

    @property
    def specials(self) -> Specials:
        """The special tokens, above the text's own ids."""
        return Specials(self.text_vocabulary, self.special_tokens)

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """Bytes of text of each token id (vocabulary,); special tokens have none."""
        return np.concatenate([self.tokenizer.token_bytes, np.zeros(self.special_tokens, dtype=np.int64)])

    def render(self, ids: Iterable[int]) -> str:
        """Text of token ids, with ends and special tokens by name, such as `<|mask|>`."""
        return render(ids, self.tokenizer, self.specials)

    def split(self, name: SplitName) -> Split:
        """Map one split into memory."""
        tokens = np.memmap(self.folder / f"{name}.tokens", dtype=self.meta["dtype"], mode="r")
        starts = np.load(self.folder / f"{name}.documents.npy", allow_pickle=False)
        cuts = np.load(self.folder / f"{name}.cuts.npy", allow_pickle=False) if self.meta["pairs"] else None
        return Split(name, np.asarray(tokens), starts, cuts)

    def summary(self) -> dict[str, Any]:
        """What `data.json` says: name, hash, tokenizer, what was left out; documents, bytes and tokens per split."""
        return {"name": self.name, "hash": self.hash, **self.meta, "special_tokens": self.special_tokens}


def prepare(data: Data, progress: Progress | None = None) -> Corpus:
    """Open the corpus of `data`, building its token store first if this content was never seen.

    Several processes may ask at once: one builds, the others wait. Memory stays below 2 GB whatever the size of the corpus.
    Raises DataError, and leaves nothing behind, if the text cannot be used as it is.
    """
    progress = progress or silent
    cache = cache_folder()
    source: Source | TaskSource
    if data.is_task:
        source = find_task(data)
        content = source.hash
    else:
        source = find_source(data.corpus, data.reads_pairs)
        content = content_hash(source, cache / "hashes", progress)
    folder = cache / "corpora" / _store_hash(content, data)
    with _writing(cache):
        if not _is_whole(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not _is_whole(folder):
                    _build_beside(folder, source, data, progress)
    meta = read_json(folder / "meta.json")
    _check_window(source.name, meta, data)
    return Corpus(source.name, folder, Tokenizer.load(folder / "tokenizer.json"), meta, data.special_tokens or 0)


def cache_folder() -> Path:
    """Where token stores live: `$PARIBUS_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("PARIBUS_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("paribus")


def _store_hash(content: str, data: Data) -> str:
    settings: dict[str, Any] = {
        "format": FORMAT,
        "content": content,
        "columns": None if data.is_task else [column.name for column in columns_of(data)],
        "tune_fraction": data.tune_fraction,
        "test_fraction": data.test_fraction,
        "tokenizer": data.tokenizer_kind,
    }
    if data.tokenizer_kind == "bpe":
        settings |= {"vocabulary": data.vocabulary, "tokenizers": tokenizers.__version__}
    elif data.tokenizer_kind == "file":
        settings |= {"file": _file_hash(data.tokenizer), "tokenizers": tokenizers.__version__}
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()


def _file_hash(path: str) -> str:
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"data.tokenizer = {path!r}: cannot be read: {error.strerror}") from error
    return hashlib.blake2b(content, digest_size=16).hexdigest()


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


def _build_beside(folder: Path, source: Source | TaskSource, data: Data, progress: Progress) -> None:
    """Build in a folder of another name and rename it; under the lock, what already has that name is a killed build."""
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        meta = build(building, source, data, progress)
        _check_window(source.name, meta, data)
        write_json(building / "meta.json", meta)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_window(name: str, meta: dict[str, Any], data: Data) -> None:
    if meta["pairs"]:
        return  # A pair fits a window or is left out; nothing needs a full one.
    tokens = meta["splits"]["train"]["tokens"]
    if tokens < data.window + 1:
        needs = f"data.window = {data.window} needs {data.window + 1}"
        raise DataError(
            f"{name}: the training split has {tokens} tokens and {needs}: give more text or a smaller window"
        )
