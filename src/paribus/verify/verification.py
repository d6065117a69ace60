"""Everything about a finished study that can be checked from outside, checked."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paribus.data.sources import Progress
from paribus.data.store import Corpus
from paribus.errors import UserError
from paribus.own_code import DENIED
from paribus.records.code import allowed_in, planned_names
from paribus.records.environment import environment_of
from paribus.records.manifest import ManifestError, read_manifest
from paribus.verify import records, text, tuning
from paribus.verify.archive import opened
from paribus.verify.checks import Check, check, guarded, left_out
from paribus.verify.evidence import Evidence, Json
from paribus.verify.machine import described, told
from paribus.verify.matching import matchings
from paribus.verify.retraining import Retrained, retrain


@dataclass(frozen=True)
class Verification:
    """What came out, check by check."""

    checks: tuple[Check, ...]
    level: str | None
    """`bitwise` or `statistical`, as the trial that was trained again shows; None where none was, or where neither holds."""
    reasons: tuple[str, ...]
    """What differs here from where that trial ran, so that bits may differ."""
    notes: tuple[str, ...]
    """What a reader should know that is no fault."""
    trial: str | None
    """The trial that was trained again."""
    seed: int
    """Of the choice of that trial."""

    @property
    def faults(self) -> list[str]:
        """A line for each thing that does not hold."""
        return [fault for check in self.checks for fault in check.faults]

    @property
    def verified(self) -> bool:
        """Whether nothing fails."""
        return all(check.outcome != "fails" for check in self.checks)

    def to_dict(self) -> Json:
        """For `--json`."""
        checks = [
            {"check": check.name, "outcome": check.outcome, "says": check.says, "faults": list(check.faults)}
            for check in self.checks
        ]
        kept = {"level": self.level, "trial": self.trial, "seed": self.seed}
        return {
            "verified": self.verified,
            "checks": checks,
            **kept,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
        }


def verify(
    path: Path, seed: int, steps: int = 20, progress: Progress | None = None, allow_code: bool = False
) -> Verification:
    """Verify a study's directory, or an archive of it, writing nothing there.

    `seed` draws the trial whose first `steps` are trained again (0: none is). Own code that the study names is only hashed,
    unless `allow_code` lets it be executed, from the copies in the directory. Raises UserError where no finished study is.
    """
    with opened(path) as directory:
        evidence = Evidence(directory, path.is_file(), allowed_in(directory) if allow_code else DENIED)
        _see_that_it_is_finished(evidence, path)
        unreadable = _unreadable(evidence)
        if unreadable:
            damaged = list(records.damaged(evidence, unreadable))
            return Verification((check("files", "what was planned cannot be read", damaged),), None, (), (), None, seed)
        here = environment_of("cuda" if torch.cuda.is_available() else "cpu")
        checks = list(_of_records(evidence, here))
        corpus, why = _corpus(evidence, progress)
        checks += _of_text(evidence, corpus, why)
        chosen, retrained = None, None
        if steps == 0:
            why = "no steps were asked for"
        elif corpus is not None:
            chosen, why = _chosen(evidence, seed)
            if chosen is not None:
                retrained = _retrained(evidence, corpus, chosen, steps, here)
                checks.append(retrained.check)
        if retrained is None:
            checks.append(Check("first steps", "not checked", why))
        if page := _report(evidence, here):
            checks.append(page)
        level, reasons = (retrained.level, retrained.why) if retrained else (None, ())
        return Verification(tuple(checks), level, reasons, tuple(_notes(evidence, here)), chosen, seed)


def _unreadable(evidence: Evidence) -> str | None:
    """The file without which nothing else can be looked at, if it is damaged."""
    for name in ("study", "plan"):
        try:
            getattr(evidence, name)
        except Exception:  # as in `guarded`
            return f"{name}.json"
    return None


def _see_that_it_is_finished(evidence: Evidence, path: Path) -> None:
    """Tell an unfinished study, which is no fault, from one of which something is missing."""
    out = evidence.directory
    for name in ("study.json", "plan.json"):
        if not (out / name).is_file():
            fix = "no archive of paribus pack" if evidence.packed else "give the folder that paribus run --out wrote"
            raise UserError(f"{path}: no study, {name} is missing; {fix}")
    listed: Any = None
    try:
        listed = read_manifest(out)["files"]
    except ManifestError:
        return  # told by the first check
    except UserError:
        pass
    try:
        unfinished = [
            name
            for name, state in evidence.states.items()
            if state.kind in ("planned", "resumable") and f"trials/{name}/result.json" not in (listed or {})
        ]
        corrupt = {name: state.why for name, state in evidence.states.items() if state.kind == "corrupt"}
    except (ValueError, KeyError, TypeError, AttributeError):
        if listed is None:
            raise UserError(f"{path}: plan.json cannot be read, and there is no manifest") from None
        return  # told by the second check
    if unfinished:
        count = f"{len(unfinished)} of {len(evidence.states)} trials have no result yet"
        raise UserError(f"{path}: unfinished, {count}: the same paribus run goes on from there")
    if listed is None:
        for name, why in corrupt.items():
            raise UserError(f"{path}: trial {name} is corrupt ({why}): the same paribus run trains it again")
        read_manifest(out)


def _of_records(evidence: Evidence, here: Json) -> Iterator[Check]:
    looks: dict[str, Callable[[], Check]] = {
        "files": lambda: records.files(evidence),
        "plan": lambda: records.plan(evidence),
        "records": lambda: records.records(evidence),
        "starts": lambda: text.starts(evidence, here),
        "test scores": lambda: records.scores(evidence),
        "verdicts": lambda: records.verdicts(evidence),
        "ledger": lambda: tuning.ledger(evidence),
    }
    if names := planned_names(evidence.plan):
        looks["own code"] = lambda: records.own_code(evidence, names)
    if evidence.plan.tuning:
        looks["tuning"] = lambda: tuning.choices(evidence)
    for name, look in looks.items():
        yield guarded(name, look)


def _of_text(evidence: Evidence, corpus: Corpus | None, why: str) -> Iterator[Check]:
    looks = {"data order": text.data_order, "test windows": text.test_windows, "audit": text.counts}
    if evidence.study.match:
        looks = {"matchings": matchings, **looks}
    for name, look in looks.items():
        if corpus is None:
            yield Check(name, "not checked", why)
        else:
            yield guarded(name, lambda look=look: look(evidence, corpus))  # type: ignore[misc]


def _corpus(evidence: Evidence, progress: Progress | None) -> tuple[Corpus | None, str]:
    """The text, or why it cannot be had."""
    try:
        return evidence.open_corpus(progress), ""
    except UserError as error:
        return None, f"the text is not here: {error}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"the text is not here ({type(error).__name__})"


def _chosen(evidence: Evidence, seed: int) -> tuple[str | None, str]:
    """The trial to train again, or why there is none."""
    try:
        trained = [trial for trial in evidence.whole if evidence.results[trial.id]["steps"] > 0]
        candidates = sorted(trial.id for trial in trained if trial.arm not in evidence.untrainable)
        denied = evidence.untrainable
    except (OSError, ValueError, KeyError, TypeError):
        return None, "no trial can be trained again"
    if candidates:
        return random.Random(seed).choice(candidates), ""
    return None, left_out(denied) if denied else "no trial can be trained again"


def _retrained(evidence: Evidence, corpus: Corpus, name: str, steps: int, here: Json) -> Retrained:
    found: list[Retrained] = []

    def look() -> Check:
        found.append(retrain(evidence, corpus, name, steps, here))
        return found[0].check

    failed = guarded("first steps", look)
    return found[0] if found else Retrained(failed, None, ())


def _report(evidence: Evidence, here: Json) -> Check | None:
    try:
        return records.report(evidence, here)
    except Exception as error:  # as in `guarded`
        return Check("report", "fails", "", (f"no report can be made of it ({type(error).__name__})",))


def _judged_by_other_code(evidence: Evidence, here: Json) -> Iterator[str]:
    try:
        judge = read_manifest(evidence.directory)["code"]
    except UserError:
        return  # told by the first check
    if judge.get("sources") != here["code"]["sources"]:
        yield (
            f"judged by other paribus code ({described(judge)}) than verifies it ({described(here['code'])}): what fails may be "
            "what changed between them; verify with that code, or run the study again, which trains nothing that is finished"
        )


def _notes(evidence: Evidence, here: Json) -> Iterator[str]:
    yield from _judged_by_other_code(evidence, here)
    yield from told({trial.id: evidence.sessions[trial.id] for trial in evidence.whole})
    planned = {trial.id for trial in evidence.plan.all_trials}
    lying = sorted(path.name for path in (evidence.directory / "trials").glob("*") if path.name not in planned)
    if lying:
        yield f"{len(lying)} trials lie here that the plan does not have, and do not count: {', '.join(lying[:3])}"
    if evidence.untrainable:
        yield f"trials of {left_out(evidence.untrainable)}, so none of them is trained again"
    diverged = [trial.id for trial in evidence.whole if trial not in evidence.well_ended]
    if diverged:
        yield f"{len(diverged)} trials diverged, and have no score: {', '.join(diverged[:3])}"
