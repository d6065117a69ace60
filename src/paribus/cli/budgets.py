"""What budgets cost and come to, in lines for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from paribus.cli.tables import short
from paribus.records.condition import Condition


def planned(arms: Mapping[str, Any]) -> Iterator[str]:
    """The budgets of a study's runs, and what their branches cost on top of each arm's training; nothing without budgets."""
    branches: list[Any] = next((arm["branches"] for arm in arms.values()), [])
    if not branches:
        return
    yield f"Each run serves {len(branches) + 1} budgets; branches, trained beside it, end at:"
    yield "  " + ", ".join(f"{branch['tokens']:,}" for branch in branches) + " tokens"
    for name, arm in arms.items():
        share = arm["branch_flops"] / arm["train_flops"]
        yield f"  {name}: {arm['branch_tokens']:,} tokens again, {short(arm['branch_flops'])} FLOPs ({share:.0%} more)"


def found(verdicts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each claim as written: how many times as many tokens its arm needs; then what the back-tests came to."""
    budgets = verdicts.get("budgets")
    for entry in (budgets or {"claims": []})["claims"]:
        if entry["multiplier"] is not None and Condition.model_validate(entry["condition"]).as_written:
            yield entry["multiplier"]["says"]
    if budgets and budgets["back_test"]["of"]:
        yield f"Back-test of trends over budgets: {budgets['back_test']['says']}"
