"""The manifest of a finished study (`manifest.json`): a SHA-256 of every file that its verdicts rest on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from paribus import files
from paribus.errors import UserError
from paribus.records.code import copied
from paribus.records.environment import code_identity
from paribus.records.plan import Plan
from paribus.training.checkpoint import STATE

NAME = "manifest.json"
FORMAT = 1


class ManifestError(UserError):
    """The manifest is not as it was written."""


_SUFFIXES = (".json", ".jsonl", ".safetensors")


def write_manifest(out: Path, plan: Plan) -> None:
    """Hash what a finished study left in `out` and write it down.

    `files` maps a path to its SHA-256 and size in bytes; `weights` does so for what an archive leaves out; `code` is the
    code that judged; `hash` is a SHA-256 of all these. Reports are left out: they are made from the rest.
    """
    kept, weights = hashed_files(out, plan)
    content = {
        "format": FORMAT,
        "code": code_identity(),
        "files": {path.relative_to(out).as_posix(): fingerprint(path) for path in kept},
        "weights": {path.relative_to(out).as_posix(): fingerprint(path) for path in weights},
    }
    files.write_json(out / NAME, {**content, "hash": _own_hash(content)})


def hashed_files(out: Path, plan: Plan) -> tuple[list[Path], list[Path]]:
    """The files in `out` that a manifest lists, and the weights."""
    of_trials = list(_of_trials(out, plan))
    weights = [path for path in of_trials if path.name == STATE]
    return [*_of_study(out), *copied(out), *(path for path in of_trials if path.name != STATE)], weights


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest in `out`. Raises UserError where there is none, ManifestError where it is not as it was written."""
    path = out / NAME
    try:
        manifest: dict[str, Any] = files.read_json(path)
        content = {name: value for name, value in manifest.items() if name != "hash"}
        whole = manifest["hash"] == _own_hash(content) and set(content) == {"format", "code", "files", "weights"}
    except FileNotFoundError as error:
        fix = "run the study again, which trains nothing that is finished and writes it"
        raise UserError(f"{out}: there is no {NAME}; {fix}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: cannot be read ({type(error).__name__})") from error
    if not whole or not all(_stays_inside(name) for name in (*content["files"], *content["weights"])):
        raise ManifestError(f"{path}: was changed after it was written (its own hash differs)")
    if content["format"] != FORMAT:
        raise ManifestError(f"{path}: has format {content['format']}, and this version of paribus reads {FORMAT}")
    return manifest


def altered(out: Path, listed: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each listed file that is not as it was, with `missing` or `changed`."""
    for name, expected in listed.items():
        path = out / name
        if not path.is_file():
            yield name, "missing"
        elif path.stat().st_size != expected["bytes"] or fingerprint(path) != expected:
            yield name, "changed"


def fingerprint(path: Path) -> dict[str, Any]:
    """SHA-256 and size in bytes of a file."""
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _of_study(out: Path) -> Iterator[Path]:
    for path in sorted(out.iterdir()):
        made_from_the_rest = path.name == NAME or path.stem == "report"
        if path.is_file() and path.suffix in _SUFFIXES and not path.name.startswith(".") and not made_from_the_rest:
            yield path


def _of_trials(out: Path, plan: Plan) -> Iterator[Path]:
    for trial in sorted(plan.all_trials, key=lambda trial: trial.id):
        for path in sorted((out / "trials" / trial.id).rglob("*")):
            if path.is_file() and path.suffix in _SUFFIXES and not path.name.startswith("."):
                yield path


def _own_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
