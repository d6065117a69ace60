"""From a visibility rule and a position encoding to what one pass of a model needs: mask, bias and rotation of each layer.

B batch, S input, H query heads, Q queries, K keys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from paribus.models.attention import Mask, mask_of
from paribus.models.flex import (
    Flex,
    Run,
    ScoreMod,
    Structure,
    all_partial,
    distances,
    mask_mod,
    score_mod,
    structure,
    with_mask,
)
from paribus.models.layers import View
from paribus.models.linear_attention import form_for
from paribus.models.positions import RelativeBias, Rotary, alibi, rotary_table
from paribus.models.visibility import dense_mask, form_of, is_built_in, rule_facts, rule_of
from paribus.own_code import DENIED, Code
from paribus.spec.model import Model

KEPT_MASKS = 64

Backend = Literal["dense", "flex"]
"""A mask over the square of pairs, or FlexAttention over the blocks that somebody sees."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the pairs of a batch lie: positions count over input and target."""

    input_length: int
    padding: Tensor | None = None
    """(B,) empty positions before each input's first token; None where there are none."""
    seeds: Tensor | None = None
    """(B,) one of each sequence, for rules drawn per sequence."""


class Sight:
    """What the queries of a model see, pass by pass. Masks that do not depend on the batch are made once."""

    def __init__(self, model: Model, code: Code = DENIED) -> None:
        self._model, self._code = model, code
        self._random = [rule_facts(name, code).random for name in model.rules]
        self.backend: Backend = "dense"
        self._known: dict[Any, Any] = {}

    def rotary(self, start: int, length: int, device: torch.device) -> Rotary | None:
        """The rotation of positions start .. start + length - 1; None where the encoding does not rotate."""
        model = self._model
        if model.position != "rope":
            return None
        return rotary_table(model.head_size, model.rope_base, start, length, device)

    def views(
        self,
        layout: Layout,
        queries: range,
        keys: range,
        cross: bool,
        table: RelativeBias | None,
        device: torch.device,
    ) -> list[View]:
        """How each layer's queries see the keys, both ranges of positions of the pair. `cross`: in cross-attention.

        `table`: the learned biases of `t5_relative`. Target positions count from the end of the input under
        `cross_position = "restart"`, where cross-attention has neither rotation nor bias.
        """
        model, split = self._model, layout.input_length
        restarts = model.memory == "cross_attention" and model.cross_position == "restart"
        on_target, flexible = queries.start >= split, self._flexible(layout, queries, cross)
        shift = split if restarts and on_target else 0
        rotary, bias = None, None
        if not (cross and restarts):
            rotary = self.rotary(queries.start - shift, len(queries), device)
            if flexible:
                at = [torch.zeros(1, dtype=torch.long, device=device), distances(queries, keys, device)]
            else:
                at = [torch.arange(part.start - shift, part.stop - shift, device=device) for part in (queries, keys)]
            if model.position == "alibi":
                bias = alibi(model.query_heads, *at)
            elif table is not None:
                bias = table(*at, looks_ahead=not (restarts and on_target))
        run = Run.of(split, queries, keys, device) if flexible else None
        score = score_mod(bias[:, 0], run) if run and bias is not None else None
        masks: dict[Any, Mask | Flex | None] = {}
        views = []
        for layer, rule in enumerate(model.rules):
            key = self._key(layer)
            if key not in masks:
                if run:
                    masks[key] = self._flex(layer, layout, queries, keys, run, score, cross)
                else:
                    masks[key] = self._mask(layer, layout, queries, keys, device)
            own_run = queries == keys and layout.padding is None
            form = None
            if model.mixer == "linear" and own_run:
                form = form_for("causal" if on_target else form_of(rule, layer), len(queries))
            views.append(View(rotary, masks[key], None if flexible else bias, form))
        return views

    def _flexible(self, layout: Layout, queries: range, cross: bool) -> bool:
        """Whether FlexAttention computes a pass.

        Not where a single query reads all there is, nor where a rule of the user's own hides memory from the targets of a
        padded batch in cross-attention, which must know whom it hides everything from.
        """
        model = self._model
        hides = cross and layout.padding is not None and not all(map(is_built_in, model.rules))
        return self.backend == "flex" and model.mixer == "softmax" and len(queries) > 1 and not hides

    def _key(self, layer: int) -> Any:
        """Equal for layers that see alike."""
        rule = self._model.rules[layer]
        return (rule, form_of(rule, layer) if is_built_in(rule) else layer)

    def _mask(self, layer: int, layout: Layout, queries: range, keys: range, device: torch.device) -> Mask | None:
        """None where every query sees every key."""
        model, split = self._model, layout.input_length
        rule = model.rules[layer]
        if self._sees_all(rule, layout, queries, keys):
            return None
        random = self._random[layer] and (queries.start < split or not is_built_in(rule))
        seeds = layout.seeds if random else None
        # Only these know more of a position than its distance to others, so that it matters where a padded input begins.
        places = random or not is_built_in(rule)
        if seeds is not None or (places and layout.padding is not None):
            seen = dense_mask(model, layer, split, queries, keys, seeds, layout.padding, self._code)
            return mask_of(seen.to(device))
        key = (self._key(layer), split, queries, keys, device)
        made = partial(dense_mask, model, layer, split, queries, keys, code=self._code)
        mask: Mask = self._kept(key, lambda: mask_of(made().to(device)))
        if layout.padding is None:
            return mask
        there = torch.arange(keys.start, keys.stop, device=device) >= layout.padding[:, None]
        return mask_of(mask.visible & there[:, None, None, :])

    def _flex(
        self, layer: int, layout: Layout, queries: range, keys: range, run: Run, score: ScoreMod | None, cross: bool
    ) -> Flex | None:
        """As `_mask`, for FlexAttention; None where there is no bias either."""
        model, split, padding, device = self._model, layout.input_length, layout.padding, run.query.device
        rule = model.rules[layer]
        if self._sees_all(rule, layout, queries, keys):
            return None if score is None else Flex(None, score)
        drawn = self._random[layer] and (queries.start < split or not is_built_in(rule))
        # What differs from sequence to sequence has blocks that would do for any sequence; the predicate says the rest.
        bound = drawn or (not is_built_in(rule) and padding is not None)
        predicate = rule_of(model, layer, self._code)
        shape = model, layer, split, queries, keys, device
        key = ("blocks", None if bound else self._key(layer), split, queries, keys, device)
        known: Structure = self._kept(key, lambda: structure(None if bound else predicate, *shape))
        blocks, alive = known
        if padding is not None and not bound:
            blocks = self._kept((*key, "partial"), lambda: all_partial(known.blocks))
        if padding is not None and cross:
            alive = (padding < split)[:, None, None, None]
        sees = mask_mod(predicate, model, layer, run, layout.seeds if drawn else None, padding)
        return Flex(with_mask(blocks, sees), score, alive if cross else None)

    def _sees_all(self, rule: str, layout: Layout, queries: range, keys: range) -> bool:
        """Whether it is known without asking that every query sees every key: targets see the input and their own past."""
        to_memory = keys.stop <= layout.input_length
        on_target = queries.start >= layout.input_length
        return is_built_in(rule) and layout.padding is None and on_target and (to_memory or len(queries) == 1)

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What does not depend on the batch, made once."""
        if key not in self._known:
            if len(self._known) >= KEPT_MASKS:
                self._known.clear()
            with torch.inference_mode(False):  # kept for training too
                self._known[key] = make()
        return self._known[key]
