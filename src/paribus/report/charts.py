"""All charts of a report, in order."""

from collections.abc import Callable

from paribus.report.costs import cost
from paribus.report.curves import learning, training
from paribus.report.effects import forest
from paribus.report.figures import Chart, ChartBook, Row
from paribus.report.lengths import beyond, splits
from paribus.report.reading import StudyRecord


def draw_charts(record: StudyRecord) -> ChartBook:
    """All charts for which the study has data."""
    data: dict[str, list[Row]] = {}
    makers: tuple[Callable[[StudyRecord, dict[str, list[Row]]], Chart | None], ...] = (
        forest,
        learning,
        splits,
        beyond,
        cost,
        training,
    )
    charts = tuple(chart for maker in makers if (chart := maker(record, data)))
    return ChartBook(charts, data)
