"""Fair tuning: every arm gets the same grid, its best value is chosen by seeds of no verdict, and claims are judged there.

Two stages. The first trains each arm of a plan at each value of the grid and scores it on the tuning split; while any arm's
best lies on an edge, the grid is widened for all. The second is the plan of the verdicts: each arm at its own best value and,
to see whether that matters, all arms at each common value. Everything here is a function of a plan and of scores.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import ValidationError

from paribus import spec
from paribus.errors import StudyError
from paribus.plan.building import trial_id
from paribus.records.condition import Condition, Setting, arm_name
from paribus.records.plan import Arm, Plan, PlannedClaim
from paribus.records.trials import Choice, Grid, Group, Stopped, Trial, Tuned, TuningTrial, Values, Widened
from paribus.spec.problems import from_pydantic, shown
from paribus.spec.training import crossing

MOST_WIDENINGS = 6
"""So many values are added to a field of a grid at most."""

Scores = Mapping[str, Mapping[str, float] | None]
"""The scores of tuning trials on the tuning split, by id; None where one diverged."""
Measure = Callable[[Plan], Scores]
"""Gives the scores of the trials of a stage, whatever it takes."""

_HIGHER_IS_BETTER = ("token_accuracy", "exact_match")
_NEAR_ONE = ("training.beta1", "training.beta2")
"""Fields whose distance from 1 is what counts."""


def tune(plan: Plan, measure: Measure) -> Tuned:
    """Choose a value for each arm of `plan`; of its `tuning` only what is asked counts. `measure` scores a stage's trials."""
    tuned = _begun(plan)
    while True:
        stage = tuning_plan(plan, tuned)
        scores, trials = measure(stage), stage.tuning.trials if stage.tuning else []
        choices = {
            name: _choice(group.grid, [trial for trial in trials if trial.of == name], scores, tuned.metric)
            for group in tuned.groups
            for name in group.arms
        }
        wider = [_wider(group, choices, [plan.arm(name).config for name in group.arms]) for group in tuned.groups]
        if [group.grid for group in wider] == [group.grid for group in tuned.groups]:
            found = {trial.id: _of_metric(scores[trial.id], tuned.metric) for trial in trials}
            return replace(tuned, groups=wider, choices=choices, trials=trials, scores=found)
        tuned = replace(tuned, groups=wider)


def _begun(plan: Plan) -> Tuned:
    if plan.tuning is None:
        raise ValueError("nothing in this plan is tuned")
    groups = [Group(group.arms, group.written, group.written) for group in plan.tuning.groups]
    return Tuned(plan.tuning.metric, plan.tuning.seeds, plan.tuning.common_values, groups)


def tuning_plan(plan: Plan, tuned: Tuned) -> Plan:
    """The first stage: each arm at each value of its grid, at the tuning seeds, without a claim.

    After each round of trials every arm has been tried once more at every value. Raises StudyError where a copy has the name
    of an arm.
    """
    copies = [
        (name, values, _without_budgets(_at(plan, name, values, repeats=name)))
        for group in tuned.groups
        for values in crossing(group.grid)
        for name in group.arms
    ]
    trials = [
        TuningTrial(trial_id(copy, seed), copy.name, seed, name, values)
        for seed in tuned.seeds
        for name, values, copy in copies
    ]
    asked = replace(tuned, trials=trials)
    return replace(plan, arms=[copy for _, _, copy in copies], claims=[], trials=list(trials), tuning=asked)


def tuned_plan(plan: Plan, tuned: Tuned) -> Plan:
    """The second stage: each arm at its best values, and each claim as written also with both arms at each common value."""
    best = {arm.name: _at(plan, arm.name, tuned.choices[arm.name].values) for arm in plan.arms}
    arms, claims, copies = dict(best), list(plan.claims), dict[str, Values]()
    for claim in plan.claims if tuned.common_values else ():
        if not claim.condition.as_written:
            continue
        for values in crossing(tuned.group_of(claim.arm).grid):
            pair = []
            for name in (claim.arm, claim.against):
                arm = best[name]
                if values != tuned.choices[name].values:
                    arm = _at(plan, name, values, repeats=name)
                    copies[arm.name] = values
                    arms[arm.name] = arm
                pair.append(arm.name)
            condition = Condition(size=claim.condition.size, common=_settings(values))
            changes: dict[str, Any] = {
                "arm": pair[0],
                "against": pair[1],
                "repeat_under": {},
                "condition": condition,
            }
            claims.append(PlannedClaim.model_validate({**claim.model_dump(), **changes}))
    trials = [Trial(trial_id(arm, seed), arm.name, seed) for seed in plan.seeds for arm in arms.values()]
    return replace(plan, arms=list(arms.values()), claims=claims, trials=trials, tuning=replace(tuned, copies=copies))


def tuning_arm(plan: Plan, trial: TuningTrial) -> Arm:
    """The copy of an arm that a tuning trial trains, from a plan of either stage."""
    arm = plan.arm(trial.of)
    copy = replace(arm, name=trial.arm, config=with_values(arm.config, trial.values), repeats=trial.of)
    return _without_budgets(copy)


def arm_of(plan: Plan, trial: Trial) -> Arm:
    """The arm that a trial of a plan trains, whether it tunes or is judged."""
    return tuning_arm(plan, trial) if isinstance(trial, TuningTrial) else plan.arm(trial.arm)


def _at(plan: Plan, name: str, values: Values, repeats: str | None = None) -> Arm:
    """An arm at these values; where it `repeats` an arm it is a copy with a name of its own."""
    arm = plan.arm(name)
    changed = replace(arm, overrides={**arm.overrides, **values}, config=with_values(arm.config, values))
    if repeats is None:
        return changed
    changed = replace(
        changed, condition=changed.condition.at_values(_settings(values)), changes={**arm.changes, **values}
    )
    copy = arm_name(arm.written, changed.condition, changed.changes)
    if any(other.name == copy and not other.repeats for other in plan.arms):
        raise StudyError(
            f"study: arm.{shown(copy)}: the name of a copy of {shown(name)} that is tuned; rename this arm"
        )
    return replace(changed, name=copy, repeats=repeats)


def _settings(values: Values) -> tuple[Setting, ...]:
    return tuple(Setting(field=field, value=value) for field, value in values.items())


def with_values(config: spec.Config, values: Values) -> spec.Config:
    """A configuration with other values in `[training]`. Raises pydantic's ValidationError where it cannot have them."""
    own = {field.partition(".")[2]: value for field, value in values.items()}
    training = {**config.training.model_dump(), **own}
    others = {name: getattr(config, name) for name in type(config).model_fields}
    return spec.Config.model_validate({**others, "training": training})


def _without_budgets(arm: Arm) -> Arm:
    """Values are chosen at the full budget; smaller ones would cost more and choose nothing."""
    training = arm.config.training.model_copy(update={"budgets": None})
    return replace(arm, config=arm.config.model_copy(update={"training": training}))


def _choice(grid: Grid, trials: Sequence[TuningTrial], scores: Scores, metric: str) -> Choice:
    """The values with the best mean score; a trial that diverged is infinitely bad. Of equals the lower loss, then the middle."""

    def rank(values: Values) -> tuple[float, ...]:
        found = [scores[trial.id] for trial in trials if trial.values == values]
        whole = [score for score in found if score is not None]
        means = [_mean([score[name] for score in whole]) for name in (metric, "nats_per_token")]
        sign = -1 if metric in _HIGHER_IS_BETTER else 1
        bad = len(whole) < len(found)
        off = max(abs(2 * grid[field].index(value) - len(grid[field]) + 1) for field, value in values.items())
        return float("inf") if bad else sign * means[0], float("inf") if bad else means[1], len(found) - len(whole), off

    best = min(crossing(grid), key=rank)
    mean = rank(best)[0]
    if mean == float("inf"):
        return Choice(best, None, [])
    edges = [field for field, value in best.items() if value in (grid[field][0], grid[field][-1])]
    return Choice(best, abs(mean), edges)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("inf")


def _of_metric(score: Mapping[str, float] | None, metric: str) -> float | None:
    return None if score is None else score[metric]


def _wider(group: Group, choices: Mapping[str, Choice], configs: Sequence[spec.Config]) -> Group:
    """A group with one more value at each edge on which some arm's best lies, as far as the field allows."""
    grid = {field: list(values) for field, values in group.grid.items()}
    widened, stopped = list(group.widened), list[Stopped]()
    for field, values in group.grid.items():
        for end in ("lowest", "highest"):
            edge = values[0] if end == "lowest" else values[-1]
            arms = [name for name in group.arms if field in choices[name].edges and choices[name].values[field] == edge]
            if not arms:
                continue
            value = beyond(field, values, "highest" if end == "highest" else "lowest")
            if sum(entry.field == field for entry in group.widened) >= MOST_WIDENINGS:
                reason = f"widened by {MOST_WIDENINGS} values already"
            else:
                reason = _why_not(field, value, grid, configs) or ""
            if reason:
                stopped.append(Stopped(field, edge, reason, arms))
            else:
                grid[field] = [value, *grid[field]] if end == "lowest" else [*grid[field], value]
                widened.append(Widened(field, value, arms))
    return replace(group, grid=grid, widened=widened, stopped=stopped)


def beyond(field: str, values: Sequence[Any], end: Literal["lowest", "highest"]) -> Any:
    """The value beyond an end of a field's grid: a geometric sequence goes on, or where a value is 0 an arithmetic one.

    Rates are rounded to three significant digits, numbers of windows to whole ones; of AdamW's moments it is the
    distance from 1 that goes on.
    """
    edge, inner = (values[-1], values[-2]) if end == "highest" else (values[0], values[1])
    if field in _NEAR_ONE:
        return round(1 - _rounded((1 - edge) ** 2 / (1 - inner)), 12)
    further = edge * edge / inner if all(value > 0 for value in values) else 2 * edge - inner
    if isinstance(edge, int):
        whole = round(further)
        return whole if whole != edge else edge + (1 if end == "highest" else -1)
    rounded = _rounded(further)
    return further if rounded == edge else rounded


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _why_not(field: str, value: Any, grid: Grid, configs: Sequence[spec.Config]) -> str | None:
    """Why some arm cannot have a further value; None where all can."""
    for config in configs:
        for values in crossing({**grid, field: [value]}):
            try:
                with_values(config, values)
            except ValidationError as error:
                return f"{shown(value)}: {from_pydantic(error, {})[0].text}"
    return None
