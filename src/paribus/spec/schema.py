"""The JSON schema of a study file, for editors that complete and check TOML."""

from typing import Any

from paribus import spec
from paribus.spec.fields import QUANTITIES, SECTIONS, variable_fields, why_fixed
from paribus.spec.training import Training


def study_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a study file as written: `extends` allowed, arms typed field by field."""
    schema = spec.Study.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    properties = schema["properties"]
    field = {"type": "string", "enum": list(variable_fields())}
    quantity = {"type": "string", "pattern": rf"^\s*({'|'.join(QUANTITIES)})\s*(:\s*[0-9]+(\.[0-9]+)?\s*%\s*)?$"}
    claim = definitions["Claim"]["properties"]
    for section in (properties, claim):
        _items(section["vary"])["items"] = field
        _items(section["hold"])["items"] = quantity
    claim["repeat_under"]["propertyNames"] = field
    for name in ("seeds", "tuning_seeds"):
        properties[name]["anyOf"][1]["uniqueItems"] = True
    properties["arm"]["additionalProperties"] = _arm(definitions)
    extends = {
        "type": "string",
        "minLength": 1,
        "description": "A built-in study or a TOML file to build on: tables merge, everything else is replaced.",
    }
    required, base = schema.pop("required"), properties["vary"]
    description = base.pop("description")
    properties["vary"] = {"anyOf": [base, _crossing(field)], "description": description}
    leave_out = {
        "type": "array",
        "items": {"type": "object", "minProperties": 1},
        "description": "Where vary is a table: cells without an arm, each a table from field to level, such as "
        '{"model.position" = "none"}; every cell with all of these levels is left out.',
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A paribus.spec",
        "properties": {"extends": extends, **properties, "leave_out": leave_out},
        "anyOf": [
            {"required": required, "properties": {"vary": {"type": "array"}}},
            {"required": ["extends"]},
            {
                "required": [key for key in required if key != "arm"],
                "properties": {"vary": {"type": "object"}, "arm": False},
            },
        ],
    }


def _crossing(field: dict[str, Any]) -> dict[str, Any]:
    """`vary` as a table from field to levels; a section may be a table of its own."""
    levels = {"type": "array", "minItems": 2, "uniqueItems": True}
    names = [*field["enum"], *(section for section in SECTIONS if section not in ("data", "evaluation"))]
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"enum": names},
        "additionalProperties": {"anyOf": [levels, {"type": "object", "additionalProperties": levels}]},
    }


def _items(field: dict[str, Any]) -> dict[str, Any]:
    """The list among the alternatives of an optional list, or the list itself."""
    options: list[dict[str, Any]] = field.get("anyOf", [field])
    return next(option for option in options if option.get("type") == "array")


def _arm(definitions: dict[str, Any]) -> dict[str, Any]:
    """An arm: the sections again, without defaults and without what arms may not set."""
    sections = {}
    scalars = definitions | {"Training": Training.model_json_schema()}
    for section in SECTIONS:
        whole = scalars[section.capitalize()]
        fields = {
            name: {key: value for key, value in field.items() if key != "default"}
            for name, field in whole["properties"].items()
            if why_fixed(f"{section}.{name}") is None
        }
        if fields:
            sections[section] = {"type": "object", "additionalProperties": False, "properties": fields}
    return {
        "type": "object",
        "additionalProperties": False,
        "description": "What this arm sets; only fields listed in vary.",
        "properties": sections,
    }
