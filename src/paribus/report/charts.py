"""All charts of a report, in order."""

from collections.abc import Callable

from paribus.analyses.budgets.charts import budget_gaps, budget_losses
from paribus.analyses.factorial.charts import crossing_effects, interactions
from paribus.analyses.sizes.charts import frontiers, gaps_by_size
from paribus.analyses.tuning.charts import sensitivity, tuning
from paribus.display.effects import forest, matched
from paribus.display.figures import Chart, ChartBook, Row
from paribus.records.reading import StudyRecord
from paribus.report.costs import cost
from paribus.report.curves import learning, training
from paribus.report.lengths import beyond, splits

MAKERS: tuple[Callable[[StudyRecord, dict[str, list[Row]]], Chart | None], ...] = (
    forest,
    matched,
    tuning,
    sensitivity,
    learning,
    budget_losses,
    budget_gaps,
    splits,
    beyond,
    frontiers,
    gaps_by_size,
    interactions,
    crossing_effects,
    cost,
    training,
)
"""Each draws one chart and puts its datasets into `data`, under names of its own; None where the study has no data for it."""


def draw_charts(record: StudyRecord) -> ChartBook:
    """All charts for which the study has data."""
    data: dict[str, list[Row]] = {}
    charts = tuple(chart for maker in MAKERS if (chart := maker(record, data)))
    return ChartBook(charts, data)
