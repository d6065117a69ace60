"""The fields of a study that name a part, by a built-in name or as code of the user's own, and where they may stand."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from paribus import doors
from paribus.own_code import short_name
from paribus.registry import Door

PART_FIELDS: dict[str, Door[Any]] = {
    "model.input_attention": doors.rule,
    "training.optimizer": doors.optimizer,
}
"""Dotted field to the door of its parts. Own code in them is pinned when a study is read."""


def readable(value: Any) -> Any:
    """A field's value with own code in it as `short_name` has it."""
    if isinstance(value, list):
        return [readable(item) for item in value]
    return short_name(value) if isinstance(value, str) else value


def with_parts(tables: Mapping[str, Any], change: Callable[[str, tuple[str | int, ...]], str]) -> dict[str, Any]:
    """A study's tables with the name of each part, wherever one may stand, as `change` of the name and its path makes it.

    What is not shaped as a study should be is left to whoever checks that.
    """
    made: dict[str, Any] = _copied(tables)
    for field in PART_FIELDS:
        for holder, key, path in _places(made, field):
            holder[key] = _changed(holder[key], path, change)
    return made


def _changed(value: Any, path: tuple[str | int, ...], change: Callable[[str, tuple[str | int, ...]], str]) -> Any:
    """A name, a list with one for each layer, or a list of both."""
    if isinstance(value, list):
        return [_changed(item, (*path, number), change) for number, item in enumerate(value)]
    return change(value, path) if isinstance(value, str) else value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _places(tables: dict[str, Any], field: str) -> Iterator[tuple[dict[str, Any], str, tuple[str | int, ...]]]:
    """Every table that sets a dotted field, the key under which it does, and its path."""
    section, _, name = field.partition(".")
    arms, claims, left_out = tables.get("arm"), tables.get("claim"), tables.get("leave_out")
    holders: list[tuple[Any, tuple[str | int, ...]]] = [(tables, ()), (tables.get("vary"), ("vary",))]
    holders += (
        [(cell, ("leave_out", number)) for number, cell in enumerate(left_out)] if isinstance(left_out, list) else []
    )
    holders += [(arm, ("arm", key)) for key, arm in arms.items()] if isinstance(arms, dict) else []
    if isinstance(claims, list):
        holders += [
            (claim.get("repeat_under"), ("claim", number, "repeat_under"))
            for number, claim in enumerate(claims)
            if isinstance(claim, dict)
        ]
    for holder, path in holders:
        if not isinstance(holder, dict):
            continue
        if field in holder:
            yield holder, field, (*path, field)
        if isinstance(holder.get(section), dict) and name in holder[section]:
            yield holder[section], name, (*path, section, name)
