"""A study made ready, whoever audits, measures or trains it: its own parts asked, its text prepared, its arms matched."""

from collections.abc import Iterable

from paribus import spec
from paribus.costs.latency import measure_latency
from paribus.data.sources import Progress
from paribus.data.store import Corpus, prepare
from paribus.own_code import Code
from paribus.plan.building import build_plan
from paribus.plan.matching import matched_plan
from paribus.plan.optimizers import check_optimizers
from paribus.plan.soundness import check_rules
from paribus.records.plan import Plan, Solved


def prepare_plan(
    study: spec.Study, code: Code, progress: Progress | None = None, before: Iterable[Solved] = ()
) -> tuple[Plan, Corpus]:
    """The plan of a study and its text (built once, then cached). Trains nothing.

    `before`: the `matchings` of a `plan.json` that the study has already, whose arms are not measured again. Raises UserError
    where a part of the user's own is not sound or not allowed, where there is no text, or where an arm cannot be matched.
    """
    plan = build_plan(study)
    check_rules(plan.configs, code)
    check_optimizers(study, plan, code)
    corpus = prepare(plan.data, progress)
    return matched_plan(study, plan, corpus, measure_latency, before, code), corpus
