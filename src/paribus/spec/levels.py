"""Levels of crossed fields in words, short and unambiguous: names of cells, and of what an effect is between."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paribus.own_code import short_name
from paribus.spec.fields import leaf_name

JOIN = " + "
"""Between the levels of a cell, as in `causal + rope`."""
_LONGEST_WORD = 40


def level_words(levels: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """Each field's levels in words, of which no two are the same: `causal`, `rope`, `layers 4`, `rules.py:mine`.

    A number or a truth value is said with its field, and so is a word that two fields have. What is too long for a name is
    numbered: `input_attention #2`.
    """
    plain = {field: [word_of(value) for value in values] for field, values in levels.items()}
    shared = Counter(word for words in plain.values() for word in set(words))
    found = {}
    for field, words in plain.items():
        leaf, repeated = leaf_name(field), Counter(words)
        tell = any(shared[word] > 1 for word in words) or not all(map(_is_text, levels[field]))
        found[field] = [
            f"{leaf} #{number}"
            if repeated[word] > 1 or not word or len(word) > _LONGEST_WORD or not word.isprintable() or JOIN in word
            else f"{leaf} {word}"
            if tell
            else word
            for number, word in enumerate(words, 1)
        ]
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def word_of(value: Any) -> str:
    """One level, without its field."""
    match value:
        case str():
            return short_name(value)
        case None:
            return "unset"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return f"{value:g}"
        case list() if not any(isinstance(item, list | Mapping) for item in value):
            return ",".join(word_of(item) for item in value)
        case _:
            return json.dumps(value, default=str)
