"""What a worker is told to do: one trial, and how it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def to_dict(self) -> dict[str, Any]:
        """For the pipe."""
        return {
            "id": self.id,
            "arm": self.arm,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json"),
            "runtime": self.runtime.as_dict(),
            "folder": str(self.folder),
            "common_names": self.common_names,
            "tunes": self.tunes,
        }

    def record(self) -> dict[str, Any]:
        """As `trial.json` holds it: nothing of where it lies or of what else the study trains."""
        left_out = {"folder", "common_names", *(() if self.tunes else ("tunes",))}
        return {name: value for name, value in self.to_dict().items() if name not in left_out}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> "Job":
        """Read what `to_dict` wrote."""
        config, runtime = Config.model_validate(value["config"]), Runtime(**value["runtime"])
        return Job(**{**value, "config": config, "runtime": runtime, "folder": Path(value["folder"])})
