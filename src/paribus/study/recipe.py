"""The section `[training]` of a study: one optimizer and one schedule for every arm."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from paribus.study.section import Count, Section


class Training(Section):
    """One optimizer and one schedule for every arm."""

    tokens: Count = 2_000_000
    """Tokens read per trial, input and target together."""
    batch: Count = 8
    """Windows per step."""
    learning_rate: PositiveFloat = 2e-3
    """Peak rate of AdamW."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the steps over which the rate rises from 0."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the steps, the last ones, over which the rate falls linearly to 0; constant in between."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay of matrices, tables of embeddings and positions included; gains and biases have none."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """AdamW's second moment."""
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

    @model_validator(mode="after")
    def _schedule(self) -> "Training":
        if self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup = {self.warmup:g}: with decay = {self.decay:g} more than the whole run; use at most 1 together"
            )
        return self
