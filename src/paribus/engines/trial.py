"""One trial from its first step to its test score, resumable at any point."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from paribus import files
from paribus.costs.counting import parameter_counts
from paribus.data.continuation import off_distribution
from paribus.data.scored import EvaluationBatches
from paribus.data.splits import SplitName
from paribus.data.store import Corpus
from paribus.engines.events import Message, Progress
from paribus.engines.memory import forget_peak_memory, peak_memory
from paribus.evaluation.lengths import by_window_factor
from paribus.evaluation.scoring import Score, Scored, by_split, score_windows
from paribus.models.interface import interface_of
from paribus.records.branches import LOSSES, branch_folder, branch_result, budgets_record, finished
from paribus.records.job import Job
from paribus.records.sessions import Session
from paribus.records.step_log import StepLog
from paribus.spec.budgets import Branch
from paribus.spec.study import Config
from paribus.training.trainer import Diverged, StepRecord, Trainer

CHECKPOINT_SECONDS = 30.0
REPORT_SECONDS = 0.25
SCORING_BATCH = 32

Status = Literal["done", "diverged", "stopped"]


def evaluation_batches(corpus: Corpus, config: Config, split: SplitName) -> EvaluationBatches:
    """The fixed windows of the `tune` or `test` split, the same for every arm and seed."""
    windows = config.evaluation.test_windows if split == "test" else config.evaluation.tune_windows
    data, objective = config.data, config.objective
    return EvaluationBatches(corpus, split, data, objective, windows, SCORING_BATCH, config.evaluation)


class TrialRun:
    """One trial at work in this process."""

    def __init__(
        self,
        job: Job,
        corpus: Corpus,
        report: Callable[[Message], None],
        stopping: Callable[[], bool],
        worker: int = 0,
    ) -> None:
        """`worker`: the number of this process in its pool, for the record."""
        self.job, self.corpus, self._report, self._stopping, self._worker = job, corpus, report, stopping, worker
        self.seconds = {"setup": 0.0, "training": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
        self._steps_timed, self._tokens_timed = 0.0, 0
        self._last_report = 0.0
        self._stopped = False
        self._branch_steps = 0
        """Steps of the branches that are done."""
        self._trunk_waits_at: int | None = None
        """Its step, while a branch is trained."""
        self.test_loss: float | None = None
        """Nats per token on the windows that it is scored on, once the trial is done."""

    def run(self) -> Status:
        """Train, score, write the result. Returns `done`, `diverged`, or `stopped` with a checkpoint to go on from."""
        forget_peak_memory()
        start = time.perf_counter()
        self.job.folder.mkdir(parents=True, exist_ok=True)
        job = self.job
        files.write_json(job.folder / "trial.json", job.record())
        self.trainer = Trainer(job.config, self.corpus, job.seed, job.runtime, job.common_names, job.code)
        restored = self.trainer.restore(self._checkpoint)
        self._orders: dict[str, str] = {}
        if restored is not None:
            self.seconds, self._orders = restored["seconds"], restored.get("data_orders", {})
        self._session = Session(job.folder, job.runtime.device, self.trainer.step_index, self._worker)
        self._tokens_before = self.trainer.seen_tokens
        self._metrics = StepLog(self.job.folder / "metrics.jsonl", self.trainer.step_index)
        self._curve = StepLog(self.job.folder / "curve.jsonl", self.trainer.step_index)
        self._tune = evaluation_batches(self.corpus, self.job.config, "tune")
        self.seconds["setup"] += time.perf_counter() - start
        try:
            return self._train()
        finally:
            self._metrics.close()
            self._curve.close()

    @property
    def _checkpoint(self) -> Path:
        return self.job.folder / "checkpoint"

    def _train(self) -> Status:
        trainer, points = self.trainer, self.job.config.evaluation.curve_points
        curve_steps = {max(1, round(trainer.steps * (point + 1) / points)) for point in range(points)}
        ends = {branch.steps for branch in trainer.branches}

        def after(step: StepRecord) -> None:
            self._metrics.add(asdict(step))
            if step.step in curve_steps:
                self._point(step)
            if step.step in ends:
                self._orders[str(step.step)] = trainer.data_order

        self._saved = time.monotonic()
        for branch in trainer.branches:
            if trainer.step_index > branch.start:
                self._branch_steps += branch.decay
                continue
            reason = self._steps(branch.start, self.seconds, after, self._save)
            if self._stopped:
                return "stopped"
            if reason is not None:
                return self._finish(reason)
            if not finished(self.job.folder, branch) and self._branch(branch) == "stopped":
                return "stopped"
            self._branch_steps += branch.decay
        reason = self._steps(trainer.steps, self.seconds, after, self._save)
        return "stopped" if self._stopped else self._finish(reason)

    def _steps(
        self, last: int, seconds: dict[str, float], after: Callable[[StepRecord], None], save: Callable[[], None]
    ) -> str | None:
        """Train up to the step `last`; says why it diverged, if it did. Asked to stop, it saves and sets `_stopped`."""
        trainer = self.trainer
        while trainer.step_index < last:
            if self._stopping():
                save()
                at = trainer.step_index if self._trunk_waits_at is None else self._trunk_waits_at
                self._session.end("stopped", at, peak_memory(self.job.runtime.device))
                self._stopped = True
                return None
            begin = time.perf_counter()
            try:
                step = trainer.step()
            except Diverged as reason:
                return str(reason)
            seconds["training"] += time.perf_counter() - begin
            after(step)
            self._progress(step)
            if time.monotonic() - self._saved > CHECKPOINT_SECONDS and not trainer.done:
                save()
                self._saved = time.monotonic()
        return None

    def _branch(self, branch: Branch) -> str:
        """Train and score a branch from where the trunk is, and bring the trunk back. Returns as `run` does."""
        trainer, folder = self.trainer, branch_folder(self.job.folder, branch.tokens)
        self._save()
        self._saved = time.monotonic()
        self._trunk_waits_at, seen_before = branch.start, trainer.seen_tokens
        trainer.follow(branch)
        restored = trainer.restore(folder / "checkpoint")
        seconds = restored["seconds"] if restored else {"training": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
        log = StepLog(folder / "metrics.jsonl", trainer.step_index)
        self._tokens_before = trainer.seen_tokens

        def save() -> None:
            begin = time.perf_counter()
            log.flush()
            trainer.save(folder / "checkpoint", {"seconds": seconds})
            seconds["checkpoint"] += time.perf_counter() - begin

        try:
            reason = self._steps(branch.steps, seconds, lambda step: log.add(asdict(step)), save)
        finally:
            log.close()
        if self._stopped:
            return "stopped"
        begin = time.perf_counter()
        scores, reason = self._scores_of_branch(folder, reason)
        seconds["evaluation"] += time.perf_counter() - begin
        result = branch_result(branch, trainer, seen_before, reason, scores, seconds)
        files.write_json(folder / "result.json", result)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        self._trunk_waits_at = None
        trainer.follow(None)
        trainer.restore(self._checkpoint)
        self._tokens_before = trainer.seen_tokens
        return str(result["status"])

    def _scores_of_branch(self, folder: Path, reason: str | None) -> tuple[dict[str, Any], str | None]:
        """The scores of a branch that has not diverged, and why there are none otherwise; its test losses are kept."""
        scored = None if reason else self._score("test", folder)
        if scored is None:
            return {"test": None, "tune": None, "test_windows": None}, reason or "the test loss is not a number"
        values, windows = scored
        tuned = Score.of(score_windows(self.trainer.model, self._tune, self.job.runtime.torch_dtype), self._tune)
        test = Score.of(values, windows).as_dict()
        tune = tuned.as_dict() if np.isfinite(tuned.nats_per_token) else None
        return {"test": test, "tune": tune, "test_windows": windows.hash}, None

    def _score(self, split: SplitName, folder: Path) -> tuple[Scored, EvaluationBatches] | None:
        """Score the windows of a split and keep their losses in `folder`; None where one is not finite."""
        windows = evaluation_batches(self.corpus, self.job.config, split)
        scored = score_windows(self.trainer.model, windows, self.job.runtime.torch_dtype)
        if not np.isfinite(scored.nats).all():
            return None
        with files.replacing(folder / LOSSES) as temporary:
            save_file(scored.columns(), temporary)
        return scored, windows

    def _progress(self, step: StepRecord) -> None:
        self._steps_timed += step.seconds
        self._tokens_timed += step.tokens - self._tokens_before
        self._tokens_before = step.tokens
        now = time.monotonic()
        if now - self._last_report > REPORT_SECONDS or self.trainer.done:
            self._last_report = now
            steps = self.trainer.run_schedule.steps + sum(branch.decay for branch in self.trainer.branches)
            speed = self._tokens_timed / self._steps_timed
            self._report(Progress(self.job.id, step.step + self._branch_steps, steps, step.loss, speed))

    def _point(self, step: StepRecord) -> None:
        begin = time.perf_counter()
        score = Score.of(score_windows(self.trainer.model, self._tune, self.job.runtime.torch_dtype), self._tune)
        self._curve.add(
            {
                "step": step.step,
                "tokens": step.tokens,
                "nats_per_token": score.nats_per_token,
                "bits_per_byte": score.bits_per_byte,
                "token_accuracy": score.token_accuracy,
                "exact_match": score.exact_match,
            }
        )
        self.seconds["evaluation"] += time.perf_counter() - begin

    @property
    def _branches_before(self) -> list[int]:
        """The branches that have left the trunk before the step where it is, by their tokens."""
        return [branch.tokens for branch in self.trainer.branches if branch.start < self.trainer.step_index]

    def _save(self) -> None:
        begin = time.perf_counter()
        self._metrics.flush()
        self._curve.flush()
        kept = {"data_orders": self._orders, "branches": self._branches_before}
        self.trainer.save(self._checkpoint, {"seconds": self.seconds, **kept})
        self.seconds["checkpoint"] += time.perf_counter() - begin

    def _finish(self, reason: str | None) -> Status:
        trainer, job = self.trainer, self.job
        interface = interface_of(job.config, self.corpus.vocabulary, self.job.code)
        total, without_embeddings = parameter_counts(job.config.model, interface)
        test, windows_hash, tune = None, None, None
        if reason is None and job.tunes:
            self._curve.flush()
            if tune := last_score(job.folder / "curve.jsonl"):
                self.test_loss = tune["nats_per_token"]
            else:
                reason = "the tuning loss is not a number"
        elif reason is None:
            begin = time.perf_counter()
            if scored := self._score("test", job.folder):
                test = self._test(*scored)
                windows_hash, self.test_loss = scored[1].hash, test["nats_per_token"]
            else:
                reason = "the test loss is not a number"
            self.seconds["evaluation"] += time.perf_counter() - begin
        self._metrics.flush()
        self._curve.flush()
        peak = peak_memory(job.runtime.device)
        status: Status = "done" if reason is None else "diverged"
        result = {
            "status": status,
            "reason": reason,
            "test": test,
            "steps": trainer.step_index,
            "seen_tokens": trainer.seen_tokens,
            "loss_tokens": trainer.loss_tokens,
            "parameters": without_embeddings,
            "total_parameters": total,
            "off_distribution": off_distribution(job.config.objective, job.config.evaluation),
            "hashes": {
                "common_init": trainer.common_init_hash,
                "init": trainer.init_hash,
                "data_order": trainer.data_order,
                "test_windows": windows_hash,
            },
            "seconds": self.seconds,
            "tokens_per_second": self._tokens_timed / self._steps_timed if self._steps_timed else None,
            "clipped_share": clipped_share(job.folder / "metrics.jsonl", job.config.training.clip),
            "peak_memory_bytes": self._session.largest_memory(peak),
        }
        result |= budgets_record(job.folder, job.config.training, trainer.branches, self._orders, result)
        result |= {"tune": tune} if job.tunes else {}
        self._session.end(status, trainer.step_index, peak)
        files.write_json(job.folder / "result.json", result)
        # Only now: without its result a trial goes on from the optimizer's state, which this drops.
        trainer.save_weights(self._checkpoint)
        return status

    def _test(self, scored: Scored, windows: EvaluationBatches) -> dict[str, Any]:
        """What `result.json` says of the test windows."""
        config, model = self.job.config, self.trainer.model
        return {
            **Score.of(scored, windows).as_dict(),
            "documents_left_out": windows.documents_left_out,
            "by_split": by_split(scored, windows),
            "by_window_factor": by_window_factor(
                model, self.corpus, config, self.job.runtime.torch_dtype, SCORING_BATCH
            ),
        }


def last_score(curve: Path) -> dict[str, float] | None:
    """The scores of a curve's last point, on the tuning split; None where the loss is not finite."""
    row: dict[str, Any] = json.loads(curve.read_text(encoding="utf-8").splitlines()[-1])
    scores = {name: value for name, value in row.items() if name not in ("step", "tokens")}
    return scores if np.isfinite(scores["nats_per_token"]) else None


def clipped_share(metrics: Path, clip: float) -> float | None:
    """Share of the steps whose gradient was longer than `training.clip`, hence shortened; None without a step."""
    norms = [json.loads(line)["gradient_norm"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    return sum(norm > clip for norm in norms) / len(norms) if norms else None
