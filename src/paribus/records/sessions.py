"""The sessions of a trial (`sessions.json`): each time it was taken up, where, with what code, and how far it came."""

import os
import time
from pathlib import Path
from typing import Any

from paribus import files
from paribus.records.environment import environment_of

NAME = "sessions.json"


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sessions so far, the first one first; none where the file is missing or damaged."""
    try:
        sessions = files.read_json(folder / NAME)["sessions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sessions if isinstance(sessions, list) else []


class Session:
    """One session at work. It is on disk from its first moment, so that a killed one has left its trace."""

    def __init__(self, folder: Path, device: str, from_step: int, worker: int) -> None:
        """`from_step`: steps done before; a trial that begins anew (0) forgets the sessions of an earlier beginning."""
        self._path = folder / NAME
        self._before = read_sessions(folder) if from_step else []
        self._now: dict[str, Any] = {
            "started": _now(),
            "ended": None,
            "status": None,
            "from_step": from_step,
            "to_step": None,
            "worker": worker,
            "process": os.getpid(),
            "peak_memory_bytes": None,
            "environment": environment_of(device),
        }
        self._write()

    def end(self, status: str, step: int, peak_memory: int) -> None:
        """Write down how it ended: `done`, `diverged` or `stopped`."""
        self._now |= {"ended": _now(), "status": status, "to_step": step, "peak_memory_bytes": peak_memory}
        self._write()

    def largest_memory(self, now: int) -> int:
        """The peak over all sessions, in bytes, of those that told one."""
        return max(now, *(session.get("peak_memory_bytes") or 0 for session in self._before), 0)

    def _write(self) -> None:
        files.write_json(self._path, {"sessions": [*self._before, self._now]})


def _now() -> str:
    """The time in UTC, to the millisecond."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"
