"""What a study must satisfy beyond the types of its fields: arms that can be built, and claims that say something."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paribus import spec
from paribus.errors import StudyError
from paribus.plan.arms import base_config, differences, resolve, used_value
from paribus.plan.effects import effect_problems
from paribus.plan.sharing import sharing_problems
from paribus.plan.size_checks import size_problems
from paribus.plan.tuned_fields import tuning_problems
from paribus.spec.crossed import Crossed
from paribus.spec.fields import config_fields, flatten, study_fields, variable_fields, why_fixed
from paribus.spec.holds import read_hold
from paribus.spec.problems import Path, Problem, did_you_mean, from_pydantic, listed, shown

_LONGEST_NAME = 100


def check_study(
    study: spec.Study, source: str | Callable[[Path], str] = "study", written: Crossed | None = None
) -> None:
    """Check everything about a study that its types do not say.

    `source` names where the study was read, for the whole of it or per key; `written` is how its crossing was written, where
    it was. Raises StudyError with one line.
    """
    problems = list(_problems(study))
    raise_first(written.of_levels(problems) if written else problems, source)


def raise_first(problems: Sequence[Problem], source: str | Callable[[Path], str]) -> None:
    """Raise the first problem as a StudyError, and say how many others there are."""
    if not problems:
        return
    first = problems[0]
    distinct = len({(problem.path, problem.text) for problem in problems})
    others = f" (and {distinct - 1} more to mend)" if distinct > 1 else ""
    raise StudyError(first.line(source if isinstance(source, str) else source(first.path)) + others)


def _problems(study: spec.Study) -> Iterator[Problem]:
    yield from tuning_problems(study)
    yield from _vary(study.vary, ("vary",), variable_fields())
    yield from _hold(study.hold, ("hold",))
    yield from size_problems(study)
    configs: dict[str, spec.Config] = {}
    for name, overrides in study.arm.items():
        found = [*_name(name), *_arm(study, name, overrides)]
        yield from found
        if not found:
            configs[name] = resolve(study, overrides)
    yield from sharing_problems(study, list(configs.values()))
    for number, claim in enumerate(study.claim):
        yield from _claim(study, number, claim, configs)
    for number, effect in enumerate(study.effect):
        yield from _hold(effect.hold or [], ("effect", number, "hold"))
    if len(configs) == len(study.arm):
        yield from effect_problems(study, configs)


def _vary(fields: Sequence[str], path: Path, allowed: Sequence[str]) -> Iterator[Problem]:
    for number, field in enumerate(fields):
        at = (*path, number)
        if reason := why_fixed(field) if field in config_fields() else None:
            yield Problem(at, f"arms cannot differ in it, because {reason}; leave it out", field)
        elif field not in variable_fields():
            near = did_you_mean(field, variable_fields(), quoted=True)
            yield Problem(
                at, f"no such field{near or '; arms may vary fields of objective, model and training'}", field
            )
        elif field not in allowed:
            yield Problem(at, f"the study's own vary does not list it: add {shown(field)} there", field)
        elif field in fields[:number]:
            yield Problem(at, "is there twice; leave one out", field)


def _hold(entries: Sequence[str], path: Path) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        try:
            quantity = read_hold(entry).quantity
        except ValueError as error:
            yield Problem((*path, number), str(error), entry)
            continue
        if quantity in seen:
            yield Problem((*path, number), f"{quantity} is there twice; leave one out", entry)
        seen.add(quantity)


def _name(name: str) -> Iterator[Problem]:
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        text = f"an arm's name is 1 to {_LONGEST_NAME} printable characters; rename it"
        yield Problem(("arm", name), text, missing=True)


def _arm(study: spec.Study, name: str, overrides: Mapping[str, Any]) -> Iterator[Problem]:
    flat = flatten(overrides)
    for field, value in flat.items():
        path = ("arm", name, *field.split("."))
        if field not in config_fields():
            if field in spec.Config.model_fields:
                yield Problem(path, f"should be a table: set its fields, such as {field}.NAME = VALUE", value)
            elif field in study_fields():
                yield Problem(path, "the study's own; arms set only fields of objective, model and training", value)
            else:
                near = did_you_mean(field, config_fields())
                yield Problem(
                    path, f"no such field{near or '; arms set fields of objective, model and training'}", value
                )
        elif reason := why_fixed(field):
            yield Problem(path, f"arms cannot differ in it, because {reason}; set it for the whole study", value)
        elif field not in study.vary:
            allowed = ", ".join(study.vary) or "nothing"
            yield Problem(
                path, f"arms may differ in {allowed}; add {shown(field)} to vary, or leave it out here", value
            )
    if set(flat) <= set(config_fields()):
        yield from _impossible(study, ("arm", name), flat)


def _impossible(study: spec.Study, path: Path, overrides: Mapping[str, Any]) -> list[Problem]:
    """The problems of an arm's whole configuration: at the arm's key where it set that, else at the base's."""
    tables = base_config(study)
    for field, value in overrides.items():
        section, _, key = field.partition(".")
        tables[section][key] = value
    try:
        spec.Config.model_validate(tables)
    except ValidationError as error:
        found = from_pydantic(error, tables)
    else:
        return []
    set_here = [problem for problem in found if ".".join(str(part) for part in problem.path[:2]) in overrides]
    if set_here or not overrides:
        return [Problem((*path, *problem.path), problem.text, problem.value) for problem in set_here] or found
    of_base = _impossible(study, path, {})
    if of_base:
        return of_base
    return [Problem(problem.path, f"{problem.text} (in arm {shown(path[1])})", problem.value) for problem in found]


def _claim(study: spec.Study, number: int, claim: spec.Claim, configs: Mapping[str, spec.Config]) -> Iterator[Problem]:
    path: Path = ("claim", number)
    arms = list(study.arm)
    for role, name in (("arm", claim.arm), ("against", claim.against)):
        if name not in arms:
            near = did_you_mean(name, arms, quoted=True) or f"; the arms are {listed(arms)}"
            yield Problem((*path, role), f"no such arm{near}", name)
    if claim.arm == claim.against:
        yield Problem((*path, "against"), "the same as arm: a claim compares two arms; name another", claim.against)
    yield from _vary(claim.vary or [], (*path, "vary"), study.vary)
    yield from _hold(claim.hold or [], (*path, "hold"))
    for field, values in claim.repeat_under.items():
        yield from _repeat(study, (*path, "repeat_under", field), claim, field, values, configs)


def _repeat(
    study: spec.Study, path: Path, claim: spec.Claim, field: str, values: list[Any], configs: Mapping[str, spec.Config]
) -> Iterator[Problem]:
    fields = variable_fields()
    if field not in fields:
        reason = why_fixed(field) if field in config_fields() else None
        near = did_you_mean(field, fields, quoted=True)
        text = f"cannot change within a study, because {reason}; leave it out" if reason else f"no such field{near}"
        yield Problem(path, text, values)
    elif not values:
        yield Problem(path, "should list at least one value under which to repeat the claim", values)
    elif claim.arm in configs and claim.against in configs:
        arms = configs[claim.arm], configs[claim.against]
        if field in differences(*arms):
            yield Problem(
                path, "the claim's own arms differ in it, so it cannot be the same for both; leave it out", values
            )
            return
        repeated = [value for value, times in Counter(shown(value) for value in values).items() if times > 1]
        if repeated:
            yield Problem(path, f"{repeated[0]} is there twice; leave one out", values)
        for index, value in enumerate(values):
            for name, config in zip((claim.arm, claim.against), arms, strict=True):
                found = _impossible(study, (*path, index), {**flatten(study.arm[name]), field: value})
                if found:
                    yield Problem((*path, index), found[0].text, value)
                    break
                if used_value(resolve(study, {**flatten(study.arm[name]), field: value}), field) == used_value(
                    config, field
                ):
                    yield Problem((*path, index), "is what the claim's arms have already; give another value", value)
                    break
