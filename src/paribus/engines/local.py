"""Trials on this machine: worker processes of pinned threads, fed one trial at a time."""

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paribus.doors import engine
from paribus.engines.events import Failed, Listen, Message, Progress, Restarted, Started, read
from paribus.records.job import Job
from paribus.training.runtime import MALLOC_ENVIRONMENT

ATTEMPTS = 2
"""How often a trial whose worker died is started, before the study gives it up."""
STOP_SECONDS = 60.0


@dataclass
class _Worker:
    """One worker process and the trial it is at."""

    process: subprocess.Popen[str]
    job: Job | None = None
    warm: bool = False
    """Whether it has taken steps."""
    log: Path = field(default_factory=Path)

    def send(self, message: dict[str, object]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it died: its end is an event of its own


def default_workers(threads: int, device: str) -> int:
    """One worker per `threads` cores that this process may use; one per accelerator."""
    if device == "cuda":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of a worker process: its threads pinned, its memory kept, its output unbuffered."""
    pinned = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    others = {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return {**os.environ, **pinned, **MALLOC_ENVIRONMENT, **others}


@engine("local")
class LocalEngine:
    """Worker processes on this machine. The first alone begins where a compile cache must be warmed; the others follow."""

    def __init__(self, workers: int, logs: Path) -> None:
        self._wanted, self._logs = workers, logs
        self._messages: queue.Queue[tuple[_Worker, Message | None]] = queue.Queue()
        self._workers: list[_Worker] = []
        # Never given twice: the log and the sessions of a worker that died stay its own.
        self._numbers = itertools.count()

    def run(self, jobs: Sequence[Job], listen: Listen) -> None:
        """Run the jobs in order, telling `listen` what happens, until all have ended; one whose worker dies is started again."""
        waiting = list(jobs)
        attempts: dict[str, int] = {}
        self._logs.mkdir(parents=True, exist_ok=True)
        while waiting or any(worker.job for worker in self._workers):
            self._assign(waiting, attempts, listen)
            worker, message = self._messages.get()
            if message is None:
                self._bury(worker, waiting, attempts, listen)
                continue
            if isinstance(message, Progress):
                worker.warm = True
            else:
                worker.job = None
            listen(message)

    def _assign(self, waiting: list[Job], attempts: dict[str, int], listen: Listen) -> None:
        idle = [worker for worker in self._workers if worker.job is None and worker.process.poll() is None]
        warming = waiting and waiting[0].runtime.compile and not any(worker.warm for worker in self._workers)
        limit = 1 if warming else self._wanted
        while waiting and (idle or len(self._workers) < limit):
            worker = idle.pop() if idle else self._start(waiting[0])
            worker.job = waiting.pop(0)
            attempts[worker.job.id] = attempts.get(worker.job.id, 0) + 1
            listen(Started(worker.job.id))
            worker.send(worker.job.to_dict())

    def _start(self, job: Job) -> _Worker:
        number = next(self._numbers)
        log = self._logs / f"worker-{number}.log"
        with open(log, "a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "paribus.engines.worker", str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=worker_environment(job.runtime.threads),
            )
        worker = _Worker(process, log=log)
        self._workers.append(worker)
        threading.Thread(target=self._hear, args=(worker,), daemon=True).start()
        return worker

    def _hear(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            try:
                self._messages.put((worker, read(line)))
            except ValueError:  # the half line of a killed process
                break
        self._messages.put((worker, None))

    def _bury(self, worker: _Worker, waiting: list[Job], attempts: dict[str, int], listen: Listen) -> None:
        """A worker has died: its trial goes back to the head of the queue, to resume from its checkpoint."""
        self._workers.remove(worker)
        job = worker.job
        if job is None:
            return
        code = worker.process.wait()
        if attempts[job.id] < ATTEMPTS:
            waiting.insert(0, job)
            listen(Restarted(job.id, f"its worker died (exit status {code})"))
        else:
            error = f"its worker died twice (exit status {code}; -9 often means out of memory), see {worker.log}"
            listen(Failed(job.id, error))

    def stop(self) -> None:
        """Ask every worker to end, which writes a checkpoint first, and wait until all have."""
        for worker in self._workers:
            worker.send({"stop": True})
            if worker.process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    worker.process.stdin.close()
        for worker in self._workers:
            try:
                worker.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
