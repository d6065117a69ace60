"""A study as its author writes it: every field, its unit, its default and what it may be.

This file is the reference of the study file. Each section of the TOML file is one class here; the text below a field is
its description in `paribus schema`. Nothing here computes; `plan` resolves arms, `audit` compares them.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from paribus.study.architecture import Model
from paribus.study.parity import AskedMatching
from paribus.study.section import Count, Section, Size, Text, nearest_of
from paribus.study.workload import AskedWorkload, Workload

Quantity = Literal[
    "parameters", "total_parameters", "train_flops", "serve_flops", "kv_bytes", "seen_tokens", "loss_tokens"
]


class Data(Section):
    """The text, its splits and its tokens."""

    corpus: Text = "stdlib"
    """`stdlib` (this Python's own library), a generated task (`task:copy`; `paribus list` names them), or a file or folder:
    txt, jsonl, csv, tsv, parquet, also .gz and .xz."""
    text_column: Text = "text"
    """The column or key that holds the text, in jsonl, csv, tsv and parquet. In csv and tsv without a line of names, `"#1"` is
    the first column."""
    pairs: bool | None = None
    """Whether each record is an input and a target text rather than one text; by default under the objective `pairs` and
    for tasks."""
    input_column: Text = "input"
    """The column or key that holds the input text of a pair."""
    target_column: Text = "target"
    """The column or key that holds the target text of a pair."""
    tokenizer: Annotated[
        str,
        Field(json_schema_extra={"anyOf": [{"enum": ["auto", "bpe", "bytes", "words"]}, {"pattern": r"\.json$"}]}),
    ] = "auto"
    """Byte-level BPE trained on the training split, plain bytes, or one id for each word between blanks; `auto` is `words` for
    tasks, else `bpe`. Or the path of a `tokenizer.json`, such as a checkpoint's own."""
    vocabulary: Size = 4096
    """Number of token ids of the BPE, the end of a document included; special tokens come on top. Ignored by `bytes`,
    `words` and a `tokenizer.json`, which have their own."""
    special_tokens: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Ids above the text's own for start, mask, modes and sentinels; by default as many as the objectives of the arms need."""
    examples: Count = 20_000
    """Examples that a task generates, all splits together; those that happen to be equal are kept once."""
    task_length: Size | None = None
    """How long a task's examples are: symbols, digits, facts or points, as the task says; None is the task's own default."""
    task_symbols: Size | None = None
    """How many symbols a task chooses from, as the task says; None is the task's own default."""
    window: Size = 256
    """Tokens a model reads per example, input and target together."""
    tune_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the text (bytes) used for choosing anything."""
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the text (bytes) that only verdicts see."""

    @property
    def is_task(self) -> bool:
        """Whether the corpus is generated."""
        return self.corpus.startswith("task:")

    @property
    def reads_pairs(self) -> bool:
        """Whether each record is an input and a target text."""
        return self.is_task if self.pairs is None else self.pairs

    @property
    def tokenizer_kind(self) -> str:
        """The tokenizer that `auto` stands for; `file` for the path of one."""
        if self.tokenizer == "auto":
            return "words" if self.is_task else "bpe"
        return "file" if self.tokenizer.endswith(".json") else self.tokenizer

    @model_validator(mode="after")
    def _tokenizers(self) -> "Data":
        named = ("auto", "bpe", "bytes", "words")
        if self.tokenizer not in named and not self.tokenizer.endswith(".json"):
            near = nearest_of(self.tokenizer, named)
            mend = f'; did you mean "{near}"?' if near else ""
            raise ValueError(
                f'tokenizer = "{self.tokenizer}": should be one of {", ".join(named)}, or the path of a tokenizer.json{mend}'
            )
        return self

    @model_validator(mode="after")
    def _pairs(self) -> "Data":
        if self.is_task and self.pairs is False:
            raise ValueError(f"pairs = false: the examples of {self.corpus} are pairs; leave it out")
        if self.reads_pairs and self.input_column == self.target_column:
            raise ValueError(f"target_column = {self.target_column!r}: the same as input_column; name another")
        return self


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


class Study(Section):
    """A question, a base, arms that override it, and claims about them."""

    question: Text
    """What the study asks, in one sentence."""
    about: str = ""
    """A paragraph of background for the report."""
    vary: list[str]
    """Fields in which arms may differ, such as `model.input_attention`; nothing else may."""
    hold: list[str] = ["seen_tokens", "loss_tokens"]
    """Quantities that the two arms of a claim must share: parameters, total_parameters, train_flops, seen_tokens,
    loss_tokens, and serve_flops and kv_bytes of the workload; `"train_flops: 5%"` allows a tolerance."""
    match: list[AskedMatching] = []
    """Matchings, such as `["parameters", "train_flops"]`: under each the claims are trained and judged again, with arms solved to
    be equal in that. A table says more, such as `{quantity = "parameters", knob = "layers"}`."""
    seeds: Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = 3
    """How many seeds each arm is trained with, or the seeds themselves."""
    stopping: Literal["fixed", "group_sequential", "any_time"] = "fixed"
    """When seeds stop being added: after `seeds`, or once all claims are decided, at looks up to `max_seeds` or at any time."""
    max_seeds: Annotated[int, Field(ge=3, le=1000)] | None = None
    """Most seeds under `group_sequential` (20 by default) and `any_time` (no maximum by default)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Simultaneous confidence of all intervals of the study together."""
    data: Data = Data()
    objective: Objective = Objective()
    model: Model = Model()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    workload: AskedWorkload = Workload()
    """How the arms would be used: `"one_shot"`, `"chat"` or `"retrieval"`, or a table."""
    arm: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Named overrides of the base."""
    claim: list[Claim] = []
    """Statements to be judged."""

    @field_validator("seeds")
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
