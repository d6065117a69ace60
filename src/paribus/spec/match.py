"""The `match` list of a study: quantities in which arms are made equal, each by turning a named knob."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from paribus.spec.section import Section

Matched = Literal["parameters", "total_parameters", "train_flops", "serve_flops", "kv_bytes", "latency"]
Knob = Literal["feed_forward", "layers", "width"]

TOLERANCE = 0.005
"""How far a matched arm may be from the reference, as a share of the larger value."""

SEEDS_TOGETHER = 3
"""Training FLOPs are matched over so many of a study's first seeds together: each seed draws its own lengths, and no width is
right for every one. Seeds that are added later change no arm."""

WORDS: dict[str, str] = {
    "parameters": "parameters",
    "total_parameters": "parameters, embeddings included",
    "train_flops": "training cost",
    "serve_flops": "inference cost",
    "kv_bytes": "bytes of keys and values",
    "latency": "latency",
}
"""Each quantity as a verdict names it: under "equal training cost"."""


class Matching(Section):
    """One way in which arms are comparable: each is solved for, so that it equals the reference to within 0.5 %."""

    quantity: Matched | None = None
    """What is made equal."""
    quantities: Annotated[list[Matched], Field(min_length=2, max_length=2)] | None = None
    """Instead of `quantity`: two that are made equal at once; they need two knobs."""
    knob: Knob | Annotated[list[Knob], Field(min_length=1)] | None = None
    """What is turned: the feed-forward's hidden size at fixed depth and width by default, layers for kv_bytes. With a list the
    matching is made once by each, and a verdict that depends on the knob is undecided."""
    knobs: Annotated[list[Knob], Field(min_length=2, max_length=2)] | None = None
    """With `quantities`: the two that are turned, `["feed_forward", "layers"]` by default."""
    reference: str | None = None
    """The arm that stays as it is and whose value the others get; the study's first by default."""

    @property
    def matched(self) -> tuple[Matched, ...]:
        """The quantities."""
        return tuple(self.quantities) if self.quantities else (self.quantity,) if self.quantity else ()

    @property
    def ways(self) -> list[tuple[Knob, ...]]:
        """Alternative ways to match: the knobs of each."""
        if self.quantities:
            return [tuple(self.knobs or ("feed_forward", "layers"))]
        if isinstance(self.knob, list):
            return [(knob,) for knob in self.knob]
        return [(self.knob or ("layers" if self.quantity == "kv_bytes" else "feed_forward"),)]

    @property
    def words(self) -> str:
        """As verdicts name it: under `equal training cost`."""
        return "equal " + " and ".join(WORDS[quantity] for quantity in self.matched)

    @model_validator(mode="after")
    def _whole(self) -> "Matching":
        if (self.quantity is None) == (self.quantities is None):
            raise ValueError('should have quantity = "..." or quantities = ["...", "..."]')
        if self.quantities and self.knob is not None:
            raise ValueError('two quantities need two knobs: knobs = ["feed_forward", "layers"] instead of knob')
        if self.quantity and self.knobs is not None:
            raise ValueError("one quantity has one knob, or a list of alternatives: knob instead of knobs")
        for name, values in (("quantities", self.quantities), ("knobs", self.knobs), ("knob", self.knob)):
            if isinstance(values, list) and len(set(values)) < len(values):
                raise ValueError(f"{name} = {values}: each once")
        if self.quantities and "latency" in self.quantities:
            raise ValueError("latency is measured, and matched only by itself")
        return self


def _by_name(value: Any) -> Any:
    return {"quantity": value} if isinstance(value, str) else value


AskedMatching = Annotated[Matching, BeforeValidator(_by_name, json_schema_input_type=Matched | Matching)]
"""A matching, or the name of its quantity."""


def each_once(matchings: list[Matching]) -> list[Matching]:
    """See that no matching is asked for twice: the same verdicts again would only widen all intervals."""
    seen = set()
    for one in matchings:
        for way in one.ways:
            what = (frozenset(one.matched), frozenset(way), one.reference)
            if what in seen:
                raise ValueError(f"{' and '.join(one.matched)} by {' and '.join(way)} is there twice; leave one out")
            seen.add(what)
    return matchings
