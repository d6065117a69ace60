"""The section `[training]` of a study: one optimizer and one schedule for every arm, and fields that are tuned for each."""

from itertools import pairwise, product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    create_model,
    field_validator,
    model_validator,
)

from paribus.doors import optimizer as optimizers
from paribus.spec.section import Count, Section, nearest_of


class Training(Section):
    """One optimizer and one schedule for every arm."""

    tokens: Count = 2_000_000
    """Tokens read per trial, input and target together."""
    budgets: Annotated[int, Field(ge=2, le=30)] | Annotated[list[Count], Field(min_length=1)] | None = None
    """Smaller budgets that each run serves too, by branches that end early: a number n (n budgets, each twice the one before, the
    last being `tokens`), or token counts below `tokens`, which is always the last. Six or more tell a trend."""
    batch: Count = 8
    """Windows per step."""
    optimizer: Annotated[
        str, Field(json_schema_extra=lambda schema: schema.update(examples=list(optimizers.built_in)))
    ] = "adamw"
    """`adamw` (arXiv 1711.05101); `muon` for the matrices of layers, with AdamW for all else (arXiv 2502.16982); or
    `FILE.py:NAME`, a factory of your own."""
    learning_rate: PositiveFloat = 2e-3
    """Peak rate."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the steps over which the rate rises from 0."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the steps, the last ones, over which the rate falls linearly to 0; constant in between."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay of matrices, tables of embeddings and positions included; gains and biases have none."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of AdamW's second moment."""
    clip: PositiveFloat = 1.0
    """Largest gradient norm."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of matrix products; `auto` takes bfloat16 where the hardware has instructions for it."""
    compile: Literal["auto", "always", "never"] = "auto"
    """torch.compile; `auto` where it saves more time over the study than it costs."""
    attention: Literal["auto", "dense", "flex"] = "auto"
    """How softmax attention is computed: `dense` masks the square of pairs; `flex` is FlexAttention, which leaves out the blocks
    that nobody sees and trains on CUDA only; `auto` takes it there for windows of 512 tokens or more."""
    threads: Count = 1
    """CPU threads of one trial; part of its record, because bits depend on it."""

    @field_validator("optimizer")
    @classmethod
    def _known(cls, name: str) -> str:
        if not optimizers.has(name):
            near = nearest_of(name, optimizers.names)
            fix = f"did you mean {near}?" if near else 'or one of your own, such as "my_optimizer.py:my_optimizer"'
            raise ValueError(f"should be one of {', '.join(optimizers.names)}; {fix}")
        return name

    @model_validator(mode="after")
    def _schedule(self) -> "Training":
        warmup, decay = (max(values_of(getattr(self, name))) for name in ("warmup", "decay"))
        if warmup + decay > 1:
            raise ValueError(
                f"warmup = {warmup:g}: with decay = {decay:g} more than the whole run; use at most 1 together"
            )
        return self

    @model_validator(mode="after")
    def _increasing(self) -> "Training":
        budgets = self.budgets if isinstance(self.budgets, list) else []
        if any(later <= before for before, later in pairwise(budgets)):
            raise ValueError(f"budgets = {budgets}: should increase, each more than the one before")
        if budgets and budgets[-1] >= self.tokens:
            raise ValueError(
                f"budgets = {budgets}: should be below tokens = {self.tokens}, which is always the last; leave out "
                f"{budgets[-1]}, or train on more tokens"
            )
        return self


TUNABLE = ("learning_rate", "warmup", "decay", "weight_decay", "beta1", "beta2", "clip", "batch")
"""The fields that decide how well an arm learns, so that each arm may have a value of its own."""

LEAST_VALUES = 3
"""A best value is told from an edge only where there is something on either side of it."""

_NOT_TUNED = {
    "optimizer": 'to compare several give each an arm of its own, with vary = ["training.optimizer"]',
    "tokens": "more tokens are always better: give one number, or training.budgets for several",
    **dict.fromkeys(
        ("device", "dtype", "compile", "attention", "threads"), "all trials of a study run alike: give one"
    ),
}


def values_of(value: Any) -> list[Any]:
    """The values of a field that may be a list."""
    return list(value) if isinstance(value, list) else [value]


def _worth_tuning(values: list[Any]) -> list[Any]:
    if len(values) < LEAST_VALUES:
        count = ("no value", "one value", "two values")[len(values)]
        raise ValueError(
            f"a list is tuned, and {count} cannot be: give {LEAST_VALUES} or more, or one without brackets"
        )
    if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{repeated[0]:g} is there twice; leave one out")
    return values


class _Asked(Training):
    """`[training]` as a study asks for it."""

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_learned_by(cls, tables: Any) -> Any:
        for name, reason in _NOT_TUNED.items() if isinstance(tables, dict) else ():
            if isinstance(tables.get(name), list):
                raise ValueError(f"{name} = {tables[name]}: cannot be tuned: {reason}")
        return tables

    @property
    def grid(self) -> dict[str, list[Any]]:
        """The fields that are lists, with their section, and the values of each in ascending order."""
        asked = {name: getattr(self, name) for name in TUNABLE}
        return {f"training.{name}": sorted(values) for name, values in asked.items() if isinstance(values, list)}

    @property
    def plain(self) -> Training:
        """The section with the middle value of each list: what arms have before they are tuned."""
        middle = {field.partition(".")[2]: values[(len(values) - 1) // 2] for field, values in self.grid.items()}
        return Training.model_validate({**self.model_dump(), **middle})


def crossing(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of a grid, the last field changing fastest."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _or_list(name: str) -> tuple[Any, Any]:
    """The type of a tunable field and its default: a value, or a list of such values."""
    field = Training.model_fields[name]
    value: Any = Annotated[field.annotation, *field.metadata]
    shape = Field(json_schema_extra={"minItems": LEAST_VALUES, "uniqueItems": True})
    grid: Any = Annotated[list[value], AfterValidator(_worth_tuning), shape]
    either = Annotated[
        Annotated[value, Tag("value")] | Annotated[grid, Tag("list")],
        Discriminator(lambda given: "list" if isinstance(given, list) else "value"),
    ]
    text = f"{field.description}\nA list is tuned: each arm gets its own best of them."
    return either, Field(default=field.default, description=text)


if TYPE_CHECKING:
    AskedTraining = _Asked
else:
    AskedTraining = create_model(
        "Training", __base__=_Asked, __doc__=_Asked.__doc__, **{name: _or_list(name) for name in TUNABLE}
    )
