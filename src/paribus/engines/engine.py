"""What runs the jobs of a study, wherever it does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from paribus.engines.events import Listen
from paribus.records.job import Job


class Engine(Protocol):
    """Runs jobs, each by `running.run_job` in a process that sees the study's directory and the token store.

    Bits depend on a job alone, so another engine changes none. A study may go on under another one.
    """

    def __init__(self, workers: int, logs: Path) -> None:
        """`workers`: how many trials at a time; `logs`: a folder, which may not be there yet, for what workers print."""

    def run(self, jobs: Sequence[Job], listen: Listen) -> None:
        """Run the jobs in order and return when all have ended, handing on what each tells, an `Ended` or `Failed` last."""

    def stop(self) -> None:
        """Let go of every worker; called once, after `run` or its interruption. Trials at work write a checkpoint first."""
