"""The charts of crossings: scores by the levels of two factors, and every effect with its interval."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import fmean
from typing import Any

import altair as alt

from paribus.analyses.factorial.section import contrast, digits, leaf, level, title
from paribus.display.figures import HUES, Chart, Row, Spec, domain, finish, rounded
from paribus.display.numbers import interval, signed
from paribus.display.wording import after_comma
from paribus.evaluation.metrics import Metric, metric_of
from paribus.records.reading import StudyRecord

Json = Mapping[str, Any]
_AXIS = 44
"""Height of the axis and its title, in pixels."""


def _parts(record: StudyRecord) -> Iterator[tuple[Json, Json]]:
    for design in (record.verdicts.get("crossings") or {"designs": []})["designs"]:
        for each in design["analysed"]:
            yield design, each


def interactions(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Score by the levels of one factor, a line for each level of another; None where no two are crossed completely."""
    views: list[tuple[str, Spec]] = []
    for design, each in _parts(record):
        metric = metric_of(record.verdicts["crossings"]["metric"])
        for pair in combinations(each["factors"], 2):
            means, rings = _scores(record, each, pair, metric)
            if not means:
                continue
            name = f"crossing_{len(views)}"
            data[name], data[f"{name}_seeds"] = means, rings
            label, several = _label(design, each, pair), len({row["seed"] for row in rings}) > 1
            if several:
                views.append((label, _lines(name, each, pair, metric, means, rings, "level")))
            views.append(
                (f"{label}, as measured" if several else label, _lines(name, each, pair, metric, means, rings, "score"))
            )
    if not views:
        return None
    return Chart(
        "interactions",
        "Interactions",
        "A line for each level of the first factor, over the levels of the second. Dots: means over seeds; rings and thin lines: "
        "single seeds, the same in all; where a figure is not as measured, what a seed adds to all cells alike is taken out of "
        "them, since seeds are compared with themselves. Parallel lines: no interaction. Intervals are in the next figure.",
        tuple(views),
        arms=False,
    )


def _label(design: Json, each: Json, pair: tuple[str, str]) -> str:
    crossed = " × ".join(map(leaf, pair))
    return (
        crossed
        + "".join(f", {level(name, word)}" for name, word in each["at"].items())
        + after_comma(design["condition"])
    )


def _scores(record: StudyRecord, each: Json, pair: tuple[str, str], metric: Metric) -> tuple[list[Row], list[Row]]:
    """Means over seeds, and single seeds, by the levels of two factors; means over the others. Seeds that all cells have."""
    scores = {
        cell["arm"]: {
            trial.seed: value
            for trial in record.done(cell["arm"])
            if trial.test and (value := trial.test.get(metric.name)) is not None
        }
        for cell in each["cells"]
    }
    seeds = [seed for seed in next(iter(scores.values())) if all(seed in by_seed for by_seed in scores.values())]
    means: list[Row] = []
    rings: list[Row] = []
    for second in each["levels"][pair[1]]:
        for first in each["levels"][pair[0]]:
            arms = [
                cell["arm"]
                for cell in each["cells"]
                if (cell["levels"][pair[0]], cell["levels"][pair[1]]) == (first, second)
            ]
            own = {seed: fmean(scores[arm][seed] for arm in arms) for seed in seeds}
            row = {"line": first, "x": second, "arms": ", ".join(arms)}
            rings += [row | {"seed": seed, "score": rounded(value)} for seed, value in own.items()]
            if own:
                means.append(row | {"score": rounded(fmean(own.values())), "seeds": len(own)})
    centre = fmean(row["score"] for row in rings) if rings else 0.0
    of_seed = {seed: fmean(row["score"] for row in rings if row["seed"] == seed) - centre for seed in seeds}
    return means, [row | {"level": rounded(row["score"] - of_seed[row["seed"]])} for row in rings]


def _lines(
    name: str, each: Json, pair: tuple[str, str], metric: Metric, means: list[Row], rings: list[Row], shown: str
) -> Spec:
    """The figure of one pair of factors; `shown` is the rings' `score`, or their `level` without what the seed adds to all."""
    first, second = pair
    levels = each["levels"][first]
    x = alt.X(
        "x:N",
        sort=each["levels"][second],
        scale=alt.Scale(type="point", padding=0.6),
        axis=alt.Axis(title=leaf(second), labelAngle=0, grid=False, labelLimit=240),
    )
    scale = alt.Scale(domain=domain([row["score"] for row in means] + [row[shown] for row in rings]), nice=False)
    axis = alt.Axis(title=metric.axis(), format=".3~f", tickCount=6)
    colours = alt.Color(
        "line:N",
        sort=levels,
        scale=alt.Scale(domain=levels, range=[f"var(--arm-{number % HUES})" for number in range(len(levels))]),
        legend=alt.Legend(
            title=leaf(first), orient="top", labelColor="var(--ink)", titleColor="var(--muted)", labelLimit=300,
            symbolType="circle", symbolOpacity=1, columnPadding=18, titleFontWeight="normal", labelFontSize=12, titleFontSize=12,
        ),
    )  # fmt: skip
    told = [
        alt.Tooltip("line:N", title=leaf(first)),
        alt.Tooltip("x:N", title=leaf(second)),
        alt.Tooltip("score:Q", title="Score", format=".4f"),
    ]
    every = alt.Chart(alt.NamedData(name=f"{name}_seeds")).encode(
        x=x, y=alt.Y(f"{shown}:Q", scale=scale, axis=axis), color=colours
    )
    mean = alt.Chart(alt.NamedData(name=name)).encode(x=x, y=alt.Y("score:Q", scale=scale, axis=axis), color=colours)
    chart = alt.layer(
        every.mark_line(strokeWidth=0.8, opacity=0.3).encode(detail="seed:N"),
        every.mark_point(size=30, strokeWidth=1.1, opacity=0.7).encode(
            tooltip=[*told, alt.Tooltip("seed:Q", title="Seed")]
        ),
        mean.mark_line(strokeWidth=2.4),
        mean.mark_point(size=90, filled=True, opacity=1).encode(
            tooltip=[*told, alt.Tooltip("seeds:Q", title="Seeds"), alt.Tooltip("arms:N", title="Arms")]
        ),
    )
    return finish(chart, 340, f"{metric.quantity} by {leaf(second)}, one line per level of {leaf(first)}.")


def crossing_effects(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Every effect with its interval; None where no two factors are crossed completely."""
    views: list[tuple[str, Spec]] = []
    for number, (design, each) in enumerate(_parts(record)):
        rows: list[Row] = []
        places = digits(each["effects"])
        for effect in each["effects"]:
            if effect["estimate"] is None:
                continue
            at = "".join(f", {level(name, word)}" for name, word in effect["at"].items())
            open_ended = effect["low"] is None
            rows.append(
                {
                    "row": len(rows),
                    "kind": effect["kind"].capitalize(),
                    "label": f"{effect['kind'].capitalize()}: {contrast(effect)}{at}",
                    "estimate": rounded(effect["estimate"]),
                    "low": None if open_ended else rounded(effect["low"]),
                    "high": None if open_ended else rounded(effect["high"]),
                    "shown": signed(effect["estimate"], places),
                    "interval": interval(effect["low"], effect["high"], places),
                    "seeds": effect["seeds"],
                }
            )
        if rows:
            name = f"crossing_effects_{number}"
            data[name] = rows
            views.append((title(design, each), _forest(name, rows, metric_of(record.verdicts["crossings"]["metric"]))))
    if not views:
        return None
    confidence, count = record.verdicts["crossings"]["confidence"], record.verdicts["crossings"]["intervals"]
    return Chart(
        "crossing_effects",
        "Effects of crossed factors and their intervals",
        "Right of zero the first level is better; of an interaction, it gains more beside the other's first level. "
        f"Bars hold together with {100 * confidence:g} % over the {count} intervals of all crossings.",
        tuple(views),
        arms=False,
    )


def _forest(name: str, rows: list[Row], metric: Metric) -> Spec:
    ends = [row[key] for row in rows for key in ("low", "high", "estimate") if row[key] is not None] + [0.0]
    x = alt.Scale(domain=domain(ends, 0.08), nice=False)
    axis = alt.Axis(title=f"Improvement, {metric.label} (right is better)", format="+.2~f", tickCount=6)
    kinds = ["Main", "Simple", "Interaction", "Three-factor interaction"]
    colours = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=["var(--arm-0)", "var(--muted)", "var(--arm-1)", "var(--arm-2)"]),
        legend=None,
    )
    tooltip = [
        alt.Tooltip("label:N", title="Effect"),
        alt.Tooltip("shown:N", title="Improvement"),
        alt.Tooltip("interval:N", title="Interval"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
    base = alt.Chart(alt.NamedData(name=name)).encode(
        y=alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0.1, paddingOuter=0.05))
    )
    chart = alt.layer(
        alt.Chart(alt.NamedData(name=name)).mark_rule(color="var(--rule)").encode(x=alt.datum(0, scale=x, axis=axis)),
        base.mark_rule(strokeWidth=3, strokeCap="round", yOffset=7).encode(
            x=alt.X("low:Q", scale=x, axis=axis), x2="high:Q", color=colours, tooltip=tooltip
        ),
        base.mark_point(size=80, filled=True, opacity=1, yOffset=7).encode(
            x=alt.X("estimate:Q", scale=x, axis=axis), color=colours, tooltip=tooltip
        ),
        base.mark_text(align="left", dy=-9, fontSize=12, color="var(--ink)").encode(x=alt.value(4), text="label:N"),
    )
    return finish(chart, 42 * len(rows) + _AXIS, f"{len(rows)} effects of crossed factors with their intervals.")
