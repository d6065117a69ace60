"""The section `[objective]` of a study: how text becomes pairs of input and target."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from paribus.spec.section import Section

ObjectiveName = Literal["lm", "prefix_lm", "span_corruption", "mlm", "ul2", "pairs"]
OBJECTIVES: dict[str, str] = {
    "lm": "the plain language model: the input is empty, the whole window is target",
    "prefix_lm": "a window is cut in two: the first part is input, the second target",
    "span_corruption": "T5 (arXiv 1910.10683): spans are cut out of the input and are the target",
    "mlm": "BERT (arXiv 1810.04805): masked tokens are predicted in place; there is no target side",
    "ul2": "UL2 (arXiv 2205.05131): a mixture of denoisers, each announced by its mode",
    "pairs": "supervised: each document has an input and a target of its own",
}
"""Every objective in a line."""
Denoiser = Literal["R", "S", "X"]
Share = Annotated[float, Field(gt=0, lt=1)]
Spans = Annotated[float, Field(ge=1)]
Splits = Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=1)]

SHORTEST = 8
"""Tokens of the shortest window that is corrupted."""


class Objective(Section):
    """How text becomes pairs of input and target."""

    name: ObjectiveName = "prefix_lm"
    """What is input and what is target; `paribus list objectives` says what each does, and shows an example."""
    loss_on: Literal["target", "all"] = "target"
    """`all` adds the input's own next-token loss; legal only where the input sees nothing ahead (causal)."""
    input_loss_weight: PositiveFloat = 1.0
    """Weight of an input token's loss under `loss_on = "all"`; a target token's is 1."""
    splits: Splits = [0.25, 0.5, 0.75]
    """Of `prefix_lm`: the share of the window that is input. Each batch draws one, from the seed and the step alone."""
    split_weights: list[PositiveFloat] | None = None
    """How often each split is drawn, up to a factor; equal by default."""
    noise_density: Share = 0.15
    """Of `span_corruption` and `mlm`: the share of the text that is to be predicted."""
    mean_span: Spans = 3.0
    """Of `span_corruption`: tokens of a span on average."""
    masked: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of `mlm`: the share of the chosen tokens that become [MASK]. These alone are scored."""
    random: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of `mlm`: the share of the chosen tokens that become another, random token; the rest stay as they are."""
    denoisers: Annotated[list[Denoiser], Field(min_length=1)] = ["R", "R", "S", "X", "X", "X", "X"]
    """Of `ul2`: the mode of each denoiser, announced by a token of its own. R and X cut out spans anywhere, S one span at the
    end. Each batch draws a denoiser."""
    densities: list[Share] = [0.15, 0.15, 0.25, 0.5, 0.5, 0.15, 0.5]
    """Of `ul2`: the share of the text that each denoiser cuts out."""
    mean_spans: list[Spans] = [3.0, 8.0, 1.0, 3.0, 8.0, 64.0, 64.0]
    """Of `ul2`: tokens of a span on average, for each denoiser; S has one span, whatever this says."""
    proportions: list[PositiveFloat] | None = None
    """Of `ul2`: how often each denoiser is drawn, up to a factor; equal by default."""

    @model_validator(mode="after")
    def _shapes(self) -> "Objective":
        if len(set(self.splits)) != len(self.splits):
            raise ValueError(f"splits = {self.splits}: each split once; split_weights says how often it is drawn")
        if self.split_weights is not None and len(self.split_weights) != len(self.splits):
            raise ValueError(
                f"split_weights = {self.split_weights}: should have one weight for each of the {len(self.splits)} splits"
            )
        if self.masked + self.random > 1:
            most = round(1 - self.masked, 6)
            raise ValueError(
                f"random = {self.random:g}: with masked = {self.masked:g} more than all; use at most {most:g}"
            )
        for name in ("densities", "mean_spans", "proportions"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.denoisers):
                number = len(self.denoisers)
                raise ValueError(f"{name} = {values}: should have one number for each of the {number} denoisers")
        return self
