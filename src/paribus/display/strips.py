"""A verdict's interval as a strip, a picture that needs no script."""

from collections.abc import Iterable

from markupsafe import Markup, escape

from paribus.display.numbers import decimals, interval, signed
from paribus.records.reading import Claim


def draw_interval(claim: Claim, reach: float) -> Markup:
    """A verdict as a strip from -reach to +reach: which side supports, which refutes, and where the interval lies."""
    verdict = claim.verdict
    if verdict is None or verdict.estimate is None:
        return Markup("")

    def at(value: float) -> str:
        return f"{50 + 50 * max(-1.0, min(1.0, value / reach)):.3f}%"

    def zone(kind: str, low: float, high: float) -> str:
        width = 50 * (min(1.0, high / reach) - max(-1.0, low / reach))
        return f'<rect class="zone {kind}" x="{at(low)}" y="6" width="{width:.3f}%" height="28"/>'

    m = claim.margin
    cut = {"better": m, "not_better": m, "worse": -m, "not_worse": -m}.get(claim.expect)
    if cut is None:
        zones = [zone("refuted", -reach, -m), zone("supported", -m, m), zone("refuted", m, reach)]
    else:
        low, high = ("refuted", "supported") if claim.expect in ("better", "not_worse") else ("supported", "refuted")
        zones = [zone(low, -reach, cut), zone(high, cut, reach)]
    digits = decimals(claim)
    label = (
        f"Improvement {signed(verdict.estimate, digits)}, interval {interval(verdict.low, verdict.high, digits)}, "
        f"margin {signed(m, digits)}: {claim.outcome}"
    )
    parts = [f'<svg class="strip" role="img" width="100%" height="40"><title>{escape(label)}</title>', *zones]
    parts.append(f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="2" y2="38"/>')
    edges = (cut,) if cut is not None else (-m, m)
    parts.extend(f'<line class="margin" x1="{at(edge)}" x2="{at(edge)}" y1="6" y2="34"/>' for edge in edges)
    if verdict.low is not None and verdict.high is not None:
        parts.append(
            f'<line class="bar {claim.outcome}" x1="{at(verdict.low)}" x2="{at(verdict.high)}" y1="20" y2="20"/>'
        )
    parts.append(f'<circle class="dot {claim.outcome}" cx="{at(verdict.estimate)}" cy="20" r="6"/></svg>')
    return Markup("".join(parts))


def reach_of(claims: Iterable[Claim]) -> float:
    """Half the width of a strip that holds all of these claims' intervals and margins."""
    ends = [0.0]
    for claim in claims:
        ends.append(2 * claim.margin)
        if claim.verdict:
            ends += [abs(v) for v in (claim.verdict.low, claim.verdict.high, claim.verdict.estimate) if v is not None]
    return max(ends) * 1.12
