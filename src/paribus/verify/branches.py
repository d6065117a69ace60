"""What is verified of a run's branches: their records, their scores, and that they read what their trunk reads."""

from collections.abc import Iterator, Sequence
from typing import Any

from paribus.files import read_json
from paribus.records.branches import branch_folder, branch_metrics
from paribus.records.trials import Trial
from paribus.spec.budgets import Branch, smaller_budgets
from paribus.training.schedule import Schedule
from paribus.verify.checks import differences
from paribus.verify.evidence import Evidence

Json = dict[str, Any]


def budgets_of(evidence: Evidence, trial: Trial) -> list[Json]:
    """The entries of the branches in a trial's result; those that never began are left out."""
    return [entry for entry in evidence.results[trial.id].get("budgets", [])[:-1] if entry["steps"]]


def branch_records(evidence: Evidence, trial: Trial) -> Iterator[str]:
    """Where the records of a trial's branches do not agree with each other or with the study's budgets."""
    result, config = evidence.results[trial.id], evidence.config(trial)
    asked = smaller_budgets(config.training)
    written = [entry["tokens"] for entry in result.get("budgets", [])]
    if asked and written != [*asked, config.training.tokens]:
        yield f"its budgets are {written} and should be {[*asked, config.training.tokens]}"
        return
    if asked and result["branch_tokens"] != sum(entry["branch_tokens"] for entry in result["budgets"]):
        yield f"branch_tokens is {result['branch_tokens']} and should be the sum over its budgets"
    trunk = result["steps"] if result["status"] == "done" else None
    for entry in budgets_of(evidence, trial):
        where = f"branch {entry['tokens']}"
        own = read_json(branch_folder(evidence.folder(trial), entry["tokens"]) / "result.json")
        kept = {name: value for name, value in entry.items() if name != "trunk_data_order"}
        yield from (f"{where}: result.json: {text}" for text in differences(own, kept))
        if entry["status"] != "done" or trunk is None:
            continue
        if entry["decay_steps"] != round(config.training.decay * entry["steps"]):
            yield f"{where}: its rate falls over {entry['decay_steps']} steps"
        branch = Branch(entry["tokens"], entry["steps"], entry["decay_steps"])
        rows, schedule = (
            branch_metrics(evidence.folder(trial), branch.tokens),
            Schedule.of_run(config.training, trunk).of_branch(branch),
        )
        if [row["step"] for row in rows] != list(range(branch.start + 1, branch.steps + 1)):
            yield f"{where}: the steps in metrics.jsonl do not count up from {branch.start + 1} to {branch.steps}"
            continue
        for row in rows:
            if row["learning_rate"] != schedule.rate(row["step"] - 1):
                yield f"{where}: step {row['step']} in metrics.jsonl has the learning rate {row['learning_rate']:g}"
                break
        if rows and rows[-1]["tokens"] != entry["seen_tokens"]:
            yield f"{where}: metrics.jsonl ends at {rows[-1]['tokens']:,} tokens, not at {entry['seen_tokens']:,}"


def branch_reads(
    evidence: Evidence, trial: Trial, orders: Sequence[str], seen: Sequence[int], loss: Sequence[int]
) -> Iterator[str]:
    """Where a branch has not read what the seed's batches are. `orders`, `seen` and `loss`: after 0, 1, 2 … steps."""
    for entry in budgets_of(evidence, trial):
        steps, start = entry["steps"], entry["from_step"]
        again = {
            "data_order": orders[steps],
            "seen_tokens": seen[steps],
            "loss_tokens": loss[steps],
            "branch_tokens": seen[steps] - seen[start],
        }
        written = {name: entry[name] for name in again}
        if entry["trunk_data_order"] is not None and entry["status"] == "done":
            again["trunk_data_order"], written["trunk_data_order"] = orders[steps], entry["trunk_data_order"]
        yield from (f"branch {entry['tokens']}: {text}" for text in differences(written, again))
