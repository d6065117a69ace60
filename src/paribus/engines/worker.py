"""A worker process: `python -m paribus.engines.worker NUMBER` runs the trials it is sent, one after the other.

Jobs come as JSON lines on standard input, events go as JSON lines to what was standard output when it started; anything
else that is printed goes to standard error. It ends when its input closes: no worker outlives its parent.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from paribus.data.store import Corpus, prepare
from paribus.engines.trial import Event, TrialRun
from paribus.errors import UserError
from paribus.own_code import Code
from paribus.records.environment import code_identity
from paribus.records.job import Job
from paribus.spec.data import Data
from paribus.training.runtime import prepare_process


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
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def report(event: Event) -> None:
        events.write(json.dumps(event) + "\n")

    code_identity()  # of the code as it was loaded, whatever is edited later
    inbox = _Inbox(sys.stdin)
    corpora: dict[str, Corpus] = {}
    while (message := inbox.jobs.get()) is not None and not inbox.stop.is_set():
        job = Job.from_dict(message)
        try:
            prepare_process(job.runtime)
            corpus = _corpus(corpora, job.config.data)
            trial = TrialRun(job, corpus, report, inbox.stop.is_set, worker, Code(True))
            status = trial.run()
            report({"event": "ended", "id": job.id, "status": status, "nats_per_token": trial.test_loss})
        except UserError as error:
            report({"event": "failed", "id": job.id, "error": str(error)})
        except Exception as error:
            traceback.print_exc()
            report({"event": "failed", "id": job.id, "error": f"{type(error).__name__}: {error}".splitlines()[0]})


def _corpus(known: dict[str, Corpus], data: Data) -> Corpus:
    key = data.model_dump_json()
    if key not in known:
        known[key] = prepare(data)
    return known[key]


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except BrokenPipeError:  # the parent is gone
        os._exit(1)
