"""A study written from a checkpoint folder: arms that start from it, its tokenizer, and the fields that it demands."""

import json
from pathlib import Path
from typing import Any

from paribus.checkpoints.configs import FAMILIES
from paribus.checkpoints.reading import Checkpoint, read_checkpoint
from paribus.data.tokenizer import Tokenizer
from paribus.errors import UserError
from paribus.spec.problems import printable

_WINDOW = 128
_ARMS = {
    "decoder": (
        '[arm.gpt]\nmodel.input_attention = "causal"\n\n'
        "# The same weights, but the input sees both ways.\n"
        '[arm.unilm]\nmodel.input_attention = "bidirectional"\n',
        "gpt",
        "unilm",
        "Does this checkpoint gain from bidirectional attention over the input?",
    ),
    "encoder": (
        '[arm.bert]\nmodel.input_attention = "bidirectional"\n\n'
        "# Half of the heads look back, half ahead.\n"
        '[arm.mixed]\nmodel.input_attention = "forward_backward_heads"\n',
        "bert",
        "mixed",
        "Does this checkpoint gain from heads that look one way each?",
    ),
    "encoder_decoder": (
        '[arm.t5]\nmodel.input_attention = "bidirectional"\n\n'
        "# Half of the encoder's heads look back, half ahead.\n"
        '[arm.mixed]\nmodel.input_attention = "forward_backward_heads"\n',
        "t5",
        "mixed",
        "Does this checkpoint gain from heads that look one way each?",
    ),
}
_OBJECTIVE = {"decoder": "prefix_lm", "encoder": "mlm", "encoder_decoder": "span_corruption"}


def study_text(folder: str, file: str) -> str:
    """The text of a study file whose arms start from the checkpoint in `folder`; `file` is its name, for the comments.

    Raises UserError in one line where the folder is no checkpoint, or has no tokenizer.json.
    """
    checkpoint = read_checkpoint(folder)
    path = Path(folder).expanduser().resolve()
    if checkpoint.family not in FAMILIES:
        mend = f'in its study, set model.start_from = "{printable(str(path))}"'
        raise UserError(f"{checkpoint.name}: is a trial of paribus, which has a study already; {mend}")
    tokenizer_file = path / "tokenizer.json"
    if not tokenizer_file.exists():
        mend = "its ids mean nothing without it; save its tokenizer there (AutoTokenizer.from_pretrained(...).save_pretrained)"
        raise UserError(f"{checkpoint.name}: has no tokenizer.json: {mend}")
    tokenizer = Tokenizer.load(tokenizer_file)
    kind = {"bert": "encoder", "t5": "encoder_decoder"}.get(checkpoint.family, "decoder")
    arms, first, second, question = _ARMS[kind]
    heads = int(checkpoint.demands["heads"])
    if kind != "decoder" and heads % 2:
        arms = arms.replace("forward_backward_heads", "forward_backward_layers").replace("heads look", "layers look")
    return f"""\
# A study of a checkpoint ({checkpoint.family}, {checkpoint.vocabulary:,} token ids): all arms start from its weights.
# It runs as it stands. Look first, then run:
#
#   paribus audit {file}     what differs between the arms, what is equal, what each costs
#   paribus run {file}       trains, judges, writes the report; run it again to resume
#
# Every field with its meaning and default: paribus schema.

question = {json.dumps(question)}
vary     = ["model.input_attention"]
hold     = ["parameters", "seen_tokens", "loss_tokens"]
seeds    = 3

[data]
corpus = "stdlib"          # or your own text: a file or a folder of txt, jsonl, csv, tsv or parquet
# The checkpoint's own: its weights know these ids alone.
tokenizer = {_toml(str(tokenizer_file))}
{_specials(checkpoint, tokenizer, kind)}window = {_window(checkpoint):<17} # tokens per example, input and target together

[objective]
name = "{_OBJECTIVE[kind]}"

[model]
start_from = {_toml(str(path))}
# What the checkpoint demands, from its config.json.{_free(kind)}
{_fields(checkpoint)}
[training]
tokens = "300k"            # per trial
batch = 8
learning_rate = 3e-4       # low: these weights know something already

{arms}
[[claim]]
says = "{"Bidirectional input attention" if kind == "decoder" else "One way a head"} brings no gain to this checkpoint"
arm = "{second}"
against = "{first}"
metric = "bits_per_byte"
expect = "not_better"      # better, worse, equal, not_better or not_worse
margin = 0.02              # the smallest difference that would matter, in the metric's unit
"""


def _free(kind: str) -> str:
    if kind != "decoder":
        return " input_attention is free."
    return (
        " input_attention, parameters and memory are free:\n"
        "# separate stacks start as clones of the checkpoint's, and cross-attention as `init` says."
    )


def _fields(checkpoint: Checkpoint) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in checkpoint.demands.items())


def _specials(checkpoint: Checkpoint, tokenizer: Tokenizer, kind: str) -> str:
    """Enough special tokens to use all rows of the embedding: there may be more than the tokenizer has ids."""
    spare = checkpoint.vocabulary - tokenizer.vocabulary
    if spare < 0:
        raise UserError(
            f"{checkpoint.name}: tokenizer.json has {tokenizer.vocabulary:,} ids and the embedding {checkpoint.vocabulary:,} "
            "rows; they do not belong together"
        )
    needs = {"decoder": 0, "encoder": 2, "encoder_decoder": 32}[kind]
    if spare <= needs:
        return ""
    return f"special_tokens = {spare:<9} # rows of the embedding above the tokenizer's ids\n"


def _window(checkpoint: Checkpoint) -> int:
    return min(_WINDOW, int(checkpoint.demands.get("positions", _WINDOW)))


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) or "." in repr(value) else repr(value).replace("e", ".0e")
    return json.dumps(value)
