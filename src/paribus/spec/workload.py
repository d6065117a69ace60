"""The `[workload]` section of a study: how a trained arm would be used, on which its inference cost depends.

A workload is a batch of requests. Each is a conversation of turns: in every turn the text so far, `shared_prefix`, inputs and
outputs of the turns before, and the turn's new input, is what is answered. An answer becomes part of the text.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from paribus.spec.section import Section, Size

Use = Literal["one_shot", "chat", "retrieval"]


class Workload(Section):
    """What arms are asked to do once they are trained; decides serve_flops, kv_bytes and latency, and nothing of the training.

    Its lengths are tokens of text; special tokens of an objective's format come on top.
    """

    use: Use = "one_shot"
    """What the other fields are by default. `one_shot`: half a window is read, the other half written. `chat`: 8 turns that fill
    a window together, each reading as much as it writes. `retrieval`: 16 requests that begin with the same half window, read
    a quarter each and write a quarter."""
    turns: Annotated[Size, Field(le=1000)] | None = None
    """Turns of each request."""
    input: Size | None = None
    """Tokens that are new in each turn."""
    output: Size | None = None
    """Tokens written in each turn."""
    batch: Size | None = None
    """Requests."""
    shared_prefix: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Tokens with which all requests begin, before the input of the first turn."""

    def lengths(self, window: int) -> "Lengths":
        """The workload in numbers, for an arm that was trained on windows of W tokens."""
        given = (self.turns, self.input, self.output, self.batch, self.shared_prefix)
        return Lengths(
            *(default if own is None else own for own, default in zip(given, _default(self.use, window), strict=True))
        )


class Lengths(NamedTuple):
    """A workload in numbers: of turns, tokens and requests."""

    turns: int
    input: int
    output: int
    batch: int
    shared_prefix: int

    def prompt(self, turn: int) -> int:
        """Tokens of text that turn `turn`, from 0 on, answers."""
        return self.shared_prefix + (turn + 1) * self.input + turn * self.output

    @property
    def text(self) -> int:
        """Tokens of the whole text of a request, the last answer included."""
        return self.prompt(self.turns - 1) + self.output


def _default(use: Use, window: int) -> Lengths:
    half, quarter, sixteenth = (max(1, window // share) for share in (2, 4, 16))
    if use == "chat":
        return Lengths(8, sixteenth, sixteenth, 1, 0)
    if use == "retrieval":
        return Lengths(1, quarter, quarter, 16, half)
    return Lengths(1, half, max(1, window - half), 1, 0)


class Turn(NamedTuple):
    """A turn as an arm reads it: an input, then the first tokens of a target, then the tokens it writes."""

    input: int
    """Input tokens S."""
    given: int
    """Target tokens that are given; 0 without a target side."""
    new: int
    """Tokens written, of which the last is not fed; 0 of a shared prefix, which is only read."""
    kept: int
    """Tokens at the start of this turn's input and given tokens that the turn before has fed at the same places."""

    @property
    def fed(self) -> int:
        """Tokens that have been read when the turn is over."""
        return self.input + self.given + max(0, self.new - 1)


def _by_name(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


AskedWorkload = Annotated[Workload, BeforeValidator(_by_name, json_schema_input_type=Use | Workload)]
"""A workload, or the name of one."""
