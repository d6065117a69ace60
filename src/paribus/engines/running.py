"""A job, run in this process: the code that every engine's workers share."""

import traceback
from collections.abc import Callable

from paribus.data.store import Corpus, prepare
from paribus.engines.events import Ended, Failed, Message
from paribus.engines.trial import TrialRun
from paribus.errors import UserError
from paribus.records.job import Job
from paribus.training.runtime import prepare_process


def run_job(
    job: Job,
    report: Callable[[Message], None],
    stopping: Callable[[], bool] = lambda: False,
    worker: int = 0,
    corpora: dict[str, Corpus] | None = None,
) -> None:
    """Train and score a trial, resuming what there is of it, and report how it goes on and ends; whatever fails is reported too.

    `stopping`: asked at each step whether to write a checkpoint and end; `worker`: the number of this process among those of its
    engine, for the record; `corpora`: texts that earlier jobs have opened here, to which this one's is added.
    """
    known = {} if corpora is None else corpora
    key = job.config.data.model_dump_json()
    try:
        prepare_process(job.runtime)
        if key not in known:
            known[key] = prepare(job.config.data)
        trial = TrialRun(job, known[key], report, stopping, worker)
        status = trial.run()
        report(Ended(job.id, status, trial.test_loss))
    except UserError as error:
        report(Failed(job.id, str(error)))
    except Exception as error:
        traceback.print_exc()
        report(Failed(job.id, f"{type(error).__name__}: {error}".splitlines()[0]))
