"""A JSON-lines file over the steps of a run, one whole line each."""

import json
from pathlib import Path
from typing import Any

from paribus import files


class StepLog:
    """A file that a resumed trial takes up where its checkpoint stands."""

    def __init__(self, path: Path, last_step: int) -> None:
        """`last_step`: what was written of later steps is forgotten."""
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the half line of a killed process
                    break
                if record["step"] > last_step:
                    break
                kept.append(line + "\n")
        files.write_text(path, "".join(kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by the trial

    def add(self, record: dict[str, Any]) -> None:
        """Write one record, which has a `step`."""
        self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Hand all lines to the system."""
        self._file.flush()

    def close(self) -> None:
        """No more is written."""
        self._file.close()
