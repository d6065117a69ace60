"""The units of work of a plan, and how fields of `[training]` were tuned: grids, trials that choose, choices (`plan.json`)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, Any]
"""Dotted field to value."""
Grid = dict[str, list[Any]]
"""Dotted field to its values, ascending; every combination is tried."""


@dataclass(frozen=True)
class Trial:
    """One arm, one seed: the unit of work and one directory."""

    id: str
    arm: str
    seed: int


@dataclass(frozen=True)
class TuningTrial(Trial):
    """A trial that helps to choose a value: it is scored on the tuning split alone, at a seed of no verdict."""

    of: str
    """The arm that is tuned; `arm` is its copy at these values."""
    values: Values


@dataclass(frozen=True)
class Widened:
    """A value that was added to a grid, because some arm's best lay at the edge."""

    field: str
    value: Any
    arms: list[str]
    """Those whose best lay there."""


@dataclass(frozen=True)
class Stopped:
    """An edge beyond which a grid was not widened, though some arm's best lies there."""

    field: str
    value: Any
    reason: str
    arms: list[str]


@dataclass(frozen=True)
class Group:
    """Arms that are tuned over one grid: all of a study, or all of one size."""

    arms: list[str]
    written: Grid
    """As the study has it."""
    grid: Grid
    """With what was added."""
    widened: list[Widened] = field(default_factory=list)
    stopped: list[Stopped] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """The values of an arm's verdicts."""

    values: Values
    score: float | None
    """Mean over the tuning seeds of the metric on the tuning split; None where every value diverged."""
    edges: list[str]
    """Fields in which the best value is the smallest or largest of the final grid."""


@dataclass(frozen=True)
class Tuned:
    """How a plan's arms are tuned: what is asked, and once the trials have ended what came out."""

    metric: str
    """Of the tuning split; ties are broken by the loss."""
    seeds: list[int]
    common_values: bool
    """Whether claims are also judged with all arms at each value of the grid."""
    groups: list[Group]
    choices: dict[str, Choice] = field(default_factory=dict)
    """Of each arm; empty until it is tuned."""
    trials: list[TuningTrial] = field(default_factory=list)
    scores: dict[str, float | None] = field(default_factory=dict)
    """Of each tuning trial; None where it diverged."""
    copies: dict[str, Values] = field(default_factory=dict)
    """The copies of arms at common values, and what they set."""

    @property
    def fields(self) -> list[str]:
        """What is tuned."""
        return list(dict.fromkeys(name for group in self.groups for name in group.written))

    @property
    def arms(self) -> list[str]:
        """The arms that are tuned, in the order of the plan within each size."""
        return [name for group in self.groups for name in group.arms]

    def group_of(self, arm: str) -> Group:
        """The group in which an arm is tuned. Raises KeyError where there is none."""
        for group in self.groups:
            if arm in group.arms:
                return group
        raise KeyError(arm)

    @classmethod
    def together(cls, several: Iterable["Tuned"]) -> "Tuned":
        """What is asked of several plans that are merged, each with groups of its own."""
        first, *others = several
        groups = [group for tuned in (first, *others) for group in tuned.groups]
        return cls(first.metric, first.seeds, first.common_values, groups)
