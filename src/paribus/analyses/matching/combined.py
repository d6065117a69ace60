"""What a claim comes to under each matching of its study, and over the knobs by which arms were matched."""

from collections.abc import Mapping, Sequence
from typing import Any

from paribus.records.condition import Condition
from paribus.records.matching import OverKnobs
from paribus.records.plan import PlannedClaim


def over_any_knob(condition: Condition) -> Condition:
    """The condition of a matched claim, whatever was turned for it."""
    assert condition.matching is not None
    return condition.model_copy(
        update={"matching": condition.matching.model_copy(update={"knobs": (), "among_others": False})}
    )


def combined(planned: Sequence[PlannedClaim], judged: Sequence[Mapping[str, Any]]) -> list[OverKnobs]:
    """One entry for each claim and matching, at each size: its verdict by each knob, and the one over all knobs.

    `planned` are the claims of the plan, `judged` their verdicts, in the same order. A claim is supported or refuted under a
    matching only if it is so by every knob: where the knob changes the answer, it is undecided.
    """
    written = {(claim.number, claim.condition.size): claim for claim in planned if claim.condition.as_written}
    found: dict[tuple[int, Condition], dict[str, Any]] = {}
    for claim, answer in zip(planned, judged, strict=True):
        if matching := claim.condition.matching:
            own = found.setdefault((claim.number, over_any_knob(claim.condition)), {})
            own[matching.knob] = answer["verdict"]
    entries = []
    for (number, condition), verdicts in sorted(found.items(), key=lambda item: item[0][0]):
        claim, distinct = written[number, condition.size], set(verdicts.values())
        entries.append(
            OverKnobs(
                says=claim.says,
                claim=number,
                arm=claim.arm,
                against=claim.against,
                condition=condition,
                verdicts=verdicts,
                verdict=distinct.pop() if len(distinct) == 1 else "undecided",
            )
        )
    return entries


def still_open(planned: Sequence[PlannedClaim], judged: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The judged claims that are undecided, but those of a matching whose knobs disagree already.

    Arguments as `combined` takes them.
    """
    split = {(entry.claim, entry.condition) for entry in combined(planned, judged) if entry.contradict}
    return [
        answer
        for claim, answer in zip(planned, judged, strict=True)
        if answer["verdict"] == "undecided"
        and not (claim.condition.matching and (claim.number, over_any_knob(claim.condition)) in split)
    ]
