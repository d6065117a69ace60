"""Checks of where trials start, and of what they read: the text itself is needed for the latter."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from paribus.checkpoints.start import Start, start_of
from paribus.data.batches import TrainingBatches, batch_hash
from paribus.data.store import Corpus
from paribus.engines.trial import evaluation_batches
from paribus.errors import UserError
from paribus.models.initialisation import initial_names
from paribus.models.transformer import parameter_shapes
from paribus.plan.audit import audit, common_by_size, recorded
from paribus.plan.tuning import arm_of
from paribus.records.trials import Trial
from paribus.verify.branches import branch_reads, budgets_of
from paribus.verify.checks import CLOSE, Check, check, differences, left_out
from paribus.verify.evidence import Evidence, Json
from paribus.verify.machine import reasons
from paribus.verify.records import metrics_of

COLUMNS = ("document", "tokens", "bytes", "split")


def starts(evidence: Evidence, here: Json) -> Check:
    """Every trial's start follows from its seed and its parameters' names. `here`: this machine's environment."""
    common = common_by_size(evidence.plan, evidence.vocabulary, evidence.code)
    faults, excused, lacking = [], set(), {}
    known: dict[str, Start] = {}
    for trial in evidence.whole:
        config, interface = evidence.config(trial), evidence.interface(trial)
        if trial.arm not in known and trial.arm not in lacking:
            try:
                known[trial.arm] = start_of(config.model, interface)
            except UserError as error:
                lacking[trial.arm] = str(error)
        if trial.arm in lacking:
            continue
        start, names = known[trial.arm], initial_names(config.model, interface)
        shared = common[arm_of(evidence.plan, trial).size]
        again = {
            "init": start.hash_of(parameter_shapes(config.model, interface), trial.seed),
            "common_init": start.hash_of({name: names[name] for name in shared}, trial.seed),
        }
        written = evidence.results[trial.id]["hashes"]
        wrong = list(differences({name: written.get(name) for name in again}, again))
        # Some processors and versions of torch draw other bits of a normal from the same generator.
        first = (evidence.sessions[trial.id] or [{}])[0].get("environment") or {}
        why = [text for text in reasons(first, here) if not text.startswith("other paribus")] if wrong else []
        excused.update(why)
        faults += [] if why else [f"trial {trial.id}: hashes.{text}" for text in wrong]
    if not faults and (excused or lacking):
        said = f"drawn otherwise here: {', '.join(sorted(excused))}" if excused else next(iter(lacking.values()))
        return Check("starts", "not checked", said)
    return check("starts", f"{len(evidence.whole)} trials, from seed and names", faults)


@dataclass(frozen=True)
class _Read:
    """What a run reads; the first three after 0, 1, 2 … steps."""

    orders: tuple[str, ...]
    seen: tuple[int, ...]
    loss: tuple[int, ...]
    planned: int
    """Steps of the whole budget."""


def data_order(evidence: Evidence, corpus: Corpus) -> Check:
    """Every batch of every trial, chained as the trainer chained them."""
    known: dict[str, _Read] = {}
    faults = []
    for trial in evidence.whole:
        config = evidence.config(trial)
        steps = max(evidence.results[trial.id]["steps"], *(entry["steps"] for entry in budgets_of(evidence, trial)), 0)
        key = json.dumps(
            [
                config.objective.model_dump(mode="json"),
                config.training.batch,
                config.training.tokens,
                trial.seed,
                steps,
            ]
        )
        if key not in known:
            known[key] = _read(corpus, evidence, trial, steps)
        faults += [f"trial {trial.id}: {text}" for text in _read_faults(evidence, trial, known[key])]
    return check("data order", f"{len(evidence.whole)} trials, batch by batch", faults)


def _read(corpus: Corpus, evidence: Evidence, trial: Trial, steps: int) -> _Read:
    config = evidence.config(trial)
    batches = TrainingBatches(corpus, config.data, config.objective, config.training.batch, trial.seed)
    orders, seen, loss = [""], [0], [0]
    for step in range(steps):
        batch = batches.at(step)
        orders.append(batch_hash(orders[-1], batch))
        seen.append(seen[-1] + batch.seen_tokens)
        loss.append(loss[-1] + batch.loss_tokens)
    return _Read(tuple(orders), tuple(seen), tuple(loss), batches.steps(config.training.tokens))


def _read_faults(evidence: Evidence, trial: Trial, read: _Read) -> Iterator[str]:
    result = evidence.results[trial.id]
    steps = result["steps"]
    if result["status"] == "done" and steps != read.planned:
        yield f"it took {steps:,} steps, and its budget is {read.planned:,}"
    if result["hashes"]["data_order"] != read.orders[steps]:
        yield f"hashes.data_order is {result['hashes']['data_order']} and should be {read.orders[steps]}"
    if result["loss_tokens"] != read.loss[steps]:
        yield f"loss_tokens is {result['loss_tokens']:,} and should be {read.loss[steps]:,}"
    yield from branch_reads(evidence, trial, read.orders, read.seen, read.loss)
    for row, tokens in zip(metrics_of(evidence, trial), read.seen[1:], strict=False):
        if row["tokens"] != tokens:
            yield f"step {row['step']} in metrics.jsonl has seen {row['tokens']:,} tokens and should have seen {tokens:,}"
            return


def test_windows(evidence: Evidence, corpus: Corpus) -> Check:
    """What every trial was asked, and the one table of it."""
    columns = load_file(evidence.directory / "test_windows.safetensors")
    hashes: dict[str, str] = {}
    faults = []
    for trial in evidence.done:
        config = evidence.config(trial)
        key = config.objective.model_dump_json() + config.evaluation.model_dump_json() + config.data.model_dump_json()
        if key not in hashes:
            asked = evaluation_batches(corpus, config, "test")
            hashes[key] = asked.hash
            faults += [
                f"test_windows.safetensors: {name} is not that of the test windows"
                for name in COLUMNS
                if not hashes.keys() - {key} and not np.array_equal(columns[name], getattr(asked, name))
            ]
        written = evidence.results[trial.id]["hashes"]["test_windows"]
        if written != hashes[key]:
            faults.append(f"trial {trial.id}: hashes.test_windows is {written} and should be {hashes[key]}")
    return check("test windows", f"{len(columns['document'])} windows, as the test split has them", faults)


def counts(evidence: Evidence, corpus: Corpus) -> Check:
    """The audit, counted again from the plan and the text."""
    if evidence.unread:
        return Check("audit", "not checked", left_out(evidence.unread))
    written = evidence.json("audit.json")
    again: dict[str, Any] = recorded(audit(evidence.plan, corpus, evidence.code), evidence.plan, evidence.results)
    faults = [f"audit.json: {text}" for text in differences(written, json.loads(json.dumps(again)), close=CLOSE)]
    return check("audit", f"{len(evidence.plan.arms)} arms and {len(again['claims'])} contrasts counted again", faults)
