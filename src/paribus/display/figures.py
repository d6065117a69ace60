"""What the charts of a report share: figures as Vega-Lite specifications, colours, scales and bands.

Colours are CSS variables, which the SVG renderer passes through, so that one specification serves light, dark and paper.
Data are named datasets shared by all charts; arms appear in them as values, never as field names or in expressions, so
that no name can change a chart. Every parameter and view has an explicit name: altair would number them otherwise, and
the report of one directory would differ from call to call.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from paribus.display.numbers import mean
from paribus.display.wording import OUTCOMES, short_name
from paribus.records.reading import Arm, StudyRecord

Row = dict[str, Any]
Spec = dict[str, Any]
HUES = 8
"""Colours in the palette of report.css; further arms use them again with another dash."""
_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
_REPEAT_DASH = [4, 3]
_TRAINING_BINS = 60
OUTCOME_COLOURS = {outcome: f"var(--{outcome})" for outcome in OUTCOMES}


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


MOST_REPEATS = 4
"""More repeated arms would hide what the arms as written do: charts over training and lengths then leave all of them out."""


def drawn_arms(record: StudyRecord) -> tuple[Arm, ...]:
    """The arms that charts over training and lengths draw: those as written, and their repeats while these are few."""
    repeats = len(record.arms) - len(record.base_arms)
    return record.arms if repeats <= MOST_REPEATS else record.base_arms


def left_out(record: StudyRecord) -> str:
    """The sentence that says so below a chart; empty where all arms are drawn."""
    number = len(record.arms) - len(drawn_arms(record))
    return f" {number} repeated arms are not drawn; the tables have them." if number else ""


def hue(record: StudyRecord, name: str) -> int:
    """Index of an arm's colour; a repeat, and an arm at another size, has the colour of the arm as written."""
    base = list(dict.fromkeys(arm.written for arm in record.base_arms))
    home = short_name(record, name)
    return base.index(home) if home in base else 0


def dash(record: StudyRecord, name: str) -> list[int]:
    """Dash of an arm's line: repeats are dashed, and so are further sizes and arms beyond the palette."""
    arm = record.arm(name)
    if arm and arm.size is not None and not arm.repeats:
        sizes = list(dict.fromkeys(other.size for other in record.base_arms))
        return _DASHES[sizes.index(arm.size) % len(_DASHES)]
    return _REPEAT_DASH if arm and arm.repeats else _DASHES[hue(record, name) // HUES % len(_DASHES)]


def colour(record: StudyRecord, name: str) -> str:
    """An arm's colour as a CSS variable."""
    return f"var(--arm-{hue(record, name) % HUES})"


def reference(record: StudyRecord) -> str | None:
    """The arm that most claims are set against: zero of the difference views."""
    plain = [claim.against for claim in record.claims if claim.condition.as_written]
    if plain:
        return Counter(plain).most_common(1)[0][0]
    return record.arms[0].name if record.arms else None


def reference_of(record: StudyRecord, arm: Arm) -> str | None:
    """The reference at the same size and under the same setting: a repeat is compared with the repeat of the reference."""
    home = record.arm(reference(record) or "")
    if home is None:
        return None
    same = [other for other in record.arms if other.written == home.written and other.size == arm.size]
    if not arm.repeats:
        return next((other.name for other in same if not other.repeats), None)
    changed = _changed(arm, record.arm(arm.repeats))
    twins = (other for other in same if other.repeats and _changed(other, record.arm(other.repeats)) == changed)
    return next((other.name for other in twins), None)


def _changed(arm: Arm, original: Arm | None) -> dict[str, Any]:
    """What a repeat overrides beyond the arm that it repeats."""
    before = original.overrides if original else {}
    return {key: value for key, value in arm.overrides.items() if before.get(key) != value}


# Parts that charts share.


def arm_scales(record: StudyRecord) -> tuple[alt.Color, alt.StrokeDash]:
    """Colour and dash by arm, for all charts alike."""
    names = [arm.name for arm in record.arms]
    colours = [colour(record, name) for name in names]
    dashes = [dash(record, name) for name in names]
    return (
        alt.Color("arm:N", scale=alt.Scale(domain=names, range=colours), legend=None),
        alt.StrokeDash("arm:N", scale=alt.Scale(domain=names, range=dashes), legend=None),
    )


def highlight() -> alt.Parameter:
    """Name of the arm that the reader has picked; the page sets it."""
    return alt.param(name="highlight", value=False)


def faded(normal: float, faint: float = 0.08) -> Any:
    """Opacity that steps back for all arms but the picked one."""
    return alt.condition("!highlight || datum.arm === highlight", alt.value(normal), alt.value(faint))


def finish(chart: Any, height: int | alt.Step, description: str) -> Spec:
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


def domain(values: Iterable[float], margin: float = 0.06) -> list[float]:
    """An axis that holds all values, with some air; never empty."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    air = (high - low) * margin or abs(high) * margin or 1.0
    return [low - air, high + air]


def rounded(value: float) -> float:
    """Six significant digits: enough for a screen, and short in the file."""
    return float(f"{value:.6g}")


def band(values: dict[str, list[float]]) -> Iterable[tuple[str, float, float, float, int]]:
    """Of each arm's numbers over seeds: name, mean, lowest, highest, how many."""
    for name, numbers in values.items():
        if numbers:
            centre = mean(numbers)
            assert centre is not None
            yield name, rounded(centre), rounded(min(numbers)), rounded(max(numbers)), len(numbers)
