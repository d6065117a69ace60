"""The charts of a report as Vega-Lite specifications.

Colours are CSS variables, which the SVG renderer passes through, so that one specification serves light, dark and paper.
Data are named datasets shared by all charts; arms appear in them as values, never as field names or in expressions, so
that no name can change a chart. Every parameter and view has an explicit name: altair would number them otherwise, and
the report of one directory would differ from call to call.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import altair as alt

from paribus.report.numbers import UNITS, decimals, interval, mean, signed
from paribus.report.reading import Arm, Score, StudyRecord, Trial
from paribus.report.wording import OUTCOMES, short_name

Row = dict[str, Any]
Spec = dict[str, Any]
HUES = 8
"""Colours in the palette of report.css; further arms use them again with another dash."""
_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
_REPEAT_DASH = [4, 3]
_TRAINING_BINS = 60
_OUTCOME_COLOURS = {outcome: f"var(--{outcome})" for outcome in OUTCOMES}


@dataclass(frozen=True)
class Chart:
    """One figure of the report, with the views among which a reader can choose."""

    name: str
    title: str
    caption: str
    views: tuple[tuple[str, Spec], ...]
    """Label of the choice, and what it draws."""
    arms: bool = True
    """Whether its marks are coloured by arm."""


@dataclass(frozen=True)
class ChartBook:
    """All charts and the datasets that they name."""

    charts: tuple[Chart, ...]
    data: dict[str, list[Row]] = field(default_factory=dict)

    def chart(self, name: str) -> Chart | None:
        """The chart of that name, None where there is nothing to draw."""
        return next((chart for chart in self.charts if chart.name == name), None)


def hue(record: StudyRecord, name: str) -> int:
    """Index of an arm's colour; a repeat has the colour of the arm that it repeats."""
    base = [arm.name for arm in record.arms if not arm.repeats]
    home = short_name(record, name)
    return base.index(home) if home in base else 0


def dash(record: StudyRecord, name: str) -> list[int]:
    """Dash of an arm's line: repeats are dashed, and so are arms beyond the palette."""
    arm = record.arm(name)
    return _REPEAT_DASH if arm and arm.repeats else _DASHES[hue(record, name) // HUES % len(_DASHES)]


def colour(record: StudyRecord, name: str) -> str:
    """An arm's colour as a CSS variable."""
    return f"var(--arm-{hue(record, name) % HUES})"


def main_metric(record: StudyRecord) -> str:
    """The metric that most claims are about."""
    return Counter(claim.metric for claim in record.claims).most_common(1)[0][0] if record.claims else "bits_per_byte"


def reference(record: StudyRecord) -> str | None:
    """The arm that most claims are set against: zero of the difference views."""
    plain = [claim.against for claim in record.claims if not claim.under]
    if plain:
        return Counter(plain).most_common(1)[0][0]
    return record.arms[0].name if record.arms else None


def reference_of(record: StudyRecord, arm: Arm) -> str | None:
    """The reference under the same setting: a repeat is compared with the repeat of the reference."""
    home = reference(record)
    if not arm.repeats:
        return home
    original = record.arm(arm.repeats)
    changed = _changed(arm, original)
    twins = [
        other for other in record.arms if other.repeats == home and _changed(other, record.arm(home or "")) == changed
    ]
    return twins[0].name if twins else None


def _changed(arm: Arm, original: Arm | None) -> dict[str, Any]:
    """What a repeat overrides beyond the arm that it repeats."""
    before = original.overrides if original else {}
    return {key: value for key, value in arm.overrides.items() if before.get(key) != value}


def draw_charts(record: StudyRecord) -> ChartBook:
    """All charts for which the study has data."""
    data: dict[str, list[Row]] = {}
    makers: tuple[Callable[[StudyRecord, dict[str, list[Row]]], Chart | None], ...] = (
        _forest,
        _learning,
        _splits,
        _cost,
        _training,
    )
    charts = tuple(chart for maker in makers if (chart := maker(record, data)))
    return ChartBook(charts, data)


# Parts that charts share.


def _arm_scales(record: StudyRecord) -> tuple[alt.Color, alt.StrokeDash]:
    names = [arm.name for arm in record.arms]
    colours = [colour(record, name) for name in names]
    dashes = [dash(record, name) for name in names]
    return (
        alt.Color("arm:N", scale=alt.Scale(domain=names, range=colours), legend=None),
        alt.StrokeDash("arm:N", scale=alt.Scale(domain=names, range=dashes), legend=None),
    )


def _highlight() -> alt.Parameter:
    """Name of the arm that the reader has picked; the page sets it."""
    return alt.param(name="highlight", value=False)


def _faded(normal: float, faint: float = 0.08) -> Any:
    """Opacity that steps back for all arms but the picked one."""
    return alt.condition("!highlight || datum.arm === highlight", alt.value(normal), alt.value(faint))


def _finish(chart: Any, height: int | alt.Step, description: str) -> Spec:
    """Size, description and theme; the schema's address is left out, the page needs no network."""
    spec: Spec = (
        chart.properties(width="container", height=height, description=description)
        .configure(
            background="transparent",
            font="inherit",
            autosize=alt.AutoSizeParams(type="fit", contains="padding", resize=True),
            padding={"left": 2, "right": 8, "top": 6, "bottom": 2},
        )
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="var(--muted)",
            titleColor="var(--muted)",
            gridColor="var(--grid)",
            domainColor="var(--rule)",
            tickColor="var(--rule)",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=10,
            labelPadding=6,
            tickSize=4,
            domain=False,
        )
        .to_dict()
    )
    spec.pop("$schema", None)
    return spec


def _domain(values: Iterable[float], margin: float = 0.06) -> list[float]:
    """An axis that holds all values, with some air; never empty."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    air = (high - low) * margin or abs(high) * margin or 1.0
    return [low - air, high + air]


def _rounded(value: float) -> float:
    """Six significant digits: enough for a screen, and short in the file."""
    return float(f"{value:.6g}")


def _band(values: dict[str, list[float]]) -> Iterable[tuple[str, float, float, float, int]]:
    for name, numbers in values.items():
        if numbers:
            centre = mean(numbers)
            assert centre is not None
            yield name, _rounded(centre), _rounded(min(numbers)), _rounded(max(numbers)), len(numbers)


# Effects.


def _forest(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    views = []
    for metric in dict.fromkeys(claim.metric for claim in record.claims):
        rows: list[Row] = []
        points: list[Row] = []
        for claim in record.claims:
            verdict = claim.verdict
            if claim.metric != metric or verdict is None or verdict.estimate is None:
                continue
            digits = decimals(claim)
            under = f" · {claim.under.removeprefix('model.')}" if claim.under else ""
            row = len(rows)
            rows.append(
                {
                    "row": row,
                    "label": f"{short_name(record, claim.arm)} − {short_name(record, claim.against)}{under}",
                    "claim": claim.says,
                    "verdict": claim.outcome,
                    "estimate": _rounded(verdict.estimate),
                    "low": None if verdict.low is None else _rounded(verdict.low),
                    "high": None if verdict.high is None else _rounded(verdict.high),
                    "shown": signed(verdict.estimate, digits),
                    "interval": interval(verdict.low, verdict.high, digits),
                    "margin": claim.margin,
                    "minus": -claim.margin,
                    "seeds": verdict.seeds,
                }
            )
            points += [
                {"row": row, "gain": _rounded(gain), "shown": signed(gain, digits), "number": number + 1}
                for number, gain in enumerate(verdict.per_seed)
            ]
        if rows:
            data[f"effects_{metric}"], data[f"gains_{metric}"] = rows, points
            views.append((UNITS[metric].capitalize(), _forest_spec(metric, rows, points)))
    if not views:
        return None
    return Chart(
        "forest",
        "Effects and their intervals",
        "Improvement of the first arm over the second; right of zero the first is better. Bar: simultaneous interval. "
        "Shaded band: differences within the margin. Small rings: single seeds.",
        tuple(views),
        arms=False,
    )


def _forest_spec(metric: str, rows: list[Row], points: list[Row]) -> Spec:
    name = f"effects_{metric}"
    ends = [row[key] for row in rows for key in ("low", "high", "margin", "minus", "estimate") if row[key] is not None]
    ends += [point["gain"] for point in points] + [0.0]
    x = alt.Scale(domain=_domain(ends, 0.08), nice=False)
    axis = alt.Axis(title=f"Improvement, {UNITS[metric]}  (right is better)", format="+.2~f", tickCount=6)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0.1, paddingOuter=0.05))
    colours = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=list(_OUTCOME_COLOURS), range=list(_OUTCOME_COLOURS.values())),
        legend=None,
    )
    tooltip = [
        alt.Tooltip("claim:N", title="Claim"),
        alt.Tooltip("label:N", title="Contrast"),
        alt.Tooltip("verdict:N", title="Verdict"),
        alt.Tooltip("shown:N", title="Improvement"),
        alt.Tooltip("interval:N", title="Interval"),
        alt.Tooltip("margin:Q", title="Margin"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
    base = alt.Chart(alt.NamedData(name=name)).encode(y=y)
    gains = alt.Chart(alt.NamedData(name=f"gains_{metric}")).encode(y=y)
    shape = alt.Shape(
        "verdict:N",
        scale=alt.Scale(domain=list(_OUTCOME_COLOURS), range=["circle", "diamond", "square", "square"]),
        legend=None,
    )
    chart = alt.layer(
        base.mark_bar(color="var(--band)").encode(x=alt.X("minus:Q", scale=x, axis=axis), x2="margin:Q"),
        base.mark_rule(color="var(--rule)").encode(x=alt.datum(0)),
        base.mark_rule(strokeWidth=3, strokeCap="round", yOffset=8).encode(
            x="low:Q", x2="high:Q", color=colours, tooltip=tooltip
        ),
        gains.mark_point(size=26, color="var(--muted)", strokeWidth=1.2, opacity=0.75, yOffset=8).encode(
            x="gain:Q",
            tooltip=[alt.Tooltip("number:Q", title="Seed, counted"), alt.Tooltip("shown:N", title="Improvement")],
        ),
        base.mark_point(size=110, filled=True, opacity=1, yOffset=8).encode(
            x="estimate:Q", color=colours, shape=shape, tooltip=tooltip
        ),
        base.mark_text(align="left", dy=-13, fontSize=12.5, color="var(--ink)").encode(x=alt.value(4), text="label:N"),
    )
    return _finish(
        chart, 56 * len(rows), f"Forest plot of {len(rows)} contrasts with their intervals, {UNITS[metric]}."
    )


# Learning curves.


def _learning(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    metric, home = main_metric(record), reference(record)
    usable = {
        arm.name: [trial for trial in record.trials_of(arm.name) if trial.status != "diverged"] for arm in record.arms
    }
    rows: list[Row] = []
    differences: list[Row] = []
    # Points are gathered by step: seeds read slightly different numbers of tokens, because short documents are padded.
    at = {trial.id: {point.step: point.score[metric] for point in trial.curve} for trial in record.trials}
    read = {trial.id: {point.step: point.tokens for point in trial.curve} for trial in record.trials}
    for step in sorted({step for curve in at.values() for step in curve}):
        scores, tokens = {}, {}
        for name, trials in usable.items():
            there = [trial.id for trial in trials if step in at[trial.id]]
            scores[name] = [at[trial][step] for trial in there]
            tokens[name] = round(fmean(read[trial][step] for trial in there)) if there else 0
        rows += [
            {"arm": name, "tokens": tokens[name], "loss": centre, "low": low, "high": high, "seeds": number}
            for name, centre, low, high, number in _band(scores)
        ]
        gains = {
            arm.name: _paired(usable[arm.name], usable.get(reference_of(record, arm) or "", []), _at(at, step))
            for arm in record.arms
            if arm.name != reference_of(record, arm)
        }
        differences += [
            {"arm": name, "tokens": tokens[name], "loss": centre, "low": low, "high": high, "seeds": number}
            for name, centre, low, high, number in _band(gains)
        ]
    if not rows:
        return None
    data["curve"] = rows
    last = max(row["tokens"] for row in rows)
    late = [row for row in rows if row["tokens"] >= last / 2]
    unit = UNITS[metric]
    plain = f"Loss on the tuning split, {unit}"
    views = [
        ("Whole run", _curve_spec(record, "curve", rows, plain)),
        ("Log scales", _curve_spec(record, "curve", [row for row in rows if row["tokens"] > 0], plain, log=True)),
    ]
    if len({row["tokens"] for row in late}) > 1:
        data["curve_late"] = late
        views.append(("Second half", _curve_spec(record, "curve_late", late, plain)))
    if differences and home:
        data["curve_difference"] = [row for row in differences if row["tokens"] > 0]
        if data["curve_difference"]:
            title = f"Improvement over {home}, {unit}"
            views.append(
                (f"Against {home}", _curve_spec(record, "curve_difference", data["curve_difference"], title, zero=True))
            )
    return Chart(
        "learning",
        "Learning curves",
        "Loss on the tuning split, which no verdict uses. Line: mean over seeds. Band: smallest to largest seed. "
        "A curve before its end is not a result at that budget: the rate has not decayed yet.",
        tuple(views),
    )


def _paired(trials: Iterable[Trial], against: Iterable[Trial], score: Callable[[Trial], float | None]) -> list[float]:
    """Improvements over the trial of the same seed, where both have a score."""
    other = {trial.seed: score(trial) for trial in against}
    pairs = [(other.get(trial.seed), score(trial)) for trial in trials]
    return [theirs - ours for theirs, ours in pairs if theirs is not None and ours is not None]


def _curve_spec(
    record: StudyRecord, name: str, rows: list[Row], title: str, *, log: bool = False, zero: bool = False
) -> Spec:
    colours, dashes = _arm_scales(record)
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
    y = alt.Y("loss:Q", scale=y_scale, axis=y_axis)
    tooltip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("tokens:Q", title="Tokens", format=",d"),
        alt.Tooltip("loss:Q", title="Improvement" if zero else "Mean loss", format="+.4f" if zero else ".4f"),
        alt.Tooltip("low:Q", title="Lowest seed", format="+.4f" if zero else ".4f"),
        alt.Tooltip("high:Q", title="Highest seed", format="+.4f" if zero else ".4f"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
    layers: list[Any] = [
        base.mark_area(interpolate="monotone").encode(
            y=alt.Y("low:Q", scale=y_scale, axis=y_axis), y2="high:Q", opacity=_faded(0.13, 0.02)
        ),
        base.mark_line(interpolate="monotone", strokeWidth=2).encode(y=y, strokeDash=dashes, opacity=_faded(1.0)),
        base.mark_point(filled=True, size=34).encode(y=y, opacity=_faded(1.0), tooltip=tooltip),
    ]
    if zero:
        layers.insert(0, alt.Chart(alt.NamedData(name=name)).mark_rule(color="var(--rule)").encode(y=alt.datum(0)))
    chart = alt.layer(*layers).add_params(_highlight())
    return _finish(chart, 340, f"{title}, against tokens seen, one line per arm with a band over seeds.")


# Loss per split point.


def _splits(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    metric, home = main_metric(record), reference(record)
    window = (record.study.get("data") or {}).get("window")
    rows: list[Row] = []
    differences: list[Row] = []

    def at(split: int) -> Callable[[Trial], float | None]:
        def score(trial: Trial) -> float | None:
            found: Score | None = trial.by_split.get(split)
            return found[metric] if found else None

        return score

    for split in sorted({split for trial in record.trials for split in trial.by_split}):
        label = f"{split} of {window}" if window else str(split)
        loss = {
            arm.name: [value for trial in record.done(arm.name) if (value := at(split)(trial)) is not None]
            for arm in record.arms
        }
        gains = {
            arm.name: _paired(record.done(arm.name), record.done(reference_of(record, arm) or ""), at(split))
            for arm in record.arms
            if arm.name != reference_of(record, arm)
        }
        for target, values in ((rows, loss), (differences, gains)):
            target += [
                {"arm": name, "split": label, "loss": centre, "low": low, "high": high, "seeds": number}
                for name, centre, low, high, number in _band(values)
            ]
    if not rows:
        return None
    data["splits"] = rows
    unit = UNITS[metric]
    views = []
    if differences and home:
        data["splits_difference"] = differences
        views.append(
            (
                f"Against {home}",
                _split_spec(record, "splits_difference", differences, f"Improvement over {home}, {unit}", True),
            )
        )
    views.append(("Loss", _split_spec(record, "splits", rows, f"Test loss on the target, {unit}", False)))
    return Chart(
        "splits",
        "Loss per split point",
        "Where the window is cut: so many tokens are input, the rest is target. Dot: mean over seeds. "
        "Bar: smallest to largest seed. Losses at different split points are over different text.",
        tuple(views),
    )


def _split_spec(record: StudyRecord, name: str, rows: list[Row], title: str, difference: bool) -> Spec:
    colours, dashes = _arm_scales(record)
    order = [arm.name for arm in record.arms if any(row["arm"] == arm.name for row in rows)]
    scale = alt.Scale(
        domain=_domain([row[key] for row in rows for key in ("low", "high")] + [0.0] * difference), nice=True
    )
    form = "+.4f" if difference else ".4f"
    base = alt.Chart(alt.NamedData(name=name)).encode(
        x=alt.X(
            "split:N",
            sort=list(dict.fromkeys(row["split"] for row in rows)),
            axis=alt.Axis(title="Input tokens of the window", labelAngle=0, grid=False),
            scale=alt.Scale(paddingInner=0.25),
        ),
        xOffset=alt.XOffset("arm:N", sort=order, scale=alt.Scale(domain=order)),
        color=colours,
        tooltip=[
            alt.Tooltip("arm:N", title="Arm"),
            alt.Tooltip("split:N", title="Input tokens"),
            alt.Tooltip("loss:Q", title="Improvement" if difference else "Mean loss", format=form),
            alt.Tooltip("low:Q", title="Lowest seed", format=form),
            alt.Tooltip("high:Q", title="Highest seed", format=form),
            alt.Tooltip("seeds:Q", title="Seeds"),
        ],
    )
    axis = alt.Axis(title=title, format="+.3~f" if difference else ".3~f", tickCount=6)
    layers: list[Any] = [
        base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(
            y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", strokeDash=dashes, opacity=_faded(0.55)
        ),
        base.mark_point(filled=True, size=62).encode(y=alt.Y("loss:Q", scale=scale, axis=axis), opacity=_faded(1.0)),
    ]
    if difference:
        layers.insert(0, alt.Chart(alt.NamedData(name=name)).mark_rule(color="var(--rule)").encode(y=alt.datum(0)))
    return _finish(alt.layer(*layers).add_params(_highlight()), 320, f"{title}, per arm and split point.")


# Cost against loss.

_COSTS = (
    ("Training FLOPs", "train_flops", "Training FLOPs per trial", "FLOPs"),
    ("Parameters", "parameters", "Parameters without embeddings", "parameters"),
    ("All parameters", "total_parameters", "All parameters", "parameters"),
    ("Training time", "seconds", "Training seconds, mean over seeds", "seconds"),
)


def _cost(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    metric, rows = main_metric(record), []
    scores = {arm.name: [trial.test[metric] for trial in record.done(arm.name) if trial.test] for arm in record.arms}
    for name, centre, low, high, number in _band(scores):
        arm = record.arm(name)
        assert arm is not None
        seconds = mean(s for trial in record.done(name) if (s := trial.training_seconds) is not None)
        rows.append(
            {"arm": name, "again": bool(arm.repeats), "loss": centre, "low": low, "high": high, "seeds": number}
            | {key: arm.audit.get(key) for _, key, _, _ in _COSTS if key != "seconds"}
            | {"seconds": None if seconds is None else _rounded(seconds)}
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
        "Cost against loss",
        "Down and to the left is better. Dot: mean test loss over seeds; bar: smallest to largest seed; hollow: "
        "repeated under another setting. Arms of equal cost stand above one another.",
        views,
    )


def _cost_spec(record: StudyRecord, key: str, title: str, rows: list[Row], metric: str) -> Spec:
    colours, _ = _arm_scales(record)
    scale = alt.Scale(domain=_domain([row[edge] for row in rows for edge in ("low", "high")]), nice=True)
    axis = alt.Axis(title=f"Test loss, {UNITS[metric]}", format=".3~f", tickCount=6)
    base = alt.Chart(alt.NamedData(name="cost")).encode(
        x=alt.X(
            f"{key}:Q",
            scale=alt.Scale(domain=_domain([row[key] for row in rows]), nice=False),
            axis=alt.Axis(title=title, format="~s" if key != "seconds" else "~f", tickCount=5),
        ),
        color=colours,
        tooltip=[
            alt.Tooltip("arm:N", title="Arm"),
            alt.Tooltip("loss:Q", title="Mean test loss", format=".4f"),
            alt.Tooltip("low:Q", title="Lowest seed", format=".4f"),
            alt.Tooltip("high:Q", title="Highest seed", format=".4f"),
            alt.Tooltip("train_flops:Q", title="Training FLOPs", format=".3~s"),
            alt.Tooltip("parameters:Q", title="Parameters", format=",d"),
            alt.Tooltip("seconds:Q", title="Training seconds", format=".1f"),
        ],
    )
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(
            y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", opacity=_faded(0.5)
        ),
        base.mark_point(size=110, strokeWidth=2).encode(
            y=alt.Y("loss:Q", scale=scale, axis=axis),
            fill=alt.condition("datum.again", alt.value("var(--surface)"), colours),
            opacity=_faded(1.0),
        ),
    ).add_params(_highlight())
    return _finish(chart, 340, f"Test loss of each arm against {title.lower()}.")


def _at(curves: Mapping[str, Mapping[int, float]], step: int) -> Callable[[Trial], float | None]:
    """A trial's loss after that step."""
    return lambda trial: curves[trial.id].get(step)


# Training loss of every trial.


def _training(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    rows: list[Row] = []
    ends: list[Row] = []
    for trial in record.trials:
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
    colours, dashes = _arm_scales(record)
    scale = alt.Scale(type="log", nice=False, domain=_log_domain(row["loss"] for row in rows))
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
    y = alt.Y("loss:Q", scale=scale, axis=alt.Axis(title="Training loss, nats per token", format=".2~f", tickCount=6))
    lines = alt.Chart(alt.NamedData(name="training")).encode(x=x, y=y, color=colours, detail="trial:N")
    layers: list[Any] = [
        lines.mark_line(strokeWidth=1.2).encode(strokeDash=dashes, opacity=_faded(0.7, 0.05), tooltip=tooltip),
    ]
    if ends:
        crosses = alt.Chart(alt.NamedData(name="training_ends")).encode(x=x, y=y, color=colours)
        layers.append(
            crosses.mark_point(shape="cross", angle=45, filled=True, size=130).encode(
                opacity=_faded(1.0), tooltip=[*tooltip, alt.Tooltip("end:N", title="Ended")]
            )
        )
    spec = _finish(
        alt.layer(*layers).add_params(_highlight()), 280, "Training loss of every trial against tokens seen."
    )
    return Chart(
        "training",
        "Training loss of every trial",
        "Mean over stretches of steps, one line per trial. A cross marks where a trial diverged or has stopped so far.",
        (("All trials", spec),),
    )


def _thinned(trial: Trial) -> list[tuple[int, float]]:
    """At most 60 points of a trial's training loss: means over equal stretches of steps."""
    size = max(1, math.ceil(len(trial.losses) / _TRAINING_BINS))
    chunks = [trial.losses[start : start + size] for start in range(0, len(trial.losses), size)]
    return [(chunk[-1][0], float(f"{math.fsum(loss for _, loss in chunk) / len(chunk):.4g}")) for chunk in chunks]


def _log_domain(values: Iterable[float]) -> list[float]:
    """A logarithmic axis over the positive values."""
    positive = [value for value in values if value > 0] or [1.0]
    return [min(positive) * 0.95, max(positive) * 1.05]
