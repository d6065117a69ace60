"""The whole thread: a study is prepared, audited, trained, judged and reported, in one directory."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paribus import doors, files, spec
from paribus.analyses.judging import judged
from paribus.analyses.ledger.counting import write_ledger
from paribus.analyses.matching.combined import still_open
from paribus.analyses.tuning.running import tune_in
from paribus.data.sources import Progress
from paribus.data.store import Corpus
from paribus.engines.events import Event, Listen
from paribus.engines.study_run import (
    Asked,
    check_directory,
    check_unchanged,
    results,
    run_trials,
    write_test_windows,
)
from paribus.errors import AuditError, UserError
from paribus.own_code import is_own, pinned
from paribus.plan.audit import audit, complaints, recorded
from paribus.plan.building import build_plan
from paribus.plan.preparing import prepare_plan
from paribus.records.code import allowed_in, copy_code, planned_names
from paribus.records.manifest import write_manifest
from paribus.records.plan import Plan
from paribus.report.build import build_report
from paribus.report.visibility import own_squares
from paribus.spec.stopping import at_look, looks

HOPELESS_SEEDS = 10
"""With this many seeds an `any_time` study ends where, as things stand, no number of seeds would decide what is left."""


def ignore_event(event: Event) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Prepared:
    """A study ready to run: its plan, its text, and what the audit says before anything is spent."""

    study: spec.Study
    plan: Plan
    corpus: Corpus
    audit: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A finished study."""

    directory: Path
    report: Path
    verdicts: dict[str, Any]
    audit: dict[str, Any]
    plan: Plan

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Each claim with its verdict and interval, as in `verdicts.json`."""
        claims: list[dict[str, Any]] = self.verdicts["claims"]
        return claims


def prepare_study(study: spec.Study, progress: Progress | None = None, out: Path | None = None) -> Prepared:
    """Plan the study, ask its own rules, prepare its text (built once, then cached) and audit it. Trains nothing.

    `out`: a directory in which the study may have begun, with arms that are not measured again.
    """
    begun = out / "plan.json" if out else None
    before = Plan.from_dict(files.read_json(begun)).matchings if begun and begun.exists() else ()
    code = allowed_in(out)
    plan, corpus = prepare_plan(study, code, progress, before)
    return Prepared(study, plan, corpus, audit(plan, corpus, code))


def run_study(
    study: spec.Study,
    out: str | Path,
    workers: int | None = None,
    listen: Listen = ignore_event,
    progress: Progress | None = None,
    command: str | None = None,
    engine: str = "local",
) -> Outcome:
    """Train what is unfinished of `study` in the directory `out`, evaluate, judge, and write the report.

    Where the study declares that seeds are added until its claims are decided (`stopping`), this is done at each of its looks.
    `engine`: where trials run, `local` or a name of your own, `FILE.py:NAME`; it changes no result.
    Calling it again resumes a study that was stopped; a finished one is only judged and reported again; what is left of a
    corrupt trial is moved to `set-aside/`, and it is trained again. Raises AuditError where the arms differ in something
    undeclared or a `hold` breaks, before anything is trained and again after.
    """
    out = Path(out)
    asked = Asked(workers, pinned(engine, Path()), command)
    doors.engine.entry(asked.engine)
    check_directory(out, build_plan(study))
    with files.alone_in(out):
        return _run_in(out, study, asked, listen, progress)


def _run_in(
    out: Path,
    study: spec.Study,
    asked: Asked,
    listen: Listen,
    progress: Progress | None,
) -> Outcome:
    """As `run_study`, in a directory that is ours alone."""
    check_stopping(out, study)
    planned, trained = looks(study), _trained_seeds(out)
    for look in planned[max(0, bisect_right(planned, trained) - 1) :]:
        outcome = _run_to(study, look, out, asked, listen, progress)
        if _enough(outcome, look):
            break
    return outcome


def _trained_seeds(out: Path) -> int:
    """The number of seeds of the plan that `out` holds; 0 where not all of its trials have ended."""
    if not (out / "plan.json").exists():
        return 0
    trials = files.read_json(out / "plan.json")["trials"]
    ended = all((out / "trials" / trial["id"] / "result.json").exists() for trial in trials)
    return len({trial["seed"] for trial in trials}) if ended else 0


def _enough(outcome: Outcome, seeds: int) -> bool:
    """Whether a look is the last one needed: all claims are decided, or seeds without end would not decide them."""
    effects = [claim for claim in outcome.verdicts.get("effects", ()) if claim["verdict"] == "undecided"]
    left = [*still_open(outcome.plan.claims, outcome.claims), *effects]
    hopeless = outcome.verdicts["stopping"]["rule"] == "any_time" and seeds >= HOPELESS_SEEDS
    return not left or (hopeless and all(claim["seeds_needed"] is None for claim in left))


def check_stopping(out: Path, study: spec.Study) -> None:
    """See that verdicts which `out` may hold already were computed under the study's rule for adding seeds.

    Raises UserError where they were not: a rule that is chosen after a look at the verdicts keeps no promise.
    """
    if not (out / "verdicts.json").exists():
        return
    before = files.read_json(out / "verdicts.json").get("stopping") or {"rule": "fixed"}
    same = before["rule"] == study.stopping
    if same and study.stopping == "group_sequential" and tuple(before["looks"]) != looks(study):
        raise UserError(
            f"--out {out}: its looks are at {', '.join(map(str, before['looks']))} seeds, and verdicts have been computed: "
            f"another maximum must not be chosen now; go on with max_seeds = {before['looks'][-1]}, or choose another --out"
        )
    if not same:
        raise UserError(
            f'--out {out}: verdicts have been computed there with stopping = "{before["rule"]}", and a rule for adding seeds '
            f'holds only if it is declared before anybody looks: go on with "{before["rule"]}", or choose another --out'
        )


def _run_to(
    study: spec.Study,
    seeds: int,
    out: Path,
    asked: Asked,
    listen: Listen,
    progress: Progress | None,
) -> Outcome:
    """Train, judge and report the study with its first `seeds` seeds."""
    ready = prepare_study(at_look(study, seeds), progress, out)
    if not ready.audit["passed"]:
        raise AuditError("; ".join(complaints(ready.audit)))
    check_unchanged(out, ready.plan, ready.corpus, ready.audit)
    # The order of the arms is that in which their trials run, and the first may be what the others are matched to.
    files.write_json(out / "study.json", study.model_dump(mode="json"), sort_keys=False)
    if not (out / "plan.json").exists():
        files.write_json(out / "plan.json", replace(ready.plan, trials=[]).to_dict())
    files.write_json(out / "data.json", ready.corpus.summary())
    ready.corpus.tokenizer.save(out / "tokenizer.json")
    code = allowed_in(out)
    copy_code(out, [*planned_names(ready.plan), *([asked.engine] if is_own(asked.engine) else [])], code)

    def run(plan: Plan) -> None:
        run_trials(out, plan, ready.audit, ready.corpus, asked, listen, code)

    plan, audited = ready.plan, ready.audit
    if plan.tuning:
        plan = tune_in(out, plan, run)
        audited = audit(plan, ready.corpus, allowed_in(out))
        check_unchanged(out, plan, ready.corpus, audited)
    files.write_json(out / "plan.json", plan.to_dict())
    files.write_json(out / "audit.json", audited)
    if not audited["passed"]:
        raise AuditError("; ".join(complaints(audited)))
    if own := own_squares(
        {arm.name: (arm.config.model, arm.config.objective.name) for arm in plan.arms}, allowed_in(out)
    ):
        files.write_json(out / "visibility.json", own)
    write_test_windows(out, plan, ready.corpus)
    run(plan)
    outcome = conclude(out, plan, study.confidence, audited)
    if not outcome.audit["passed"]:
        raise AuditError("; ".join(complaints(outcome.audit)))
    return outcome


def conclude(out: Path, plan: Plan, confidence: float, audited: dict[str, Any]) -> Outcome:
    """Judge what the directory holds, hash it and report it; the report names the hash."""
    found = results(out, plan)
    audited = recorded(audited, plan, found)
    files.write_json(out / "audit.json", audited)
    verdicts = judged(out, plan, confidence, found)
    files.write_json(out / "verdicts.json", verdicts)
    write_ledger(out, plan, audited, found)
    write_manifest(out, plan)
    return Outcome(out, build_report(out), verdicts, audited, plan)
