"""Which factors a study's arms cross, which cells of the crossing there are, and which parts of it are complete.

A factor is a field in which arms were made to differ, its levels the values it has, its reference level the first arm's.
Main effects and interactions can be told only where every combination of some levels is there: `Design.complete` finds the
largest such parts, also within an incomplete crossing, and `Design.missing` names what is not there.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from itertools import islice, product
from operator import mul
from typing import Any

from paribus import spec
from paribus.plan.arms import differences, used_value
from paribus.spec.levels import JOIN, level_words, word_of

MOST_PARTS = 8
"""Complete parts of one crossing that are analysed, the largest first."""
MOST_NAMED = 100
"""Missing cells that are named in a record."""
_NAMED_IN_WORDS = 6

Cell = tuple[int, ...]
"""The level of each factor, by number."""


@dataclass(frozen=True)
class Factor:
    """A field with its levels; or several that change together in all arms, so that their effects cannot be told apart."""

    fields: tuple[str, ...]
    levels: tuple[str, ...]
    """In words, the reference first."""
    plain: tuple[str, ...] = ()
    """As the study file has them, where it is one field."""

    @property
    def name(self) -> str:
        """The field, or the fields."""
        return " with ".join(self.fields)


@dataclass(frozen=True)
class Part:
    """A complete crossing within a design: every combination of these levels is an arm."""

    levels: tuple[tuple[int, ...], ...]
    """Of each factor of the design, by number, in order; one where the factor stays the same."""

    @property
    def crossed(self) -> tuple[int, ...]:
        """The factors that differ within it, by number."""
        return tuple(factor for factor, levels in enumerate(self.levels) if len(levels) > 1)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All its cells."""
        return tuple(product(*self.levels))


@dataclass(frozen=True)
class Design:
    """The factors of a study and the arm in each cell that there is."""

    factors: tuple[Factor, ...]
    arms: dict[Cell, str]
    """Of arms that are equal in every factor, the first."""

    @property
    def size(self) -> int:
        """The number of cells of the full crossing."""
        return math.prod(len(factor.levels) for factor in self.factors)

    def missing(self) -> list[Cell]:
        """The cells of the full crossing that no arm has, the first `MOST_NAMED` of them."""
        cells = product(*(range(len(factor.levels)) for factor in self.factors))
        return list(islice((cell for cell in cells if cell not in self.arms), MOST_NAMED))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The complete crossings of two or more factors that lie within no other one, the largest first."""
        found = [
            Part(tuple(tuple(sorted(levels)) for levels in grid))
            for grid in _grids(frozenset(self.arms))
            if sum(len(levels) > 1 for levels in grid) > 1
        ]
        return tuple(sorted(found, key=lambda part: (-len(part.crossed), -len(part.cells), part.levels)))

    @property
    def complete(self) -> tuple[Part, ...]:
        """Those of the `parts` that are analysed."""
        return self.parts[:MOST_PARTS]

    def words(self, cell: Cell) -> str:
        """A cell by its levels: `causal + separate + cross_attention`."""
        return JOIN.join(factor.levels[level] for factor, level in zip(self.factors, cell, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The design as JSON has it, levels in words."""
        missing = self.missing()
        return {
            "factors": [{"fields": list(factor.fields), "levels": list(factor.levels)} for factor in self.factors],
            "cells": {self.words(cell): arm for cell, arm in self.arms.items()},
            "missing": [self.words(cell) for cell in missing],
            "missing_count": self.size - len(self.arms),
            "notes": list(lacks(self)),
            "complete": [
                [
                    [factor.levels[level] for level in levels]
                    for factor, levels in zip(self.factors, part.levels, strict=True)
                ]
                for part in self.parts
            ],
        }


def design(arms: Sequence[tuple[str, spec.Config]], vary: Sequence[str]) -> Design | None:
    """What arms, given by name and configuration, cross; None where they differ in fewer than two fields of a study's `vary`.

    Factors come in the order of `vary`, levels in that of the arms. What else differs, such as a rate that is tuned for each
    arm, is no factor.
    """
    if not arms:
        return None
    varying = {field for _, config in arms[1:] for field in differences(arms[0][1], config)}
    fields = [field for field in vary if field in varying]
    if len(fields) < 2:
        return None
    values: dict[str, list[Any]] = {field: [] for field in fields}
    levels: dict[str, list[int]] = {field: [] for field in fields}
    for _, config in arms:
        for field in fields:
            value = used_value(config, field)
            if value not in values[field]:
                values[field].append(value)
            levels[field].append(values[field].index(value))
    words = level_words(values)
    together: dict[tuple[int, ...], list[str]] = {}
    for field in fields:
        together.setdefault(tuple(levels[field]), []).append(field)
    factors = tuple(
        Factor(
            tuple(group),
            tuple(" with ".join(each) for each in zip(*(words[field] for field in group), strict=True)),
            tuple(map(word_of, values[group[0]])) if len(group) == 1 else (),
        )
        for group in together.values()
    )
    cells: dict[Cell, str] = {}
    for number, (name, _) in enumerate(arms):
        cells.setdefault(tuple(places[number] for places in together), name)
    return Design(factors, cells)


def weights(part: Part, pairs: Mapping[int, tuple[int, int]], at: Mapping[int, int]) -> dict[Cell, Fraction]:
    """The cells of a linear combination, none 0: 1 for the level and -1 for the reference of each factor that it is about.

    `pairs` maps factors to level and reference level, `at` those that are fixed to their level; over all others the shares are
    equal. The weights sum to 0.
    """

    def of_level(factor: int, level: int) -> Fraction:
        if factor in pairs:
            return Fraction((level == pairs[factor][0]) - (level == pairs[factor][1]))
        if factor in at:
            return Fraction(level == at[factor])
        return Fraction(1, len(part.levels[factor]))

    found = {
        cell: reduce(mul, (of_level(factor, level) for factor, level in enumerate(cell)), Fraction(1))
        for cell in part.cells
    }
    return {cell: weight for cell, weight in found.items() if weight}


def _grids(cells: frozenset[Cell]) -> set[tuple[frozenset[int], ...]]:
    """The products of level sets, none empty, that lie within `cells` and within no larger such product."""
    if not next(iter(cells)):
        return {()}
    rests: dict[int, set[Cell]] = {}
    for level, *rest in cells:
        rests.setdefault(level, set()).add(tuple(rest))
    found = set()
    for common in _intersections(frozenset(map(frozenset, rests.values()))):
        for tail in _grids(common):
            inside = set(product(*tail))
            found.add((frozenset(level for level, rest in rests.items() if inside <= rest), *tail))
    return {grid for grid in found if not any(grid != other and _within(grid, other) for other in found)}


def _intersections(sets: frozenset[frozenset[Cell]]) -> set[frozenset[Cell]]:
    """All intersections of one or more of the sets but the empty one."""
    found: set[frozenset[Cell]] = set()
    for each in sets:
        found |= {each} | {each & other for other in found}
    return found - {frozenset()}


def _within(grid: tuple[frozenset[int], ...], other: tuple[frozenset[int], ...]) -> bool:
    return all(own <= outer for own, outer in zip(grid, other, strict=True))


def lacks(found: Design) -> Iterator[str]:
    """What a reader must know of a crossing that lacks something, a sentence each."""
    for factor in found.factors:
        if len(factor.fields) > 1:
            yield f"{_listed(factor.fields)} change together in all arms: their effects cannot be told apart."
    missing = found.missing()
    if missing:
        count = found.size - len(found.arms)
        named = "; ".join(found.words(cell) for cell in missing[:_NAMED_IN_WORDS])
        more = f"; and {count - _NAMED_IN_WORDS} more" if count > _NAMED_IN_WORDS else ""
        yield f"An incomplete crossing, {len(found.arms)} of {found.size} cells. Not in this study: {named}{more}."
    if not found.parts and len(found.factors) > 1:
        yield "No two factors are crossed completely anywhere, so no interaction can be told."
    elif len(found.parts) > MOST_PARTS:
        yield f"Of its {len(found.parts)} complete parts the {MOST_PARTS} largest are analysed."


def summary(found: Design) -> Iterator[str]:
    """A crossing in a few lines: its factors and levels, what it lacks, and where in it effects can be told."""
    named = " x ".join(f"{factor.name} ({', '.join(factor.levels)})" for factor in found.factors)
    yield f"Crossing {named}{'' if found.missing() else ', complete'}."
    yield from lacks(found)
    if len(found.arms) < found.size:
        for part in found.complete:
            yield f"Complete in it: {_levels(found, part)}."


def _levels(found: Design, part: Part) -> str:
    """`causal, bidirectional x shared, separate, with every_layer`."""
    words = [
        [factor.levels[level] for level in levels] for factor, levels in zip(found.factors, part.levels, strict=True)
    ]
    fixed = [levels[0] for levels in words if len(levels) == 1]
    crossed = " x ".join(", ".join(levels) for levels in words if len(levels) > 1)
    return f"{crossed}, with {_listed(fixed)}" if fixed else crossed


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
