"""The dotted names of all fields of a study, which of them arms may set, and what a misspelled one probably meant."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from paribus import spec

SECTIONS = tuple(spec.Config.model_fields)

QUANTITIES: tuple[str, ...] = get_args(spec.Quantity)

# Why a field is the same for all arms: what they read, how they are scored and what they run on is no factor of any study.
_SAME_TEXT = "all arms read the same text"
_SAME_SCORE = "all arms are scored in the same way"
_SAME_BUDGETS = "all arms are compared at the same budgets"
_SAME_RUNTIME = "all trials of a study run alike"
_RUNTIME = tuple(f"training.{name}" for name in ("device", "dtype", "compile", "attention", "threads"))


@cache
def config_fields() -> tuple[str, ...]:
    """All dotted fields of a resolved configuration, such as `model.width`, in the order of `spec`."""
    return tuple(_fields(spec.Config))


@cache
def study_fields() -> tuple[str, ...]:
    """All dotted keys of a study file outside arms and claims: `question`, `seeds`, `model`, `model.width` and so on."""
    return tuple(_fields(spec.Study, tables=True))


def _fields(model: type[BaseModel], prefix: str = "", tables: bool = False) -> Iterator[str]:
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            if tables:
                yield prefix + name
            yield from _fields(nested, f"{prefix}{name}.", tables)
        else:
            yield prefix + name


def why_fixed(field: str) -> str | None:
    """Why arms may never differ in this field, or None if a study may declare it in `vary`."""
    section = field.partition(".")[0]
    if section == "data":
        return _SAME_TEXT
    if section == "evaluation":
        return _SAME_SCORE
    if field == "training.budgets":
        return _SAME_BUDGETS
    return _SAME_RUNTIME if field in _RUNTIME else None


@cache
def variable_fields() -> tuple[str, ...]:
    """The fields that a study may declare in `vary` and arms may set."""
    return tuple(field for field in config_fields() if why_fixed(field) is None)


def leaf_name(field: str) -> str:
    """A field without its section, where no other that arms may set has that name."""
    leaf = field.rpartition(".")[2]
    alone = sum(other.rpartition(".")[2] == leaf for other in variable_fields()) == 1
    return leaf if alone else field


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys: `{"model": {"width": 64}}` is `{"model.width": 64}`."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` probably meant: the one that ends or begins with it, or a near miss."""
    options = list(options)
    section, _, leaf = word.rpartition(".")
    leaves = {option: option.rpartition(".")[2] for option in options}
    if same := [option for option in options if leaves[option] == leaf]:
        return same[0]
    if begun := [option for option in options if len(word) > 2 and option.startswith(word)]:
        return begun[0]
    if section and any(option.startswith(f"{section}.") for option in options):
        near = _closest(leaf, {option: leaves[option] for option in options if option.startswith(f"{section}.")}, 0.6)
    else:
        near = _closest(word, {option: option for option in options}, 0.6)
    return near or _closest(leaf, leaves, 0.75)


def _closest(word: str, written: Mapping[str, str], cutoff: float) -> str | None:
    """The option whose written form is closest to `word`, whatever the case."""
    options = {text.casefold(): option for option, text in reversed(list(written.items()))}
    close = difflib.get_close_matches(word.casefold(), options, n=1, cutoff=cutoff)
    return options[close[0]] if close else None
