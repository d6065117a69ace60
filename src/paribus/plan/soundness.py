"""Whether a visibility rule is one: asked before anything is spent, of rules from the user's own file.

A sound rule decides each (head, layer, query, key) by itself, from its `Place` alone, and leaks nothing: no input position
sees the target, no target position sees a later one. What a rule may do is hide: from input positions, and, under softmax
attention, from target positions too.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from paribus import doors
from paribus.data.shapes import shapes_of
from paribus.doors import RuleFacts
from paribus.errors import StudyError
from paribus.models.rules import Place, Rule
from paribus.models.visibility import rule_facts, rule_of
from paribus.own_code import DENIED, Code, short_name
from paribus.spec.model import Model
from paribus.spec.problems import shown
from paribus.spec.study import Config

SMALL = ((0, 3), (1, 2), (5, 4), (8, 8))
"""Input and target lengths at which everything is asked of a rule."""
STRIP = 1024
"""Queries asked about at once."""


def check_rules(configs: Mapping[str, Config], code: Code = DENIED) -> None:
    """See that rules which are not built in are sound, at small lengths and at those that the arms, by name, will have.

    Raises StudyError, one line, for the first that is not: with the offending (query, key) pair where it leaks.
    """
    for arm, config in configs.items():
        own = [layer for layer, rule in enumerate(config.model.rules) if rule not in doors.rule.built_in]
        for layer in own:
            fault = rule_fault(config.model, layer, lengths_of(config), config.objective.loss_on == "all", code)
            if fault:
                name = shown(short_name(config.model.rules[layer]))
                raise StudyError(f"study: arm {shown(arm)}: model.input_attention = {name}: {fault}")


def lengths_of(config: Config) -> list[tuple[int, int]]:
    """Input and target lengths of an arm's pairs, of full windows, those beyond the training length included.

    Of pairs of texts, whose lengths differ, the extremes and the middle.
    """
    window = config.data.window
    pairs = [(shape.input, shape.target) for shape in shapes_of(config.objective, window)]
    pairs = pairs or [(1, window - 1), (window // 2, window - window // 2), (window - 1, 1)]
    factors = [1.0, *config.evaluation.window_factors]
    return list(dict.fromkeys((round(s * factor), round(t * factor)) for factor in factors for s, t in pairs))


def rule_fault(
    model: Model, layer: int, lengths: Iterable[tuple[int, int]], predicts_input: bool, code: Code = DENIED
) -> str | None:
    """What is wrong with a layer's rule, in a sentence; None if it is sound.

    `lengths`: input and target lengths beyond `SMALL`; `predicts_input`: whether input positions predict the next token.
    """
    lengths = list(lengths)
    try:
        rule, facts = rule_of(model, layer, code), rule_facts(model.rules[layer], code)
        if fault := _unmet(facts, model):
            return fault
        has_target = any(target for _, target in lengths)
        small = [(s, t if has_target else 0) for s, t in SMALL if s or has_target]
        for pair in small:
            if fault := _unfit(_Asked(rule, model, layer, *pair)):
                return fault
        for pair in dict.fromkeys([*small, *lengths]):
            asked = _Asked(rule, model, layer, *pair)
            if fault := _leak(asked, predicts_input) or (_looks_ahead(asked) if facts.looks_back else None):
                return fault
    except _Wrong as wrong:
        return str(wrong)
    return None


def _unmet(facts: RuleFacts, model: Model) -> str | None:
    """What a rule asks for, by its facts, that the model does not have."""
    if facts.window and model.attention_window is None:
        return "reads a window; set model.attention_window, the number of positions it sees"
    if facts.halves and model.query_heads % 2:
        return f"treats halves of the heads apart, so their number must be even, not {model.query_heads}"
    if facts.alternates and model.layers < 2:
        return "treats layers apart; set model.layers = 2 or more"
    return None


def _looks_ahead(asked: "_Asked") -> str | None:
    """The first pair that belies a rule which says that it looks back only."""
    return _leak(asked, True) and "is declared with looks_back = True, and an input position sees a later one"


class _Wrong(Exception):
    """A rule that cannot even be asked."""


class _Asked(NamedTuple):
    """A rule, and the layer and lengths for which it is asked."""

    rule: Rule
    model: Model
    layer: int
    input: int
    target: int

    @property
    def total(self) -> int:
        return self.input + self.target

    @property
    def lengths(self) -> str:
        return f"{self.input} input and {self.target} target positions"

    def place(self, head: Tensor, query: Tensor, key: Tensor, end: int | Tensor) -> Place:
        return Place(head, self.layer, query, key, end, self.model.query_heads, 0, self.model.attention_window or 0)

    def seen(self, queries: range, keys: range) -> Tensor:
        """What the rule says of all heads and two ranges of positions, as it is broadcast, (H or 1, Q or 1, K or 1)."""
        head = torch.arange(self.model.query_heads)[:, None, None]
        query, key = torch.arange(queries.start, queries.stop)[:, None], torch.arange(keys.start, keys.stop)
        try:
            given = self.rule(self.place(head, query[None], key[None, None], self.input))
        except Exception as error:
            raise _Wrong(f"fails in layer {self.layer} with {self.lengths} ({_said(error)})") from error
        if not isinstance(given, Tensor) or given.dtype != torch.bool:
            kind = (
                f"a tensor of {str(given.dtype).removeprefix('torch.')}" if isinstance(given, Tensor) else type(given)
            )
            kind = kind if isinstance(kind, str) else f"{kind.__name__!r}"
            raise _Wrong(f"returns {kind}; should return a boolean tensor, such as at.key <= at.query")
        shape = (self.model.query_heads, len(queries), len(keys))
        if given.ndim > 3 or any(n not in (1, whole) for n, whole in zip(given.shape[::-1], shape[::-1], strict=False)):
            raise _Wrong(
                f"returns a shape {tuple(given.shape)} for (heads, queries, keys) = {shape}; "
                "should decide each pair by itself, so that head, query and key give the shape"
            )
        return given[(None,) * (3 - given.ndim)]

    def square(self) -> Tensor:
        """What it says of the whole pair, (H, S + T, S + T)."""
        whole = range(self.total)
        return self.seen(whole, whole).expand(self.model.query_heads, self.total, self.total)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def _unfit(asked: _Asked) -> str | None:
    """Whether the rule depends on more than its place, or on how it is asked."""
    whole = asked.square()
    if not torch.equal(whole, asked.square()):
        return "says something else when it is asked again; should depend on its argument alone (no randomness, no counters)"
    queries, keys = range(asked.total // 2, asked.total), range(1, asked.total)
    part = whole[:, queries.start : queries.stop, keys.start : keys.stop]
    if not torch.equal(asked.seen(queries, keys).expand(part.shape), part):
        return "says something else when it is asked about fewer positions; should decide each pair by itself"
    try:
        alone = _one_by_one(asked)
    except Exception as error:
        return (
            "works on whole tensors of positions, but not on a single head, query, key and input length, as FlexAttention asks "
            f"({_said(error)}); use comparisons, arithmetic, & | ~ and torch.where, no if, and, or, not"
        )
    if alone.dtype != torch.bool or not torch.equal(alone, whole):
        return "says something else of a single pair than of many at once; should decide each pair by itself"
    return None


def _one_by_one(asked: _Asked) -> Tensor:
    """The square again, (H, S + T, S + T), from scalar heads, queries, keys and input length, as a kernel asks.

    Two sequences are asked about, the second with an empty position before it; the square is the first one's.
    """
    end, positions = torch.tensor(asked.input), torch.arange(asked.total)

    def one(first: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return asked.rule(asked.place(head, query - first, key - first, end - first))

    over = one
    for dimension in (3, 2, 1, 0):
        over = torch.vmap(over, in_dims=tuple(0 if index == dimension else None for index in range(4)))
    square: Tensor = over(torch.arange(2), torch.arange(asked.model.query_heads), positions, positions)
    return square[0]


def _leak(asked: _Asked, predicts_input: bool) -> str | None:
    """The first pair that the rule lets see what it must not, or hides where it cannot."""
    keys = range(asked.total)
    for first in range(0, asked.total, STRIP):
        queries = range(first, min(first + STRIP, asked.total))
        seen = asked.seen(queries, keys)
        for wrong, what in _forbidden(asked, seen, torch.arange(first, queries.stop)[:, None], predicts_input):
            if bool(wrong.any()):
                head, query, key = wrong.nonzero()[0].tolist()
                where = f"(query, key) = ({first + query}, {key}) in head {head} of layer {asked.layer}, with {asked.lengths}"
                return f"{what} at {where}; all counted from 0"
    return None


def _forbidden(asked: _Asked, seen: Tensor, query: Tensor, predicts_input: bool) -> Iterator[tuple[Tensor, str]]:
    """For each thing that must not be, where it is, (H or 1, Q, K), and what it is."""
    key = torch.arange(asked.total)
    of_input = query < asked.input
    yield seen & of_input & (key >= asked.input), "leaks: an input position sees the target"
    yield seen & ~of_input & (key > query), "leaks: a target position sees a later one, which it is to predict"
    if predicts_input:
        what = 'looks ahead, and under objective.loss_on = "all" the input predicts: an input position sees a later one'
        yield seen & of_input & (key > query), what
    if asked.model.mixer == "linear":
        what = (
            'hides something from the target, and model.mixer = "linear" keeps one sum of it for all (use "softmax"): a target '
            "position does not see an earlier one"
        )
        yield ~seen & ~of_input & (key <= query), what
