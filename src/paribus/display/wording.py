"""What a study's verdicts mean, in sentences: the same in HTML, Markdown and JSON.

Plain text throughout; whoever renders it escapes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paribus.display import repeats
from paribus.display.numbers import decimals, fixed, interval, listed, mean, signed
from paribus.display.repeats import Contrast, contrasts
from paribus.display.scope import scope_of
from paribus.evaluation.metrics import METRICS, metric_of
from paribus.records.condition import Condition
from paribus.records.reading import Claim, StudyRecord

OUTCOMES = {
    "supported": "Supported",
    "refuted": "Refuted",
    "undecided": "Undecided",
    "pending": "Not judged yet",
}
EXPECTATIONS = {
    "better": "better by more than the margin",
    "worse": "worse by more than the margin",
    "equal": "equal within the margin",
    "not_better": "not better by more than the margin",
    "not_worse": "not worse by more than the margin",
}


@dataclass(frozen=True)
class Answer:
    """The top of the report."""

    headline: str
    """The answer in a sentence."""
    sentences: tuple[str, ...]
    """What was measured, what the answer depends on, and what the other claims say."""
    lessons: tuple[str, ...]
    """Of an undecided answer what the run still teaches, and what is to be noted of its seeds."""
    scope: tuple[tuple[str, str], ...]
    """Label and value of everything the answer is conditional on."""
    outcome: str
    """Verdict of the first claim; `pending` where there is none."""


def short_name(record: StudyRecord, name: str) -> str:
    """An arm's name in the study file, without its size and the setting under which it repeats another arm."""
    arm = record.arm(name)
    return arm.written if arm else name


def rule(claim: Claim) -> str:
    """When the claim counts as supported and as refuted, for its own margin."""
    digits = decimals(claim)
    plus, minus = signed(claim.margin, digits), signed(-claim.margin, digits)
    return {
        "better": f"Supported if the whole interval lies above {plus}, refuted if below it.",
        "not_better": f"Supported if the whole interval lies below {plus}, refuted if above it.",
        "worse": f"Supported if the whole interval lies below {minus}, refuted if above it.",
        "not_worse": f"Supported if the whole interval lies above {minus}, refuted if below it.",
        "equal": f"Supported if the whole interval lies between {minus} and {plus}, refuted if wholly outside.",
    }[claim.expect]


def effect(record: StudyRecord, claim: Claim) -> str:
    """The estimated difference as a sentence without a full stop."""
    verdict, arm, against = claim.verdict, short_name(record, claim.arm), short_name(record, claim.against)
    if verdict is None or verdict.estimate is None:
        return f"{arm} against {against}: no estimate"
    metric = metric_of(claim.metric)
    if verdict.estimate == 0:
        return f"{arm} and {against} have the same mean {metric.quantity}"
    size = metric.amount(fixed(abs(verdict.estimate), decimals(claim)))
    direction = "better" if verdict.estimate > 0 else "worse"
    if verdict.low is None or verdict.high is None or verdict.low <= 0 <= verdict.high:
        return f"{arm} came out {direction} than {against} by {size}, not told apart from no difference"
    return f"{arm} is {direction} than {against} by {size}"


def after_comma(condition: Mapping[str, Any]) -> str:
    """`, size 1M`, of a condition as a file has it; empty as written."""
    found = Condition.model_validate(condition)
    return f", {found}" if found else ""


def cautions(record: StudyRecord, *arms: str) -> list[tuple[str, str]]:
    """Those of these arms that are scored off what they were trained on, each with why, in a sentence."""
    found = {short_name(record, name): arm.off_distribution for name in arms if (arm := record.arm(name))}
    return [(name, sentence(why)) for name, why in found.items() if why]


def sentence(text: str) -> str:
    """Text that begins with a capital letter and ends with a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def confidence_text(record: StudyRecord) -> str:
    """`95 % simultaneous over 5 contrasts`."""
    level = f"{100 * record.confidence:g} %"
    return f"{level} simultaneous over {record.contrasts} contrasts" if record.contrasts > 1 else f"{level} interval"


def estimand_text(claim: Claim) -> str:
    """What the interval is about."""
    if claim.estimand == "this_test_set":
        return "About this very test set: only the seeds vary. Other text of the same kind could answer otherwise."
    return "About text like the test set: both the seeds and the documents could have been others."


def lesson(claim: Claim) -> str:
    """What an undecided or unjudged claim still teaches; empty for a decided one."""
    verdict = claim.verdict
    if verdict is None:
        return "Its trials have not all finished; run the study again and it resumes."
    if verdict.verdict != "undecided":
        return ""
    if verdict.low is None or verdict.high is None:
        return "" if verdict.note else "Too few trials ended well to say anything about chance."
    digits, parts = decimals(claim), []
    edge = {"equal": f"±{fixed(claim.margin, digits)}", "worse": signed(-claim.margin, digits)}
    edge["not_worse"] = edge["worse"]
    parts.append(
        f"The interval reaches across the margin of {edge.get(claim.expect, signed(claim.margin, digits))}, "
        "so chance could explain either answer."
    )
    gain = f"a gain above {fixed(verdict.high, digits)}" if verdict.high > 0 else "any gain"
    harm = f"harm above {fixed(-verdict.low, digits)}" if verdict.low < 0 else "any harm"
    parts.append(f"What the run does rule out is {gain} and {harm}.")
    if verdict.seeds_needed is not None:
        parts.append(
            f"If estimate and spread stay as they are, {verdict.seeds_needed} seeds would decide it; "
            f"{verdict.seeds} {'was' if verdict.seeds == 1 else 'were'} run."
        )
    if verdict.detectable is not None:
        parts.append(
            f"The smallest true difference that these seeds tell from zero four times in five is "
            f"{fixed(verdict.detectable, digits)}."
        )
    return " ".join(parts)


def answer(record: StudyRecord) -> Answer:
    """The answer to the study's question, no stronger than its verdicts and no wider than its scope."""
    pairs = contrasts(record)
    scope = tuple(scope_of(record))
    if not pairs:
        effects = record.verdicts.get("effects") or []
        return Answer(_without_claims(record), (), (), scope, effects[0]["verdict"] if effects else "pending")
    first = pairs[0]
    outcome = first.claim.outcome
    if outcome == "pending":
        ended = sum(trial.status in ("done", "diverged") for trial in record.trials)
        return Answer(
            f"Not answered yet: {ended} of {len(record.trials)} trials have ended.",
            ("Run the study again; it resumes where it stopped.",),
            (),
            scope,
            outcome,
        )
    tail = {
        "supported": "is supported",
        "refuted": "is refuted",
        "undecided": "stays undecided at this budget",
    }[outcome]
    verdict = first.claim.verdict
    assert verdict is not None
    digits = decimals(first.claim)
    measured = effect(record, first.claim)
    if verdict.low is not None:
        measured += f", interval {interval(verdict.low, verdict.high, digits)}"
    if first.claim.size is not None:
        measured = f"At size {first.claim.size} {measured}"
    sentences = [f"{measured[0].upper() + measured[1:] if measured.startswith('no ') else measured}."]
    sentences += [
        f"{name} is scored off its training distribution. {why}"
        for name, why in cautions(record, first.claim.arm, first.claim.against)
    ]
    sentences += [*repeats.sentences(record), *_others(pairs)]
    lessons = tuple(text for text in (lesson(first.claim), verdict.note or "") if text)
    return Answer(
        f"“{first.claim.says.rstrip('.')}” {tail}{_at_sizes(first)}.", tuple(sentences), lessons, scope, outcome
    )


def _at_sizes(pair: Contrast) -> str:
    """At which sizes the headline's verdict holds; empty in a study of one size."""
    written = pair.at_sizes
    if len(written) < 2:
        return ""
    if len({claim.outcome for claim in written}) == 1:
        return f", at every size ({listed(str(claim.size) for claim in written)})"
    return f" at size {pair.claim.size}"


def _without_claims(record: StudyRecord) -> str:
    for claim in record.verdicts.get("effects") or ():
        tail = "stays undecided at this budget" if claim["verdict"] == "undecided" else f"is {claim['verdict']}"
        return f"“{claim['says'].rstrip('.')}” {tail}."
    metric = METRICS["bits_per_byte"]
    scores = {arm.name: mean(record.scores(arm.name, metric.name)) for arm in record.arms}
    finished = {name: score for name, score in scores.items() if score is not None}
    if not finished:
        return "The study makes no claim, and no trial has finished."
    best = min(finished, key=lambda name: finished[name])
    return f"The study makes no claim. Lowest mean {metric.quantity}: {best}, {fixed(finished[best])} {metric.unit}."


def _others(pairs: Sequence[Contrast]) -> list[str]:
    """One sentence that counts the verdicts of all claims but the first."""
    rest = [pair.claim.outcome for pair in pairs[1:]]
    if not rest:
        return []
    words = {"supported": "supported", "refuted": "refuted", "undecided": "undecided", "pending": "not judged yet"}
    if len(rest) == 1:
        return [f"The other claim is {words[rest[0]]}."]
    counts = {outcome: rest.count(outcome) for outcome in words if outcome in rest}
    if len(counts) == 1:
        return [f"The other {len(rest)} claims are {words[rest[0]]}."]
    said = [f"{count} {'is' if count == 1 else 'are'} {words[outcome]}" for outcome, count in counts.items()]
    return [f"Of the other {len(rest)} claims, {listed(said)}."]
