"""One thing that is verified, and what came out."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["holds", "fails", "not checked"]
CLOSE = 1e-9
"""Relative difference below which a number that was computed again is the same: other versions of numpy sum in another order."""


@dataclass(frozen=True)
class Check:
    """`says`: how much was compared, or why nothing was; `faults`: a line for each thing that does not hold."""

    name: str
    outcome: Outcome
    says: str
    faults: tuple[str, ...] = ()


def check(name: str, says: str, faults: Iterable[str]) -> Check:
    """A check that holds where there are no faults."""
    found = tuple(faults)
    return Check(name, "fails" if found else "holds", says, found)


def left_out(arms: Iterable[str]) -> str:
    """Why something of these arms is not checked: their own code would have to be executed."""
    return f"{', '.join(sorted(arms))}: own code is executed only with --allow-code"


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """The check, or one that fails in a line.

    What is looked at may have been changed into anything, and whatever cannot be read does not hold.
    """
    try:
        return look()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        return Check(name, "fails", "cannot be read", (f"{name}: cannot be read ({type(error).__name__}: {said})",))


def differences(there: Any, here: Any, where: str = "", close: float = 0.0) -> Iterator[str]:
    """Each place where two JSON values differ; numbers may differ by `close`, relatively."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{where}.{key}" if where else str(key)
            if key in there and key in here:
                yield from differences(there[key], here[key], inner, close)
            else:
                yield f"{inner} is {'too much' if key in there else 'missing'}"
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, pair in enumerate(zip(there, here, strict=True)):
            yield from differences(*pair, f"{where}[{index}]", close)
    elif not same(there, here, close):
        yield f"{where} is {shortened(there)} and should be {shortened(here)}"


def same(there: Any, here: Any, close: float) -> bool:
    """Whether two plain values are equal, numbers that are not counts up to a relative difference of `close`."""
    numbers = [type(value) in (int, float) for value in (there, here)]
    if all(numbers) and close and not type(there) is type(here) is int:
        return math.isclose(there, here, rel_tol=close, abs_tol=close * 1e-3)
    return bool(there == here) and type(there) is type(here)


def shortened(value: Any, most: int = 40) -> str:
    """A value to show in a line."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
