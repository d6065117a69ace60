"""What a claim comes to under each matching of its study, and over the knobs by which arms were matched."""

from collections.abc import Mapping, Sequence
from typing import Any


def combined(planned: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each claim and matching: its verdict by each knob, and the one over all knobs.

    `planned` are the claims of `plan.json`, `judged` those of `verdicts.json`, in the same order. A claim is supported or
    refuted under a matching only if it is so by every knob: where the knob changes the answer, it is undecided.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    claims = {claim["number"]: claim for claim in planned if not claim.get("under")}
    for claim, answer in zip(planned, judged, strict=True):
        matching, number = claim.get("matching"), claim["number"]
        if matching is None:
            continue
        entry = found.setdefault(
            (matching, number),
            {
                "says": claim["says"],
                "claim": number,
                "arm": claims[number]["arm"],
                "against": claims[number]["against"],
                "matching": matching,
                "verdicts": {},
            },
        )
        entry["verdicts"][claim.get("knob")] = answer["verdict"]
    entries = sorted(found.values(), key=lambda entry: entry["claim"])
    return [{**entry, "verdict": _over(entry["verdicts"])} for entry in entries]


def _over(verdicts: Mapping[str, str]) -> str:
    distinct = set(verdicts.values())
    return distinct.pop() if len(distinct) == 1 else "undecided"
