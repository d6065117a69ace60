"""Files that are either whole or absent: written under a temporary name, flushed, then renamed."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paribus.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success flush it to disk and rename it over `path`.

    A reader, or a process that is killed in between, sees the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep every other run out of `directory`. The lock ends with the process, however that ends, and leaves no file.

    Raises UserError where another run is in it. A file system without locks keeps nobody out.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            mend = "wait for it to end, or choose another --out"
            raise UserError(f"--out {directory}: another run is writing there: {mend}") from error
        except OSError:  # no locks there, as on some network file systems
            pass
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write `value` as indented JSON, whole or not at all; its keys in order of the alphabet, or as they come.

    Raises ValueError for NaN or infinity, which JSON does not have: say None where a number is missing.
    """
    write_text(path, json.dumps(value, indent=1, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
