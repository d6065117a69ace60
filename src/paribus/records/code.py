"""The study's own code in its directory: what its plan names, copied to `code/HASH/`, from where it is loaded."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from paribus import spec
from paribus.errors import StudyError
from paribus.own_code import OWN, Code, bundle_hash, bundle_of, copy_bundle, is_own, short_name
from paribus.records.plan import Plan
from paribus.spec.fields import SECTIONS
from paribus.spec.parts import PART_FIELDS

FOLDER = "code"


def foreign_names(config: spec.Config, sections: Iterable[str] = SECTIONS) -> Iterator[str]:
    """The parts in these sections of a configuration that are not built in: own code, and parts of installed packages."""
    for field, door in PART_FIELDS.items():
        section, _, name = field.partition(".")
        if section in sections:
            value = getattr(getattr(config, section), name)
            yield from (each for each in (value if isinstance(value, list) else [value]) if each not in door.built_in)


def planned_names(plan: Plan) -> list[str]:
    """The names of own code in the arms of a plan, each once."""
    return list(dict.fromkeys(name for arm in plan.arms for name in foreign_names(arm.config) if is_own(name)))


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
