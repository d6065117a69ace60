"""Visibility rules from the user's own Python file, as a study names them: `FILE.py:FUNCTION`.

A file is looked for beside the study that names it, and the name is pinned to what the file holds, so that a trial is another
one once the rule has changed.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from paribus.errors import StudyError
from paribus.spec.model import OWN_RULE

_FIELDS = ("model.input_attention", "training.optimizer")
"""Where a part of the user's own may be named."""


def content_hash(file: Path) -> str:
    """16 hex digits of what the file holds. Raises StudyError if it cannot be read."""
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(
            f"{file}: the file of a visibility rule cannot be read: {reason}; put it back there"
        ) from error


def rule_name(rule: str) -> str:
    """A visibility rule as its author knows it: of `FILE.py:FUNCTION#HASH` neither the folder nor the hash."""
    own = OWN_RULE.fullmatch(rule)
    return f"{PurePath(own['file']).name}:{own['function']}" if own else rule


def readable(value: Any) -> Any:
    """A field's value with the rules in it as `rule_name` has them."""
    if isinstance(value, list):
        return [readable(item) for item in value]
    return rule_name(value) if isinstance(value, str) else value


def beside(rule: str, folder: Path) -> str:
    """The rule with its file's path as seen from here, where the file lies in `folder`."""
    own = OWN_RULE.fullmatch(rule)
    if own is None:
        return rule
    file = folder / Path(own["file"]).expanduser()
    return rule.replace(own["file"], str(file), 1) if file.is_file() else rule


def pinned(rule: str, folder: Path) -> str:
    """The rule with its file's hash; a file that is not here is looked for in `folder`. Raises StudyError without a file."""
    own = OWN_RULE.fullmatch(rule)
    if own is None or own["hash"]:
        return rule
    if not Path(own["file"]).expanduser().is_file():
        rule = beside(rule, folder)
    own = OWN_RULE.fullmatch(rule)
    assert own is not None
    return f"{rule}#{content_hash(Path(own['file']).expanduser())}"


def with_rules(tables: Mapping[str, Any], change: Callable[[str, tuple[str | int, ...]], str]) -> dict[str, Any]:
    """A study's tables with each visibility rule, wherever one may stand, as `change` of the rule and its path makes it.

    What is not shaped as a study should be is left to whoever checks that.
    """
    made: dict[str, Any] = _copied(tables)
    for holder, key, path in _places(made):
        holder[key] = _changed(holder[key], path, change)
    return made


def _changed(value: Any, path: tuple[str | int, ...], change: Callable[[str, tuple[str | int, ...]], str]) -> Any:
    """A rule, a list with one for each layer, or a list of both."""
    if isinstance(value, list):
        return [_changed(item, (*path, number), change) for number, item in enumerate(value)]
    return change(value, path) if isinstance(value, str) else value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _places(tables: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, tuple[str | int, ...]]]:
    """Every table that sets `model.input_attention`, the key under which it does, and its path."""
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
        for field in _FIELDS:
            section, _, name = field.partition(".")
            if field in holder:
                yield holder, field, (*path, field)
            if isinstance(holder.get(section), dict) and name in holder[section]:
                yield holder[section], name, (*path, section, name)
