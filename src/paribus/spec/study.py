"""A study as its author writes it: every field, its unit, its default and what it may be.

With the modules of its sections (`text`, `objective`, `architecture`, `recipe`, `measuring`) this is the reference of the
study file: each section of the TOML file is one class; the text below a field is its description in `paribus schema`.
Nothing here computes; `plan` resolves arms, `audit` compares them.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, field_validator, model_validator

from paribus.spec.data import Data
from paribus.spec.evaluation import Evaluation
from paribus.spec.match import AskedMatching, each_once
from paribus.spec.model import Model
from paribus.spec.objective import SHORTEST, Objective
from paribus.spec.section import Section, Text
from paribus.spec.sizes import AskedSizes, Sizes
from paribus.spec.training import AskedTraining, Training
from paribus.spec.workload import AskedWorkload, Workload

FIRST_TUNING_SEED = 1_000_000

Quantity = Literal[
    "parameters", "total_parameters", "train_flops", "serve_flops", "kv_bytes", "seen_tokens", "loss_tokens"
]


class Config(Section):
    """What one arm resolves to: everything that decides a trial, but its seed."""

    data: Data = Data()
    objective: Objective = Objective()
    model: Model = Model()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @property
    def has_target(self) -> bool:
        """Whether there is a target side: all objectives have one but `mlm`."""
        return self.objective.name != "mlm"

    @property
    def input_loss(self) -> bool:
        """Whether something is predicted from input positions."""
        return self.objective.loss_on == "all" or not self.has_target

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        window, batch, objective = self.data.window, self.training.batch, self.objective
        self._input_can_be_predicted()
        if not self.has_target:
            self._has_no_target()
        if objective.name == "pairs" and self.data.pairs is False:
            raise ValueError('data.pairs = false: objective.name = "pairs" reads pairs; leave data.pairs out')
        if objective.name in ("span_corruption", "mlm", "ul2") and window < SHORTEST:
            raise ValueError(f"data.window = {window}: {objective.name} needs windows of at least {SHORTEST} tokens")
        for field, splits in (
            ("objective.splits", objective.splits if objective.name == "prefix_lm" else []),
            ("evaluation.continuation_splits", self.evaluation.continuation_splits or []),
        ):
            for split in splits:
                if round(split * window) >= window:
                    raise ValueError(
                        f"{field} = {splits}: {split:g} of a window of {window} tokens leaves none to the "
                        f"target; use at most {(window - 1) / window:.3g}"
                    )
        if self.evaluation.score_on == "continuation":
            if objective.name == "pairs":
                raise ValueError(
                    'evaluation.score_on = "continuation": objective.name = "pairs" has targets of its own; use "objective"'
                )
            if window < SHORTEST:
                raise ValueError(f"data.window = {window}: continuation needs windows of at least {SHORTEST} tokens")
        if self.model.position == "learned" and (self.model.positions or window) < window:
            raise ValueError(
                f"model.positions = {self.model.positions}: fewer than the {window} tokens of a window; use at least {window}"
            )
        if self.training.tokens < batch * window:
            raise ValueError(
                f"training.tokens = {self.training.tokens}: less than one step of {batch} windows of {window} tokens; "
                f"use at least {batch * window}"
            )
        return self

    def _input_can_be_predicted(self) -> None:
        if self.objective.loss_on == "target":
            return
        name = self.objective.name
        if name == "lm":
            raise ValueError(
                'objective.loss_on = "all": the input of lm is empty; use loss_on = "target", or prefix_lm'
            )
        if name == "mlm":
            raise ValueError(
                'objective.loss_on = "all": under mlm a token\'s own place predicts it, not the one before; '
                'use loss_on = "target"'
            )
        if not self.model.looks_back:
            rules = self.model.input_attention
            shown = f'"{rules}"' if isinstance(rules, str) else str(rules)
            raise ValueError(
                f'objective.loss_on = "all": input_attention = {shown} lets the input see the '
                'tokens it would predict; use loss_on = "target", or causal input attention'
            )

    def _has_no_target(self) -> None:
        for field, value, only in (
            ("parameters", self.model.parameters, "shared"),
            ("memory", self.model.memory, "every_layer"),
        ):
            if value != only:
                raise ValueError(
                    f'model.{field} = "{value}": objective.name = "mlm" has no target side that would differ from the '
                    f'input side; use {field} = "{only}", or another objective'
                )


Metric = Literal["nats_per_token", "bits_per_byte", "token_accuracy", "exact_match"]


class Claim(Section):
    """A statement about a contrast, written before the run."""

    says: Text
    """The statement, in words."""
    arm: str
    """The arm the statement is about."""
    against: str
    """The arm it is compared with."""
    metric: Metric = "bits_per_byte"
    """What is compared on the test windows: the loss, of which less is better, per token or per byte of text; the share of tokens
    that greedy decoding would get right, given those before; or of windows in which it gets all. An improvement is positive."""
    expect: Literal["better", "worse", "equal", "not_better", "not_worse"]
    """What the statement predicts."""
    margin: PositiveFloat
    """The smallest difference that would matter, in the metric's unit."""
    estimand: Literal["text_like_it", "this_test_set"] = "text_like_it"
    """What the interval is about: text like the test set (seeds and documents vary), or this very test set (seeds vary)."""
    vary: list[str] | None = None
    """Fields in which this claim's two arms may differ; the study's by default."""
    hold: list[str] | None = None
    """Quantities in which this claim's two arms must be equal; the study's by default."""
    repeat_under: dict[str, list[Any]] = {}
    """Fields and further values under which the same contrast is trained and judged again, such as
    `{"model.init" = ["normal_0.02"]}`."""


class Effect(Section):
    """A statement about crossed factors, written before the run: a main effect or an interaction."""

    says: Text
    """The statement, in words."""
    of: str | list[str] | dict[str, Any]
    """The field whose main effect it is about, or the two or three whose interaction. A main effect is the improvement by the
    field's second level over its first, the reference, averaged over the levels of the others; an interaction is how much larger
    that is beside another field's second level than beside its first. A table gives the levels where there are more than two or
    others are meant: `{"model.position" = ["none", "rope"]}`, none against rope."""
    metric: Metric = "bits_per_byte"
    """As of a claim. An improvement, or a larger gain, is positive."""
    expect: Literal["better", "worse", "equal", "not_better", "not_worse"]
    """What the statement predicts of the effect: better is above the margin."""
    margin: PositiveFloat
    """The smallest effect that would matter, in the metric's unit."""
    estimand: Literal["text_like_it", "this_test_set"] = "text_like_it"
    """As of a claim."""
    hold: list[str] | None = None
    """Quantities in which arms that differ in the first field alone must be equal; the study's by default."""


Seeds = Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Study(Section):
    """A question, a base, arms that override it, and claims about them."""

    question: Text
    """What the study asks, in one sentence."""
    about: str = ""
    """A paragraph of background for the report."""
    vary: list[str]
    """Fields in which arms may differ, such as `model.input_attention`; nothing else may. Or a table from field to levels,
    `{"model.input_attention" = ["causal", "bidirectional"], "model.position" = ["rope", "none"]}`: then the arms are the full
    crossing, named by their levels (`causal + rope`), the first levels being the reference; `leave_out` takes cells out of it."""
    hold: list[str] = ["seen_tokens", "loss_tokens"]
    """Quantities that the two arms of a claim must share: parameters, total_parameters, train_flops, seen_tokens,
    loss_tokens, and serve_flops and kv_bytes of the workload; `"train_flops: 5%"` allows a tolerance."""
    match: Annotated[list[AskedMatching], AfterValidator(each_once)] = []
    """Matchings, such as `["parameters", "train_flops"]`: under each the claims are trained and judged again, with arms solved to
    be equal in that. A table says more, such as `{quantity = "parameters", knob = "layers"}`."""
    sizes: AskedSizes = Sizes()
    """Sizes at which every arm is trained and every claim judged, such as `["0.3M", "1M", "3M"]`: parameters of the first arm
    outside the embeddings. A table says more, such as `{values = ["1M", "3M"], knob = "layers"}`."""
    seeds: Seeds = 3
    """How many seeds each arm is trained with, or the seeds themselves."""
    stopping: Literal["fixed", "group_sequential", "any_time"] = "fixed"
    """When seeds stop being added: after `seeds`, or once all claims are decided, at looks up to `max_seeds` or at any time."""
    max_seeds: Annotated[int, Field(ge=3, le=1000)] | None = None
    """Most seeds under `group_sequential` (20 by default) and `any_time` (no maximum by default)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Simultaneous confidence of all intervals of the study together."""
    tuning_seeds: Seeds = 2
    """How many seeds, or which, choose between the values of a list in `[training]`; they serve in no verdict, so their numbers
    are 1000 or more, by default from 1000000 on."""
    common_values: bool = True
    """Whether claims are also judged with all arms at each value of such lists."""
    data: Data = Data()
    objective: Objective = Objective()
    model: Model = Model()
    training: AskedTraining = AskedTraining()
    evaluation: Evaluation = Evaluation()
    workload: AskedWorkload = Workload()
    """How the arms would be used: `"one_shot"`, `"chat"` or `"retrieval"`, or a table."""
    arm: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Named overrides of the base; not where `vary` gives the levels."""
    claim: list[Claim] = []
    """Statements to be judged."""
    effect: list[Effect] = []
    """Statements about main effects and interactions of crossed factors, judged together with the claims."""

    @field_validator("seeds", "tuning_seeds")
    @classmethod
    def _distinct(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and (repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1})):
            raise ValueError(
                f"seed {repeated[0]} is there twice: the same trial again says nothing new; give distinct seeds"
            )
        return seeds

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves: 0 to n - 1 where only a number was given."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def tuning_seed_list(self) -> list[int]:
        """The seeds that choose between values: far from all that verdicts come from."""
        asked = self.tuning_seeds
        return [FIRST_TUNING_SEED + number for number in range(asked)] if isinstance(asked, int) else list(asked)
