"""The check of matchings: arms that were solved for are solved for again, on the text."""

import json
from typing import NoReturn

from pydantic import TypeAdapter

from paribus.data.store import Corpus
from paribus.errors import UserError
from paribus.plan.building import build_plan
from paribus.plan.matching import solve
from paribus.records.plan import Solved
from paribus.spec.stopping import at_look
from paribus.verify.checks import Check, check, differences, left_out
from paribus.verify.evidence import Evidence

_SOLVED = TypeAdapter(list[Solved])


def matchings(evidence: Evidence, corpus: Corpus) -> Check:
    """Every knob stands where solving for it again puts it; what was matched in latency was measured, and is taken as it is."""
    if evidence.unread:
        return Check("matchings", "not checked", left_out(evidence.unread))
    study, written = evidence.study, evidence.plan.matchings
    if study.stopping != "fixed":
        study = at_look(study, len(evidence.plan.seeds))
    again = solve(study, build_plan(study), corpus, _cannot_be_measured, written)
    measured = sum(bool(each.latencies) for each in again)
    before, found = (json.loads(_SOLVED.dump_json(several)) for several in (written, again))
    faults = [f"plan.json: {text}" for text in differences(before, found, "matchings")]
    counted = len(again) - measured
    solved = f"{counted} matching{'s' * (counted > 1)} solved for again" if counted else ""
    kept = f"{measured} by latency, which was measured, taken from plan.json" if measured else ""
    return check("matchings", "; ".join(filter(None, (solved, kept))), faults)


def _cannot_be_measured(*_: object, **__: object) -> NoReturn:
    raise UserError("plan.json lacks a latency that was measured when the study began, and it cannot be measured again")
