"""The section `[evaluation]` of a study: what is measured on text that no trial trained on."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paribus.spec.objective import Splits
from paribus.spec.section import Count, Section


class Evaluation(Section):
    """What is measured on text that no trial trained on."""

    test_windows: Count = 1024
    """Windows of the test split scored at the end (fewer if the split has fewer), the same for every arm and seed."""
    tune_windows: Count = 128
    """Windows of the tuning split behind each point of the learning curve."""
    curve_points: Count = 12
    """Points of the learning curve."""
    score_on: Literal["objective", "continuation"] | None = None
    """`objective`: the pairs that the arms' objective makes of the test text. `continuation`: some tokens of a text, each given
    everything before it, the same for every arm; by default where arms differ in their objective, which then must not
    be `objective`."""
    continuation_splits: Splits | None = None
    """Under `continuation`: the share of the window that is shown before the first scored token; by default
    `objective.splits` of the study."""
    continuation_tokens: Count = 8
    """Under `continuation`: tokens scored in each window, evenly spaced after what is shown."""
    draws: Annotated[int, Field(ge=1, le=1000)] = 4
    """Seeds over which a window's loss is averaged where visibility is drawn per sequence."""
    window_factors: list[Annotated[float, Field(gt=1, le=64)]] = []
    """The test loss also at windows that many times longer than those trained on, such as [2, 4]."""

    @model_validator(mode="after")
    def _factors(self) -> "Evaluation":
        if len(set(self.window_factors)) != len(self.window_factors):
            raise ValueError(f"window_factors = {self.window_factors}: each factor once")
        return self
