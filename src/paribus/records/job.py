"""What a worker is told to do: one trial, and how it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from paribus.own_code import DENIED, Code
from paribus.spec.study import Config
from paribus.training.runtime import Runtime


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to run one trial."""

    id: str
    arm: str
    seed: int
    config: Config
    runtime: Runtime
    folder: Path
    common_names: list[str]
    """Parameters whose start all arms of the study share."""
    tunes: bool = False
    """Whether it only helps to choose a value: then it never reads the test split."""
    code: Code = DENIED
    """Whether own code that its configuration names may be executed."""

    def to_dict(self) -> dict[str, Any]:
        """For the pipe."""
        made: dict[str, Any] = _JOB.dump_python(self, mode="json")
        return made

    def record(self) -> dict[str, Any]:
        """As `trial.json` holds it: nothing of where it lies or of what else the study trains."""
        left_out = {"folder", "common_names", "code", *(() if self.tunes else ("tunes",))}
        return {name: value for name, value in self.to_dict().items() if name not in left_out}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> "Job":
        """Read what `to_dict` wrote."""
        return _JOB.validate_python(value)


_JOB = TypeAdapter(Job)
