"""What an arm, a claim or an effect is under: one value, with one way to say it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import model_serializer

from paribus.own_code import short_name
from paribus.records.record import Record
from paribus.spec.fields import leaf_name
from paribus.spec.match import WORDS
from paribus.spec.parts import readable
from paribus.spec.problems import shown

Kind = Literal["written", "size", "matching", "setting", "common"]
"""What a condition adds to a claim as the study file has it; the last three change its arms."""


class Setting(Record):
    """A field and a value that it is given."""

    field: str
    """Dotted, such as `model.init`."""
    value: Any

    def __str__(self) -> str:
        return f"{self.field} = {value_words(self.value)}"


class Matched(Record):
    """That arms are made equal in something."""

    quantities: tuple[str, ...]
    """In what, such as `parameters`."""
    knobs: tuple[str, ...]
    """By turning what, such as `feed_forward`."""
    among_others: bool = False
    """Whether the study makes them equal by other knobs too."""

    @property
    def quantity(self) -> str:
        """`parameters`, or `parameters and train_flops`."""
        return " and ".join(self.quantities)

    @property
    def knob(self) -> str:
        """`feed_forward`, or `feed_forward and layers`."""
        return " and ".join(self.knobs)

    @property
    def words(self) -> str:
        """The quantities as verdicts name them: `training cost`."""
        return " and ".join(WORDS[quantity] for quantity in self.quantities)

    def __str__(self) -> str:
        return f"equal {self.words}" + (f" by {self.knob}" if self.among_others else "")


class Condition(Record):
    """A size, and at most one of: a matching, another setting, common values of what is tuned."""

    size: str | None = None
    """In a study with sizes: at which, such as `1M`."""
    matching: Matched | None = None
    """Under which matching."""
    setting: Setting | None = None
    """With which other value of a field, for a claim's `repeat_under`."""
    common: tuple[Setting, ...] = ()
    """At which values of the tuned fields, the same in all arms."""

    @property
    def kind(self) -> Kind:
        """What it adds to the claim as written."""
        found: tuple[tuple[Kind, Any], ...] = (
            ("matching", self.matching),
            ("setting", self.setting),
            ("common", self.common),
            ("size", self.size),
        )
        return next((kind for kind, value in found if value), "written")

    @property
    def as_written(self) -> bool:
        """Whether arms are those that the study file names (at a size), and no copies of them."""
        return self.kind in ("written", "size")

    def at_size(self, size: str | None) -> "Condition":
        """The same at a size, or without one."""
        return self.model_copy(update={"size": size})

    def at_values(self, common: "tuple[Setting, ...]") -> "Condition":
        """The same at common values of what is tuned."""
        return self.model_copy(update={"common": common})

    @property
    def without_size(self) -> "Condition":
        """The same in a study of one size."""
        return self.at_size(None)

    def __bool__(self) -> bool:
        return self.kind != "written"

    def __str__(self) -> str:
        own = self.matching or self.setting or ", ".join(map(str, self.common))
        size = f"size {self.size}" if self.size else ""
        return f"{own} at {size}" if own and size else str(own or size)

    @property
    def where(self) -> str:
        """With its preposition: `at equal parameters`, `at size 1M`, `under model.init = normal_0.02`; empty as written."""
        return f"{'at' if self.kind in ('matching', 'size') else 'under'} {self}" if self else ""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, handler: Any) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value}


AS_WRITTEN = Condition()


def value_words(value: Any) -> str:
    """A value as names and verdicts have it: text without quotes, own code without folder and hash."""
    return short_name(value) if isinstance(value, str) else shown(readable(value))


def arm_name(written: str, condition: Condition, changes: Mapping[str, Any]) -> str:
    """The name of an arm under a condition, which sets `changes`: `gpt`, `t5 [size=1M, parameters: feed_forward=88]`."""
    common = {setting.field for setting in condition.common}

    def sets(fields: Sequence[str]) -> str:
        return ", ".join(f"{leaf_name(field)}={value_words(changes[field])}" for field in fields)

    own = sets([field for field in changes if field not in common])
    if own and condition.matching:
        own = f"{condition.matching.quantity}: {own}"
    parts = [f"size={condition.size}" if condition.size else "", own, sets([f for f in changes if f in common])]
    inner = ", ".join(part for part in parts if part)
    return f"{written} [{inner}]" if inner else written
