"""Pictures that need no script: who may attend to whom, drawn from the predicate itself, and a verdict's interval."""

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape
from pydantic import ValidationError

from paribus.errors import StudyError
from paribus.report.numbers import decimals, interval, listed, signed
from paribus.report.reading import Arm, Claim
from paribus.study.architecture import Model

INPUT, TARGET = 6, 4
"""Tokens in the picture of a pair."""
_CELL, _GAP, _LEFT, _TOP = 17, 6, 26, 22

MEMORY = {
    "every_layer": "The target reads the input's keys and values layer by layer.",
    "final_layer": "The target reads the input's last-layer states through its own self-attention's weights.",
    "cross_attention": "The target reads the input's last-layer states through a separate cross-attention block.",
}
PARAMETERS = {
    "shared": "Input and target use the same weights.",
    "separate": "Input and target have weights of their own.",
}


@dataclass(frozen=True)
class Pattern:
    """One distinct visibility pattern of an arm."""

    where: str
    """The heads and layers that have it."""
    svg: Markup


@dataclass(frozen=True)
class VisibilityPicture:
    """All that the three switches of an arm mean, drawn and said."""

    arm: str
    same_as: tuple[str, ...]
    """Other arms that look the same: repeats under another setting."""
    patterns: tuple[Pattern, ...]
    notes: tuple[str, ...]


def draw_visibility(arms: Iterable[Arm]) -> tuple[VisibilityPicture, ...]:
    """A picture per arm, one square per distinct pattern; a repeat is named beside the arm that it repeats.

    Raises StudyError where an arm's recorded model is none that this version knows.
    """
    pictures: dict[str, tuple[Arm, Model, list[str]]] = {}
    for arm in arms:
        try:
            model = Model.model_validate(arm.config.get("model") or {})
        except ValidationError as error:
            problem = error.errors()[0]
            raise StudyError(
                f"plan.json: arm {arm.name!r}: model.{'.'.join(map(str, problem['loc']))}: {problem['msg']}; "
                "report it with the version of paribus that ran it"
            ) from error
        home = pictures.get(arm.repeats or "")
        if home and _switches(home[1]) == _switches(model):
            home[2].append(arm.name)
        else:
            pictures[arm.name] = (arm, model, [])
    return tuple(
        VisibilityPicture(
            name,
            tuple(again),
            tuple(_patterns(name, model)),
            (PARAMETERS[model.parameters], MEMORY[model.memory]),
        )
        for name, (_, model, again) in pictures.items()
    )


def _switches(model: Model) -> tuple[str | int, ...]:
    return model.input_attention, model.parameters, model.memory, model.query_heads, model.layers


def _patterns(arm: str, model: Model) -> Iterable[Pattern]:
    """The distinct masks of an arm, each with the heads and layers in which it occurs."""
    from paribus.models.visibility import square_mask  # torch takes a second to load: only a picture needs it

    places: dict[tuple[tuple[bool, ...], ...], list[tuple[int, int]]] = {}
    for layer in range(model.layers):
        for head, mask in enumerate(square_mask(model, layer, INPUT, TARGET).tolist()):
            places.setdefault(tuple(map(tuple, mask)), []).append((layer, head))
    for mask, found in places.items():
        where = _where(found, model)
        yield Pattern(where, _square(f"{arm}: {where}", mask, model))


def _where(found: list[tuple[int, int]], model: Model) -> str:
    """`every head and layer`, `heads 1 to 2, every layer`, `every head, layers 1 and 3`."""
    layers, heads = sorted({layer for layer, _ in found}), sorted({head for _, head in found})
    if len(found) != len(layers) * len(heads):
        return listed(f"layer {layer + 1} head {head + 1}" for layer, head in found)
    if len(layers) == model.layers and len(heads) == model.query_heads:
        return "every head and layer"
    return f"{_count('head', heads, model.query_heads)}, {_count('layer', layers, model.layers)}"


def _count(word: str, indices: list[int], total: int) -> str:
    if len(indices) == total:
        return f"every {word}"
    if len(indices) == 1:
        return f"{word} {indices[0] + 1}"
    if len(indices) > 2 and indices[-1] - indices[0] == len(indices) - 1:
        return f"{word}s {indices[0] + 1} to {indices[-1] + 1}"
    return f"{word}s {listed(str(index + 1) for index in indices)}"


def _square(title: str, mask: tuple[tuple[bool, ...], ...], model: Model) -> Markup:
    """One mask as inline SVG: rows are readers, columns what they see, the bar at the left the weights in use."""
    length = INPUT + TARGET

    def at(index: int) -> int:
        return index * _CELL + (_GAP if index >= INPUT else 0)

    size = at(length - 1) + _CELL
    seen = sum(mask[q][k] for q in range(INPUT) for k in range(INPUT))
    ahead = sum(mask[q][k] for q in range(INPUT) for k in range(q + 1, INPUT))
    text = (
        f"{INPUT} input and {TARGET} target tokens. Input positions see {seen} of {INPUT * INPUT} input places, "
        f"{ahead} of them ahead. {PARAMETERS[model.parameters]} {MEMORY[model.memory]}"
    )
    parts = [
        f'<svg class="mask" role="img" viewBox="0 0 {_LEFT + size + 2} {_TOP + size + 2}" '
        f'width="{_LEFT + size + 2}" height="{_TOP + size + 2}">',
        f"<title>{escape(title)}</title><desc>{escape(text)}</desc>",
        f'<text x="{_LEFT}" y="13">input</text><text x="{_LEFT + at(INPUT)}" y="13">target</text>',
    ]
    second = "weights-b" if model.parameters == "separate" else "weights-a"
    for kind, first, last in (("weights-a", 0, INPUT - 1), (second, INPUT, length - 1)):
        parts.append(
            f'<rect class="{kind}" x="{_LEFT - 12}" y="{_TOP + at(first)}" width="6" '
            f'height="{at(last) + _CELL - at(first)}" rx="3"/>'
        )
    if model.parameters == "shared":  # one bar over both sides: one set of weights
        parts.append(f'<rect class="weights-a" x="{_LEFT - 12}" y="{_TOP}" width="6" height="{size}" rx="3"/>')
    for query in range(length):
        for key in range(length):
            kind = "unseen"
            if mask[query][key]:
                kind = "input-input" if query < INPUT else "target-target" if key >= INPUT else "target-input"
            x, y = _LEFT + at(key), _TOP + at(query)
            parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3"/>')
            if kind == "target-input" and model.memory != "every_layer":
                parts.append(_texture(model.memory, x, y))
    parts.append("</svg>")
    return Markup("".join(parts))


def _texture(memory: str, x: int, y: int) -> str:
    """What tells last-layer memory apart in print too: a slash, or a ring for cross-attention."""
    inner = _CELL - 2
    if memory == "final_layer":
        return f'<line class="texture" x1="{x + 3}" y1="{y + inner - 3}" x2="{x + inner - 3}" y2="{y + 3}"/>'
    return f'<circle class="texture" cx="{x + inner / 2:g}" cy="{y + inner / 2:g}" r="3.5"/>'


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
