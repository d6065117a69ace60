"""Numbers as a reader sees them: a true minus sign, tabular digits, SI prefixes.

Nothing here decides anything: a displayed interval must never seem to contradict its verdict, so digits are added until
rounding no longer moves a bound across the margin.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from paribus.own_code import short_name
from paribus.records.reading import Claim

MISSING = "–"


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals: `2.413`, `−0.012`; a dash where there is none."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign always shown: `+0.031`, `−0.012`, and plain `0.000` for an exact zero."""
    if value is None:
        return MISSING
    return fixed(0.0, digits) if value == 0 else f"{value:+.{digits}f}".replace("-", "−")


def decimals(claim: Claim) -> int:
    """Decimals for a claim's numbers: one finer than its margin, more where a bound would round across a margin."""
    digits = max(3, math.ceil(-math.log10(claim.margin)) + 1)
    if claim.verdict is None:
        return digits
    edges = (-claim.margin, 0.0, claim.margin)
    shown = [value for value in (claim.verdict.low, claim.verdict.high, claim.verdict.estimate) if value is not None]

    def faithful(digits: int) -> bool:
        return all(
            (value < edge) == (float(f"{value:.{digits}f}") < float(f"{edge:.{digits}f}"))
            and (value > edge) == (float(f"{value:.{digits}f}") > float(f"{edge:.{digits}f}"))
            for value in shown
            for edge in edges
        )

    return next((n for n in range(digits, digits + 4) if faithful(n)), digits)


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """`[−0.002, +0.031]`, or a dash."""
    return MISSING if low is None or high is None else f"[{signed(low, digits)}, {signed(high, digits)}]"


def compact(value: float | None) -> str:
    """A count with an SI prefix and three significant digits: `814 k`, `1.23 T`."""
    if value is None:
        return MISSING
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value:.3g}"


def grouped(value: int | None) -> str:
    """A whole number with its thousands set apart: `614 400`."""
    return MISSING if value is None else f"{value:,}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """`38 s`, `4 min 12 s`, `3 h 05 min`."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def value_text(value: Any) -> str:
    """A setting as one would write it in a study file, lists included."""
    match value:
        case None:
            return MISSING
        case bool():
            return str(value).lower()
        case int():
            return grouped(value) if abs(value) >= 10_000 else str(value)
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(value_text(item) for item in value)
        case _:
            return short_name(str(value))


def assigned(name: str, value: Any) -> str:
    """`model.layers = 6`, `model.input_attention = [bidirectional, causal]`."""
    return f"{name} = [{value_text(value)}]" if isinstance(value, list | tuple) else f"{name} = {value_text(value)}"


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value), in the order given."""
    rows: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            rows += flat(item, f"{name}.")
        elif isinstance(item, list) and any(isinstance(entry, Mapping) for entry in item):
            for index, entry in enumerate(item):
                rows += (
                    flat(entry, f"{name}[{index}].") if isinstance(entry, Mapping) else [(f"{name}[{index}]", entry)]
                )
        else:
            rows.append((name, item))
    return rows


def mean(values: Iterable[float]) -> float | None:
    """Arithmetic mean, None of nothing."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else None


def spread(values: Iterable[float]) -> float | None:
    """Standard deviation over seeds (n - 1), None of fewer than two."""
    numbers = list(values)
    if len(numbers) < 2:
        return None
    centre = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - centre) ** 2 for number in numbers) / (len(numbers) - 1))


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""
