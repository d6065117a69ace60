"""Read a study: a built-in one or a TOML file, what it extends, and overrides; the result is checked."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paribus import spec
from paribus.errors import StudyError
from paribus.own_code import beside, pinned
from paribus.plan.checks import check_study, raise_first
from paribus.spec.crossed import crossed
from paribus.spec.data import Data
from paribus.spec.fields import nearest
from paribus.spec.parts import with_parts
from paribus.spec.problems import Path as KeyPath
from paribus.spec.problems import dotted, from_pydantic, listed, printable, shown
from paribus.spec.tables import Tables, read_toml, toml_files

_LIBRARY = Path(str(files("paribus.spec"))) / "library"

TEMPLATE = Path(str(files("paribus.spec"))) / "template.toml"


@cache
def builtin_names() -> tuple[str, ...]:
    """Names of the studies that come with paribus."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.toml")))


def load_study(source: str | Path, overrides: Iterable[str] = ()) -> spec.Study:
    """Read and check a study.

    `source` is a built-in name or a TOML file; each override is `field=value`, as after `--set`: the value as TOML, a
    bare word as text. A relative `data.corpus`, `data.tokenizer`, `model.start_from` or file of a
    part of the user's own that exists beside the file that names it is read from there; own parts are pinned to what their files
    hold.
    Raises StudyError with one line that names file, key, value and what would be right.
    """
    if not str(source):
        raise StudyError("STUDY: empty; give a built-in name or a TOML file")
    tables = _read(str(source), None, [])
    for assignment in overrides:
        tables.set(assignment)
    return _checked(tables.values, tables.origin, Path(source).parent)


def study_from(tables: Mapping[str, Any], source: str = "study") -> spec.Study:
    """A checked study from tables as in a TOML file, for use from Python. Raises StudyError as `load_study` does."""
    return _checked(tables, lambda path: source, Path())


def _checked(tables: Mapping[str, Any], origin: Callable[[KeyPath], str], folder: Path) -> spec.Study:
    written = crossed(tables)
    raise_first(written.problems, origin)

    def pin(name: str, path: KeyPath) -> str:
        try:
            return pinned(name, folder)
        except StudyError as error:
            if path[:1] == ("arm",) and path[1] in written.cells:
                path = ("vary", ".".join(map(str, path[2:4])))
            raise StudyError(f"{printable(origin(path))}: {dotted(path)} = {shown(name)}: {error}") from error

    tables = with_parts(written.tables, pin)
    try:
        study = spec.Study.model_validate(tables)
    except ValidationError as error:
        raise_first(from_pydantic(error, tables), origin)
        raise
    check_study(study, origin, written)
    return study


def _read(source: str, base: Path | None, chain: list[Path]) -> Tables:
    """Read a study by name or path; `base` is the folder of the file that extends it, `chain` the files before it."""
    builtin = source in builtin_names()
    path = _LIBRARY / f"{source}.toml" if builtin else (base or Path()) / Path(source).expanduser()
    name = source if builtin or base is None else str(path)
    if not builtin and not _exists(path):
        asked = printable(str(chain[-1])) + f": extends = {shown(source)}" if chain else printable(source)
        raise StudyError(f"{asked}: no such study{_nearby(source, path)}")
    identity = path.resolve()
    if identity in [seen.resolve() for seen in chain]:
        way = " -> ".join(printable(str(seen)) for seen in [*chain, path])
        raise StudyError(f"{printable(str(chain[-1]))}: extends = {shown(source)}: goes in a circle: {way}")
    own = read_toml(path, name)
    parent = own.pop("extends", None)
    if parent is None:
        tables = Tables(name)
    elif isinstance(parent, str) and parent:
        tables = _read(parent, path.parent, [*chain, path])
        tables.name = name
    else:
        raise StudyError(f"{printable(name)}: extends = {shown(parent)}: should be a built-in name or a TOML file")
    if not builtin and path.parent != Path():
        _locate_files(own, path.parent)
        own = with_parts(own, lambda name, at: beside(name, path.parent))
    tables.merge(own, name)
    return tables


def _locate_files(tables: dict[str, Any], folder: Path) -> None:
    """Let a corpus, a tokenizer and checkpoints beside the study's file be found from anywhere."""
    arms = tables.get("arm")
    sections = [tables, *(arms.values() if isinstance(arms, dict) else [])]
    for section, key in (("data", "corpus"), ("data", "tokenizer"), ("model", "start_from")):
        for holder in sections:
            table = holder.get(section) if isinstance(holder, dict) else None
            named = table.get(key) if isinstance(table, dict) else None
            if not isinstance(table, dict) or not isinstance(named, str) or named in ("", Data().corpus):
                continue
            if key == "tokenizer" and not named.endswith(".json"):
                continue
            beside = folder / Path(named).expanduser()
            if _exists(beside):
                table[key] = str(beside)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL in it, a folder that may not be read
        return False


def _nearby(source: str, path: Path) -> str:
    """What a missing study's name probably meant."""
    files = [str(path.parent / file) if path.parent != Path() else file for file in toml_files(path.parent)]
    if _exists(Path(f"{path}.toml")):
        return f"; did you mean {printable(f'{source}.toml')}?"
    near = nearest(Path(source).stem, [*builtin_names(), *(Path(file).stem for file in files)])
    if near is None:
        return f"; built in are {listed(builtin_names())}; anything else is the path of a TOML file"
    match = [file for file in files if Path(file).stem == near]
    return f"; did you mean {printable(match[0] if match and near not in builtin_names() else near)}?"
