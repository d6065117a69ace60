"""What the sections of a study file are made of: strict tables, and numbers that may be written `"2M"`."""

import difflib
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

_SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_COUNT = r"^\s*([0-9_]*\.?[0-9]+)\s*([kKmMbB]?)\s*$"


def count(value: Any) -> Any:
    """Read `"2M"`, `"300k"` or `"1.5B"`, and 1e6, as a whole number; leave anything else to the type's own check."""
    if isinstance(value, str) and (match := re.fullmatch(_COUNT, value)):
        number = Fraction(match[1].replace("_", "")) * _SUFFIX[match[2].lower()]
        return int(number) if number.denominator == 1 else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Whole = Annotated[int, Field(gt=0, le=10**15)]
_Written = _Whole | Annotated[str, StringConstraints(pattern=_COUNT)]
Count = Annotated[_Whole, BeforeValidator(count, json_schema_input_type=_Written)]
Size = Annotated[Count, Field(le=10**6)]
Layers = Annotated[Count, Field(le=1000)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values do not change, types are not guessed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def nearest_of(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` probably meant, if one is near."""
    return next(iter(difflib.get_close_matches(word, list(options), n=1)), None)
