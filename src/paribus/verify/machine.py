"""What differs between the machine and code that trained a study and those at hand, in a few words each."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

Json = Mapping[str, Any]


def reasons(there: Json, here: Json) -> list[str]:
    """Why bits may differ: other code, torch, processor, instructions or accelerator. Both as `environment_of` has them."""
    found = list(_code(there.get("code") or {}, here.get("code") or {}))
    before, now = (side.get("packages") or {} for side in (there, here))
    if before.get("torch") != now.get("torch"):
        found.append(f"other torch ({before.get('torch')}, here {now.get('torch')})")
    names = {
        "processor": "CPU",
        "instructions": "CPU instructions",
        "accelerator": "GPU",
        "cuda": "CUDA",
        "cudnn": "cuDNN",
    }
    for field, name in names.items():
        if there.get(field) != here.get(field):
            found.append(f"other {name} ({there.get(field)}, here {here.get(field)})")
    return found


def _code(there: Json, here: Json) -> Iterator[str]:
    if there.get("sources") != here.get("sources"):
        yield f"other paribus code ({described(there)}, here {described(here)})"


def described(code: Json) -> str:
    """A version of the code in a few words: its commit where there is one, and the first digits of the hash of its files."""
    commit = f", commit {str(code.get('commit'))[:8]}" if code.get("commit") else ""
    return (
        f"{code.get('version')}{commit}{' changed' if code.get('diff') else ''}, files {str(code.get('sources'))[:8]}"
    )


def told(sessions: Mapping[str, Sequence[Json]]) -> list[str]:
    """What a reader should know of the sessions of all trials, by trial: resumed elsewhere, or not all under one code."""
    notes: list[str] = []
    for name, of_trial in sessions.items():
        for before, after in pairwise(of_trial):
            if changed := reasons(before.get("environment") or {}, after.get("environment") or {}):
                shown = "; ".join(text.replace("here ", "then ") for text in changed)
                notes.append(f"trial {name} was resumed at step {after.get('from_step')} with {shown}")
    missing = [name for name, of_trial in sessions.items() if not of_trial]
    if missing:
        notes.append(
            f"{len(missing)} trials have no record of where and with what code they ran: {', '.join(missing[:3])}"
        )
    firsts = [of_trial[0].get("environment") or {} for of_trial in sessions.values() if of_trial]
    if others := [environment for environment in firsts if reasons(firsts[0], environment)]:
        shown = "; ".join(text.replace("here ", "there ") for text in reasons(firsts[0], others[0]))
        notes.append(f"{len(others)} of {len(firsts)} trials did not begin under what the first did: {shown}")
    return notes
