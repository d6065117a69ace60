"""What a study will run: arms resolved, claims with their repetitions, and trials in order (`plan.json`)."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from paribus import spec
from paribus.errors import StudyError
from paribus.own_code import short_name
from paribus.plan.arms import own_sections, resolve, value_of
from paribus.plan.checks import check_study
from paribus.plan.effects import planned_effects
from paribus.plan.sharing import shared_sections
from paribus.plan.sizes import sized_studies
from paribus.records.plan import Arm, Plan, PlannedClaim, Solved, StudySize, unchecked
from paribus.records.trials import Group, Trial, Tuned
from paribus.spec.fields import flatten, leaf_name
from paribus.spec.holds import read_hold
from paribus.spec.match import TOLERANCE
from paribus.spec.parts import readable
from paribus.spec.problems import shown
from paribus.spec.sizes import circumstance

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
    base = unchecked(own_sections(study) | shared)
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
    return Plan(unchecked(base), resolved, claims, trials, study.workload, list(solved), tuning=tuning)


def _asked(study: spec.Study, arms: Sequence[Arm]) -> Tuned | None:
    """What there is to tune: all arms over one grid, by the metric of the study's first claim."""
    grid = study.training.grid
    if not grid:
        return None
    metric = study.claim[0].metric if study.claim else spec.Claim.model_fields["metric"].default
    groups = [Group([arm.name for arm in arms], grid, grid)]
    return Tuned(metric, study.tuning_seed_list, study.common_values, groups)


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
    return short_name(value) if isinstance(value, str) else shown(readable(value))


def trial_id(arm: Arm, seed: int) -> str:
    """A directory name: what it is, for the eye, and a hash of name, resolved configuration and seed.

    Safe on every file system: lower-case ASCII letters, digits, hyphens and underscores, at most 60 of them.
    """
    content = json.dumps([arm.name, arm.config.model_dump(mode="json"), seed], sort_keys=True, ensure_ascii=True)
    digest = hashlib.blake2b(content.encode(), digest_size=4).hexdigest()
    ascii_name = unicodedata.normalize("NFKD", arm.name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9_]+", "-", ascii_name.lower()).strip("-")[:32].strip("-") or "arm"
    return f"{slug}-s{seed}-{digest}"
