"""Arms solved for: how far a knob must be turned so that an arm costs what the reference costs, to within 0.5 %.

Every quantity but latency is counted exactly and grows with every knob, so the nearest value is found by search. Where even
that is too far away the study is refused, with the values that can be reached.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from paribus import spec
from paribus.costs.latency import Latency
from paribus.costs.quantities import Quantities
from paribus.data.store import Corpus
from paribus.errors import StudyError
from paribus.own_code import DENIED, Code
from paribus.plan.arms import resolve, used_value
from paribus.plan.building import build_plan
from paribus.plan.search import Reached, nearest
from paribus.plan.sizes import Sized, sized_studies
from paribus.records.condition import Condition, Matched
from paribus.records.plan import Plan, Solved
from paribus.spec.fields import flatten
from paribus.spec.holds import distance
from paribus.spec.match import SEEDS_TOGETHER, TOLERANCE, Knob, Matching
from paribus.spec.problems import did_you_mean, listed, shown

FIELDS: dict[Knob, str] = {
    "feed_forward": "model.feed_forward",
    "layers": "model.layers",
    "width": "model.width",
}
_LARGEST: dict[Knob, int] = {"feed_forward": 10**6, "layers": 1000, "width": 10**6}

NOISE = 0.05
"""The widest spread of measured times with which latency can still be matched."""


Measure = Callable[..., Latency]
"""Measures an arm's configuration beside the reference's on this machine (`costs.latency`)."""


def matched_plan(
    study: spec.Study,
    plan: Plan,
    corpus: Corpus,
    measure: Measure,
    before: Iterable[Solved] = (),
    code: Code = DENIED,
) -> Plan:
    """The plan of a study with the arms and claims of its matchings; `plan` is the one without.

    `before`: the `matchings` of a `plan.json` that the study has already. What was measured then is not measured again, so that
    a study goes on with the arms that it began with. Raises StudyError, one line, where an arm cannot be matched, with the
    nearest values that it can have.
    """
    return build_plan(study, solve(study, plan, corpus, measure, before, code)) if study.match else plan


def solve(
    study: spec.Study,
    plan: Plan,
    corpus: Corpus,
    measure: Measure,
    before: Iterable[Solved] = (),
    code: Code = DENIED,
) -> list[Solved]:
    """Each matching of a study by each of its alternative knobs, in the order written."""
    known = [old for old in before if "latency" in _matched(old).quantities]
    if study.sizes.values:
        return [solved for sized in sized_studies(study) for solved in _solved_at(sized, corpus, measure, known, code)]
    quantities = Quantities(corpus, plan.workload, code)
    named = {name for claim in study.claim for name in (claim.arm, claim.against)} or set(study.arm)
    solved = []
    for number, matching in enumerate(study.match):
        reference = matching.reference or next(iter(study.arm))
        if reference not in study.arm:
            near = did_you_mean(reference, study.arm, quoted=True) or f"; the arms are {listed(study.arm)}"
            raise StudyError(f"study: match.{number}.reference = {shown(reference)}: no such arm{near}")
        for knobs in matching.ways:
            solver = _Solver(
                study, plan, quantities, number, matching, knobs, reference, partial(measure, plan, corpus, code=code)
            )
            others = [name for name in study.arm if name in named and name != reference]
            matched = Matched(quantities=matching.matched, knobs=knobs, among_others=len(matching.ways) > 1)
            again = [
                old
                for old in known
                if (_matched(old), old.reference) == (matched, reference) and {*others} <= {*old.changes}
            ]
            if again:
                solved.append(again[0])
                continue
            changes = {name: solver.changes(name) for name in others}
            solved.append(Solved(Condition(matching=matched), reference, changes, solver.latencies))
    return solved


def _matched(solved: Solved) -> Matched:
    assert solved.condition.matching is not None
    return solved.condition.matching


def _solved_at(sized: Sized, corpus: Corpus, measure: Measure, known: Sequence[Solved], code: Code) -> list[Solved]:
    """The matchings of a study at one size, each arm solved for there."""
    label = sized.size.label
    before = [old for old in known if old.condition.size == label]
    try:
        found = solve(sized.study, build_plan(sized.study), corpus, measure, before, code)
    except StudyError as error:
        raise StudyError(f"study: at size {label}: {str(error).removeprefix('study: ')}") from error
    return [replace(solved, condition=solved.condition.at_size(label)) for solved in found]


class _Solver:
    """One matching by one choice of knobs."""

    def __init__(
        self,
        study: spec.Study,
        plan: Plan,
        quantities: Quantities,
        number: int,
        matching: Matching,
        knobs: Sequence[Knob],
        reference: str,
        measure: Callable[[spec.Config, spec.Config], Latency],
    ) -> None:
        self._study, self._plan, self._quantities = study, plan, quantities
        self._number, self._knobs, self._reference = number, list(knobs), reference
        self._names, self._measure = matching.matched, measure
        self.latencies: dict[str, dict[str, float]] = {}
        """Of each arm, where latency is matched: what was measured of it as it was solved for."""
        if "latency" in self._names:
            return
        self._goals = [self._count(plan.arm(reference).config, name, reference) for name in self._names]

    def changes(self, arm: str) -> dict[str, Any]:
        """What `arm` must set; nothing where it is equal as it is."""
        config = self._plan.arm(arm).config
        if "latency" in self._names:
            return self._as_fast(arm, self._knobs[0])
        if all(
            distance(self._count(config, name, arm), goal) <= TOLERANCE
            for name, goal in zip(self._names, self._goals, strict=True)
        ):
            return {}
        if len(self._names) == 1:
            found = self._one(arm, 0, self._knobs[0], {})
            best = min(found, key=lambda each: distance(each.value, self._goals[0]))
            if distance(best.value, self._goals[0]) > TOLERANCE:
                raise self._refused(arm, self._knobs[0], found)
            return {FIELDS[self._knobs[0]]: best.knob}
        return self._two(arm)

    def _as_fast(self, arm: str, knob: Knob) -> dict[str, Any]:
        """Measured, so equal only as far as measurements tell: to within their spread, where that is more than 0.5 %."""
        field, step = FIELDS[knob], self._step(arm, knob)
        reference, found = self._plan.arm(self._reference).config, dict[int, Latency]()
        for name in (arm, self._reference):
            if why := self._quantities.unserved(self._plan.arm(name).config):
                raise StudyError(
                    f"{self._where(name)} cannot serve the workload: {why}; set model.positions, or shorten it"
                )

        def measured(changes: Mapping[str, int]) -> Latency:
            config = self._config(arm, changes).model_copy(update={"data": self._plan.data})
            return self._measure(config, reference)

        def at(turns: int) -> int:
            found[turns] = measured({field: turns * step})
            return round(found[turns].ratio * 10**6)

        as_it_is = measured({})
        if abs(as_it_is.ratio - 1) <= max(TOLERANCE, as_it_is.spread):
            self._check_noise(arm, as_it_is)
            self.latencies[arm] = as_it_is._asdict()
            return {}
        first = next((turns for turns in range(1, 9) if self._fits(arm, {field: turns * step})), None)
        if first is None:
            raise StudyError(f"{self._where(arm)} cannot be built with another {knob}; name another knob")
        ends = nearest(
            at, first, min(_LARGEST[knob], 64 * used_value(self._plan.arm(arm).config, field)) // step, 10**6
        )
        best = min(ends, key=lambda each: abs(each.value - 10**6)).knob
        latency = found[best]
        if abs(latency.ratio - 1) > max(TOLERANCE, latency.spread):
            raise StudyError(
                f"{self._where(arm)} takes {latency.ratio:.3f} times as long as {shown(self._reference)} at {knob} = "
                f"{best * step:,}, the nearest it comes (spread {latency.spread:.1%}); name another knob"
            )
        self._check_noise(arm, latency)
        self.latencies[arm] = latency._asdict()
        return {field: best * step}

    def _check_noise(self, arm: str, latency: Latency) -> None:
        """Where times scatter widely everything would count as equal."""
        if latency.spread > NOISE:
            raise StudyError(
                f"{self._where(arm)}: measured times scatter by ± {latency.spread:.0%} here, more than {NOISE:.0%}; measure on "
                "an idle machine, or with a longer workload"
            )

    def _two(self, arm: str) -> dict[str, Any]:
        """Two quantities: the coarser knob is tried value by value, and for each the finer one solved for."""
        inner, outer = sorted(self._knobs, key=lambda knob: ("feed_forward", "width", "layers").index(knob))
        start = int(used_value(self._plan.arm(arm).config, FIELDS[outer]))
        nearest: tuple[float, list[int], dict[str, Any]] | None = None
        for value in self._near(arm, outer, start):
            fixed = {FIELDS[outer]: value}
            for reached in self._one(arm, 0, inner, fixed):
                changes = {**fixed, FIELDS[inner]: reached.knob}
                counts = [reached.value, self._count(self._config(arm, changes), self._names[1], arm)]
                apart = max(distance(*pair) for pair in zip(counts, self._goals, strict=True))
                if nearest is None or apart < nearest[0]:
                    nearest = apart, counts, changes
            if nearest is not None and nearest[0] <= TOLERANCE:
                return nearest[2]
        if nearest is None:
            raise StudyError(f"{self._where(arm)} cannot be built with another {outer}; name other knobs")
        reaches = " and ".join(f"{count:,} {name}" for count, name in zip(nearest[1], self._names, strict=True))
        wanted = " and ".join(f"{goal:,}" for goal in self._goals)
        sets = ", ".join(f"{field.partition('.')[2]} = {value}" for field, value in nearest[2].items())
        raise StudyError(
            f"{self._where(arm)} comes nearest at {sets}: {reaches}, where {shown(self._reference)} has {wanted}; "
            "name other knobs, or match one of them"
        )

    def _near(self, arm: str, knob: Knob, start: int) -> Iterator[int]:
        """Values that a knob can have, those nearest to `start` first, up to four times as much."""
        step = self._step(arm, knob)
        for value in sorted(range(step, 4 * start + 1, step), key=lambda value: abs(value - start)):
            if self._fits(arm, {FIELDS[knob]: value}):
                yield value

    def _one(self, arm: str, which: int, knob: Knob, fixed: Mapping[str, int]) -> list[Reached]:
        """The one or two values of a knob between which a quantity reaches its goal."""
        step, field, name, goal = self._step(arm, knob), FIELDS[knob], self._names[which], self._goals[which]

        def at(turns: int) -> int:
            return self._count(self._config(arm, {**fixed, field: turns * step}), name, arm)

        first = 1
        while not self._fits(arm, {**fixed, field: first * step}):
            first += 1
            if first > 8:
                raise StudyError(f"{self._where(arm)} cannot be built with another {knob}; name another knob")
        if not fixed and at(first) == at(first + 1) != goal:
            raise StudyError(f"{self._where(arm)}: {knob} does not change {name}; name another knob")
        low, high = nearest(at, first, _LARGEST[knob] // step, goal)
        return [Reached(each.knob * step, each.value) for each in dict.fromkeys((low, high))]

    def _step(self, arm: str, knob: Knob) -> int:
        """What a knob is turned by: the width by a head, where heads follow it."""
        model = self._plan.arm(arm).config.model
        if knob != "width":
            return 1
        return model.head_size if model.heads is None else 2 if model.position == "sinusoidal" else 1

    def _config(self, arm: str, changes: Mapping[str, int]) -> spec.Config:
        return resolve(self._study, {**flatten(self._study.arm[arm]), **changes})

    def _fits(self, arm: str, changes: Mapping[str, int]) -> bool:
        try:
            self._config(arm, changes)
        except ValidationError:
            return False
        return True

    def _count(self, config: spec.Config, name: str, arm: str) -> int:
        config = config.model_copy(update={"data": self._plan.data})
        count = self._quantities.of(config, name, self._plan.seeds[:SEEDS_TOGETHER])
        if count is None:
            why = self._quantities.unserved(config)
            raise StudyError(f"{self._where(arm)} cannot serve the workload: {why}; set model.positions, or shorten it")
        return count

    def _refused(self, arm: str, knob: Knob, found: Sequence[Reached]) -> StudyError:
        reaches = " or ".join(f"{each.value:,} ({knob} = {each.knob:,})" for each in found)
        return StudyError(
            f"{self._where(arm)} reaches {reaches} {self._names[0]}, and {shown(self._reference)} has "
            f"{self._goals[0]:,}: not within {100 * TOLERANCE:g} %; name another knob"
        )

    def _where(self, arm: str) -> str:
        return f"study: match.{self._number} = {shown(' and '.join(self._names))}: arm {shown(arm)}"
