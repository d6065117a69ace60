"""The TOML tables of a study: read from files, merged along `extends`, changed by `--set`, and where each value came from."""

import datetime
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paribus.errors import StudyError
from paribus.spec.problems import Path as KeyPath
from paribus.spec.problems import did_you_mean, dotted, printable, shown

_LARGEST = 1_000_000  # bytes; a study is written by hand


@dataclass
class Tables:
    """Nested tables, the name of their main source, and the source of every value."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def merge(self, other: Mapping[str, Any], source: str) -> None:
        """Lay `other` over these tables: tables merge, everything else replaces."""
        self._merge(self.values, other, (), source)

    def _merge(self, into: dict[str, Any], other: Mapping[str, Any], path: KeyPath, source: str) -> None:
        for key, value in other.items():
            at = (*path, key)
            if isinstance(value, Mapping):
                if not isinstance(into.get(key), dict):
                    into[key] = {}
                    self.origins[at] = source
                self._merge(into[key], value, at, source)
            else:
                into[key] = value
                self.origins[at] = source

    def origin(self, path: KeyPath) -> str:
        """Where the value at a path, or the table that holds it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.name

    def set(self, assignment: str) -> None:
        """Apply one `a.b=c`: the value as TOML, a bare word as text. Raises StudyError where it cannot be read."""
        path, value = read_assignment(assignment)
        if path == ["extends"]:
            raise StudyError("--set: extends: belongs at the top of a study file, not in --set")
        at: Any = self.values
        reached: list[str | int] = []
        for part in path[:-1]:
            at = self._step(at, part, reached)
        last = self._key(at, path[-1], reached)
        whole = (*reached, last)
        if isinstance(value, Mapping) and isinstance(at, dict) and isinstance(at.get(last), dict):
            self._merge(at[last], value, whole, "--set")
        else:
            at[last] = value
            self.origins[whole] = "--set"

    def _step(self, at: Any, part: str, reached: list[str | int]) -> Any:
        key = self._key(at, part, reached)
        reached.append(key)
        if isinstance(at, dict) and key not in at:
            at[key] = {}
            self.origins[tuple(reached)] = "--set"
        return at[key]

    def _key(self, at: Any, part: str, reached: list[str | int]) -> str | int:
        """The key or index that `part` names in a table or list, if it may be set there."""
        whole = dotted([*reached, part])
        if isinstance(at, list):
            if part.isdecimal() and int(part) < len(at):
                return int(part)
            entries = f"has {len(at)} {'entry' if len(at) == 1 else 'entries'}, numbered from 0"
            raise StudyError(f"--set: {whole}: {dotted(reached)} {entries}")
        if not isinstance(at, dict):
            raise StudyError(f"--set: {whole}: {dotted(reached)} = {shown(at)} is a value, so it has no fields")
        if reached == ["arm"] and part not in at:
            near = did_you_mean(part, at, before="arm.") or "; new arms belong in the study file"
            raise StudyError(f"--set: {whole}: no such arm{near}")
        return part


def read_assignment(assignment: str) -> tuple[list[str], Any]:
    """Split `a."b c".d=value` into its path and its value."""
    for match in re.finditer("=", assignment):
        path = _read_key(assignment[: match.start()])
        if path:
            return path, _read_value(assignment[match.end() :].strip(), dotted(path))
    raise StudyError(f"--set {shown(assignment)}: should be FIELD=VALUE, such as model.layers=6")


def _read_key(text: str) -> list[str] | None:
    try:
        at: Any = tomllib.loads(f"{text} = 0")
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    path = []
    while isinstance(at, dict) and len(at) == 1:
        ((key, at),) = at.items()
        path.append(key)
    return path if at == 0 else None


def _read_value(text: str, key: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text[:1] in ("[", "{", '"', "'"):
            raise StudyError(f"--set: {key} = {shown(text)}: not valid TOML; quote text inside lists") from error
        return text
    value = read["value"]
    dates = datetime.date | datetime.time  # a folder may be called 2024-01-31; no field is a date
    return text if len(read) != 1 or isinstance(value, dates) else value


def read_toml(path: Path, shown_as: str) -> dict[str, Any]:
    """Parse one TOML file. Raises StudyError, with line and column where TOML has them, for anything else."""
    where = printable(shown_as)
    try:
        if path.is_dir():
            raise StudyError(f"{where}: a folder; a study is a TOML file{_studies_in(path)}")
        if not stat.S_ISREG(path.stat().st_mode) and not stat.S_ISFIFO(path.stat().st_mode):
            raise StudyError(f"{where}: not a file; a study is a TOML file")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise StudyError(f"{where}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise StudyError(f"{where}: no possible file name; give a TOML file or a built-in name") from error
    if len(content) > _LARGEST:
        raise StudyError(f"{where}: more than 1 MB; a study is a small TOML file, the text it trains on is data.corpus")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise StudyError(f"{where}: line {line} is not UTF-8 text; save the file as UTF-8") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{where}: {_syntax(str(error), text)}") from error
    except RecursionError as error:
        raise StudyError(f"{where}: brackets nested too deeply for a study") from error


def _syntax(message: str, text: str) -> str:
    """A TOML error with the line it is on, duplicates said plainly."""
    said, _, place = message.rpartition(" (at ")
    match = re.match(r"line (\d+), column (\d+)", place)
    if match is None:
        return f"not valid TOML: {printable(message)}"
    lines = text.replace("\r\n", "\n").split("\n")
    content = lines[int(match[1]) - 1].strip()
    if said in ("Cannot overwrite a value", "Cannot mutate immutable namespace") or said.startswith("Cannot declare"):
        said = "set twice; keep one"
    else:
        said = f"not valid TOML: {said[:1].lower()}{said[1:]}"
    return f"line {match[1]}, column {match[2]}: {shown(content)}: {printable(said)}"


def toml_files(folder: Path) -> list[str]:
    """Names of the TOML files in a folder, none where it cannot be read."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".toml")
    except OSError:
        return []


def _studies_in(folder: Path) -> str:
    files = toml_files(folder)
    return f", such as {printable(str(folder / files[0]))}" if files else ""
