"""What a study will run: arms resolved, claims with their repetitions, and trials in order (`plan.json`)."""

import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from paribus.errors import StudyError
from paribus.study import spec
from paribus.study.arms import own_sections, resolve, value_of
from paribus.study.checks import check_study
from paribus.study.effects import PlannedEffect, planned_effects
from paribus.study.fields import flatten, leaf_name
from paribus.study.holds import read_hold
from paribus.study.own_rules import readable, rule_name
from paribus.study.parity import TOLERANCE
from paribus.study.problems import shown
from paribus.study.scale import circumstance
from paribus.study.sharing import shared_sections
from paribus.study.sizes import StudySize, sized_studies
from paribus.study.text import Data
from paribus.study.trials import Group, Trial, Tuned
from paribus.study.workload import Workload


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
            _unchecked(
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


# What a change of size changes: held in a matching only where it is what is matched.
_SIZES = ("parameters", "total_parameters", "train_flops", "serve_flops", "kv_bytes")


def build_plan(study: spec.Study, solved: Sequence[Solved] = ()) -> Plan:
    """Resolve every arm at every size, repeat what claims and matchings ask to repeat, and order the trials seed by seed.

    A study's matchings are solved for on its text (`matching.matched_plan`); without them the plan has the arms as written.
    After each round of trials every arm has one seed more, so that a study that is stopped compares all arms.
    Raises StudyError where the study cannot be run as it stands.
    """
    check_study(study)
    if not study.sizes.values:
        return _with_effects(study, _plan_of(study, solved))
    plans = []
    for size, sized in sized_studies(study):
        own = [matching for matching in solved if matching.size == size.label]
        plans.append(_at_size(_plan_of(sized, own), size))
    arms = [arm for plan in plans for arm in plan.arms]
    # A claim at all sizes, then the next: their plans have the same claims in the same order.
    claims = [claim for same in zip(*(plan.claims for plan in plans), strict=True) for claim in same]
    trials = [trial for seed in plans[0].seeds for plan in plans for trial in plan.trials if trial.seed == seed]
    shared = {name: getattr(plans[0].base, name) for name in ("data", "evaluation")}
    sizes = [size for plan in plans for size in plan.sizes]
    tuning = Tuned.together(plan.tuning for plan in plans if plan.tuning) if study.training.grid else None
    base = _unchecked(own_sections(study) | shared)
    return _with_effects(study, Plan(base, arms, claims, trials, study.workload, list(solved), sizes, tuning))


def _with_effects(study: spec.Study, plan: Plan) -> Plan:
    """A plan of arms, with the study's claims about crossed factors at each size."""
    names: dict[str | None, dict[str, str]] = {}
    for arm in plan.arms:
        if arm.repeats is None:
            names.setdefault(circumstance(None, arm.size), {})[arm.written] = arm.name
    configs = {name: resolve(study, overrides) for name, overrides in study.arm.items()}
    return replace(plan, effects=planned_effects(study, configs, names))


def _at_size(plan: Plan, size: StudySize) -> Plan:
    """The plan of a study at one size, all in it named by that: `gpt [size=1M]`, `t5 [size=1M, parameters: feed_forward=88]`."""
    names = {}
    for arm in plan.arms:
        setting = arm.name.removeprefix(arm.written)
        names[arm.name] = f"{arm.written} [size={size.label}{f', {setting[2:]}' if setting else ']'}"
    arms = [
        replace(
            arm,
            name=names[arm.name],
            overrides={field: value_of(arm.config, field) for field in (*size.changes, *arm.overrides)},
            repeats=names[arm.repeats] if arm.repeats else None,
            size=size.label,
        )
        for arm in plan.arms
    ]
    claims = [
        claim.model_copy(
            update={
                "arm": names[claim.arm],
                "against": names[claim.against],
                "under": circumstance(claim.under, size.label),
                "size": size.label,
            }
        )
        for claim in plan.claims
    ]
    trials = [Trial(trial_id(arm, seed), arm.name, seed) for seed in plan.seeds for arm in arms]
    tuning = plan.tuning and replace(
        plan.tuning, groups=[replace(group, arms=[arm.name for arm in arms]) for group in plan.tuning.groups]
    )
    return replace(plan, arms=arms, claims=claims, trials=trials, sizes=[size], tuning=tuning)


def _plan_of(study: spec.Study, solved: Sequence[Solved]) -> Plan:
    """The plan of a checked study at the size that it is written in."""
    arms = {name: _arm(study, name, flatten(overrides), None) for name, overrides in study.arm.items()}
    claims: list[PlannedClaim] = []
    written = [
        {
            **claim.model_dump(),
            "number": number,
            "vary": _or(claim.vary, study.vary),
            "hold": _or(claim.hold, study.hold),
        }
        for number, claim in enumerate(study.claim)
    ]
    for claim, tables in zip(study.claim, written, strict=True):
        claims.append(PlannedClaim.model_validate(tables))
        for field, values in claim.repeat_under.items():
            for value in values:
                arm, against = (_copy(study, arms, name, {field: value}) for name in (claim.arm, claim.against))
                arms |= {arm.name: arm, against.name: against}
                under = f"{field} = {_plain(value_of(arm.config, field))}"
                changes = {"arm": arm.name, "against": against.name, "repeat_under": {}, "under": under}
                claims.append(PlannedClaim.model_validate({**tables, **changes}))
    for matching in solved:
        for claim, tables in zip(study.claim, written, strict=True):
            pair = [_matched(study, arms, name, matching) for name in (claim.arm, claim.against)]
            arms |= {arm.name: arm for arm in pair}
            claims.append(PlannedClaim.model_validate({**tables, **_under(matching, claim, tables, pair)}))
    shared = shared_sections(study, [arm.config for arm in arms.values()])
    resolved = [replace(arm, config=arm.config.model_copy(update=shared)) for arm in arms.values()]
    trials = [Trial(trial_id(arm, seed), arm.name, seed) for seed in study.seed_list for arm in resolved]
    base, tuning = own_sections(study) | shared, _asked(study, resolved)
    return Plan(_unchecked(base), resolved, claims, trials, study.workload, list(solved), tuning=tuning)


def _asked(study: spec.Study, arms: Sequence[Arm]) -> Tuned | None:
    """What there is to tune: all arms over one grid, by the metric of the study's first claim."""
    grid = study.training.grid
    if not grid:
        return None
    metric = study.claim[0].metric if study.claim else spec.Claim.model_fields["metric"].default
    groups = [Group([arm.name for arm in arms], grid, grid)]
    return Tuned(metric, study.tuning_seed_list, study.common_values, groups)


def _unchecked(sections: Mapping[str, Any]) -> spec.Config:
    """A base from its sections: they need not fit together, only each arm's must."""
    return spec.Config.model_construct(**sections)


def _or(own: list[str] | None, study: list[str]) -> list[str]:
    return study if own is None else own


def _arm(study: spec.Study, name: str, overrides: Mapping[str, Any], repeats: str | None) -> Arm:
    config = resolve(study, overrides)
    return Arm(name, {field: value_of(config, field) for field in overrides}, config, repeats, written=repeats or name)


def _copy(
    study: spec.Study, arms: Mapping[str, Arm], name: str, changes: Mapping[str, Any], matched: tuple[str, ...] = ()
) -> Arm:
    """The copy of an arm under other values, the same for all claims and matchings that ask for it."""
    copy = _arm(study, name, {**flatten(study.arm[name]), **changes}, name)
    for other in arms.values():
        if other.repeats == name and other.config == copy.config:
            return other
    values = ", ".join(f"{leaf_name(field)}={_plain(value_of(copy.config, field))}" for field in changes)
    new = f"{name} [{' and '.join(matched)}{': ' if matched else ''}{values}]"
    if new in arms:
        raise StudyError(f"study: arm.{shown(new)}: the name of a repetition of {shown(name)}; rename this arm")
    return replace(copy, name=new, matched=matched)


def _matched(study: spec.Study, arms: Mapping[str, Arm], name: str, matching: Solved) -> Arm:
    changes = matching.changes.get(name)
    return _copy(study, arms, name, changes, matching.quantities) if changes else arms[name]


def _under(matching: Solved, claim: spec.Claim, tables: Mapping[str, Any], pair: Sequence[Arm]) -> dict[str, Any]:
    """What a claim is under a matching: knobs may differ, and of all sizes what is matched must be equal."""
    knobs = [field for arm in (claim.arm, claim.against) for field in matching.changes.get(arm, {})]
    # Each is equal to the reference: two others may lie on either side of it.
    allowed = TOLERANCE * (1 if matching.reference in (claim.arm, claim.against) else 2)
    held = [entry for entry in tables["hold"] if read_hold(entry).quantity not in _SIZES]
    return {
        "arm": pair[0].name,
        "against": pair[1].name,
        "repeat_under": {},
        "under": matching.under,
        "matching": " and ".join(matching.quantities),
        "knob": " and ".join(matching.knobs),
        "vary": list(dict.fromkeys([*tables["vary"], *knobs])),
        "hold": held + [f"{name}: {100 * allowed:g}%" for name in matching.quantities if name != "latency"],
    }


def _plain(value: Any) -> str:
    return rule_name(value) if isinstance(value, str) else shown(readable(value))


def trial_id(arm: Arm, seed: int) -> str:
    """A directory name: what it is, for the eye, and a hash of name, resolved configuration and seed.

    Safe on every file system: lower-case ASCII letters, digits, hyphens and underscores, at most 60 of them.
    """
    content = json.dumps([arm.name, arm.config.model_dump(mode="json"), seed], sort_keys=True, ensure_ascii=True)
    digest = hashlib.blake2b(content.encode(), digest_size=4).hexdigest()
    ascii_name = unicodedata.normalize("NFKD", arm.name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9_]+", "-", ascii_name.lower()).strip("-")[:32].strip("-") or "arm"
    return f"{slug}-s{seed}-{digest}"
