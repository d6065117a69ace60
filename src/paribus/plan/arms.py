"""From a base and an arm's overrides to the arm's whole configuration, and from two configurations to how they differ."""

from collections.abc import Mapping
from typing import Any

from paribus import spec
from paribus.spec.fields import SECTIONS, config_fields, flatten
from paribus.spec.section import Section

# Fields whose absence means a default computed from others: the value that is really used.
_USED = {"model.heads": "query_heads", "model.kv_heads": "key_heads", "model.feed_forward": "hidden"}

# Weights that are equal by default, and what they weigh.
_WEIGHTS = {"objective.split_weights": "splits", "objective.proportions": "denoisers"}


def own_sections(study: spec.Study) -> dict[str, Section]:
    """The study's own sections, with the middle value of each list that is tuned."""
    return {name: getattr(study, name) for name in SECTIONS} | {"training": study.training.plain}


def base_config(study: spec.Study) -> dict[str, dict[str, Any]]:
    """The study's own sections, as tables: what an arm without overrides would be."""
    return {name: section.model_dump() for name, section in own_sections(study).items()}


def resolve(study: spec.Study, overrides: Mapping[str, Any]) -> spec.Config:
    """The configuration of an arm that sets `overrides` (nested tables or dotted fields).

    Raises pydantic's ValidationError where a field is unknown or a combination impossible.
    """
    tables = base_config(study)
    for field, value in flatten(overrides).items():
        section, _, name = field.partition(".")
        tables.setdefault(section, {})[name] = value
    return spec.Config.model_validate(tables)


def value_of(config: spec.Config, field: str) -> Any:
    """The value of a dotted field as it is written, None where it is left to its default rule."""
    section, _, name = field.partition(".")
    return getattr(getattr(config, section), name)


def used_value(config: spec.Config, field: str) -> Any:
    """The value that a dotted field has in effect: 2 heads are 2 heads, whether written or by default."""
    if field in _USED:
        return getattr(config.model, _USED[field])
    if field == "model.input_attention":
        rules = config.model.rules
        return rules[0] if len(set(rules)) == 1 else list(rules)
    if field == "model.positions":
        return config.model.positions or config.data.window
    if field in _WEIGHTS:
        value = getattr(config.objective, _WEIGHTS[field])
        weights = value_of(config, field) or [1.0] * len(value)
        return [weight / sum(weights) for weight in weights]
    return value_of(config, field)


def differences(one: spec.Config, other: spec.Config) -> list[str]:
    """The fields in which two configurations were made to differ."""
    return [
        field
        for field in config_fields()
        if used_value(one, field) != used_value(other, field) and value_of(one, field) != value_of(other, field)
    ]


def consequences(one: spec.Config, other: spec.Config) -> list[str]:
    """The fields that differ only because their default rule follows another field, as heads follow the width."""
    return [
        field
        for field in config_fields()
        if used_value(one, field) != used_value(other, field) and value_of(one, field) == value_of(other, field)
    ]
