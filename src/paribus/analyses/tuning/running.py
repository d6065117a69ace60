"""The first stage of a study that tunes, in its directory: what is unfinished is trained, then values are chosen."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paribus import files
from paribus.engines.study_run import results
from paribus.errors import UserError
from paribus.plan.tuning import Scores, tune, tuned_plan
from paribus.records.plan import Plan
from paribus.spec.problems import shown


def scores_of(results: Mapping[str, Mapping[str, Any]]) -> Scores:
    """What tuning trials came to on the tuning split, from their `result.json`; None where one diverged."""
    return {name: result.get("tune") if result["status"] == "done" else None for name, result in results.items()}


def tune_in(out: Path, plan: Plan, run: Callable[[Plan], None]) -> Plan:
    """The plan of the verdicts of `plan`, once its values are chosen.

    `run` trains the trials of a stage that have no result yet. As long as there are such, `plan.json` holds the first stage: arms
    and claims as they will be, but for the values, and no trial of a verdict. Raises UserError where trials choose other
    values than `plan.json` says.
    """

    def measure(stage: Plan) -> Scores:
        if len(results(out, stage)) < len(stage.trials):
            files.write_json(out / "plan.json", replace(plan, trials=[], tuning=stage.tuning).to_dict())
            run(stage)
        return scores_of(results(out, stage))

    before = files.read_json(out / "plan.json").get("tuning") if (out / "plan.json").exists() else None
    tuned = tune(plan, measure)
    for arm, choice in (before or {}).get("choices", {}).items():
        if arm in tuned.choices and choice["values"] != tuned.choices[arm].values:
            raise UserError(
                f"--out {out}: plan.json says that {shown(arm)} was tuned to {shown(choice['values'])}, and its tuning trials "
                f"say {shown(tuned.choices[arm].values)}: restore what was changed, or choose another --out"
            )
    return tuned_plan(plan, tuned)
