"""`hold` entries: a quantity that two arms must share, and how far apart they may be."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from paribus.spec.fields import QUANTITIES
from paribus.spec.problems import did_you_mean, listed, shown


@dataclass(frozen=True)
class Hold:
    """A quantity, and the tolerated difference as a share of the larger value."""

    quantity: str
    tolerance: float = 0.0

    def allows(self, one: float, other: float) -> bool:
        """Whether two values are equal within the tolerance."""
        return distance(one, other) <= self.tolerance


def distance(one: float, other: float) -> float:
    """The difference as a share of the larger value; 0 for equal values, zeros included."""
    return abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0


def read_hold(text: str) -> Hold:
    """Read `"parameters"` or `"train_flops: 5%"`. Raises ValueError that says what would be right."""
    quantity, colon, tolerance = (part.strip() for part in text.partition(":"))
    if quantity not in QUANTITIES:
        near = did_you_mean(quantity, QUANTITIES, quoted=True) or f"; known are {listed(QUANTITIES)}"
        raise ValueError(f"no such quantity{near}")
    if not colon:
        return Hold(quantity)
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", tolerance)
    if match is None or float(match[1]) >= 100:
        example = f"{quantity}: 5%"
        raise ValueError(f"the tolerance should be a percentage below 100, such as {shown(example)}")
    return Hold(quantity, float(match[1]) / 100)


def read_holds(texts: Iterable[str]) -> list[Hold]:
    """Read a whole `hold` list."""
    return [read_hold(text) for text in texts]
