"""What `audit` says of tuning before anything is spent, and `run` of what was chosen."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from paribus.cli.tables import short
from paribus.plan.tuning import MOST_WIDENINGS, tuned_plan, tuning_plan
from paribus.records.plan import Plan, PlannedClaim
from paribus.records.trials import Choice, Tuned, Values
from paribus.spec.problems import shown
from paribus.spec.training import crossing


def with_first_stage(plan: Plan) -> Plan:
    """A plan whose tuning trials are those of the grid as written, so that an audit counts them."""
    return replace(plan, tuning=tuning_plan(plan, plan.tuning).tuning) if plan.tuning else plan


def all_claims(plan: Plan) -> list[PlannedClaim]:
    """The claims of a plan, and those at common values that it will have: as many as the grid as written gives."""
    if plan.tuning is None:
        return plan.claims
    ends: dict[str, Choice] = {}
    for group in plan.tuning.groups:
        values = crossing(group.written)
        # Arms with different bests: where they have the same one, two claims share an interval.
        ends |= {name: Choice(values[place % 2], None, []) for place, name in enumerate(group.arms)}
    return tuned_plan(plan, replace(plan.tuning, choices=ends)).claims


def foretold_tuning(result: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """What tuning will cost, a sentence each; `result` is the audit of a plan `with_first_stage`."""
    tuned = plan.tuning
    if tuned is None:
        return
    yield f"Tuned for each arm on the tuning split, by {tuned.metric}; compared here at a value in the middle:"
    for group in tuned.groups:
        of = f" ({group.arms[0]} and others)" if len(tuned.groups) > 1 else ""
        yield from (f"  {field}: {', '.join(map(shown, values))}{of}" for field, values in group.written.items())
    counts = [result["tuning"]["arms"][trial.arm]["seeds"][str(trial.seed)] for trial in tuned.trials]
    tokens, flops = (sum(count[name] for count in counts) for name in ("seen_tokens", "train_flops"))
    arms = sum(len(group.arms) for group in tuned.groups)
    values = len(crossing(tuned.groups[0].written))
    yield (
        f"Tuning: {arms} arms x {values} values x {len(tuned.seeds)} seeds of their own = {len(tuned.trials)} trials, "
        f"{short(tokens)} tokens, {short(flops)} training FLOPs, on top. While any arm's best lies at an edge, all get "
        f"another value, up to {MOST_WIDENINGS} for a field."
    )
    if tuned.common_values:
        named = {name for claim in plan.claims if claim.condition.as_written for name in (claim.arm, claim.against)}
        most = sum(len(crossing(tuned.group_of(name).written)) for name in named) * len(plan.seeds)
        yield (
            f"Verdicts at each common value: up to {most} further trials, more where the grid is widened; "
            "common_values = false saves them."
        )


def chosen(tuned: Tuned | None) -> Iterator[str]:
    """A line for each arm that was tuned: its values, and where its best lies at an edge."""
    if tuned is None:
        return
    yield f"tuned on the tuning split, by {tuned.metric}:"
    for name in tuned.arms:
        choice = tuned.choices[name]
        yield f"  {name}: {values_in_words(choice.values)}{_doubt(name, choice, tuned)}"


def values_in_words(values: Values) -> str:
    """`learning_rate = 0.002, batch = 8`."""
    return ", ".join(f"{field.partition('.')[2]} = {shown(value)}" for field, value in values.items())


def _doubt(name: str, choice: Choice, tuned: Tuned) -> str:
    if choice.score is None:
        return " (it diverged at every value)"
    if not choice.edges:
        return ""
    reasons = [
        entry.reason
        for entry in tuned.group_of(name).stopped
        if name in entry.arms and choice.values[entry.field] == entry.value
    ]
    return f" (still at the edge of the grid: {'; '.join(dict.fromkeys(reasons))})"
