"""The charts of effects: the forest plot of contrasts, and the loss at each split point."""

from collections.abc import Callable
from typing import Any

import altair as alt

from paribus.report.curves import paired
from paribus.report.figures import (
    _OUTCOME_COLOURS,
    Chart,
    Row,
    Spec,
    arm_scales,
    band,
    domain,
    faded,
    finish,
    highlight,
    main_metric,
    reference,
    reference_of,
    rounded,
)
from paribus.report.numbers import UNITS, decimals, interval, signed
from paribus.report.reading import Score, StudyRecord, Trial
from paribus.report.wording import short_name

# Effects.


def forest(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Every contrast with its interval and its margin; None where nothing is judged."""
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
                    "estimate": rounded(verdict.estimate),
                    "low": None if verdict.low is None else rounded(verdict.low),
                    "high": None if verdict.high is None else rounded(verdict.high),
                    "shown": signed(verdict.estimate, digits),
                    "interval": interval(verdict.low, verdict.high, digits),
                    "margin": claim.margin,
                    "minus": -claim.margin,
                    "seeds": verdict.seeds,
                }
            )
            points += [
                {"row": row, "gain": rounded(gain), "shown": signed(gain, digits), "number": number + 1}
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
    x = alt.Scale(domain=domain(ends, 0.08), nice=False)
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
    return finish(chart, 56 * len(rows), f"Forest plot of {len(rows)} contrasts with their intervals, {UNITS[metric]}.")


# Loss per split point.


def splits(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Test loss at each length of input; None where there is one alone, or no test yet."""
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
            arm.name: paired(record.done(arm.name), record.done(reference_of(record, arm) or ""), at(split))
            for arm in record.arms
            if arm.name != reference_of(record, arm)
        }
        for target, values in ((rows, loss), (differences, gains)):
            target += [
                {"arm": name, "split": label, "loss": centre, "low": low, "high": high, "seeds": number}
                for name, centre, low, high, number in band(values)
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
    colours, dashes = arm_scales(record)
    order = [arm.name for arm in record.arms if any(row["arm"] == arm.name for row in rows)]
    scale = alt.Scale(
        domain=domain([row[key] for row in rows for key in ("low", "high")] + [0.0] * difference), nice=True
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
            y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", strokeDash=dashes, opacity=faded(0.55)
        ),
        base.mark_point(filled=True, size=62).encode(y=alt.Y("loss:Q", scale=scale, axis=axis), opacity=faded(1.0)),
    ]
    if difference:
        layers.insert(0, alt.Chart(alt.NamedData(name=name)).mark_rule(color="var(--rule)").encode(y=alt.datum(0)))
    return finish(alt.layer(*layers).add_params(highlight()), 320, f"{title}, per arm and split point.")
