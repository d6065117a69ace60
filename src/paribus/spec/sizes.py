"""The `sizes` of a study: how large its arms are, each size by the same rule, so that arms are compared along their sizes."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from paribus.spec.section import Count, Section

SizeKnob = Literal["width", "layers", "both"]
TURNED: dict[SizeKnob, tuple[str, ...]] = {
    "width": ("model.width",),
    "layers": ("model.layers",),
    "both": ("model.width", "model.layers"),
}
"""The fields that decide a size, by knob; the feed-forward's hidden size follows them, and makes the count exact."""


class Sizes(Section):
    """Sizes at which every arm is trained and every claim judged, in parameters of a reference arm."""

    values: list[Count] = []
    """Parameters of the reference arm outside the embeddings, to within 0.5 %, such as `["0.3M", "1M", "3M"]`: two or more."""
    knob: Literal["width", "layers", "both"] = "width"
    """What makes an arm larger: its width at fixed depth, its layers at fixed width, or both at a fixed ratio of the two."""
    reference: str | None = None
    """The arm whose parameters are counted; the study's first by default. The others get the same width, layers and ratio of the
    feed-forward, and so what their structure makes of these."""
    tokens: Literal["fixed", "proportional"] = "fixed"
    """Tokens of a trial: the same at every size, or as many for each parameter of the reference as the base as written has."""
    learning_rate: Literal["inverse_width", "same"] = "inverse_width"
    """Learning rates of a size: those of the base times base width / width (after muP, arXiv 2203.03466), to three significant
    digits; or the same. Lists that are tuned follow the rule too, and each size is tuned by itself."""

    @field_validator("values")
    @classmethod
    def _comparable(cls, values: list[int]) -> list[int]:
        if len(values) == 1:
            raise ValueError("one size allows no statement about scale: give two or more, or leave sizes out")
        if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
            raise ValueError(f"{size_label(repeated[0])} is there twice; leave one out")
        return sorted(values)

    @model_validator(mode="after")
    def _of_something(self) -> "Sizes":
        default = type(self).model_fields
        said = [name for name in default if name != "values" and getattr(self, name) != default[name].default]
        if said and not self.values:
            raise ValueError(f'{said[0]} says how sizes are made, and there is none: give values = ["0.3M", "1M"]')
        return self


def size_label(count: int) -> str:
    """A size as names and verdicts have it: `300k`, `1M`, `1.5M`; exact."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.15g}{letter}"
    return str(count)


def _by_values(value: Any) -> Any:
    return {"values": value} if isinstance(value, list) else value


AskedSizes = Annotated[Sizes, BeforeValidator(_by_values, json_schema_input_type=list[Count] | Sizes)]
"""Sizes, or the list of their values."""
