"""`vary` as a table from field to levels: the arms are the full crossing of these levels, but for cells that are left out.

Reading turns such a table into the list of its fields and the table of its arms, so that a study is the same however it was
written.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from paribus.spec.fields import config_fields, flatten
from paribus.spec.levels import JOIN, level_words
from paribus.spec.problems import Path, Problem, did_you_mean, listed, shown

MOST_ARMS = 256
"""A crossing with more arms is refused: no study of this kind ends."""


@dataclass(frozen=True)
class Crossed:
    """A study's tables with the crossing written out, and the cells by the name of their arm."""

    tables: dict[str, Any]
    levels: dict[str, list[Any]]
    """Of each crossed field, in order; empty where `vary` is no table."""
    cells: dict[str, dict[str, Any]]
    """Arm to its level of each field."""
    problems: list[Problem]
    """What is wrong with the crossing itself."""

    def told(self, problem: Problem) -> Problem:
        """A problem of an arm that nobody wrote, told of the level or the cell that makes it."""
        if not self.levels:
            return problem
        if problem.path[:1] == ("vary",) and len(problem.path) == 2 and isinstance(problem.path[1], int):
            return replace(problem, path=("vary", list(self.levels)[problem.path[1]]), missing=True)
        if (
            problem.path[:1] == ("claim",)
            and problem.path[-1:] in (("arm",), ("against",))
            and "no such arm" in problem.text
        ):
            near = did_you_mean(str(problem.value), self.cells, quoted=True)
            return replace(problem, text=f"no such cell{near or '; they are ' + listed(self.cells)}")
        if problem.path[:1] != ("arm",) or problem.path[1] not in self.cells:
            return problem
        name, field = str(problem.path[1]), ".".join(str(part) for part in problem.path[2:4])
        cell = ", ".join(f"{shown(key)} = {shown(value)}" for key, value in self.cells[name].items())
        text = problem.text if field not in self.levels else f"{field} = {shown(problem.value)}: {problem.text}"
        return Problem(
            ("vary",), f"the cell {shown(name)} cannot be: {text}; or leave_out = [{{{cell}}}]", missing=True
        )

    def of_levels(self, problems: Sequence[Problem]) -> list[Problem]:
        """All problems as `told`; what is wrong with every cell of a level is said once, of that level."""
        found = []
        for problem in problems:
            field = ".".join(str(part) for part in problem.path[2:4])
            if problem.path[:1] == ("arm",) and problem.path[1] in self.cells and field in self.levels:
                level = self.cells[str(problem.path[1])][field]
                alike = {name for name, cell in self.cells.items() if cell[field] == level}
                wrong = {
                    other.path[1]
                    for other in problems
                    if other.text == problem.text and other.path[2:] == problem.path[2:]
                }
                if alike <= wrong:
                    at = ("vary", field, self.levels[field].index(level))
                    found.append(Problem(at, problem.text, problem.value))
                    continue
            found.append(self.told(problem))
        return found


def crossed(tables: Mapping[str, Any]) -> Crossed:
    """The study's tables with `vary` as the list of its fields and `arm` as the table of its cells, where `vary` is a table.

    `leave_out`, a list of tables from field to level, takes out every cell that has all of the levels that one of them names.
    """
    vary, made = tables.get("vary"), {key: value for key, value in tables.items() if key != "leave_out"}
    if not isinstance(vary, Mapping):
        if "leave_out" not in tables:
            return Crossed(dict(tables), {}, {}, [])
        text = 'takes cells out of a crossing: write vary as a table, such as {"model.position" = ["rope", "none"]}'
        return Crossed(made, {}, {}, [Problem(("leave_out",), text, tables["leave_out"])])
    levels = flatten(vary)
    problems = list(_problems(tables, levels))
    if not problems:
        cells = [dict(zip(levels, values, strict=True)) for values in product(*levels.values())]
        left, problems = _left(cells, tables.get("leave_out", []), levels)
    if problems:
        return Crossed(made, levels, {}, problems)
    words = level_words(levels)
    names = [JOIN.join(words[field][levels[field].index(level)] for field, level in cell.items()) for cell in left]
    arms = {name: _nested(cell) for name, cell in zip(names, left, strict=True)}
    made |= {"vary": list(levels), "arm": arms}
    return Crossed(made, levels, dict(zip(names, left, strict=True)), [])


def _problems(tables: Mapping[str, Any], levels: Mapping[str, Any]) -> Iterator[Problem]:
    if not levels:
        text = 'should name fields and their levels, such as {"model.position" = ["rope", "none"]}'
        yield Problem(("vary",), text, tables["vary"])
    for field, values in levels.items():
        path: Path = ("vary", field)
        if not isinstance(values, list):
            yield Problem(path, "should be a list of the field's levels", values)
        elif len(values) < 2:
            yield Problem(
                path, "should list two levels or more; what is the same for all arms belongs in the base", values
            )
        elif twice := [value for number, value in enumerate(values) if value in values[:number]]:
            yield Problem(path, f"{shown(twice[0])} is there twice; leave one out", values)
    if arms := tables.get("arm"):
        name = next(iter(arms)) if isinstance(arms, Mapping) else arms
        text = "the levels in vary make the arms; leave this out, or write vary as a list of fields"
        yield Problem(("arm", str(name)), text, missing=True)
    if all(isinstance(values, list) for values in levels.values()):
        count = math.prod(len(values) for values in levels.values())
        if count > MOST_ARMS:
            yield Problem(("vary",), f"crosses to {count:,} arms; at most {MOST_ARMS} can be", missing=True)


def _left(
    cells: list[dict[str, Any]], leave_out: Any, levels: Mapping[str, list[Any]]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The cells that stay, and what is wrong with what is left out."""
    if not isinstance(leave_out, list):
        text = 'should be a list of cells, such as [{"model.position" = "none"}]'
        return cells, [Problem(("leave_out",), text, leave_out)]
    problems = []
    for number, entry in enumerate(leave_out):
        named = flatten(entry) if isinstance(entry, Mapping) else {}
        if not named:
            text = 'should be a table of fields and levels, such as {"model.position" = "none"}'
            problems.append(Problem(("leave_out", number), text, entry))
            continue
        for field, level in named.items():
            path: Path = ("leave_out", number, field)
            if field not in levels:
                near = did_you_mean(field, levels, quoted=True) or f"; vary has {listed(levels)}"
                problems.append(Problem(path, f"vary does not cross it{near}", level))
            elif level not in levels[field]:
                text = f"no level of it; they are {', '.join(map(shown, levels[field]))}"
                problems.append(Problem(path, text, level))
        cells = [cell for cell in cells if any(cell.get(field) != level for field, level in named.items())]
    if problems:
        return cells, problems
    for field, values in levels.items():
        for number, value in enumerate(values):
            if all(cell[field] != value for cell in cells):
                text = "leave_out leaves no cell with this level; take it out of vary instead"
                return cells, [Problem(("vary", field, number), text, value)]
    return cells, []


def _nested(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted fields as the tables of an arm; what is no field stays as it is written, for `checks` to tell."""
    made: dict[str, Any] = {}
    for field, value in cell.items():
        section, _, name = field.partition(".")
        if field in config_fields():
            made.setdefault(section, {})[name] = value
        else:
            made[field] = value
    return made
