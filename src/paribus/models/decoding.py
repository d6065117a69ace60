"""How target positions that are decoded one at a time see: prepared for many of them at once, then only sliced.

Biases depend on distances alone, so those of the last position hold, moved along, for all before it. The masks of built-in
rules hide nothing but empty positions before an input. Rules of the user's own are asked at each position.
"""

import torch

from paribus.models.attention import Mask
from paribus.models.layers import View
from paribus.models.positions import RelativeBias
from paribus.models.sight import Layout, Sight
from paribus.models.visibility import is_built_in
from paribus.spec.model import Model

Views = tuple[list[View], list[View] | list[None]]
"""Of each layer: of its merged or self-attention, and of its cross-attention where it has one that reads something."""


class Steps:
    """The views of target positions, one at a time."""

    def __init__(
        self,
        model: Model,
        sight: Sight,
        layout: Layout,
        positions: range,
        crosses: bool,
        table: RelativeBias | None,
        device: torch.device,
    ) -> None:
        """`positions` of the pair, all in the target. `crosses`: an input is read in cross-attention."""
        self.positions = positions
        self._model, self._sight, self._layout, self._crosses = model, sight, layout, crosses
        self._table, self._device = table, device
        self._own_rules = not all(map(is_built_in, model.rules))
        if self._own_rules:
            return
        split, last = layout.input_length, positions.stop - 1
        restarts = crosses and model.cross_position == "restart"
        self._rotary = sight.rotary(positions.start - (split if restarts else 0), len(positions), device)
        self._cross_rotary = None if restarts else self._rotary
        self._own = self._views(last, False, range(self._first(last), last + 1))[0]
        if crosses:
            self._cross = self._views(last, True, range(split))[0]
            self._distances = self._views(last, True, range(last + 1))[0].bias

    def at(self, position: int) -> Views:
        """How the target position at `position` of the pair sees, in each layer."""
        layers, split = self._model.layers, self._layout.input_length
        first = self._first(position)
        if self._own_rules:
            cross = self._views(position, True, range(split)) if self._crosses else [None] * layers
            return self._views(position, False, range(first, position + 1)), cross
        step, to_come = position - self.positions.start, self.positions.stop - 1 - position
        keys = position + 1 - first
        mask, bias = self._own.mask, self._own.bias
        assert mask is None or isinstance(mask, Mask)
        rotary = None if self._rotary is None else (self._rotary[0][step : step + 1], self._rotary[1][step : step + 1])
        view = View(
            rotary,
            # A lone position always sees itself: what linear attention kept of others holds no empty ones.
            None if mask is None or self._model.mixer == "linear" else Mask(mask.visible[..., :keys]),
            None if bias is None else bias[..., to_come : to_come + keys],
        )
        if not self._crosses:
            return [view] * layers, [None] * layers
        bias = None if self._distances is None else self._distances[..., to_come : to_come + split]
        crossed = View(None if self._cross_rotary is None else rotary, self._cross.mask, bias)
        return [view] * layers, [crossed] * layers

    def _first(self, position: int) -> int:
        """The first key of merged or self-attention, where it is read as keys."""
        if self._model.mixer == "linear":
            return position
        return self._layout.input_length if self._model.memory == "cross_attention" else 0

    def _views(self, position: int, cross: bool, keys: range) -> list[View]:
        queries = range(position, position + 1)
        return self._sight.views(self._layout, queries, keys, cross, self._table, self._device)
