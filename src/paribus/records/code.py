"""The study's own code in its directory: what its plan names, copied to `code/HASH/`, from where it is loaded."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

from paribus.errors import StudyError
from paribus.own_code import OWN, Code, bundle_hash, bundle_of, copy_bundle, is_own, short_name
from paribus.records.plan import Plan

FOLDER = "code"


def own_names(value: Any) -> Iterator[str]:
    """The names of own code in a configuration, or in a part of one, wherever they stand."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from own_names(inner)
    elif isinstance(value, str) and is_own(value):
        yield value


def planned_names(plan: Plan) -> list[str]:
    """The names of own code in the arms of a plan, each once."""
    return list(dict.fromkeys(name for arm in plan.arms for name in own_names(arm.config)))


def allowed_in(out: Path | None) -> Code:
    """The permission to execute a study's own code, as training needs it; `out`: its directory, with copies."""
    return Code(allowed=True, folders=(out / FOLDER,) if out else ())


def copy_code(out: Path, names: Iterable[str], code: Code) -> None:
    """Copy the bundles of these names into a study's directory. Raises StudyError where one is nowhere, or has changed."""
    for name in names:
        copy_bundle(code.bundle(name), out / FOLDER)


def copied(out: Path) -> list[Path]:
    """The files of own code that lie in a study's directory."""
    return sorted(path for path in (out / FOLDER).rglob("*") if path.is_file() and not path.name.startswith("."))


def copy_faults(out: Path, names: Iterable[str]) -> Iterator[str]:
    """What is wrong with the copies of these names in a directory, a line each. Executes nothing."""
    for name in names:
        own = OWN.fullmatch(name)
        if own is None or own["hash"] is None:
            yield f"{short_name(name)} is not pinned to what its file holds"
            continue
        place = f"{FOLDER}/{own['hash']}/{PurePath(own['file']).name}"
        try:
            found = bundle_hash(bundle_of(out / place))
        except StudyError:
            yield f"{place} is missing, or cannot be read"
            continue
        if found != own["hash"]:
            yield f"{place} has the hash {found}, and is named by another"
