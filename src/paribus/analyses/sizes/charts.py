"""The charts of sizes: frontiers of the arms against their cost, and gaps against size with their trend."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from paribus.analyses.sizes.section import contrast
from paribus.display.figures import HUES, Chart, Row, Spec, band, domain, finish, rounded
from paribus.display.measured import main_metric
from paribus.display.numbers import mean
from paribus.evaluation.metrics import Metric, metric_of
from paribus.records.reading import StudyRecord

_VIEWS = (
    ("Parameters", "parameters", "Parameters outside the embeddings"),
    ("Training FLOPs", "train_flops", "Training FLOPs of a trial"),
    ("Serving FLOPs", "serve_flops", "FLOPs of the workload"),
)

Json = Mapping[str, Any]


def frontiers(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Score against each kind of cost, an arm a line through its sizes; None in a study of one size."""
    found = record.verdicts.get("sizes")
    if not found:
        return None
    metric = main_metric(record)
    scores = {arm.name: record.scores(arm.name, metric.name) for arm in record.base_arms}
    spread = {name: (centre, low, high, seeds) for name, centre, low, high, seeds in band(scores)}
    rows = []
    for entry in found["costs"]:
        if entry["arm"] in spread:
            centre, low, high, seeds = spread[entry["arm"]]
            own = {
                "arm": entry["written"],
                "size": entry["size"],
                "score": centre,
                "low": low,
                "high": high,
                "seeds": seeds,
            }
            rows.append(own | {key: entry[key] and rounded(entry[key]) for _, key, _ in _VIEWS})
    data["frontiers"] = rows
    views = tuple(
        (label, _frontier_spec(key, title, [row for row in rows if row[key] is not None], metric))
        for label, key, title in _VIEWS
        if any(row[key] is not None for row in rows)
    )
    if not views:
        return None
    up = "Up" if metric.higher_is_better else "Down"
    return Chart(
        "frontiers",
        "Frontiers of the arms along their sizes",
        f"Each point is an arm at one size: mean {metric.quantity} over seeds, bar from smallest to largest seed. {up} and to "
        "the left is better. The horizontal axis is logarithmic; lines join neighbouring sizes.",
        views,
        arms=False,
    )


def _frontier_spec(key: str, title: str, rows: Sequence[Row], metric: Metric) -> Spec:
    scale = alt.Scale(domain=domain([row[edge] for row in rows for edge in ("low", "high")]), nice=True)
    axis = alt.Axis(title=metric.axis(), format=".3~f", tickCount=6)
    colours, dashes = _by_arm(rows)
    base = (
        alt.Chart(alt.NamedData(name="frontiers"))
        .transform_filter(f"isValid(datum.{key})")
        .encode(
            x=alt.X(
                f"{key}:Q",
                scale=_log([row[key] for row in rows]),
                axis=alt.Axis(title=title, format="~s", tickCount=5, grid=False),
            ),
            color=colours,
            tooltip=[
                alt.Tooltip("arm:N", title="Arm"),
                alt.Tooltip("size:N", title="Size"),
                alt.Tooltip("score:Q", title=f"Mean {metric.quantity}", format=".4f"),
                alt.Tooltip("low:Q", title="Lowest seed", format=".4f"),
                alt.Tooltip("high:Q", title="Highest seed", format=".4f"),
                alt.Tooltip("parameters:Q", title="Parameters", format=",d"),
                alt.Tooltip("train_flops:Q", title="Training FLOPs", format=".3~s"),
                alt.Tooltip("serve_flops:Q", title="Serving FLOPs", format=".3~s"),
            ],
        )
    )
    y = alt.Y("score:Q", scale=scale, axis=axis)
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dashes),
        base.mark_point(filled=True, size=64, opacity=1).encode(y=y),
    )
    return finish(chart, 340, f"{metric.quantity.capitalize()} of each arm at each size against {title.lower()}.")


def _by_arm(rows: Sequence[Row]) -> tuple[alt.Color, alt.StrokeDash]:
    """Colour by arm as written, as all charts have it, with a legend: the page's own names arms at one size each."""
    names = list(dict.fromkeys(row["arm"] for row in rows))
    legend = alt.Legend(
        title=None, orient="top", labelColor="var(--ink)", labelFontSize=12, symbolStrokeWidth=3, labelLimit=320
    )
    colours = [f"var(--arm-{place % HUES})" for place in range(len(names))]
    dashes = [[1, 0] if place < HUES else [7, 3] for place in range(len(names))]
    return (
        alt.Color("arm:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
        alt.StrokeDash("arm:N", scale=alt.Scale(domain=names, range=dashes), legend=legend),
    )


def _log(values: Sequence[float]) -> alt.Scale:
    return alt.Scale(type="log", domain=[min(values) * 0.85, max(values) * 1.18], nice=False)


def gaps_by_size(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Each claim's gap at each size with the claims' intervals, and its trend; None in a study of one size."""
    found = record.verdicts.get("sizes")
    trends = [trend for trend in found["trends"] if trend["slope"]["estimate"] is not None] if found else []
    if not trends:
        return None
    views = tuple(
        (f"{contrast(trend)}, {metric_of(trend['metric']).label}", _gap_spec(f"gaps_by_size_{place}", trend, data))
        for place, trend in enumerate(trends)
    )
    ahead = any(trend["prediction"] for trend in trends)
    beyond = (
        " Dashed, with an open circle: drawn on to twice the largest size, where the model decides." if ahead else ""
    )
    return Chart(
        "gaps_by_size",
        "Gaps along the sizes",
        "Dots with bars: the improvement at each size with the claim's interval; above zero the first arm is better. Line: the "
        f"mean of the seeds' least-squares lines in the logarithm of the parameters.{beyond}",
        views,
        arms=False,
    )


def _gap_spec(name: str, trend: Json, data: dict[str, list[Row]]) -> Spec:
    gaps, ahead = trend["gaps"], trend["prediction"]
    metric = metric_of(trend["metric"])
    seen = [gap for gap in gaps if gap["estimate"] is not None]
    logs = [math.log2(gap["parameters"]) for gap in seen]
    centre, level = mean(logs) or 0.0, mean(gap["estimate"] for gap in seen) or 0.0

    def at(parameters: float) -> float:
        return rounded(level + trend["slope"]["estimate"] * (math.log2(parameters) - centre))

    data[name] = [
        {"parameters": gap["parameters"], "size": gap["size"], "verdict": gap["verdict"]}
        | {key: None if gap[key] is None else rounded(gap[key]) for key in ("estimate", "low", "high")}
        for gap in seen
    ]
    ends = [seen[0]["parameters"], seen[-1]["parameters"]]
    line = [{"parameters": end, "gap": at(end), "where": "within"} for end in ends]
    further: list[Row] = []
    if ahead:
        line += [{"parameters": end, "gap": at(end), "where": "beyond"} for end in (ends[-1], ahead["parameters"])]
        further = [
            {"parameters": ahead["parameters"]}
            | {key: None if ahead[key] is None else rounded(ahead[key]) for key in ("estimate", "low", "high")}
        ]
    data[f"{name}_line"], data[f"{name}_ahead"] = line, further
    values = [
        row[key] for row in [*data[name], *further] for key in ("estimate", "low", "high") if row[key] is not None
    ]
    x = alt.X(
        "parameters:Q",
        scale=_log([row["parameters"] for row in line]),
        axis=alt.Axis(title="Parameters of the reference arm", format="~s", tickCount=5, grid=False),
    )
    scale = alt.Scale(domain=domain([*values, 0.0]), nice=False)
    axis = alt.Axis(title=f"Improvement, {metric.label} (up is better)", format="+.3~f", tickCount=6)

    def of(part: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(name=f"{name}{part}")).encode(x=x)

    def number(key: str) -> alt.Y:
        return alt.Y(f"{key}:Q", scale=scale, axis=axis)

    tooltip = [
        alt.Tooltip("size:N", title="Size"),
        alt.Tooltip("verdict:N", title="Verdict"),
        alt.Tooltip("estimate:Q", title="Improvement", format="+.4f"),
        alt.Tooltip("low:Q", title="From", format="+.4f"),
        alt.Tooltip("high:Q", title="To", format="+.4f"),
    ]
    dashes = alt.StrokeDash(
        "where:N", scale=alt.Scale(domain=["within", "beyond"], range=[[1, 0], [5, 4]]), legend=None
    )
    layers = [
        of("")
        .mark_rule(color="var(--rule)")
        .encode(y=alt.YDatum(0, scale=scale, axis=axis), x=alt.value(0), x2=alt.value("width")),
        of("_line").mark_line(strokeWidth=2, color="var(--muted)").encode(y=number("gap"), strokeDash=dashes),
        of("")
        .mark_rule(strokeWidth=2.5, strokeCap="round", color="var(--ink)")
        .encode(y=number("low"), y2="high:Q", tooltip=tooltip),
        of("")
        .mark_point(filled=True, size=90, opacity=1, color="var(--ink)")
        .encode(y=number("estimate"), tooltip=tooltip),
    ]
    if further:
        layers += [
            of("_ahead")
            .mark_rule(strokeWidth=1.5, color="var(--muted)", strokeDash=[5, 4])
            .encode(y=number("low"), y2="high:Q"),
            of("_ahead").mark_point(filled=False, size=90, color="var(--muted)").encode(y=number("estimate")),
        ]
    words = f"Improvement of {trend['arm']} over {trend['against']} at {len(seen)} sizes, with its trend."
    return finish(alt.layer(*layers), 300, words)
