"""The chart of cost against score."""

import altair as alt

from paribus.display.figures import (
    Chart,
    Row,
    Spec,
    arm_scales,
    band,
    domain,
    faded,
    finish,
    highlight,
    rounded,
)
from paribus.display.measured import main_metric
from paribus.display.numbers import mean
from paribus.display.tables import OFF
from paribus.evaluation.metrics import Metric
from paribus.records.reading import StudyRecord

_COSTS = (
    ("Training FLOPs", "train_flops", "Training FLOPs per trial", "FLOPs"),
    ("Parameters", "parameters", "Parameters without embeddings", "parameters"),
    ("All parameters", "total_parameters", "All parameters", "parameters"),
    ("Training time", "seconds", "Training seconds, mean over seeds", "seconds"),
)


def cost(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """What each arm cost against its score, one view per kind of cost; None where nothing has ended."""
    metric, rows = main_metric(record), []
    scores = {arm.name: record.scores(arm.name, metric.name) for arm in record.arms}
    for name, centre, low, high, number in band(scores):
        arm = record.arm(name)
        assert arm is not None
        seconds = mean(s for trial in record.done(name) if (s := trial.training_seconds) is not None)
        rows.append(
            {"arm": name, "again": bool(arm.repeats), "score": centre, "low": low, "high": high, "seeds": number}
            | {"scored": OFF if arm.off_distribution else "as trained"}
            | {key: arm.audit.get(key) for _, key, _, _ in _COSTS if key != "seconds"}
            | {"seconds": None if seconds is None else rounded(seconds)}
        )
    if not rows:
        return None
    data["cost"] = rows
    views = tuple(
        (label, _cost_spec(record, key, title, [row for row in rows if row[key] is not None], metric))
        for label, key, title, _ in _COSTS
        if any(row[key] is not None for row in rows)
    )
    if not views:
        return None
    return Chart(
        "cost",
        f"Cost against {'score' if metric.higher_is_better else 'loss'}",
        f"{'Up' if metric.higher_is_better else 'Down'} and to the left is better. Dot: mean {metric.quantity} over seeds; "
        "bar: smallest to largest seed; hollow: repeated under another setting. Arms of equal cost stand above one another.",
        views,
    )


def _cost_spec(record: StudyRecord, key: str, title: str, rows: list[Row], metric: Metric) -> Spec:
    colours, _ = arm_scales(record)
    scale = alt.Scale(domain=domain([row[edge] for row in rows for edge in ("low", "high")]), nice=True)
    axis = alt.Axis(title=metric.axis(), format=".3~f", tickCount=6)
    base = alt.Chart(alt.NamedData(name="cost")).encode(
        x=alt.X(
            f"{key}:Q",
            scale=alt.Scale(domain=domain([row[key] for row in rows]), nice=False),
            axis=alt.Axis(title=title, format="~s" if key != "seconds" else "~f", tickCount=5),
        ),
        color=colours,
        tooltip=[
            alt.Tooltip("arm:N", title="Arm"),
            alt.Tooltip("score:Q", title=f"Mean {metric.quantity}", format=".4f"),
            alt.Tooltip("low:Q", title="Lowest seed", format=".4f"),
            alt.Tooltip("high:Q", title="Highest seed", format=".4f"),
            *([alt.Tooltip("scored:N", title="Scored")] if any(row["scored"] == OFF for row in rows) else []),
            alt.Tooltip("train_flops:Q", title="Training FLOPs", format=".3~s"),
            alt.Tooltip("parameters:Q", title="Parameters", format=",d"),
            alt.Tooltip("seconds:Q", title="Training seconds", format=".1f"),
        ],
    )
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(
            y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", opacity=faded(0.5)
        ),
        base.mark_point(size=110, strokeWidth=2).encode(
            y=alt.Y("score:Q", scale=scale, axis=axis),
            fill=alt.condition("datum.again", alt.value("var(--surface)"), colours),
            opacity=faded(1.0),
        ),
    ).add_params(highlight())
    return finish(chart, 340, f"{metric.quantity.capitalize()} of each arm against {title.lower()}.")
