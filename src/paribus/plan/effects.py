"""Claims about crossed factors: which arms a main effect or an interaction is made of, and with which weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paribus import spec
from paribus.plan.factorial import Cell, Design, Part, design, weights
from paribus.records.condition import Condition
from paribus.records.plan import PlannedEffect
from paribus.spec.fields import flatten, leaf_name
from paribus.spec.levels import word_of
from paribus.spec.problems import Problem, did_you_mean, listed, shown

KINDS = {1: "main", 2: "interaction", 3: "three-factor interaction"}
"""What an effect of so many factors is called."""


def told(effect: Mapping[str, Any]) -> str:
    """What an effect of a plan or of verdicts is: `interaction, bidirectional against causal, none against rope`."""
    pairs = zip(effect["levels"], effect["against"], strict=True)
    averaged = [leaf_name(field) for factor in effect["over"] for field in factor.split(" with ")]
    over = [f"mean over {' and '.join(averaged)}"] if averaged else []
    return ", ".join([effect["kind"], *(f"{level} against {reference}" for level, reference in pairs), *over])


@dataclass(frozen=True)
class _Located:
    part: Part
    pairs: dict[int, tuple[int, int]]
    """Factor to level and reference level, by number, in the order of the claim."""


def effect_problems(study: spec.Study, configs: Mapping[str, spec.Config]) -> Iterator[Problem]:
    """What is wrong with a study's claims about effects; `configs` are its arms, all of them."""
    crossed = design(list(configs.items()), study.vary)
    for number, effect in enumerate(study.effect):
        try:
            _locate(crossed, effect.of)
        except ValueError as error:
            yield Problem(("effect", number, "of"), str(error), effect.of)


def planned_effects(
    study: spec.Study, configs: Mapping[str, spec.Config], names: Mapping[Condition, Mapping[str, str]]
) -> list[PlannedEffect]:
    """All claims about effects of a checked study, each at each of its sizes.

    `configs` are the arms as written; `names` gives, by size, the name of each arm there.
    """
    crossed = design(list(configs.items()), study.vary) if study.effect else None
    found = []
    for number, effect in enumerate(study.effect):
        located = _locate(crossed, effect.of)
        assert crossed is not None
        factors = [crossed.factors[factor] for factor in located.pairs]
        levels, against = (
            [factor.levels[pair[side]] for factor, pair in zip(factors, located.pairs.values(), strict=True)]
            for side in (0, 1)
        )
        cells = weights(located.part, located.pairs, {})
        for condition, named in names.items():
            arms = {cell: named[crossed.arms[cell]] for cell in cells}
            found.append(
                PlannedEffect.model_validate(
                    {
                        **effect.model_dump(),
                        "number": number,
                        "kind": KINDS[len(factors)],
                        "factors": [factor.name for factor in factors],
                        "levels": levels,
                        "against": against,
                        "over": [
                            crossed.factors[factor].name
                            for factor in located.part.crossed
                            if factor not in located.pairs
                        ],
                        "weights": {arms[cell]: float(weight) for cell, weight in cells.items()},
                        "pairs": _pairs(arms, located.pairs),
                        "hold": study.hold if effect.hold is None else effect.hold,
                        "condition": condition,
                    }
                )
            )
    return found


def _pairs(arms: Mapping[Cell, str], pairs: Mapping[int, tuple[int, int]]) -> list[list[str]]:
    factor, (level, reference) = next(iter(pairs.items()))
    return [
        [name, arms[(*cell[:factor], reference, *cell[factor + 1 :])]]
        for cell, name in arms.items()
        if cell[factor] == level
    ]


def _locate(crossed: Design | None, of: str | list[str] | dict[str, Any]) -> _Located:
    """The largest complete crossing that an effect can be told in. Raises ValueError, what is wrong in words."""
    fields = [of] if isinstance(of, str) else list(flatten(of)) if isinstance(of, dict) else of
    levels: dict[str, Any] = flatten(of) if isinstance(of, dict) else dict.fromkeys(fields)
    if not 1 <= len(levels) <= len(KINDS):
        raise ValueError("should name one field for a main effect, two or three for their interaction")
    if len(levels) < len(fields):
        raise ValueError("names a field twice; leave one out")
    if crossed is None:
        raise ValueError("the arms differ in fewer than two fields, so nothing is crossed; compare arms in a [[claim]]")
    pairs = dict(_pair(crossed, field, asked) for field, asked in levels.items())
    parts = [
        part
        for part in crossed.parts
        if all(factor in part.crossed and set(pair) <= set(part.levels[factor]) for factor, pair in pairs.items())
    ]
    if not parts:
        words = {
            factor: " and ".join(crossed.factors[factor].levels[level] for level in pair)
            for factor, pair in pairs.items()
        }
        raise ValueError(
            f"no arms cross {', '.join(words.values())} completely {'with another factor ' if len(pairs) == 1 else ''}while all "
            "else is the same; add the cells that are missing, or compare arms in a [[claim]]"
        )
    return _Located(parts[0], pairs)


def _pair(crossed: Design, field: str, asked: Any) -> tuple[int, tuple[int, int]]:
    """A factor's number, and the numbers of the level and the reference level that are asked for."""
    fields = {name: number for number, factor in enumerate(crossed.factors) for name in factor.fields}
    if field not in fields:
        near = did_you_mean(field, fields, quoted=True) or f"; they differ in {listed(fields)}"
        raise ValueError(f"arms do not differ in {shown(field)}{near}")
    factor = crossed.factors[fields[field]]
    if len(factor.fields) > 1:
        raise ValueError(
            f"{' and '.join(factor.fields)} change together in all arms, so their effects cannot be told apart"
        )
    if asked is None:
        if len(factor.levels) > 2:
            raise ValueError(
                f"{field} has {len(factor.levels)} levels; say which and against which, such as "
                f"of = {{{shown(field)} = [{shown(factor.plain[1])}, {shown(factor.plain[0])}]}}"
            )
        return fields[field], (1, 0)
    if not isinstance(asked, list) or len(asked) != 2 or asked[0] == asked[1]:
        raise ValueError(f"{field} = {shown(asked)}: should be two of its levels, the second being the reference")
    for value in asked:
        if word_of(value) not in factor.plain:
            raise ValueError(f"{field}: no arm has {shown(value)}; they have {listed(factor.plain)}")
    return fields[field], (factor.plain.index(word_of(asked[0])), factor.plain.index(word_of(asked[1])))
