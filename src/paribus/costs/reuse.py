"""What may be kept of a text that grows: asked of the visibility rules, not of an arm's name.

An arm has read one sequence (input, then target) and is to read another that begins with the same tokens. What it computed at
those positions may be kept as far as it would come out the same:

- of the input, if no position that is kept sees one that comes later, and none sees otherwise because the input is longer, in
  all layers whose attention decides what is kept (the last input layer under `every_layer` is only read, so its rule
  decides nothing);
- of the target, where it becomes input, if besides input and target have the same weights and memory is read layer by layer,
  and each position would see as an input position what it saw as a target position;
- of the target, where it stays target after an empty input, always: targets see the past alone.

Linear attention keeps a sum over all keys, so it asks for full causal visibility. Rules that are drawn per sequence are never
counted on. All is kept, or nothing: no layer is kept without the others.
"""

from functools import lru_cache

import torch

from paribus import doors
from paribus.models.interface import Interface
from paribus.models.rules import Place
from paribus.models.visibility import form_of, is_built_in, rule_facts
from paribus.own_code import Code
from paribus.spec.model import Model
from paribus.spec.workload import Turn

_PLACES_AT_ONCE = 1 << 22


def layers_run(model: Model, interface: Interface) -> int:
    """Input layers that run whole: all, or all but the last where nobody reads its states."""
    return model.layers - (not interface.input_loss and model.memory == "every_layer")


def reusable(model: Model, interface: Interface, before: Turn, turn: Turn) -> int:
    """How many positions of `before` need not be read again in `turn`, of the `turn.kept` that begin alike."""
    if not interface.target:
        return 0
    if before.input == turn.input == 0:
        return turn.kept
    of_input = min(turn.kept, before.input)
    if model.mixer == "linear" and turn.kept != before.fed:  # a sum over keys cannot be cut
        whole = turn.kept >= before.input
        return of_input if whole and _input_kept(model, interface, of_input, before.input, turn.input) else 0
    if turn.kept > of_input and _target_as_input(model, interface, before.input, turn.kept, turn.input):
        return turn.kept
    return of_input if of_input and _input_kept(model, interface, of_input, before.input, turn.input) else 0


def _input_kept(model: Model, interface: Interface, kept: int, before: int, after: int) -> bool:
    """Whether input positions below `kept` are within an input of length `after` what they were within one of `before`."""
    linear = model.mixer == "linear"
    return all(
        _layer_keeps(model, interface, layer, kept, before, after, linear)
        for layer in range(layers_run(model, interface))
    )


def _target_as_input(model: Model, interface: Interface, before: int, kept: int, after: int) -> bool:
    """Whether positions below `kept`, of the target from `before` on, would be the same as input of length `after`."""
    if model.parameters == "separate" or model.memory != "every_layer" or kept > after:
        return False
    linear = model.mixer == "linear"
    return all(
        _layer_keeps(model, interface, layer, kept, before, after, linear or is_built_in(model.rules[layer]))
        for layer in range(layers_run(model, interface))
    )


def _layer_keeps(
    model: Model, interface: Interface, layer: int, kept: int, before: int, after: int, causal: bool
) -> bool:
    """Whether a layer's rows below `kept` see alike in both lengths, and nothing from `kept` on; `causal`: all before, too."""
    rule, window, code = model.rules[layer], model.attention_window or 0, interface.code
    facts = rule_facts(rule, code)
    if facts.random:
        return False
    if is_built_in(rule):
        alone = facts.halves and facts.window and window == 1  # a window of one looks neither back nor ahead
        is_causal = form_of(rule, layer) == "causal"
        return is_causal or (not causal and (facts.looks_back or alone))
    return _own_rule_keeps(rule, layer, model.query_heads, window, kept, before, after, causal, code)


@lru_cache(maxsize=1 << 12)
def _own_rule_keeps(
    rule: str, layer: int, heads: int, window: int, kept: int, before: int, after: int, causal: bool, code: Code
) -> bool:
    """As `_layer_keeps`, asked of the predicate pair by pair, a block of queries at a time."""
    predicate = doors.rule.load(rule, code)
    block = max(1, _PLACES_AT_ONCE // (heads * after))
    key = torch.arange(after)[None, None, :]
    for start in range(0, kept, block):
        query = torch.arange(start, min(kept, start + block))[None, :, None]
        was, is_ = (
            predicate(Place(torch.arange(heads)[:, None, None], layer, query, key, length, heads, 0, window))
            for length in (before, after)
        )
        past = key < kept
        wanted = key <= query if causal else was & past
        if bool((is_ != wanted).any()) or bool(((was != is_) & past).any()):
            return False
    return True
