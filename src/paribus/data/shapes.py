"""How much of a window is input and how much target: the few shapes of pairs that an objective yields, as arithmetic.

A batch has one shape, so that shapes repeat. Windows that are cut in two (`lm`, `prefix_lm`) may be shorter than W + 1 tokens,
where their document is. Windows that are corrupted (`span_corruption`, `mlm`, `ul2`) are always full: documents shorter than
the budget of W tokens are read within half of it, a quarter and so on, down to 8 tokens, each document within the largest
budget that it fills. So text made of sentences is read too, and a pair never has more than W tokens, input and target
together. Pairs of input and target text (`pairs`) have the shapes of their documents.
"""

from typing import NamedTuple

from paribus.spec.objective import SHORTEST, Objective

MODES = ("R", "S", "X")
"""UL2's modes: regular, sequential and extreme denoising."""
MODES_FROM = 2
"""Special tokens before those of the modes: the start of a target and [MASK]."""
SENTINELS_FROM = MODES_FROM + len(MODES)
"""Special tokens before the sentinels."""


class Tiling(NamedTuple):
    """How documents of a range of lengths are cut into windows."""

    least: int
    """Tokens of such a document, at least."""
    below: int | None
    """And fewer than this."""
    stride: int
    """Tokens from one tile to the next."""
    tokens: int
    """Tokens of a tile; fewer only where `least` is less."""

    @property
    def whole(self) -> bool:
        """Whether all tiles have `tokens` tokens."""
        return self.least >= self.tokens


class Shape(NamedTuple):
    """A shape of pairs."""

    kind: int
    """Of the objective's kinds (split points, denoisers), from 0 on; each has a shape for each tiling."""
    share: float
    """How probable its kind is."""
    tiling: Tiling
    least: int
    """Tokens that a window needs."""
    tokens: int
    """Tokens of text read, at most."""
    input: int
    """Input tokens S."""
    target: int
    """Target tokens fed T, of a full window."""
    noise: int = 0
    """Tokens of text that are cut out or chosen."""
    spans: int = 0
    """Spans that are cut out."""
    mode: str | None = None
    """One of `MODES`."""


def shapes_of(objective: Objective, window: int) -> list[Shape]:
    """The shapes of an objective on windows of W tokens; none where documents have their own (`pairs`)."""
    name = objective.name
    if name == "pairs":
        return []
    if name in ("lm", "prefix_lm"):
        tiling = Tiling(2, None, window, window + 1)
        lengths = {0: 1.0} if name == "lm" else _input_lengths(objective.splits, objective.split_weights, window)
        return [
            Shape(kind, share, tiling, length + 2, window + 1, length, window - length)
            for kind, (length, share) in enumerate(lengths.items())
        ]
    if name == "mlm":
        return [_masked(tiling, objective.noise_density) for tiling in _budgets(window)]
    if name == "span_corruption":
        density, mean = objective.noise_density, objective.mean_span
        return [_corrupted(0, 1.0, tiling, density, mean, None) for tiling in _budgets(window)]
    weights = objective.proportions or [1.0] * len(objective.denoisers)
    return [
        _corrupted(kind, weight / sum(weights), tiling, density, mean, mode)
        for kind, (mode, density, mean, weight) in enumerate(
            zip(objective.denoisers, objective.densities, objective.mean_spans, weights, strict=True)
        )
        for tiling in _budgets(window)
    ]


def special_tokens_of(objective: Objective, window: int) -> int:
    """Special tokens that an objective needs on windows of W tokens: the first so many of `data.specials`."""
    if objective.name in ("lm", "prefix_lm"):
        return 0
    if objective.name == "pairs":
        return 1
    if objective.name == "mlm":
        return MODES_FROM
    return SENTINELS_FROM + 1 + max(shape.spans for shape in shapes_of(objective, window))


def cut_shapes(splits: list[float], weights: list[float] | None, window: int) -> list[Shape]:
    """The shapes of windows of W tokens that are cut at `splits`."""
    return shapes_of(Objective(splits=splits, split_weights=weights), window)


def noise_of(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """Tokens to cut out of `length`, and spans: as T5 rounds them (`random_spans_noise_mask` of its code)."""
    noise = min(max(round(length * density), 1), length - 1)
    spans = max(round(noise / mean_span), 1)
    return noise, min(spans, noise, length - noise)


def _input_lengths(splits: list[float], weights: list[float] | None, window: int) -> dict[int, float]:
    """Lengths of the input, in tokens, and how probable each is; at least one position is left to the target."""
    weights = weights or [1.0] * len(splits)
    lengths: dict[int, float] = {}
    for share, weight in sorted(zip(splits, weights, strict=True)):
        length = min(round(share * window), window - 1)
        lengths[length] = lengths.get(length, 0.0) + weight / sum(weights)
    return lengths


def _budgets(window: int) -> list[Tiling]:
    tilings, below, budget = [], None, window
    while budget >= SHORTEST:
        tilings.append(Tiling(budget, below, budget, budget))
        below, budget = budget, budget // 2
    return tilings


def _masked(tiling: Tiling, density: float) -> Shape:
    length = tiling.tokens
    return Shape(0, 1.0, tiling, length, length, length, 0, noise=max(1, round(length * density)))


def _corrupted(kind: int, share: float, tiling: Tiling, density: float, mean: float, mode: str | None) -> Shape:
    """The longest text whose input and target fit the tiling's budget."""
    for length in range(tiling.tokens, 1, -1):
        noise, spans = (noise_of(length, density, length)) if mode == "S" else noise_of(length, density, mean)
        inputs, target = length - noise + spans + (mode is not None), noise + spans + 1
        if inputs + target <= tiling.tokens:
            return Shape(kind, share, tiling, tiling.tokens, length, inputs, target, noise, spans, mode)
    raise ValueError(f"a budget of {tiling.tokens} tokens is too small to corrupt")
