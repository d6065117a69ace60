"""The commands `verify` and `pack`, and `report` of an archive."""

import json
import secrets
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.text import Text

from paribus.cli.audit import preparation
from paribus.cli.tables import printing, table
from paribus.errors import UserError
from paribus.report.build import build_report
from paribus.verify.archive import SUFFIXES, opened, pack
from paribus.verify.retraining import TOLERANCE
from paribus.verify.verification import Verification, verify

WIDTH = 80


def show_verification(path: Path, seed: int | None, steps: int, as_json: bool, allow_code: bool) -> bool:
    """Verify a directory or an archive, print what came out, and say whether all of it holds."""
    chosen = secrets.randbelow(2**31) if seed is None else seed
    with preparation() as progress:
        found = verify(path, chosen, steps, progress, allow_code)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        _print(found, path)
    return found.verified


def _print(found: Verification, path: Path) -> None:
    with printing() as console:
        console.width = WIDTH
        shown = table("", "check", "outcome", "what was compared")
        for check in found.checks:
            colour = {"holds": "green", "fails": "bold red", "not checked": "yellow"}[check.outcome]
            shown.add_row(Text(check.name), Text(check.outcome, style=colour), Text(check.says))
        console.print(shown)
    for fault in found.faults:
        print(f"does not hold: {' '.join(fault.split())}")
    for note in found.notes:
        print(_wrapped(f"note: {note}"))
    for line in _verdict(found):
        print(_wrapped(line))
    print(_wrapped(f"{'verified' if found.verified else 'NOT verified'}: {path}"))


def _verdict(found: Verification) -> list[str]:
    """Which level holds on this machine, and why."""
    if found.trial is None:
        return ["level on this machine: not known, nothing was trained again"]
    drawn = f"trial drawn by --seed {found.seed}: {found.trial}"
    reasons = "; ".join(found.reasons)
    if found.level == "bitwise":
        though = f", although: {reasons}" if reasons else ""
        return [drawn, f"level on this machine: bitwise{though}"]
    if found.level == "statistical":
        within = ", ".join(f"{value:g} in {dtype}" for dtype, value in TOLERANCE.items())
        return [drawn, f"level on this machine: statistical (losses agree within {within}, relatively): {reasons}"]
    return [drawn, "level on this machine: none holds" + (f", although: {reasons}" if reasons else "")]


def _wrapped(line: str) -> str:
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)) or line


def pack_study(directory: Path, file: Path | None) -> None:
    """Write an archive of a finished study, beside its directory if not said where, and print its path."""
    resolved = directory.resolve()
    print(pack(directory, file or directory.parent / f"{resolved.name}{SUFFIXES[0]}"))


def report_of(path: Path, form: str) -> Path:
    """Write the report of a directory into it, or that of an archive beside the archive; returns its path."""
    with opened(path) as directory:
        written = build_report(directory, form)
        if directory == path:
            return written
        stem = path.name
        for suffix in SUFFIXES:
            stem = stem.removesuffix(suffix)
        target = path.with_name(f"{stem}{written.suffix}")
        shutil.copyfile(written, target)
        return target


@contextmanager
def readable(directory: Path) -> Iterator[None]:
    """Raise UserError where the files of a study are not as this version writes them, so that no report can be made."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{directory}: its files are damaged or from another version of paribus ({said}): paribus verify names what differs, "
            "and the same paribus run, which trains nothing that is finished, writes verdicts and report again"
        ) from error
