"""What a claim comes to under each matching of its study, and over the knobs by which arms were matched."""

from collections.abc import Mapping, Sequence
from typing import Any

from paribus.spec.sizes import circumstance


def combined(planned: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each claim and matching, at each size: its verdict by each knob, and the one over all knobs.

    `planned` are the claims of `plan.json`, `judged` those of `verdicts.json`, in the same order. A claim is supported or
    refuted under a matching only if it is so by every knob: where the knob changes the answer, it is undecided.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    written = [claim for claim in planned if claim.get("under") == circumstance(None, claim.get("size"))]
    claims = {(claim["number"], claim.get("size")): claim for claim in written}
    for claim, answer in zip(planned, judged, strict=True):
        matching, number, size = claim.get("matching"), claim["number"], claim.get("size")
        if matching is None:
            continue
        entry = found.setdefault(
            (matching, number, size),
            {
                "says": claim["says"],
                "claim": number,
                "arm": claims[number, size]["arm"],
                "against": claims[number, size]["against"],
                "matching": matching,
                **({} if size is None else {"size": size}),
                "verdicts": {},
            },
        )
        entry["verdicts"][claim.get("knob")] = answer["verdict"]
    entries = sorted(found.values(), key=lambda entry: entry["claim"])
    return [{**entry, "verdict": _over(entry["verdicts"])} for entry in entries]


def still_open(planned: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The judged claims that are undecided, but those of a matching whose knobs disagree already.

    Where one knob supports a claim and another refutes it, no number of seeds decides it under that matching: the knob does.
    Arguments as `combined` takes them.
    """
    split = {
        (entry["matching"], entry["claim"], entry.get("size"))
        for entry in combined(planned, judged)
        if {"supported", "refuted"} <= {*entry["verdicts"].values()}
    }
    return [
        answer
        for claim, answer in zip(planned, judged, strict=True)
        if answer["verdict"] == "undecided" and (claim.get("matching"), claim["number"], claim.get("size")) not in split
    ]


def _over(verdicts: Mapping[str, str]) -> str:
    distinct = set(verdicts.values())
    return distinct.pop() if len(distinct) == 1 else "undecided"
