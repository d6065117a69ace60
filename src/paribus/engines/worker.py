"""A worker process: `python -m paribus.engines.worker NUMBER` runs the trials it is sent, one after the other.

Jobs come as JSON lines on standard input, messages go as JSON lines to what was standard output when it started; anything
else that is printed goes to standard error. It ends when its input closes: no worker outlives its parent.
"""

import json
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

from paribus.data.store import Corpus
from paribus.engines.events import Message, written
from paribus.engines.running import run_job
from paribus.records.environment import code_identity
from paribus.records.job import Job


class _Inbox:
    """Jobs that wait, and whether to stop, read by a thread of their own."""

    def __init__(self, source: TextIO) -> None:
        self.jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.stop = threading.Event()
        self._source = source
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            message = json.loads(line)
            if message.get("stop"):
                break
            self.jobs.put(message)
        self.stop.set()
        self.jobs.put(None)


def main(worker: int) -> None:
    """Run jobs until the input closes; `worker` is this process's number in the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; a terminal sends Ctrl-C to the whole group
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def report(message: Message) -> None:
        messages.write(written(message) + "\n")

    code_identity()  # of the code as it was loaded, whatever is edited later
    inbox = _Inbox(sys.stdin)
    corpora: dict[str, Corpus] = {}
    while (job := inbox.jobs.get()) is not None and not inbox.stop.is_set():
        run_job(Job.from_dict(job), report, inbox.stop.is_set, worker, corpora)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except BrokenPipeError:  # the parent is gone
        os._exit(1)
