"""What a claim can be about, as a reader sees it: the quantity, its unit, and which way is better.

Accuracies are shown as shares from 0 to 1, in the unit in which the study file writes their margins.
"""

from typing import NamedTuple

from paribus.errors import StudyError
from paribus.statistics.intervals import METRICS as RATIOS


class Metric(NamedTuple):
    """One column of a result."""

    name: str
    quantity: str
    """What is measured, in the middle of a sentence."""
    unit: str

    @property
    def higher_is_better(self) -> bool:
        """As it is judged."""
        return RATIOS[self.name].more_is_better

    @property
    def weight(self) -> str:
        """What scores of parts of the test set weigh by: `tokens`, `bytes` or `windows`."""
        return RATIOS[self.name].denominator or "windows"

    @property
    def label(self) -> str:
        """`bits per byte`, `token accuracy`: what tells it from the other metrics, in the middle of a sentence."""
        return self.quantity if self.higher_is_better else self.unit

    @property
    def heading(self) -> str:
        """`Test loss, bits per byte`, `Exact match`: at the head of a column."""
        return self.quantity.capitalize() if self.higher_is_better else f"Test loss, {self.unit}"

    @property
    def better(self) -> str:
        """Which way is better."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def best(self) -> str:
        """The word for the best of several scores."""
        return "Highest" if self.higher_is_better else "Lowest"

    def axis(self, split: str = "test") -> str:
        """Title of an axis of scores on a split: `Test loss, bits per byte (lower is better)`; short, so that it fits."""
        quantity = self.quantity if self.higher_is_better else f"{self.quantity.replace('test', split)}, {self.unit}"
        return f"{quantity.capitalize()} ({self.better})"

    def amount(self, size: str) -> str:
        """A difference in words: `0.012 bits per byte`, `0.012 in exact match`."""
        return f"{size} in {self.quantity}" if self.higher_is_better else f"{size} {self.unit}"

    def gain(self, arm: float, against: float) -> float:
        """The improvement of `arm` over `against`: positive where `arm` is better."""
        return arm - against if self.higher_is_better else against - arm


METRICS = {
    metric.name: metric
    for metric in (
        Metric("bits_per_byte", "test loss", "bits per byte"),
        Metric("nats_per_token", "test loss", "nats per token"),
        Metric("token_accuracy", "token accuracy", "share of target tokens"),
        Metric("exact_match", "exact match", "share of whole targets"),
    )
}


def metric_of(name: str) -> Metric:
    """The metric of that name. Raises StudyError where this version knows none."""
    try:
        return METRICS[name]
    except KeyError:
        raise StudyError(
            f"plan.json: metric {name!r}: this version knows {', '.join(METRICS)}; report with the version that ran it"
        ) from None
