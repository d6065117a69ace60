"""A visibility rule as masks: dense, or as a picture in text.

A rule (`models.rules`, or the user's own) lets no input position see the target and no target position a later one.
"""

import torch
from torch import Tensor

from paribus import doors
from paribus.doors import RuleFacts
from paribus.models.rules import Place, Rule
from paribus.own_code import DENIED, Code
from paribus.spec.model import Model


def rule_of(model: Model, layer: int, code: Code = DENIED) -> Rule:
    """The predicate of a layer, the user's own included. Raises StudyError where it is own code and `code` denies that."""
    rule: Rule = doors.rule.load(model.rules[layer], code)
    return rule


def rule_facts(name: str, code: Code = DENIED) -> RuleFacts:
    """What is known of a rule without asking it."""
    return doors.rule.entry(name, code).facts


def is_built_in(name: str) -> bool:
    """Whether a rule is one of `models.rules`, which show a target position all before it and count distances alone."""
    return name in doors.rule.built_in


def form_of(name: str, layer: int) -> str | None:
    """What a built-in rule is between positions of one run in a layer, where that has a name (`RuleFacts.forms`)."""
    forms = doors.rule.built_in[name].facts.forms if is_built_in(name) else ()
    return forms[layer % len(forms)] if forms else None


def rule_is_drawn(model: Model, code: Code = DENIED) -> bool:
    """Whether any rule is drawn per sequence."""
    return any(rule_facts(name, code).random for name in model.rules)


def dense_mask(
    model: Model,
    layer: int,
    input_length: int,
    queries: range,
    keys: range,
    seeds: Tensor | None = None,
    padding: Tensor | None = None,
    code: Code = DENIED,
) -> Tensor:
    """The rule of a layer as booleans, True where the query sees the key; queries and keys are ranges of positions.

    Returns (heads, queries, keys), or with `seeds` or `padding` (B,), one of each sequence, (B, heads, queries, keys). Without
    seeds a drawn rule is shown as the sequence of seed 0 has it. With `padding`, empty positions before each input, the rule
    counts positions from the first token, so that a sequence sees the same in every batch; nobody sees the empty ones.
    """
    heads = model.query_heads
    per_sequence = [each for each in (seeds, padding) if each is not None]
    device = per_sequence[0].device if per_sequence else None
    first = 0 if padding is None else padding[:, None, None, None]
    key = torch.arange(keys.start, keys.stop, device=device)[None, None, :] - first
    place = Place(
        head=torch.arange(heads, device=device)[:, None, None],
        layer=layer,
        query=torch.arange(queries.start, queries.stop, device=device)[None, :, None] - first,
        key=key,
        input_length=input_length - first,
        heads=heads,
        seed=0 if seeds is None else seeds[:, None, None, None],
        window=model.attention_window or 0,
    )
    seen = rule_of(model, layer, code)(place)
    if padding is not None:
        seen = seen & (key >= 0)
    shape = (heads, len(queries), len(keys))
    return seen.expand((len(per_sequence[0]), *shape) if per_sequence else shape).contiguous()


def square_mask(model: Model, layer: int, input_length: int, target_length: int, code: Code = DENIED) -> Tensor:
    """`dense_mask` of a whole pair: (heads, positions, positions), input before target."""
    whole = range(input_length + target_length)
    return dense_mask(model, layer, input_length, whole, whole, code=code)


def picture(rule: str, input_length: int = 6, target_length: int = 3, code: Code = DENIED) -> list[str]:
    """A rule as lines of text, `x` where a query (row) sees a key (column): a square for each kind of heads and layers.

    Heads are shown as first and second half, layers as even and odd; a window as three positions.
    """
    model = Model(input_attention=rule, layers=2, heads=2, attention_window=3)
    squares: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for layer in range(2):
        for head, seen in enumerate(square_mask(model, layer, input_length, target_length, code).tolist()):
            rows = ["".join("x " if key else ". " for key in row).strip() for row in seen]
            cut = 2 * input_length - 1
            rows = [f"{row[:cut]} | {row[cut + 1 :]}" if input_length else row for row in rows]
            squares.setdefault(tuple(rows), []).append((layer, head))
    lines = []
    for square, found in squares.items():
        layers, heads = ({place[n] for place in found} for n in (0, 1))
        where = [] if len(layers) == 2 else ["even layers" if 0 in layers else "odd layers"]
        where += [] if len(heads) == 2 else ["first half of the heads" if 0 in heads else "second half of the heads"]
        lines += [f"{', '.join(where) or 'every head and layer'}:"]
        lines += [f"  {'input ' if n < input_length else 'target'}  {row}" for n, row in enumerate(square)]
    return lines
