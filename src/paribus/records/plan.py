"""What a study runs (`plan.json`): arms, claims, effects, sizes, matchings and trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from paribus import spec
from paribus.records.condition import AS_WRITTEN, Condition
from paribus.records.trials import Trial, Tuned
from paribus.spec.data import Data
from paribus.spec.workload import Workload


@dataclass(frozen=True)
class Arm:
    """A named override of the base, and the configuration it resolves to."""

    name: str
    """As `condition.arm_name` makes it."""
    written: str
    """The arm of the study file that it is, or repeats, or is at a size."""
    overrides: dict[str, Any]
    """Dotted field to value."""
    config: spec.Config
    condition: Condition = AS_WRITTEN
    """At which size it is, and for which repetition it was made: copies that are configured alike are one arm."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Of a copy: what it sets beyond the arm as written, dotted field to value."""
    repeats: str | None = None
    """The arm of which this is a copy under another value, for a claim's `repeat_under` or for a matching."""

    @property
    def size(self) -> str | None:
        """Of a study with sizes: which one, such as `1M`."""
        return self.condition.size


class PlannedClaim(spec.Claim):
    """A claim of the study file, or its repetition under another condition."""

    number: int
    """Its place among the claims of the study file, from 0; repetitions have that of the claim they repeat."""
    condition: Condition = AS_WRITTEN
    """What it is judged under."""
    vary: list[str]
    """The claim's own, or the study's."""
    hold: list[str]
    """The claim's own, or the study's."""


@dataclass(frozen=True)
class Solved:
    """A matching whose arms were solved for (`plan.matching`): what each arm must set to be equal to the reference."""

    condition: Condition
    """The matching, and in a study with sizes at which."""
    reference: str
    changes: dict[str, dict[str, Any]]
    """Of each arm, dotted field to value; nothing where it is equal as it is."""
    latencies: dict[str, dict[str, float]]
    """Of each arm that was measured: its time as a share of the reference's (`ratio`), and the `spread` of that."""


@dataclass(frozen=True)
class StudySize:
    """One size of a study, and what it came to."""

    label: str
    """As names and verdicts have it: `1M`."""
    goal: int
    """Parameters asked for."""
    reference: str
    """The arm whose parameters they are."""
    parameters: int
    """Parameters that this arm has outside the embeddings."""
    changes: dict[str, Any]
    """What the size sets of the base, dotted field to value; nothing where the base has that size."""


class PlannedEffect(spec.Effect):
    """A claim about crossed factors, resolved to the arms that it combines."""

    number: int
    """Its place among the effects of the study file, from 0."""
    kind: str
    """`main`, `interaction` or `three-factor interaction`."""
    factors: list[str]
    """The fields."""
    levels: list[str]
    """In words, of each factor."""
    against: list[str]
    """The reference level of each factor."""
    over: list[str]
    """The factors over whose levels it is averaged."""
    weights: dict[str, float]
    """By arm; they sum to 0."""
    pairs: list[list[str]]
    """The arms that differ in the first factor alone, level and reference: each pair must hold what is to be equal."""
    hold: list[str]
    """The effect's own, or the study's."""
    condition: Condition = AS_WRITTEN
    """In a study with sizes: which."""


def unchecked(sections: spec.Config | Mapping[str, Any]) -> spec.Config:
    """A base from its sections: they need not fit together, only each arm's must."""
    if isinstance(sections, spec.Config):
        return sections
    kinds = spec.Config.model_fields
    read = {
        name: TypeAdapter[Any](kinds[name].annotation or object).validate_python(value)
        for name, value in sections.items()
    }
    return spec.Config.model_construct(**read)


def _tables(base: spec.Config) -> dict[str, Any]:
    return base.model_dump(mode="json")


@dataclass(frozen=True)
class Plan:
    """Arms, claims, and trials in the order in which they run. What all arms share is resolved in each (`plan.sharing`)."""

    base: Annotated[spec.Config, PlainValidator(unchecked), PlainSerializer(_tables)]
    """The study's own sections; no trial has it, unless an arm overrides nothing."""
    arms: list[Arm]
    claims: list[PlannedClaim]
    trials: list[Trial]
    workload: Workload = field(default_factory=Workload)
    """How the arms would be used; no trial depends on it."""
    matchings: list[Solved] = field(default_factory=list)
    """What the copies that were solved for were solved by."""
    sizes: list[StudySize] = field(default_factory=list)
    """The sizes at which all arms are there, smallest first; none where arms have the size that is written."""
    tuning: Tuned | None = None
    """How fields of `[training]` are tuned for each arm; None where none is."""
    effects: list[PlannedEffect] = field(default_factory=list)
    """Claims about crossed factors, at each size."""

    @cached_property
    def _by_name(self) -> dict[str, Arm]:
        return {arm.name: arm for arm in self.arms}

    @property
    def data(self) -> Data:
        """The text of all arms, what their objectives need of it resolved."""
        return self.base.data

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises KeyError if there is none."""
        return self._by_name[name]

    def at_size(self, size: str | None) -> list[str]:
        """Names of the arms of one size, of all arms in a study without sizes."""
        return [arm.name for arm in self.arms if arm.size == size]

    @property
    def configs(self) -> dict[str, spec.Config]:
        """The configuration of each arm."""
        return {arm.name: arm.config for arm in self.arms}

    @property
    def seeds(self) -> list[int]:
        """The seeds, each arm's the same, in the order in which they run."""
        return list(dict.fromkeys(trial.seed for trial in self.trials))

    @property
    def all_trials(self) -> list[Trial]:
        """The trials of the verdicts, and before them those that chose values."""
        chose = self.tuning.trials if self.tuning else []
        return list({trial.id: trial for trial in (*chose, *self.trials)}.values())

    def to_dict(self) -> dict[str, Any]:
        """The plan as `plan.json` holds it."""
        made: dict[str, Any] = _PLAN.dump_python(self, mode="json")
        return made

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> "Plan":
        """Read what `to_dict` wrote. Raises pydantic's ValidationError where it does not follow docs/directory.md."""
        return _PLAN.validate_python(dict(tables))


_PLAN = TypeAdapter(Plan)
