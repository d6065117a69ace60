"""Which claims were there before anybody could see a verdict: one that is written after a look is no prediction."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_SAYS = ("kind", "factors", "levels", "over", "arm", "against", "metric", "expect", "margin", "estimand", "condition")
"""What is judged; the words of a claim may be mended."""


def amended(before: Mapping[str, Any] | None, verdicts: Json) -> Json:
    """`verdicts`, with what is not as it was when verdicts were first computed in the directory.

    `before`: the verdicts that are there, None where there are none. Key `amended`, only where there is something: `added` and
    `dropped`, lists of claims. A claim that was added or changed says so in its `note`, and where one was dropped all do. Who
    goes back to the claims of the start gets the verdicts of the start.
    """
    if before is None:
        return verdicts
    was = before.get("amended") or {"added": [], "dropped": []}
    first = [claim for claim in _claims(before) if claim not in was["added"]] + was["dropped"]
    now = _claims(verdicts)
    added = [claim for claim in now if claim not in first]
    dropped = [claim for claim in first if claim not in now]
    if not added and not dropped:
        return verdicts
    told: Json = {
        part: [_told(claim, _claim(claim, verdicts) in added, len(dropped)) for claim in verdicts[part]]
        for part in ("claims", "effects")
        if part in verdicts
    }
    return {**verdicts, **told, "amended": {"added": added, "dropped": dropped}}


def _claims(verdicts: Mapping[str, Any]) -> list[Json]:
    return [_claim(claim, verdicts) for claim in [*verdicts["claims"], *verdicts.get("effects", ())]]


def _claim(claim: Mapping[str, Any], verdicts: Mapping[str, Any]) -> Json:
    return {key: claim[key] for key in _SAYS if key in claim} | {"confidence": verdicts["confidence"]}


def _told(claim: Json, added: bool, dropped: int) -> Json:
    notes = [claim["note"]]
    if added:
        notes.append("Added or changed after verdicts had been computed here, so that it is no prediction.")
    if dropped:
        many, be = ("1 claim that was", "is") if dropped == 1 else (f"{dropped} claims that were", "are")
        notes.append(f"{many} judged here before, as first written, {be} no longer in the study.")
    return {**claim, "note": " ".join(note for note in notes if note)}
