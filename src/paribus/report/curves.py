"""The charts over training: learning curves on the tuning split, and the training loss of every trial."""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

import altair as alt

from paribus.display.figures import (
    _TRAINING_BINS,
    Chart,
    Row,
    Spec,
    arm_scales,
    band,
    drawn_arms,
    faded,
    finish,
    highlight,
    left_out,
    reference,
    reference_of,
)
from paribus.display.measured import charted, objectives
from paribus.display.wording import short_name
from paribus.evaluation.metrics import Metric
from paribus.records.reading import StudyRecord, Trial

# Learning curves.


def learning(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Score on the tuning split over training, an arm a line with a band over its seeds; None before the first point."""
    views: list[tuple[str, Spec]] = []
    for metric in charted(record):
        found = _learning_views(record, data, metric)
        views += (
            [("Loss", spec) for _, spec in found[:1]] if views else found
        )  # beside an accuracy the loss has one view
    if not views:
        return None
    return Chart(
        "learning",
        "Learning curves",
        "On the tuning split, which no verdict uses. Line: mean over seeds. Band: smallest to largest seed. "
        f"A curve before its end is not a result at that budget: the rate has not decayed yet.{left_out(record)}",
        tuple(views),
    )


def _learning_views(record: StudyRecord, data: dict[str, list[Row]], metric: Metric) -> list[tuple[str, Spec]]:
    """The views of one metric; none where the curves do not have it."""
    home = reference(record)
    usable = {
        arm.name: [trial for trial in record.trials_of(arm.name) if trial.status != "diverged"]
        for arm in drawn_arms(record)
    }
    rows: list[Row] = []
    differences: list[Row] = []
    # Points are gathered by step: seeds read slightly different numbers of tokens, because short documents are padded.
    at = {
        trial.id: {p.step: value for p in trial.curve if (value := p.score.get(metric.name)) is not None}
        for trial in record.trials
    }
    read = {trial.id: {point.step: point.tokens for point in trial.curve} for trial in record.trials}
    for step in sorted({step for curve in at.values() for step in curve}):
        scores, tokens = {}, {}
        for name, trials in usable.items():
            there = [trial.id for trial in trials if step in at[trial.id]]
            scores[name] = [at[trial][step] for trial in there]
            tokens[name] = round(fmean(read[trial][step] for trial in there)) if there else 0
        rows += [
            {"arm": name, "tokens": tokens[name], "score": centre, "low": low, "high": high, "seeds": number}
            for name, centre, low, high, number in band(scores)
        ]
        gains = {
            arm.name: paired(metric, usable[arm.name], usable.get(reference_of(record, arm) or "", []), _at(at, step))
            for arm in drawn_arms(record)
            if arm.name != reference_of(record, arm)
        }
        differences += [
            {"arm": name, "tokens": tokens[name], "score": centre, "low": low, "high": high, "seeds": number}
            for name, centre, low, high, number in band(gains)
        ]
    if not rows:
        return []
    name = f"curve_{metric.name}"
    data[name] = rows
    late = [row for row in rows if row["tokens"] >= max(row["tokens"] for row in rows) / 2]
    plain = metric.axis("tuning")
    views = [("Whole run", _curve_spec(record, name, rows, plain))]
    if not metric.higher_is_better:
        positive = [row for row in rows if row["tokens"] > 0]
        views.append(("Log scales", _curve_spec(record, name, positive, plain, log=True)))
    if len({row["tokens"] for row in late}) > 1:
        data[f"{name}_late"] = late
        views.append(("Second half", _curve_spec(record, f"{name}_late", late, plain)))
    differences = [row for row in differences if row["tokens"] > 0]
    if differences and home:
        data[f"{name}_difference"] = differences
        title = f"Improvement over {short_name(record, home)}, {metric.label}"
        views.append(
            (
                f"Against {short_name(record, home)}",
                _curve_spec(record, f"{name}_difference", differences, title, zero=True),
            )
        )
    return views


def paired(
    metric: Metric, trials: Iterable[Trial], against: Iterable[Trial], score: Callable[[Trial], float | None]
) -> list[float]:
    """Improvements over the trial of the same seed, where both have a score."""
    other = {trial.seed: score(trial) for trial in against}
    pairs = [(other.get(trial.seed), score(trial)) for trial in trials]
    return [metric.gain(ours, theirs) for theirs, ours in pairs if theirs is not None and ours is not None]


def _curve_spec(
    record: StudyRecord, name: str, rows: list[Row], title: str, *, log: bool = False, zero: bool = False
) -> Spec:
    colours, dashes = arm_scales(record)
    if log:
        tokens = [row["tokens"] for row in rows]
        x_scale = alt.Scale(type="log", domain=[min(tokens), max(tokens)], nice=False)
        y_scale = alt.Scale(
            type="log", nice=False, domain=[min(r["low"] for r in rows) * 0.98, max(r["high"] for r in rows)]
        )
    else:
        x_scale = alt.Scale(zero=False, nice=False)
        y_scale = alt.Scale(zero=zero, nice=True, padding=4)
    y_axis = alt.Axis(title=title, format="+.3~f" if zero else ".3~f", tickCount=6)
    base = alt.Chart(alt.NamedData(name=name)).encode(
        x=alt.X("tokens:Q", scale=x_scale, axis=alt.Axis(title="Tokens seen", format="~s", tickCount=6, grid=False)),
        color=colours,
    )
    if log:
        base = base.transform_filter("datum.tokens > 0")
    y = alt.Y("score:Q", scale=y_scale, axis=y_axis)
    tooltip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("tokens:Q", title="Tokens", format=",d"),
        alt.Tooltip("score:Q", title="Improvement" if zero else "Mean", format="+.4f" if zero else ".4f"),
        alt.Tooltip("low:Q", title="Lowest seed", format="+.4f" if zero else ".4f"),
        alt.Tooltip("high:Q", title="Highest seed", format="+.4f" if zero else ".4f"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
    layers: list[Any] = [
        base.mark_area(interpolate="monotone").encode(
            y=alt.Y("low:Q", scale=y_scale, axis=y_axis), y2="high:Q", opacity=faded(0.13, 0.02)
        ),
        base.mark_line(interpolate="monotone", strokeWidth=2).encode(y=y, strokeDash=dashes, opacity=faded(1.0)),
        base.mark_point(filled=True, size=34).encode(y=y, opacity=faded(1.0), tooltip=tooltip),
    ]
    if zero:
        layers.insert(0, alt.Chart(alt.NamedData(name=name)).mark_rule(color="var(--rule)").encode(y=alt.datum(0)))
    chart = alt.layer(*layers).add_params(highlight())
    return finish(chart, 340, f"{title}, against tokens seen, one line per arm with a band over seeds.")


def _at(curves: Mapping[str, Mapping[int, float]], step: int) -> Callable[[Trial], float | None]:
    """A trial's loss after that step."""
    return lambda trial: curves[trial.id].get(step)


# Training loss of every trial.


def training(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Training loss of every trial, thinned; None before the first step."""
    rows: list[Row] = []
    ends: list[Row] = []
    names = {arm.name for arm in drawn_arms(record)}
    for trial in record.trials:
        if trial.arm not in names and trial.status != "diverged":
            continue
        points = _thinned(trial)
        rows += [{"arm": trial.arm, "trial": trial.id, "seed": trial.seed, "tokens": x, "loss": y} for x, y in points]
        if points and trial.status in ("diverged", "unfinished"):
            word = {"diverged": "diverged", "unfinished": "not finished"}[trial.status]
            ends.append(
                {"arm": trial.arm, "seed": trial.seed, "tokens": points[-1][0], "loss": points[-1][1], "end": word}
            )
    if not rows:
        return None
    data["training"], data["training_ends"] = rows, ends
    colours, dashes = arm_scales(record)
    scale = alt.Scale(type="log", nice=False, domain=log_domain(row["loss"] for row in rows))
    tooltip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("seed:Q", title="Seed"),
        alt.Tooltip("tokens:Q", title="Tokens", format=",d"),
        alt.Tooltip("loss:Q", title="Training loss", format=".3f"),
    ]
    x = alt.X(
        "tokens:Q",
        axis=alt.Axis(title="Tokens seen", format="~s", tickCount=6, grid=False),
        scale=alt.Scale(nice=False),
    )
    y = alt.Y("loss:Q", scale=scale, axis=alt.Axis(title="Training loss, nats per token", format=".2~g", tickCount=6))
    lines = alt.Chart(alt.NamedData(name="training")).encode(x=x, y=y, color=colours, detail="trial:N")
    layers: list[Any] = [
        lines.mark_line(strokeWidth=1.2).encode(strokeDash=dashes, opacity=faded(0.7, 0.05), tooltip=tooltip),
    ]
    if ends:
        crosses = alt.Chart(alt.NamedData(name="training_ends")).encode(x=x, y=y, color=colours)
        layers.append(
            crosses.mark_point(shape="cross", angle=45, filled=True, size=130).encode(
                opacity=faded(1.0), tooltip=[*tooltip, alt.Tooltip("end:N", title="Ended")]
            )
        )
    spec = finish(alt.layer(*layers).add_params(highlight()), 280, "Training loss of every trial against tokens seen.")
    return Chart(
        "training",
        "Training loss of every trial",
        "Mean over stretches of steps, one line per trial. A cross marks where a trial diverged or has stopped so far."
        + (" Under different objectives these are losses of different things." if len(objectives(record)) > 1 else "")
        + left_out(record),
        (("All trials", spec),),
    )


def _thinned(trial: Trial) -> list[tuple[int, float]]:
    """At most 60 points of a trial's training loss: means over equal stretches of steps."""
    size = max(1, math.ceil(len(trial.losses) / _TRAINING_BINS))
    chunks = [trial.losses[start : start + size] for start in range(0, len(trial.losses), size)]
    return [(chunk[-1][0], float(f"{math.fsum(loss for _, loss in chunk) / len(chunk):.4g}")) for chunk in chunks]


def log_domain(values: Iterable[float]) -> list[float]:
    """A logarithmic axis over the positive values."""
    positive = [value for value in values if value > 0] or [1.0]
    return [min(positive) * 0.95, max(positive) * 1.05]
