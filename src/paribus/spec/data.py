"""The section `[data]` of a study: the text, its splits and its tokens."""

from typing import Annotated

from pydantic import Field, model_validator

from paribus.spec.section import Count, Section, Size, Text, nearest_of


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
    window: Annotated[Size, Field(ge=2)] = 256
    """Tokens a model reads per example, input and target together; one alone would leave nothing to predict."""
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
