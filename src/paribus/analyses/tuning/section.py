"""Tuning: what each arm scored at each value on the tuning split, what was chosen, and whether a verdict depends on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from paribus.display import repeats
from paribus.display.numbers import MISSING, assigned, decimals, fixed, interval, listed, mean, signed
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.evaluation.metrics import Metric, metric_of
from paribus.records.condition import value_words
from paribus.records.reading import Claim, StudyRecord
from paribus.records.trials import Choice, Group, Tuned, Values
from paribus.spec.fields import leaf_name
from paribus.spec.training import crossing

_KINDS = {"supported": "good", "refuted": "bad", "undecided": "", "pending": ""}


@dataclass(frozen=True)
class Tuning:
    """What a plan says of tuning, as charts and tables need it."""

    tuned: Tuned

    @cached_property
    def metric(self) -> Metric:
        """By which values are chosen."""
        return metric_of(self.tuned.metric)

    def scores(self, arm: str, values: Values) -> list[tuple[int, float | None]]:
        """Seed and score on the tuning split of an arm at these values; None where it diverged."""
        return [
            (trial.seed, self.tuned.scores[trial.id])
            for trial in self.tuned.trials
            if trial.of == arm and trial.values == values and trial.id in self.tuned.scores
        ]

    def mean(self, arm: str, values: Values) -> float | None:
        """The mean over seeds; None where one diverged or none has ended."""
        scores = [score for _, score in self.scores(arm, values)]
        whole = [score for score in scores if score is not None]
        return mean(whole) if whole and len(whole) == len(scores) else None


def tuning_of(record: StudyRecord) -> Tuning | None:
    """The tuning of a study whose values are chosen; None where nothing is tuned, or not yet."""
    tuned = record.plan.tuning
    return Tuning(tuned) if tuned and tuned.choices else None


def part(record: StudyRecord) -> Part | None:
    """Grids, choices, and claims at common values; None where nothing was tuned."""
    tuning = tuning_of(record)
    if tuning is None:
        return None
    pairs = [(pair, at) for pair in repeats.contrasts(record) for at in _sensitive(record, pair)]
    return Part(
        "tuning",
        "Tuning",
        "Values chosen for each arm",
        "Whether an arm wins by what it is or by values that suit it: each has the same grid, and its own best value.",
        (*_choices(record, tuning), *(_sentence(*at) for _, at in pairs)),
        ("tuning", "sensitivity"),
        (
            _choice_table(tuning),
            *(_scores_table(record, tuning, group) for group in tuning.tuned.groups),
            *(_sensitivity_table(*at) for _, at in pairs),
        ),
    )


def _sensitive(record: StudyRecord, pair: repeats.Contrast) -> Iterator[tuple[Claim, list[Claim]]]:
    """A claim as written, at each of its sizes, with its repeats at common values."""
    for claim in pair.at_sizes or (pair.claim,):
        common = [again for again in pair.repeats if again.size == claim.size and again.condition.common]
        if common:
            yield claim, common


def size_of(record: StudyRecord, group: Group) -> str:
    """` at size 1M`, in a study with sizes."""
    arm = record.arm(group.arms[0])
    return f" at size {arm.size}" if arm and arm.size else ""


def _choices(record: StudyRecord, tuning: Tuning) -> Iterator[str]:
    tuned = tuning.tuned
    fields = listed(field.partition(".")[2] for field in tuned.fields)
    seeds = f"{len(tuned.seeds)} seeds that serve" if len(tuned.seeds) > 1 else "1 seed that serves"
    sizes = " of a size" if len(tuned.groups) > 1 else ""
    yield (
        f"Tuned: {fields}, by {tuning.metric.label} on the tuning split, the mean over {seeds} in no verdict. "
        f"No trial that chose a value ever read the test split. All arms{sizes} have the same grid."
    )
    for group in tuned.groups:
        widened = {entry.field: [] for entry in group.widened}  # type: dict[str, list[str]]
        for entry in group.widened:
            widened[entry.field].append(assigned("", entry.value).removeprefix(" = "))
        for field, values in widened.items():
            where = size_of(record, group)
            yield f"The grid of {field} was widened by {listed(values)} for all arms{where}: some arm’s best lay at the edge."
        for stop in group.stopped:
            yield (
                f"{listed(stop.arms)}: the best {stop.field}, {stop.value:g}, is still at the edge of the grid, which was not "
                f"widened further ({stop.reason}): better values may lie beyond."
            )
    for arm in tuned.arms:
        if tuned.choices[arm].score is None:
            yield f"{arm} diverged at every value; the middle of the grid was taken."


def depends(claim: Claim, common: Sequence[Claim]) -> bool:
    """Whether a verdict is another at some common value."""
    return any(again.outcome != claim.outcome for again in common)


def _sentence(claim: Claim, common: Sequence[Claim]) -> str:
    """Whether a verdict depends on the value, in words."""
    size = f" at size {claim.size}" if claim.size else ""
    says = f"“{claim.says.rstrip('.')}” is {claim.outcome}{size} with each arm at its own best"
    if any(again.outcome == "pending" for again in (claim, *common)):
        return f"{says}; not all common values are judged yet."
    others = {
        outcome: [_at(again) for again in common if again.outcome == outcome]
        for outcome in dict.fromkeys(again.outcome for again in common)
        if outcome != claim.outcome
    }
    if not others:
        return f"{says}, and at every common value of the grid: the verdict does not depend on it."
    same = len(common) - sum(map(len, others.values()))
    differ = "; ".join(f"{outcome} at {listed(values)}" for outcome, values in others.items())
    opposite = {claim.outcome, *others} >= {"supported", "refuted"}
    verdict = "the verdict depends on the value" if opposite else "some values leave it open, none says the contrary"
    if claim.outcome == "undecided":
        verdict = "what is decided there is not decided at the best values"
    return f"{says}, and at {same} of {len(common)} common values; {differ}: {verdict}."


def _at(claim: Claim) -> str:
    """`learning_rate = 0.002`."""
    return ", ".join(f"{leaf_name(each.field)} = {value_words(each.value)}" for each in claim.condition.common)


def _choice_table(tuning: Tuning) -> Table:
    tuned, rows = tuning.tuned, []
    for arm in tuned.arms:
        choice = tuned.choices[arm]
        seeds = tuning.scores(arm, choice.values)
        diverged = sum(
            score is None for values in crossing(tuned.group_of(arm).grid) for _, score in tuning.scores(arm, values)
        )
        rows.append(
            (
                Cell(arm, "arm"),
                *(Cell(assigned("", choice.values[field]).removeprefix(" = "), "number") for field in tuned.fields),
                number(fixed(choice.score, 4)),
                number(" ".join(fixed(score, 4) for _, score in seeds)),
                Cell("yes" if choice.edges else "no", "bad" if choice.edges else ""),
                number(str(diverged)),
            )
        )
    heading = tuning.metric.label.capitalize()
    columns = (
        "Arm",
        *(field.partition(".")[2] for field in tuned.fields),
        f"{heading}, tuning split",
        "Of each seed",
        "At the edge",
        "Diverged trials",
    )
    return Table("What was chosen for each arm", columns, tuple(rows))


def _scores_table(record: StudyRecord, tuning: Tuning, group: Group) -> Table:
    """A row for each combination of values, a column for each arm; the best of an arm is tagged."""
    rows = []
    for values in crossing(group.grid):
        cells = [_score_cell(tuning, arm, values, tuning.tuned.choices[arm]) for arm in group.arms]
        rows.append(
            (Cell(", ".join(assigned(field.partition(".")[2], value) for field, value in values.items())), *cells)
        )
    title = f"{tuning.metric.label.capitalize()} on the tuning split{size_of(record, group)}, mean over seeds"
    return Table(
        title,
        ("Value", *group.arms),
        tuple(rows),
        ("The best of each arm is marked; a trial that diverged counts as infinitely bad.",),
    )


def _score_cell(tuning: Tuning, arm: str, values: Values, choice: Choice) -> Cell:
    scores = tuning.scores(arm, values)
    tag = "best" if values == choice.values else ""
    if any(score is None for _, score in scores):
        return Cell("diverged", "bad", tag=tag)
    return Cell(fixed(tuning.mean(arm, values), 4), "number", tag=tag)


def _sensitivity_table(claim: Claim, common: Sequence[Claim]) -> Table:
    rows = []
    for again in (claim, *common):
        verdict, digits = again.verdict, decimals(again)
        rows.append(
            (
                Cell("each at its own best" if again is claim else _at(again), "arm"),
                number(signed(verdict.estimate, digits) if verdict else MISSING),
                number(interval(verdict.low, verdict.high, digits) if verdict else MISSING),
                Cell(again.outcome, _KINDS[again.outcome]),
            )
        )
    size = f", at size {claim.size}" if claim.size else ""
    title = f"“{claim.says.rstrip('.')}”, at common values{size}"
    return Table(title, ("Values", "Improvement", "Interval", "Verdict"), tuple(rows))
