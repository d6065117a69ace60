"""The charts of tuning: scores on the tuning split by value, and claims at common values."""

import altair as alt

from paribus.analyses.tuning.section import Tuning, size_of, tuning_of
from paribus.display.effects import claims_view
from paribus.display.figures import Chart, Row, Spec, arm_scales, domain, faded, finish, highlight, rounded
from paribus.display.numbers import assigned
from paribus.display.repeats import contrasts
from paribus.evaluation.metrics import metric_of
from paribus.records.reading import StudyRecord
from paribus.records.trials import Group
from paribus.spec.training import crossing

_SHARES = ("training.warmup", "training.decay", "training.beta1", "training.beta2")
"""Fields that are shown on a linear axis; the others are rates, and their ratios count."""


def tuning(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Scores on the tuning split against each tuned field, a line for each arm; None where nothing was tuned."""
    found = tuning_of(record)
    if found is None:
        return None
    views = [
        (
            f"{field.partition('.')[2]}{size_of(record, group)}",
            _view(record, data, found, group, field, f"tuning_{place}_{number}"),
        )
        for place, group in enumerate(found.tuned.groups)
        for number, field in enumerate(group.grid)
    ]
    several = any(len(group.grid) > 1 for group in found.tuned.groups)
    return Chart(
        "tuning",
        "Scores on the tuning split, by value",
        "A line for each arm: means over the tuning seeds; rings: single seeds; large dot: the arm’s best, where it is judged. "
        + ("Of the other fields each point has the best value. " if several else "")
        + "What diverged has no point.",
        tuple(views),
    )


def _view(record: StudyRecord, data: dict[str, list[Row]], found: Tuning, group: Group, field: str, name: str) -> Spec:
    means: list[Row] = []
    rings: list[Row] = []
    for arm in group.arms:
        choice = found.tuned.choices[arm]
        for value in group.grid[field]:
            at = [values for values in crossing(group.grid) if values[field] == value]
            whole = {place: score for place, values in enumerate(at) if (score := found.mean(arm, values)) is not None}
            if not whole:
                continue
            pick = max if found.metric.higher_is_better else min
            place = pick(whole, key=lambda place, whole=whole: whole[place])  # type: ignore[misc]
            words = ", ".join(assigned(other.partition(".")[2], own) for other, own in at[place].items())
            row = {"arm": arm, "value": value, "values": words}
            best = at[place] == choice.values
            means.append(
                row | {"score": rounded(whole[place]), "best": best, "edge": "yes" if best and choice.edges else "no"}
            )
            rings += [
                row | {"seed": seed, "score": rounded(score)}
                for seed, score in found.scores(arm, at[place])
                if score is not None
            ]
    data[name], data[f"{name}_seeds"] = means, rings
    return _spec(record, found, group, field, name, means + rings)


def _spec(record: StudyRecord, found: Tuning, group: Group, field: str, name: str, rows: list[Row]) -> Spec:
    values = group.grid[field]
    logarithmic = field not in _SHARES and all(value > 0 for value in values)
    scale = (
        alt.Scale(type="log", domain=[values[0] / 1.15, values[-1] * 1.15], nice=False)
        if logarithmic
        else alt.Scale(domain=domain(values), nice=False)
    )
    x = alt.X(
        "value:Q",
        scale=scale,
        axis=alt.Axis(title=field.partition(".")[2], values=values, format=".3~g", labelOverlap=True),
    )
    y = alt.Y(
        "score:Q",
        scale=alt.Scale(domain=domain([row["score"] for row in rows] or [0.0]), nice=False),
        axis=alt.Axis(title=found.metric.axis("tuning"), format=".3~f", tickCount=6),
    )
    colours, dashes = arm_scales(record)
    told = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("values:N", title="At"),
        alt.Tooltip("score:Q", title="Score", format=".4f"),
    ]
    mean = alt.Chart(alt.NamedData(name=name)).encode(x=x, y=y, color=colours)
    every = alt.Chart(alt.NamedData(name=f"{name}_seeds")).encode(x=x, y=y, color=colours)
    chart = alt.layer(
        mean.mark_line(strokeWidth=2.2).encode(strokeDash=dashes, opacity=faded(1)),
        every.mark_point(size=26, strokeWidth=1.1).encode(
            opacity=faded(0.7), tooltip=[*told, alt.Tooltip("seed:Q", title="Seed", format="d")]
        ),
        mean.transform_filter("datum.best")
        .mark_point(size=130, filled=True)
        .encode(opacity=faded(1), tooltip=[*told, alt.Tooltip("edge:N", title="At the edge")]),
    ).add_params(highlight())
    return finish(chart, 300, f"{found.metric.quantity} on the tuning split by {field}, one line per arm.")


def sensitivity(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Claims with each arm at its best, and with all at each common value, below one another; None where there are none."""
    numbers = {claim.number for claim in record.claims if claim.condition.common}
    claims = [
        claim
        for pair in contrasts(record)
        if pair.claim.number in numbers
        for claim in (pair.claim, *pair.repeats)
        if claim.condition.as_written or claim.condition.common
    ]
    views = []
    for metric in dict.fromkeys(metric_of(claim.metric) for claim in claims):
        views += claims_view(record, data, metric.label.capitalize(), metric, claims, "sensitivity")
    if not views:
        return None
    caption = (
        "Improvement of the first arm over the second; right of zero the first is better. Without a value: each arm at its own "
        "best. Bar: simultaneous interval. Shaded band: differences within the margin. Small rings: single seeds."
    )
    return Chart("sensitivity", "Effects at common values", caption, tuple(views), arms=False)
