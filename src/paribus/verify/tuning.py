"""What is verified of tuning and costs: tuning trials choose what was chosen, and never read the test split; sums are right."""

import json
from collections.abc import Iterator

from paribus.analyses.ledger.counting import ledger_of
from paribus.analyses.tuning.running import scores_of
from paribus.engines.trial import last_score
from paribus.plan.tuning import Scores, tune
from paribus.records.branches import LOSSES
from paribus.records.plan import Plan
from paribus.records.trials import Tuned, TuningTrial
from paribus.verify.checks import CLOSE, Check, check, differences
from paribus.verify.evidence import Evidence


def tuned_again(evidence: Evidence, plan: Plan) -> Tuned:
    """What the tuning trials of the directory choose for a plan. Raises ValueError where one that is needed is not there."""

    def measure(stage: Plan) -> Scores:
        for trial in stage.trials:
            if trial.id not in evidence.results:
                raise ValueError(f"the tuning trial {trial.id} is not there")
        return scores_of(evidence.results)

    return tune(plan, measure)


def choices(evidence: Evidence) -> Check:
    """Every tuning score is that of the trial's last step, on the tuning split; `plan` compares the choices that follow."""
    tuned = evidence.plan.tuning
    trials = tuned.trials if tuned else []
    faults = [f"trial {trial.id}: {text}" for trial in trials for text in _of_trial(evidence, trial)]
    judged = set(evidence.plan.seeds)
    faults += [
        f"seed {seed} chose values, and is judged by" for seed in (tuned.seeds if tuned else []) if seed in judged
    ]
    chosen = len(tuned.choices) if tuned else 0
    return check(
        "tuning", f"{len(trials)} trials chose the values of {chosen} arms, and never saw the test split", faults
    )


def _of_trial(evidence: Evidence, trial: TuningTrial) -> Iterator[str]:
    folder, result = evidence.folder(trial), evidence.results.get(trial.id)
    if result is None:
        yield "has no result"
        return
    if result["test"] is not None or result["hashes"]["test_windows"] is not None or (folder / LOSSES).exists():
        yield "was scored on the test split"
    if result["status"] == "done":
        scores = last_score(folder / "curve.jsonl")
        yield from (f"result.json: tune.{text}" for text in differences(result["tune"], scores))


def ledger(evidence: Evidence) -> Check:
    """What the study cost, added up again. What was set aside is not in an archive, and its cost is taken as it is written."""
    written = evidence.json("ledger.json")
    aside = written["set_aside"] if evidence.packed else None
    again = ledger_of(evidence.directory, evidence.plan, evidence.json("audit.json"), evidence.results, aside)
    faults = [f"ledger.json: {text}" for text in differences(written, json.loads(json.dumps(again)), close=CLOSE)]
    return check("ledger", f"the costs of {again['total']['trials']} trials added up", faults)
