"""What a study runs (`plan.json`): arms, claims, effects, sizes, matchings and trials."""

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from paribus import spec
from paribus.records.trials import Trial, Tuned
from paribus.spec.data import Data
from paribus.spec.sizes import circumstance
from paribus.spec.workload import Workload


@dataclass(frozen=True)
class Arm:
    """A named override of the base, and the configuration it resolves to."""

    name: str
    overrides: dict[str, Any]
    """Dotted field to value."""
    config: spec.Config
    repeats: str | None = None
    """The arm of which this is a copy under another value, for a claim's `repeat_under` or for a matching."""
    matched: tuple[str, ...] = ()
    """Of a copy that was solved for: the quantities in which it equals the matching's reference."""
    written: str = ""
    """The arm of the study file that it is, or repeats, or is at a size."""
    size: str | None = None
    """Of a study with sizes: which one, such as `1M`."""

    @property
    def unsized(self) -> str:
        """Its name without the size: the same for the same arm at all sizes."""
        rest = self.name.removeprefix(f"{self.written} [size={self.size}")
        if self.size is None:
            return self.name
        return f"{self.written}{rest[1:]}" if rest.startswith("]") else f"{self.written} [{rest[2:]}"


class PlannedClaim(spec.Claim):
    """A claim of the study file, or its repetition `under` another value."""

    number: int
    """Its place among the claims of the study file, from 0; repetitions have that of the claim they repeat."""
    under: str | None = None
    """For a repetition: the field and its value, such as `model.init = normal_0.02`; or the matching, `equal parameters`."""
    matching: str | None = None
    """For a repetition under a matching: its quantities, such as `parameters`."""
    knob: str | None = None
    """And what was turned, such as `feed_forward`."""
    size: str | None = None
    """In a study with sizes: at which, such as `1M`."""
    vary: list[str]
    """The claim's own, or the study's."""
    hold: list[str]
    """The claim's own, or the study's."""

    @property
    def as_written(self) -> bool:
        """Whether its arms are those that the claim names (at a size), and no copies of them under another setting."""
        return self.under == circumstance(None, self.size)


@dataclass(frozen=True)
class Solved:
    """A matching whose arms were solved for (`matching`): what each arm must set to be equal to the reference."""

    quantities: tuple[str, ...]
    knobs: tuple[str, ...]
    under: str
    """As verdicts name it: `equal parameters`."""
    reference: str
    changes: dict[str, dict[str, Any]]
    """Of each arm, dotted field to value; nothing where it is equal as it is."""
    latencies: dict[str, dict[str, float]]
    """Of each arm that was measured: its time as a share of the reference's (`ratio`), and the `spread` of that."""
    size: str | None = None
    """In a study with sizes: at which."""

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Solved":
        """Read what `dataclasses.asdict` made and JSON kept."""
        return cls(**{**table, "quantities": tuple(table["quantities"]), "knobs": tuple(table["knobs"])})


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
    under: str | None = None
    """In a study with sizes: which, as `size 1M`."""


@dataclass(frozen=True)
class Plan:
    """Arms, claims, and trials in the order in which they run. What all arms share is resolved in each of them (`sharing`)."""

    base: spec.Config
    """The study's own sections; no trial has it, unless an arm overrides nothing."""
    arms: list[Arm]
    claims: list[PlannedClaim]
    trials: list[Trial]
    workload: Workload = dataclasses.field(default_factory=Workload)
    """How the arms would be used; no trial depends on it."""
    matchings: list[Solved] = dataclasses.field(default_factory=list)
    """What the copies that were solved for were solved by."""
    sizes: list[StudySize] = dataclasses.field(default_factory=list)
    """The sizes at which all arms are there, smallest first; none where arms have the size that is written."""
    tuning: Tuned | None = None
    """How fields of `[training]` are tuned for each arm; None where none is."""
    effects: list[PlannedEffect] = dataclasses.field(default_factory=list)
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
        return {
            "base": self.base.model_dump(mode="json"),
            "arms": [
                {
                    "name": arm.name,
                    "overrides": arm.overrides,
                    "config": arm.config.model_dump(mode="json"),
                    "repeats": arm.repeats,
                    "matched": list(arm.matched),
                    "written": arm.written,
                    "size": arm.size,
                }
                for arm in self.arms
            ],
            "claims": [claim.model_dump(mode="json") for claim in self.claims],
            "effects": [effect.model_dump(mode="json") for effect in self.effects],
            "trials": [asdict(trial) for trial in self.trials],
            "workload": self.workload.model_dump(mode="json"),
            "matchings": [asdict(matching) for matching in self.matchings],
            "tuning": asdict(self.tuning) if self.tuning else None,
            "sizes": [asdict(size) for size in self.sizes],
        }

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> "Plan":
        """Read what `to_dict` wrote."""
        return cls(
            unchecked(
                {
                    name: type(getattr(spec.Config(), name)).model_validate(table)
                    for name, table in tables["base"].items()
                }
            ),
            [_read_arm(arm) for arm in tables["arms"]],
            [PlannedClaim.model_validate(claim) for claim in tables["claims"]],
            [Trial(**trial) for trial in tables["trials"]],
            Workload.model_validate(tables.get("workload", {})),
            [Solved.from_dict(table) for table in tables.get("matchings", [])],
            [StudySize(**table) for table in tables.get("sizes", [])],
            Tuned.from_dict(tables["tuning"]) if tables.get("tuning") else None,
            [PlannedEffect.model_validate(effect) for effect in tables.get("effects", [])],
        )


def _read_arm(table: Mapping[str, Any]) -> Arm:
    config, matched = spec.Config.model_validate(table["config"]), tuple(table.get("matched", ()))
    written = table.get("written") or table["repeats"] or table["name"]
    return Arm(**{**table, "config": config, "matched": matched, "written": written})


def unchecked(sections: Mapping[str, Any]) -> spec.Config:
    """A base from its sections: they need not fit together, only each arm's must."""
    return spec.Config.model_construct(**sections)
