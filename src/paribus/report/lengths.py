"""The charts over lengths: the score at each length of input, and at windows longer than those trained on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from paribus.display.figures import (
    Chart,
    Row,
    Spec,
    arm_scales,
    band,
    domain,
    drawn_arms,
    faded,
    finish,
    highlight,
    left_out,
    reference,
    reference_of,
)
from paribus.display.measured import LOSSES, charted, main_loss, objectives
from paribus.display.numbers import grouped
from paribus.display.tables import length_text
from paribus.display.wording import short_name
from paribus.evaluation.metrics import Metric
from paribus.records.reading import StudyRecord, Trial
from paribus.records.scores import Score, Weight
from paribus.report.curves import paired

MOST_SPLITS = 8
"""Lengths of input that stand in the chart by themselves; more are gathered in bins."""
BINS = 5

Scorer = Callable[[Trial], float | None]


def splits(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """The test score at each length of input; None where there is one alone, or no test yet."""
    bins = length_bins({split for trial in record.trials for split in trial.by_split}, record.test_weights)
    if len(bins) < 2:
        return None
    window = (record.study.get("data") or {}).get("window")
    of_window = f" of {window}" if window and "pairs" not in objectives(record) else ""
    places = [(f"{_range(lengths)}{of_window}", lengths) for lengths in bins]
    views: list[tuple[str, Spec]] = []
    for metric in charted(record):
        scorers = [(label, _pooled(lengths, record.test_weights, metric)) for label, lengths in places]
        views += _views(record, data, "splits", metric, scorers, "Input tokens", first_difference=True)
    gathered = any(len(lengths) > 1 for lengths in bins)
    text = (
        "Test pairs by length of input, gathered so that each group has about as many."
        if gathered
        else "So many tokens are input, what is predicted comes after."
    )
    return Chart(
        "splits",
        "By length of input",
        f"{text} Dot: mean over seeds. Bar: smallest to largest seed. Scores at different lengths are over different "
        f"text.{left_out(record)}",
        tuple(views),
    )


def length_bins(lengths: set[int], weights: Mapping[int, Weight]) -> list[list[int]]:
    """Lengths of input in ascending order: each by itself where they are few, else in quantile bins of the test windows."""
    ordered = sorted(lengths)
    if len(ordered) <= MOST_SPLITS:
        return [[length] for length in ordered]
    count = {length: weights[length].windows if length in weights else 1 for length in ordered}
    total, below = sum(count.values()), 0
    bins: dict[int, list[int]] = {}
    for length in ordered:
        middle = below + count[length] / 2
        bins.setdefault(int(BINS * middle / total), []).append(length)
        below += count[length]
    return list(bins.values())


def _range(lengths: Sequence[int]) -> str:
    return str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]}–{lengths[-1]}"


def _pooled(lengths: Sequence[int], weights: Mapping[int, Weight], metric: Metric) -> Scorer:
    """A trial's score over all test windows of these lengths of input: each weighs as the metric's denominator says."""

    def score(trial: Trial) -> float | None:
        total, whole = 0.0, 0
        for length in lengths:
            value = trial.by_split[length].get(metric.name) if length in trial.by_split else None
            weight = getattr(weights[length], metric.weight) if length in weights else 1
            if value is not None:
                total, whole = total + value * weight, whole + weight
        return total / whole if whole else None

    return score


def beyond(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """The loss at windows longer than those trained on; None where none was measured."""
    factors = sorted({factor for trial in record.trials for factor in trial.by_window_factor})
    window = (record.study.get("data") or {}).get("window")
    metric = main_loss(record)
    if not any(isinstance(score, Score) for trial in record.trials for score in trial.by_window_factor.values()):
        return None

    def at(factor: float) -> Scorer:
        def score(trial: Trial) -> float | None:
            found = trial.test if factor == 1 else trial.by_window_factor.get(factor)
            return found.get(metric.name) if isinstance(found, Score) else None

        return score

    scorers = [(length_text(window, factor).replace(" tokens", ""), at(factor)) for factor in (1.0, *factors)]
    trained = grouped(window) if window else "the window"
    return Chart(
        "beyond",
        "Beyond the training length",
        f"Trained on windows of {trained} tokens, the first of the axis. Dot: mean over seeds. Bar: smallest to largest "
        "seed. Losses at different lengths are over different text; the level of one arm against another tells "
        f"more.{left_out(record)}",
        tuple(_views(record, data, "beyond", metric, scorers, "Tokens of the window", joined=True)),
    )


def _views(
    record: StudyRecord,
    data: dict[str, list[Row]],
    name: str,
    metric: Metric,
    scorers: Sequence[tuple[str, Scorer]],
    axis: str,
    *,
    joined: bool = False,
    first_difference: bool = False,
) -> list[tuple[str, Spec]]:
    """The scores themselves, and set against the reference arm, seed by seed; `scorers` name places on the axis."""
    home, rows, differences = reference(record), list[Row](), list[Row]()
    for label, scorer in scorers:
        scores = {
            arm.name: [value for trial in record.done(arm.name) if (value := scorer(trial)) is not None]
            for arm in drawn_arms(record)
        }
        gains = {
            arm.name: paired(metric, record.done(arm.name), record.done(reference_of(record, arm) or ""), scorer)
            for arm in drawn_arms(record)
            if arm.name != reference_of(record, arm)
        }
        for target, values in ((rows, scores), (differences, gains)):
            target += [
                {"arm": arm, "place": label, "score": centre, "low": low, "high": high, "seeds": number}
                for arm, centre, low, high, number in band(values)
            ]
    order = [label for label, _ in scorers]
    views = []
    if rows:
        data[f"{name}_{metric.name}"] = rows
        label = "Loss" if metric.name in LOSSES else metric.label.capitalize()
        views.append((label, _spec(record, f"{name}_{metric.name}", rows, order, metric.axis(), axis, joined, False)))
    if differences and home and metric == charted(record)[0]:
        data[f"{name}_difference"] = differences
        improvement = f"Improvement over {short_name(record, home)}, {metric.label}"
        spec = _spec(record, f"{name}_difference", differences, order, improvement, axis, joined, True)
        views.insert(0 if first_difference else 1, (f"Against {short_name(record, home)}", spec))
    return views


def _spec(
    record: StudyRecord,
    name: str,
    rows: list[Row],
    order: Sequence[str],
    title: str,
    axis_title: str,
    joined: bool,
    difference: bool,
) -> Spec:
    colours, dashes = arm_scales(record)
    arms = [arm.name for arm in record.arms if any(row["arm"] == arm.name for row in rows)]
    scale = alt.Scale(
        domain=domain([row[key] for row in rows for key in ("low", "high")] + [0.0] * difference), nice=True
    )
    form = "+.4f" if difference else ".4f"
    base = alt.Chart(alt.NamedData(name=name)).encode(
        x=alt.X(
            "place:N",
            sort=list(order),
            axis=alt.Axis(title=axis_title, labelAngle=0, grid=False),
            scale=alt.Scale(type="point", padding=0.3) if joined else alt.Scale(paddingInner=0.25),
        ),
        color=colours,
        tooltip=[
            alt.Tooltip("arm:N", title="Arm"),
            alt.Tooltip("place:N", title=axis_title),
            alt.Tooltip("score:Q", title="Improvement" if difference else "Mean", format=form),
            alt.Tooltip("low:Q", title="Lowest seed", format=form),
            alt.Tooltip("high:Q", title="Highest seed", format=form),
            alt.Tooltip("seeds:Q", title="Seeds"),
        ],
    )
    if not joined:
        base = base.encode(xOffset=alt.XOffset("arm:N", sort=arms, scale=alt.Scale(domain=arms)))
    axis = alt.Axis(title=title, format="+.3~f" if difference else ".3~f", tickCount=6)
    y = alt.Y("score:Q", scale=scale, axis=axis)
    layers: list[Any] = [
        base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(
            y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", strokeDash=dashes, opacity=faded(0.55)
        ),
        base.mark_point(filled=True, size=62).encode(y=y, opacity=faded(1.0)),
    ]
    if joined:
        layers.insert(0, base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dashes, opacity=faded(0.8)))
    if difference:
        layers.insert(0, alt.Chart(alt.NamedData(name=name)).mark_rule(color="var(--rule)").encode(y=alt.datum(0)))
    return finish(alt.layer(*layers).add_params(highlight()), 320, f"{title}, per arm and length.")
