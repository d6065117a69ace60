"""The chart of effects: every contrast with its interval."""

from collections.abc import Sequence

import altair as alt

from paribus.display.figures import OUTCOME_COLOURS, Chart, Row, Spec, domain, finish, rounded
from paribus.display.numbers import decimals, interval, listed, signed
from paribus.display.repeats import contrasts
from paribus.display.tables import OFF
from paribus.display.wording import cautions, short_name
from paribus.evaluation.metrics import Metric, metric_of
from paribus.records.reading import Claim, StudyRecord

_AXIS = 44
"""Height of the axis and its title, in pixels: a chart's height holds them too."""


def forest(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Every claim with its interval and its margin, and in another view its repeats too; None where nothing is judged."""
    views = []
    plain = [claim for claim in record.claims if claim.condition.as_written]
    for metric in dict.fromkeys(metric_of(claim.metric) for claim in record.claims):
        label = metric.label.capitalize()
        views += claims_view(record, data, label, metric, plain, "effects")
        if len(plain) < len(record.claims):
            views += claims_view(record, data, f"{label}, repeats too", metric, record.claims, "all_effects")
    if not views:
        return None
    return Chart("forest", "Effects and their intervals", _CAPTION, tuple(views), arms=False)


def matched(record: StudyRecord, data: dict[str, list[Row]]) -> Chart | None:
    """Claims as written and with arms made equal, below one another; None where no arms were."""
    of_matchings = []
    for pair in contrasts(record):
        for claim in pair.at_sizes or (pair.claim,):
            equal = [again for again in pair.repeats if again.condition.matching and again.size == claim.size]
            of_matchings += [claim, *equal] if equal else []
    views = []
    for metric in dict.fromkeys(metric_of(claim.metric) for claim in of_matchings):
        views += claims_view(record, data, metric.label.capitalize(), metric, of_matchings, "matched")
    return Chart("matched", "Effects with arms made equal", _CAPTION, tuple(views), arms=False) if views else None


_CAPTION = (
    "Improvement of the first arm over the second; right of zero the first is better. Bar: simultaneous interval. "
    "Shaded band: differences within the margin. Small rings: single seeds."
)


def claims_view(
    record: StudyRecord, data: dict[str, list[Row]], label: str, metric: Metric, claims: Sequence[Claim], name: str
) -> list[tuple[str, Spec]]:
    """One view: the judged claims of one metric, a row each; none where there are none."""
    rows: list[Row] = []
    points: list[Row] = []
    for claim in claims:
        verdict = claim.verdict
        if claim.metric != metric.name or verdict is None or verdict.estimate is None:
            continue
        digits = decimals(claim)
        under = f" · {claim.condition}" if claim.condition else ""
        if name == "matched" and not claim.condition.matching:
            under = f" · as written{f' at size {claim.size}' if claim.size else ''}"
        caution = [name for name, _ in cautions(record, claim.arm, claim.against)]
        off = f" · {listed(caution)} {OFF}" if caution else ""
        row = len(rows)
        rows.append(
            {
                "row": row,
                "label": f"{short_name(record, claim.arm)} − {short_name(record, claim.against)}{under}{off}",
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
    if not rows:
        return []
    name = f"{name}_{metric.name}"
    data[name], data[f"{name}_seeds"] = rows, points
    return [(label, _forest_spec(metric, name, rows, points))]


def _forest_spec(metric: Metric, name: str, rows: list[Row], points: list[Row]) -> Spec:
    ends = [row[key] for row in rows for key in ("low", "high", "margin", "minus", "estimate") if row[key] is not None]
    ends += [point["gain"] for point in points] + [0.0]
    x = alt.Scale(domain=domain(ends, 0.08), nice=False)
    axis = alt.Axis(title=f"Improvement, {metric.label} (right is better)", format="+.2~f", tickCount=6)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0.1, paddingOuter=0.05))
    colours = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=list(OUTCOME_COLOURS), range=list(OUTCOME_COLOURS.values())),
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
    gains = alt.Chart(alt.NamedData(name=f"{name}_seeds")).encode(y=y)
    shape = alt.Shape(
        "verdict:N",
        scale=alt.Scale(domain=list(OUTCOME_COLOURS), range=["circle", "diamond", "square", "square"]),
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
    return finish(
        chart, 56 * len(rows) + _AXIS, f"Forest plot of {len(rows)} contrasts with their intervals, {metric.label}."
    )
