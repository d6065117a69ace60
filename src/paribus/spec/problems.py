"""What is wrong with a study, as one line: the key, its value, and what would be right."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from paribus import spec
from paribus.spec import match as parity
from paribus.spec.fields import nearest, study_fields

Path = tuple[str | int, ...]

_COUNT = 'should be a whole number above 0, such as 4 (or "2M")'
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_EXPECTED = {
    "int_type": _COUNT,
    "int_from_float": _COUNT,
    "float_type": "should be a number, without quotes",
    "finite_number": "should be a finite number",
    "string_type": "should be text in quotes",
    "string_too_short": "should not be empty",
    "list_type": "should be a list in brackets",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
# Where the type alone says too little.
_EXPECTED_AT = {
    "seeds": "should be a number of seeds from 1 to 1000, or a list of distinct seeds such as [0, 1, 2]",
    "tuning_seeds": "should be a number of seeds from 1 to 1000, or a list of distinct seeds such as [1000000, 1000001]",
    "budgets": "should be a number of budgets from 2 to 30, or a list of token counts below training.tokens",
    "vary": 'should be a list of fields, such as ["model.input_attention"], or a table from field to levels',
    "hold": 'should be a list of quantities, such as ["parameters", "train_flops: 5%"]',
    "arm": 'should be a table of arms, such as [arm.gpt] followed by model.input_attention = "causal"',
    "claim": "should be a list of claims, each below a line [[claim]]",
    "sizes": 'should be a list of two or more sizes, such as ["0.3M", "1M", "3M"]',
    "effect": "should be a list of claims about factors, each below a line [[effect]]",
    "match": 'should be a list of matchings, such as ["parameters", "train_flops"]',
    "repeat_under": 'should be a table of fields and lists of values, such as {"model.init" = ["normal_0.02"]}',
}


@dataclass(frozen=True)
class Problem:
    """One mistake: where, and what would be right. `missing` keys have no value to show."""

    path: Path
    text: str
    value: Any = None
    missing: bool = False

    def line(self, source: str) -> str:
        """The problem in one line, as the command line prints it."""
        value = "" if self.missing else f" = {shown(self.value)}"
        return (
            f"{printable(source)}: {dotted(self.path)}{value}: {self.text}" if self.path else f"{source}: {self.text}"
        )


def printable(text: str) -> str:
    """`text` on one line, with what does not print escaped, so that no file can garble a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any, longest: int = 70) -> str:
    """A value much as TOML writes it, on one line, cut when long."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = "…"
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def dotted(path: Iterable[str | int]) -> str:
    """A path as `--set` takes it: `arm."my arm".model.width`, `claim.0.margin`."""
    return ".".join(
        str(part) if isinstance(part, int) or re.fullmatch(r"[A-Za-z0-9_-]+", part) else shown(part) for part in path
    )


def did_you_mean(word: str, options: Iterable[str], *, before: str = "", quoted: bool = False) -> str:
    """`; did you mean X?`, or nothing if no option is near."""
    near = nearest(word, options)
    if near is None:
        return ""
    return f"; did you mean {shown(near) if quoted else before + dotted(near.split('.'))}?"


def listed(options: Iterable[str]) -> str:
    """Options as a reader finds them in a file: `"a", "b" or "c"`."""
    *first, last = [shown(option) for option in options]
    return f"{', '.join(first)} or {last}" if first else last


def from_pydantic(error: ValidationError, tables: Mapping[str, Any]) -> list[Problem]:
    """The problems that pydantic found in `tables`, unknown keys first: a misspelled key also makes one missing."""
    found: dict[Path, Problem] = {}
    for detail in sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden"):
        problem = _problem(detail["type"], detail["loc"], detail["msg"], detail.get("ctx", {}), tables)
        found.setdefault(problem.path, problem)
    return list(found.values())


def _problem(kind: str, loc: Path, message: str, context: Mapping[str, Any], tables: Mapping[str, Any]) -> Problem:
    path, value = _walk(tables, loc)
    if kind == "missing":
        return Problem(loc, f"missing: {_description(loc)}", missing=True)
    if kind == "extra_forbidden":
        return Problem(path, f"no such field{_unknown_key(path)}", value, missing=isinstance(value, Mapping))
    if kind == "value_error":
        text = str(context.get("error", message))
        if match := re.match(r"([a-z_.]+) = (.*?): ", text):  # the rules of a section name the field themselves
            return Problem(
                (*path, *match[1].split(".")), text[match.end() :], _at(tables, (*path, *match[1].split(".")))
            )
        return Problem(path, text, value)
    keys = [part for part in path if isinstance(part, str)]
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", str(context["expected"]))
        near = did_you_mean(value, options, quoted=True) if isinstance(value, str) else ""
        return Problem(path, f"should be {listed(options)}{near}", value)
    if keys[-1:] and keys[-1] in _EXPECTED_AT and len(path) == len(keys):
        return Problem(path, _EXPECTED_AT[keys[-1]], value)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return Problem(path, f"should be {words} {context[key]:g}", value)
    if kind == "too_short":
        least = context["min_length"]
        return Problem(path, "should not be empty" if least == 1 else f"should have {least} entries", value)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        table = f"[[{keys[0]}]]" if keys[0] in ("claim", "effect") else f"[{dotted(path)}]"
        return Problem(path, f"should be a table: write {table} and its fields below", value)
    return Problem(path, _EXPECTED.get(kind, message[:1].lower() + message[1:]), value)


def _unknown_key(path: Path) -> str:
    """What an unknown key probably meant, among its neighbours first and then anywhere in a study."""
    *parents, word = [part for part in path if isinstance(part, str)]
    if parents == ["claim"]:
        return did_you_mean(word, spec.Claim.model_fields) or f"; a claim has {', '.join(spec.Claim.model_fields)}"
    if parents == ["effect"]:
        return did_you_mean(word, spec.Effect.model_fields) or f"; an effect has {', '.join(spec.Effect.model_fields)}"
    if not parents:
        known = f"; a study has {', '.join(spec.Study.model_fields)}"
        return did_you_mean(word, spec.Study.model_fields) or did_you_mean(word, study_fields()) or known
    if parents == ["match"]:
        fields = parity.Matching.model_fields
        return did_you_mean(word, fields) or f"; a matching has {', '.join(fields)}"
    section = spec.Study.model_fields[parents[0]].annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    near = did_you_mean(word, section.model_fields, before=f"{parents[0]}.")
    near = near or did_you_mean(".".join([*parents, word]), study_fields())
    return near or f"; {parents[0]} has {', '.join(section.model_fields)}"


def _description(path: Path) -> str:
    """What a missing field is for: the first sentence of its own documentation."""
    models: dict[str, type[BaseModel]] = {"claim": spec.Claim, "effect": spec.Effect}
    model = models.get(str(path[0]), spec.Study)
    text = model.model_fields[str(path[-1])].description or ""
    return re.split(r"\.(?:\s|$)", " ".join(text.split()))[0]


def _walk(tables: Mapping[str, Any], loc: Path) -> tuple[Path, Any]:
    """The part of a pydantic location that exists in the tables (it also names alternatives of a union), and its value."""
    path: list[str | int] = []
    value: Any = tables
    for part in loc:
        in_table = isinstance(value, Mapping) and part in value
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not in_table and not in_list:
            break
        value = value[part]
        path.append(part)
    return tuple(path), value


def _at(tables: Mapping[str, Any], path: Path) -> Any:
    """The value at a path; where the file does not set it, the default of the section's field."""
    reached, value = _walk(tables, path)
    if len(reached) == len(path):
        return value
    section = spec.Config.model_fields.get(str(path[0]))
    if section is None or len(path) != 2:
        return None
    return getattr(section.get_default(call_default_factory=True), str(path[1]), None)
