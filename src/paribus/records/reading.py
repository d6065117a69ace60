"""The directory of a study (docs/directory.md) as one typed object.

What a killed, running or diverged study left is read as far as it goes. Only the study and its plan must be there.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from paribus.errors import StudyError
from paribus.evaluation.metrics import metric_of
from paribus.files import read_json
from paribus.records.condition import AS_WRITTEN, Condition
from paribus.records.plan import Plan
from paribus.records.scores import Arrays, Score, Weight, arrays_of, by_length, score_of, weights_of

Json = dict[str, Any]


@dataclass(frozen=True)
class CurvePoint:
    """One point on the tuning split."""

    step: int
    tokens: int
    score: Score


@dataclass(frozen=True)
class Trial:
    """One arm, one seed, as far as it came."""

    id: str
    arm: str
    seed: int
    status: str
    """`done`, `diverged`, `unfinished` (it trained, but has no result) or `planned` (it has not started)."""
    reason: str | None = None
    test: Score | None = None
    by_split: dict[int, Score] = field(default_factory=dict)
    """Test score per number of input tokens."""
    by_window_factor: dict[float, Score | str] = field(default_factory=dict)
    """Test score at windows so many times longer than those trained on, or the reason why there is none."""
    curve: tuple[CurvePoint, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    """Tokens seen and training loss (nats per token), one entry per step; steps without a finite loss left out."""
    result: Json = field(default_factory=dict)
    """`result.json` as it is: tokens, parameters, hashes, seconds, speed, memory."""
    runtime: Json = field(default_factory=dict)
    sessions: tuple[Json, ...] = ()
    """Each time it was begun or resumed, as `sessions.json` has them."""

    @property
    def hashes(self) -> Json:
        """Hashes of the start, the data order and the test windows."""
        return self.result.get("hashes") or {}

    @property
    def training_seconds(self) -> float | None:
        """Seconds spent in training steps."""
        return (self.result.get("seconds") or {}).get("training")


@dataclass(frozen=True)
class Arm:
    """A named override of the base, and what the audit said of it."""

    name: str
    overrides: Json
    config: Json
    repeats: str | None
    audit: Json
    """`differs`, `parameters`, `total_parameters`, `train_flops`, `seen_tokens`, `loss_tokens`, hashes; may be empty."""
    off_distribution: str | None = None
    """Why its score lies off what it was trained on, in a sentence; None where it does not."""
    written: str = ""
    """The arm of the study file that it is, or repeats, or is at a size."""
    condition: Condition = AS_WRITTEN
    """At which size it is, and for which repetition it was made."""
    squares: tuple[tuple[tuple[str, ...], ...], ...] | None = None
    """What visibility rules of the study's own let see: layer, head, row by row of `0` and `1`; None where all are built in."""

    @property
    def size(self) -> str | None:
        """In a study of several sizes, which one."""
        return self.condition.size

    def section(self, name: str) -> Json:
        """One section of the resolved configuration; empty where there is none."""
        return self.config.get(name) or {}


@dataclass(frozen=True)
class Verdict:
    """A judged claim; numbers are None where the trials allow none."""

    verdict: str
    estimate: float | None
    low: float | None
    high: float | None
    seeds: int
    documents: int | None
    degrees_of_freedom: float | None
    sd_seed: float | None
    sd_document: float | None
    per_seed: tuple[float, ...]
    seeds_needed: int | None
    detectable: float | None
    secondary: Json
    note: str | None
    decided_at: int | None = None
    """The number of seeds at the look that decided the claim."""
    outliers: tuple[int, ...] = ()
    """Seeds whose improvement lies apart from the others'."""


@dataclass(frozen=True)
class Claim:
    """A statement about a contrast and, once judged, its verdict."""

    says: str
    arm: str
    against: str
    metric: str
    expect: str
    margin: float
    estimand: str
    condition: Condition
    """What it is judged under."""
    verdict: Verdict | None
    number: int
    """Its place among the claims of the study file; repetitions have that of the claim they repeat."""

    @property
    def size(self) -> str | None:
        """The size at which it is judged, as the study names it; None in a study of one size."""
        return self.condition.size

    @property
    def outcome(self) -> str:
        """`supported`, `refuted`, `undecided`, or `pending` where nothing was judged yet."""
        return self.verdict.verdict if self.verdict else "pending"


@dataclass(frozen=True)
class StudyRecord:
    """Everything a report is made of."""

    question: str
    about: str
    study: Json
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    trials: tuple[Trial, ...]
    audit: Json
    data: Json
    environment: Json
    confidence: float
    contrasts: int
    plan: Plan
    stopping: Json
    """The rule by which seeds were added, its looks, and the level of one interval; empty before anything was judged."""
    test_windows: int | None
    test_documents: int | None
    test_weights: dict[int, Weight] = field(default_factory=dict)
    """Per number of input tokens."""
    verdicts: Json = field(default_factory=dict)
    """`verdicts.json` as it is; empty before anything was judged."""
    ledger: Json = field(default_factory=dict)
    """`ledger.json` as it is; empty before anything was judged."""
    manifest: Json = field(default_factory=dict)
    """`manifest.json`; empty where there is none, or where it lists other files than the plan and verdicts that are here."""
    set_aside: Json = field(default_factory=dict)
    """What was left of trials that were half deleted and trained again, and what was missing."""

    @property
    def base_arms(self) -> tuple[Arm, ...]:
        """The arms as written, without their repeats under other settings."""
        return tuple(arm for arm in self.arms if not arm.repeats)

    def arm(self, name: str) -> Arm | None:
        """The arm of that name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def trials_of(self, arm: str) -> tuple[Trial, ...]:
        """The trials of an arm, in run order."""
        return tuple(trial for trial in self.trials if trial.arm == arm)

    def done(self, arm: str) -> tuple[Trial, ...]:
        """The trials of an arm that ended well and have a test score."""
        return tuple(trial for trial in self.trials_of(arm) if trial.status == "done" and trial.test)

    def scores(self, arm: str, metric: str) -> list[float]:
        """The test scores of an arm's finished trials, in run order."""
        return [value for trial in self.done(arm) if trial.test and (value := trial.test.get(metric)) is not None]


def read_study(directory: Path) -> StudyRecord:
    """Read a study's directory, unfinished or not.

    Raises StudyError where the directory holds no study, or a file in it is damaged.
    """
    for name in ("study.json", "plan.json"):
        if not (directory / name).is_file():
            raise StudyError(
                f"{directory}: no study directory, {name} is missing; give the folder that `paribus run --out` wrote"
            )
    study, plan = _object(directory / "study.json"), _object(directory / "plan.json")
    audit, verdicts = _object(directory / "audit.json"), _object(directory / "verdicts.json")
    windows = arrays_of(directory / "test_windows.safetensors", ("document", "split", "tokens", "bytes"))
    squares = _object(directory / "visibility.json")
    try:
        judged = verdicts.get("claims") or []
        claims = tuple(
            _claim(claim, judged[index] if index < len(judged) else None) for index, claim in enumerate(plan["claims"])
        )
        trials = tuple(
            _trial(directory / "trials" / trial["id"], trial["id"], trial["arm"], trial["seed"], windows)
            for trial in plan["trials"]
        )
        audited = audit.get("arms") or {}
        arms = tuple(
            _arm(arm, audited.get(arm["name"]) or {}, squares.get(arm["name"]), trials) for arm in plan["arms"]
        )
        return StudyRecord(
            question=str(study["question"]),
            about=str(study.get("about") or ""),
            study=study,
            arms=arms,
            claims=claims,
            trials=trials,
            audit=audit,
            data=_object(directory / "data.json"),
            environment=_object(directory / "environment.json"),
            confidence=float(verdicts.get("confidence") or study.get("confidence") or 0.95),
            contrasts=int(verdicts.get("contrasts") or len(claims)),
            stopping=verdicts.get("stopping") or {},
            test_windows=int(windows["document"].size) if windows else None,
            test_documents=int(np.unique(windows["document"]).size) if windows else None,
            test_weights=weights_of(windows),
            plan=Plan.from_dict(plan),
            verdicts=verdicts,
            ledger=_object(directory / "ledger.json"),
            manifest=_manifest(directory),
            set_aside=_object(directory / "set_aside.json").get("trials") or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(
            f"{directory}: study.json, plan.json or a result does not follow docs/directory.md "
            f"({_said(error)}); run the study again with this version"
        ) from error


def _said(error: Exception) -> str:
    """What does not fit, in a line: of several things the first, and where it stands."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return f"{type(error).__name__}: {error}"


def _manifest(directory: Path) -> Json:
    """The manifest, if it is of the plan and the verdicts that lie here; while a study goes on it is of an earlier state."""
    manifest = _object(directory / "manifest.json")
    listed = manifest.get("files") or {}
    for name in ("plan.json", "verdicts.json"):
        path = directory / name
        known = (listed.get(name) or {}).get("sha256")
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != known:
            return {}
    return manifest


def _object(path: Path) -> Json:
    """One JSON object; empty where the file is not there yet."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: cannot be read as JSON ({error}); delete it and run the study again, which resumes"
        ) from error
    if not isinstance(value, dict):
        raise StudyError(f"{path}: holds no JSON object; delete it and run the study again, which resumes")
    return value


def _lines(path: Path) -> list[Json]:
    """The whole lines of a JSON-lines file by step; a step written again after a resume counts once, as last written."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        rows = json.loads(f"[{','.join(lines)}]")  # at once, twice as fast as line by line
        by_step = {int(row["step"]): row for row in rows}
    except (ValueError, KeyError, TypeError):
        by_step = dict(_whole_lines(lines))
    return [by_step[step] for step in sorted(by_step)]


def _whole_lines(lines: Iterable[str]) -> Iterator[tuple[int, Json]]:
    """Those lines that hold a step, by step; not one that a running worker has half written."""
    for line in lines:
        try:
            row = json.loads(line)
            yield int(row["step"]), row
        except (ValueError, KeyError, TypeError):
            continue


def _arm(planned: Json, audited: Json, squares: Any, trials: tuple[Trial, ...]) -> Arm:
    said = (trial.result.get("off_distribution") for trial in trials if trial.arm == planned["name"])
    return Arm(
        name=str(planned["name"]),
        overrides=planned.get("overrides") or {},
        config=planned.get("config") or {},
        repeats=planned.get("repeats"),
        audit=audited,
        written=str(planned["written"]),
        condition=Condition.model_validate(planned.get("condition") or {}),
        off_distribution=audited.get("off_distribution") or next(filter(None, said), None),
        squares=tuple(tuple(tuple(map(str, head)) for head in layer) for layer in squares) if squares else None,
    )


def _trial(folder: Path, identity: str, arm: str, seed: int, windows: Arrays) -> Trial:
    metrics, result = _lines(folder / "metrics.jsonl"), _object(folder / "result.json")
    test = result.get("test") or {}
    splits = {int(split): score_of(value) for split, value in (test.get("by_split") or {}).items()}
    if test and not splits and windows:  # where every document has a length of its own
        splits = by_length(arrays_of(folder / "test_losses.safetensors", ("nats",)), windows)
    points = [
        (int(row.get("step", 0)), int(row.get("tokens", 0)), score_of(row)) for row in _lines(folder / "curve.jsonl")
    ]
    return Trial(
        id=identity,
        arm=arm,
        seed=int(seed),
        status=result.get("status") or ("unfinished" if metrics or points else "planned"),
        reason=result.get("reason"),
        test=score_of(test),
        by_split={split: score for split, score in sorted(splits.items()) if score},
        by_window_factor={
            float(factor): score_of(value) or str(value.get("reason") or "there is no score")
            for factor, value in sorted((test.get("by_window_factor") or {}).items(), key=lambda item: float(item[0]))
        },
        curve=tuple(CurvePoint(step, tokens, score) for step, tokens, score in points if score),
        losses=tuple(
            (int(row.get("tokens", 0)), float(row["loss"]))
            for row in metrics
            if row.get("loss") is not None and math.isfinite(float(row["loss"]))
        ),
        result=result,
        runtime=_object(folder / "trial.json").get("runtime") or {},
        sessions=tuple(_object(folder / "sessions.json").get("sessions") or ()),
    )


def _claim(planned: Json, judged: Json | None) -> Claim:
    verdict = None
    if judged and judged.get("verdict"):
        needed, seeds = judged.get("seeds_needed"), judged.get("seeds")
        verdict = Verdict(
            verdict=judged["verdict"],
            estimate=judged.get("estimate"),
            low=judged.get("low"),
            high=judged.get("high"),
            seeds=int(seeds) if seeds is not None else len(judged.get("per_seed") or []),
            documents=judged.get("documents"),
            degrees_of_freedom=judged.get("degrees_of_freedom"),
            sd_seed=judged.get("sd_seed"),
            sd_document=judged.get("sd_document"),
            per_seed=tuple(value for value in judged.get("per_seed") or [] if value is not None),
            seeds_needed=int(needed) if needed is not None else None,
            detectable=judged.get("detectable"),
            secondary=judged.get("secondary") or {},
            note=judged.get("note") or None,
            decided_at=judged.get("decided_at"),
            outliers=tuple(judged.get("outliers") or ()),
        )
    return Claim(
        says=planned["says"],
        arm=planned["arm"],
        against=planned["against"],
        metric=metric_of(planned.get("metric") or "bits_per_byte").name,
        expect=planned["expect"],
        margin=float(planned["margin"]),
        estimand=planned.get("estimand") or "text_like_it",
        condition=Condition.model_validate(planned.get("condition") or {}),
        verdict=verdict,
        number=planned["number"],
    )
