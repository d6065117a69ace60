"""The charts of budgets: the loss of finished runs against their tokens, and the gaps with what they foretell."""

from typing import Any

import altair as alt

from paribus.analyses.budgets.section import Json, contrast, entries
from paribus.display.figures import (
    Chart,
    Row,
    Spec,
    arm_scales,
    band,
    colour,
    domain,
    faded,
    finish,
    highlight,
    rounded,
)
from paribus.display.measured import main_loss
from paribus.evaluation.metrics import Metric, metric_of
from paribus.records.reading import Claim, StudyRecord

_TRUSTED = 2
"""Times the largest budget up to which a prediction is near the data (`analyses.budgets.judging.TRUSTED`)."""


def budget_losses(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Test loss of finished runs against their budget, an arm a line; None where runs served one budget only."""
    metric = main_loss(record)
    found: dict[int, dict[str, list[float]]] = {}
    for trial in record.trials:
        for entry in trial.result.get("budgets") or []:
            if entry["status"] == "done":
                of_budget = found.setdefault(entry["tokens"], {})
                of_budget.setdefault(trial.arm, []).append(entry["test"][metric.name])
    rows: list[Row] = [
        {"arm": name, "tokens": tokens, "score": centre, "low": low, "high": high, "seeds": seeds}
        for tokens, scores in sorted(found.items())
        for name, centre, low, high, seeds in band(scores)
    ]
    if len(found) < 2:
        return None
    data["budget_losses"] = rows
    colours, dashes = arm_scales(record)
    x = alt.X(
        "tokens:Q",
        scale=_log(list(found)),
        axis=alt.Axis(title="Training tokens of a finished run", format="~s", values=sorted(found), grid=False),
    )
    ends = [row[name] for row in rows for name in ("low", "high")]
    scale = alt.Scale(type="log", nice=False, domain=[min(ends) * 0.99, max(ends) * 1.01])
    axis = alt.Axis(title=metric.axis(), format=".3~f", tickCount=6)
    base = alt.Chart(alt.NamedData(name="budget_losses")).encode(x=x, color=colours)
    y = alt.Y("score:Q", scale=scale, axis=axis)
    tooltip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("tokens:Q", title="Tokens", format=",d"),
        alt.Tooltip("score:Q", title="Mean", format=".4f"),
        alt.Tooltip("low:Q", title="Lowest seed", format=".4f"),
        alt.Tooltip("high:Q", title="Highest seed", format=".4f"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
    chart = alt.layer(
        base.mark_area().encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", opacity=faded(0.13, 0.02)),
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dashes, opacity=faded(1.0)),
        base.mark_point(filled=True, size=46).encode(y=y, opacity=faded(1.0), tooltip=tooltip),
    ).add_params(highlight())
    spec = finish(chart, 320, f"{metric.quantity} of finished runs against their budget, one line per arm.")
    return Chart(
        "budget_losses",
        "Loss of finished runs against their budget",
        "Each point is a run whose learning rate has come down, on the test windows. Line: mean over seeds. Band: smallest to "
        "largest seed. Both axes are logarithmic.",
        (("All arms", spec),),
    )


def budget_gaps(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """The gap of each contrast against the budget, its line and predictions; None without a trend."""
    views: list[tuple[str, Spec]] = []
    for claim, entry in entries(record):
        if entry["trend"] is not None:
            views.append((contrast(claim), _gap_view(record, data, f"budget_gap_{len(views)}", claim, entry)))
    if not views:
        return None
    return Chart(
        "budget_gaps",
        "Gaps against the budget, and predictions",
        "Dots with bars: the gap of finished runs, with intervals that hold together over the budgets; small rings: single "
        "seeds. Line: the mean of the seeds' lines; dashed: beyond the data. Open circles: its predictions. Diamonds: those "
        f"of a power law of each arm's loss. In the shaded region, beyond {_TRUSTED} times the largest budget, the model "
        "decides more than the data.",
        tuple(views),
        arms=False,
    )


def _gap_view(record: StudyRecord, data: dict[str, list[Row]], name: str, claim: Claim, entry: Json) -> Spec:
    metric, gaps, predicted = metric_of(claim.metric), entry["gaps"], entry["predictions"]["at"]
    trend, largest = entry["trend"], gaps[-1]["tokens"]
    data[f"{name}_seen"] = [_row(gap["tokens"], gap) | {"seeds": gap["seeds"]} for gap in gaps]
    data[f"{name}_seeds"] = [
        {"tokens": gap["tokens"], "gap": rounded(value)} for gap in gaps for value in gap["per_seed"]
    ]
    data[f"{name}_ahead"] = [_row(at["tokens"], at) for at in predicted]
    data[f"{name}_second"] = [_row(at["tokens"], at["second"]) for at in predicted if at["second"] is not None]
    ends = [(gaps[0]["tokens"], trend["first"]["estimate"]), (largest, trend["last"]["estimate"])]
    line = [{"tokens": tokens, "gap": rounded(value), "where": "within"} for tokens, value in ends]
    line += [{"tokens": largest, "gap": rounded(trend["last"]["estimate"]), "where": "beyond"}]
    line += [{"tokens": at["tokens"], "gap": rounded(at["estimate"]), "where": "beyond"} for at in predicted]
    data[f"{name}_line"] = line
    furthest = predicted[-1]["tokens"] * 1.25
    data[f"{name}_region"] = [{"tokens": largest * _TRUSTED, "until": furthest, "label": "model-dependent"}]
    return _gap_spec(record, name, claim, metric, data, [gaps[0]["tokens"] * 0.85, furthest])


def _row(tokens: float, found: Json) -> Row:
    numbers = {key: None if found[key] is None else rounded(found[key]) for key in ("estimate", "low", "high")}
    return {"tokens": tokens, "gap": numbers["estimate"], "low": numbers["low"], "high": numbers["high"]}


def _gap_spec(
    record: StudyRecord, name: str, claim: Claim, metric: Metric, data: dict[str, list[Row]], reach: list[float]
) -> Spec:
    parts = ("seen", "seeds", "ahead", "second", "line")
    # What is far off the data may be left out of the picture, never what was seen.
    values = [
        value for part in parts for row in data[f"{name}_{part}"] if part != "second" for value in _numbers(row)
    ] + [row["gap"] for row in data[f"{name}_second"]]
    x = alt.Scale(type="log", domain=reach, nice=False)
    y_scale = alt.Scale(domain=domain([*values, 0.0]), nice=False)
    y_axis = alt.Axis(title=f"Improvement, {metric.label} (up is better)", format="+.3~f", tickCount=6)
    y = alt.Y("gap:Q", scale=y_scale, axis=y_axis)

    def of(part: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(name=f"{name}_{part}")).encode(
            x=alt.X("tokens:Q", scale=x, axis=alt.Axis(title="Training tokens", format="~s", tickCount=6, grid=False))
        )

    told: list[Any] = [
        alt.Tooltip("tokens:Q", title="Tokens", format=",d"),
        alt.Tooltip("gap:Q", title="Improvement", format="+.4f"),
        alt.Tooltip("low:Q", title="Low", format="+.4f"),
        alt.Tooltip("high:Q", title="High", format="+.4f"),
    ]
    own, muted = alt.value(colour(record, claim.arm)), alt.value("var(--muted)")
    bars = {"y": alt.Y("low:Q", scale=y_scale, axis=y_axis), "y2": "high:Q"}
    region = of("region")
    chart = alt.layer(
        region.mark_rect(opacity=0.5, color="var(--grid)").encode(x2="until:Q", y=alt.value(0), y2=alt.value("height")),
        region.mark_text(align="left", dx=6, baseline="top", fontSize=12, color="var(--muted)").encode(
            text="label:N", y=alt.value(6)
        ),
        alt.Chart(alt.NamedData(name=f"{name}_region"))
        .mark_rule(color="var(--rule)")
        .encode(y=alt.datum(0, scale=y_scale, axis=y_axis)),
        of("line")
        .mark_line(strokeWidth=2)
        .encode(
            y=y,
            color=own,
            strokeDash=alt.StrokeDash(
                "where:N", scale=alt.Scale(domain=["within", "beyond"], range=[[1, 0], [5, 4]]), legend=None
            ),
        ),
        of("seeds").mark_point(size=22, strokeWidth=1, opacity=0.5).encode(y=y, color=own),
        of("second").mark_rule(strokeWidth=1.5, xOffset=7, clip=True).encode(**bars, color=muted),
        of("second")
        .mark_point(shape="diamond", size=70, filled=True, opacity=1, xOffset=7, clip=True)
        .encode(y=y, color=muted, tooltip=told),
        of("ahead").mark_rule(strokeWidth=1.5).encode(**bars, color=own),
        of("ahead")
        .mark_point(size=70, filled=True, opacity=1, fill="var(--paper)", strokeWidth=1.8)
        .encode(y=y, stroke=own, tooltip=told),
        of("seen").mark_rule(strokeWidth=3, strokeCap="round").encode(**bars, color=own),
        of("seen").mark_point(size=80, filled=True, opacity=1).encode(y=y, color=own, tooltip=told),
    )
    return finish(chart, 340, f"Gap of {contrast(claim)} against the budget, with its line and predictions.")


def _numbers(row: Row) -> list[float]:
    return [row[name] for name in ("gap", "low", "high") if row.get(name) is not None]


def _log(tokens: list[int]) -> alt.Scale:
    return alt.Scale(type="log", domain=[min(tokens) * 0.9, max(tokens) * 1.1], nice=False)
