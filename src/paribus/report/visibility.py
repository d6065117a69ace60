"""Who may attend to whom, drawn from the predicate itself: a picture that needs no script.

A built-in rule is drawn from this version's predicate. A rule from the user's own file is drawn from what the run recorded in
the study's directory: a report never runs code that a directory names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from pydantic import ValidationError

from paribus import doors
from paribus.display.numbers import listed
from paribus.errors import StudyError
from paribus.own_code import DENIED, Code, short_name
from paribus.records.reading import Arm
from paribus.spec.model import Model

_CELL, _GAP, _LEFT, _TOP = 17, 6, 26, 22
_WINDOW = 3
"""Positions that stand for a longer `attention_window`."""

MEMORY = {
    "every_layer": "The target reads the input's keys and values layer by layer.",
    "final_layer": "The target reads the input's last-layer states through its own self-attention's weights.",
    "cross_attention": "The target reads the input's last-layer states through a separate cross-attention block.",
}
TIED = "The target reads the input's last-layer states by cross-attention with the weights of its self-attention."
PARAMETERS = {
    "shared": "Input and target use the same weights.",
    "separate": "Input and target have weights of their own.",
}

Square = tuple[tuple[bool, ...], ...]
"""Row by row, whether a query sees a key."""


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


@dataclass(frozen=True)
class _Sight:
    """What decides an arm's picture."""

    model: Model
    objective: str
    squares: tuple[tuple[tuple[str, ...], ...], ...] | None

    @property
    def sides(self) -> tuple[int, int]:
        """Input and target tokens of the picture."""
        return sides_of(self.objective)

    @property
    def switches(self) -> tuple[Any, ...]:
        """What must be equal for one picture to stand for two arms."""
        model = self.model
        chosen = (model.rules, model.attention_window, model.parameters, model.memory, model.cross_weights, model.mixer)
        return (*chosen, model.cross_position, model.query_heads, self.objective == "lm", self.objective == "mlm")


def sides_of(objective: str) -> tuple[int, int]:
    """Input and target tokens of the picture of a pair."""
    return {"mlm": (8, 0), "lm": (0, 6)}.get(objective, (6, 4))


def draw_visibility(arms: Iterable[Arm]) -> tuple[VisibilityPicture, ...]:
    """A picture per arm, one square per distinct pattern; a repeat is named beside the arm that it repeats.

    Raises StudyError where an arm's recorded model is none that this version knows.
    """
    sights: dict[str, tuple[_Sight, list[str]]] = {}
    for arm in arms:
        try:
            model = Model.model_validate(arm.section("model"))
        except ValidationError as error:
            problem = error.errors()[0]
            raise StudyError(
                f"plan.json: arm {arm.name!r}: model.{'.'.join(map(str, problem['loc']))}: {problem['msg']}; "
                "report it with the version of paribus that ran it"
            ) from error
        sight = _Sight(model, str(arm.section("objective").get("name")), arm.squares)
        home = sights.get(arm.repeats or "")
        if home and home[0].switches == sight.switches:
            home[1].append(arm.name)
        else:
            sights[arm.name] = (sight, [])
    return tuple(
        VisibilityPicture(name, tuple(again), tuple(_patterns(name, sight)), tuple(_notes(sight)))
        for name, (sight, again) in sights.items()
    )


def own_squares(models: Mapping[str, tuple[Model, str]], code: Code) -> dict[str, list[list[list[str]]]]:
    """What arms with rules that are not built in let see, for `visibility.json`: per arm layer, head and row of `0`s and
    `1`s, over the tokens of its picture. `models`: each arm's model and the name of its objective. Calls their predicates.
    """
    return {
        name: [
            [["".join("01"[seen] for seen in row) for row in head] for head in layer]
            for layer in _computed(_Sight(model, objective, None), code)
        ]
        for name, (model, objective) in models.items()
        if _own_rules(model)
    }


def _own_rules(model: Model) -> list[str]:
    """The rules that are not built in: reading a study executes none of them."""
    return [rule for rule in dict.fromkeys(model.rules) if rule not in doors.rule.built_in]


def _computed(sight: _Sight, code: Code = DENIED) -> list[list[Square]]:
    """The squares of each layer and head, from the predicates."""
    from paribus.models.visibility import square_mask  # torch takes a second to load: only a picture needs it

    model, (inputs, targets) = sight.model, sight.sides
    if model.attention_window is not None:
        model = model.model_copy(update={"attention_window": min(model.attention_window, _WINDOW)})
    return [
        [tuple(map(tuple, head)) for head in square_mask(model, layer, inputs, targets, code).tolist()]
        for layer in range(model.layers)
    ]


def _recorded(sight: _Sight) -> list[list[Square]] | None:
    """The squares as the run recorded them; None where it did not, or for another picture."""
    length = sum(sight.sides)
    if not sight.squares or len(sight.squares) != sight.model.layers:
        return None
    squares = [[tuple(tuple(mark == "1" for mark in row) for row in head) for head in layer] for layer in sight.squares]
    heads = [head for layer in squares for head in layer]
    fits = all(len(head) == length and all(len(row) == length for row in head) for head in heads)
    return squares if fits else None


def _patterns(arm: str, sight: _Sight) -> Iterable[Pattern]:
    """The distinct masks of an arm, each with the heads and layers in which it occurs."""
    squares = _recorded(sight) if _own_rules(sight.model) else _computed(sight)
    places: dict[Square, list[tuple[int, int]]] = {}
    for layer, heads in enumerate(squares or []):
        for head, mask in enumerate(heads):
            places.setdefault(mask, []).append((layer, head))
    for mask, found in places.items():
        where = _where(found, sight.model)
        yield Pattern(where, _square(f"{arm}: {where}", mask, sight))


def _notes(sight: _Sight) -> Iterable[str]:
    """What the picture shows, in sentences."""
    model, (inputs, targets) = sight.model, sight.sides
    rules = list(map(short_name, dict.fromkeys(model.rules)))
    if inputs:
        if len(rules) == 1:
            yield f"Input attention: {rules[0]}."
        else:
            layers = {rule: [n for n, other in enumerate(model.rules) if short_name(other) == rule] for rule in rules}
            parts = (f"{rule} in {_count('layer', where, model.layers)}" for rule, where in layers.items())
            yield f"Input attention: {listed(parts)}."
    else:
        yield "The input is empty: the whole window is target."
    if inputs and _own_rules(model) and not _recorded(sight):
        yield "A rule of the study's own; the run recorded no picture of it."
    known = [doors.rule.built_in[rule].facts for rule in model.rules if rule in doors.rule.built_in]
    if inputs and any(facts.random for facts in known):
        yield "Drawn anew for each sequence: shown is one draw."
    if inputs and model.attention_window is not None and any(facts.window for facts in known):
        short = f"; in the picture {_WINDOW} stand for them" if model.attention_window > _WINDOW else ""
        yield f"The window has {model.attention_window} positions{short}."
    if model.mixer == "linear":
        yield f"Linear attention (feature map {model.feature_map}) under this visibility."
    if not targets:
        yield "No target side: the masked positions of the input are predicted in place."
    elif inputs:
        yield PARAMETERS[model.parameters]
        tied = model.memory == "cross_attention" and model.cross_weights == "tied"
        yield TIED if tied else MEMORY[model.memory]
        if model.memory == "cross_attention" and model.cross_position == "restart":
            yield "Positions restart at the target and play no part in cross-attention."


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


def _square(title: str, mask: Square, sight: _Sight) -> Markup:
    """One mask as inline SVG: rows are readers, columns what they see, the bar at the left the weights in use."""
    model, (inputs, targets) = sight.model, sight.sides
    length = inputs + targets

    def at(index: int) -> int:
        return index * _CELL + (_GAP if inputs and index >= inputs else 0)

    size = at(length - 1) + _CELL
    text = f"{inputs} input and {targets} target tokens."
    if inputs:
        seen = sum(mask[q][k] for q in range(inputs) for k in range(inputs))
        ahead = sum(mask[q][k] for q in range(inputs) for k in range(q + 1, inputs))
        text += f" Input positions see {seen} of {inputs * inputs} input places, {ahead} of them ahead."
    parts = [
        f'<svg class="mask" role="img" viewBox="0 0 {_LEFT + size + 2} {_TOP + size + 2}" '
        f'width="{_LEFT + size + 2}" height="{_TOP + size + 2}">',
        f"<title>{escape(title)}</title><desc>{escape(text)}</desc>",
    ]
    if inputs:
        parts.append(f'<text x="{_LEFT}" y="13">input</text>')
    if targets:
        parts.append(f'<text x="{_LEFT + at(inputs)}" y="13">target</text>')
    stacks = [("weights-a", 0, length - 1)]  # one bar over both sides: one set of weights
    if model.parameters == "separate" and inputs and targets:
        stacks = [("weights-a", 0, inputs - 1), ("weights-b", inputs, length - 1)]
    for kind, first, last in stacks:
        parts.append(
            f'<rect class="{kind}" x="{_LEFT - 12}" y="{_TOP + at(first)}" width="6" '
            f'height="{at(last) + _CELL - at(first)}" rx="3"/>'
        )
    for query in range(length):
        for key in range(length):
            kind = "unseen"
            if mask[query][key]:
                kind = "input-input" if query < inputs else "target-target" if key >= inputs else "target-input"
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
