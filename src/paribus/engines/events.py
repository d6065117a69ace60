"""What is told while trials run: by a trial to its engine, and by an engine to whoever listens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from paribus.records.plan import Plan
from paribus.training.runtime import Runtime


@dataclass(frozen=True)
class Planned:
    """The trials of a plan are about to run; comes first."""

    plan: Plan
    runtime: Runtime
    workers: int
    out: Path
    finished: dict[str, dict[str, Any]]
    """The `result.json` of those that have ended before."""


@dataclass(frozen=True)
class SetAside:
    """What was left of a corrupt trial lies in `set-aside/`; it is trained again."""

    id: str
    reason: str


@dataclass(frozen=True)
class Started:
    """A trial has been given to a worker."""

    id: str


@dataclass(frozen=True)
class Restarted:
    """A trial waits again for a worker, because the one that it had is gone."""

    id: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """A trial has taken so many of its steps, those of branches included."""

    id: str
    step: int
    steps: int
    loss: float
    """Nats per token of the last step."""
    tokens_per_second: float
    event: Literal["progress"] = "progress"


@dataclass(frozen=True)
class Ended:
    """A trial has a result, or, `stopped`, a checkpoint to go on from."""

    id: str
    status: Literal["done", "diverged", "stopped"]
    nats_per_token: float | None
    """On the windows that it is scored on."""
    event: Literal["ended"] = "ended"


@dataclass(frozen=True)
class Failed:
    """A trial cannot go on, for a reason that training it again would not change."""

    id: str
    error: str
    event: Literal["failed"] = "failed"


Message = Progress | Ended | Failed
"""What a trial tells, in whatever process it runs."""
Event = Planned | SetAside | Started | Restarted | Message
Listen = Callable[[Event], None]

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])


def written(message: Message) -> str:
    """A message as one line of JSON."""
    return _MESSAGE.dump_json(message).decode()


def read(line: str) -> Message:
    """Read what `written` wrote. Raises ValueError where it is damaged."""
    return _MESSAGE.validate_json(line)
