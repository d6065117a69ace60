"""How a model knows where a token stands. One encoding per value of `model.position`, the same in every setting of the switches.

Positions run on from input to target (`cross_position = "continue"`), or restart at 0 with the target ("restart", T5's own
way: then cross-attention knows no positions at all). Rotations and biases see only differences of positions, so they are
defined at any length; a learned table ends at `model.positions`.

B batch, T positions, H heads, D width, d head size.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from paribus.errors import UserError
from paribus.spec.model import Model

Rotary = tuple[Tensor, Tensor]

TABLE_STD = 0.02
"""Standard deviation of embeddings, and of tables of positions, at the start."""


@lru_cache(maxsize=64)
def rotary_table(head_size: int, base: float, start: int, length: int, device: torch.device) -> Rotary:
    """Cosines and sines of positions start .. start + length - 1, each (length, head_size / 2), float32."""
    with torch.inference_mode(False):  # kept for training too
        frequency = base ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
        angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequency
        return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(x: Tensor, rotary: Rotary | None) -> Tensor:
    """Rotate the pairs (i, i + d/2) of x (B, heads, T, d) by its positions' angles (arXiv 2104.09864, Llama's layout)."""
    if rotary is None:
        return x
    cos, sin = rotary
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions (...) to (..., width), interleaved (arXiv 1706.03762, 3.5), of amplitude `TABLE_STD`.

    There embeddings start, multiplied by sqrt(D) (3.4), with a standard deviation of 1, beside sinusoids of amplitude 1. Here
    they start with `TABLE_STD`, so the sinusoids have that amplitude: of amplitude 1 they would drown the tokens.
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width)
    angle = positions.double()[..., None] * frequency
    return TABLE_STD * torch.stack([angle.sin(), angle.cos()], -1).flatten(-2).float()


def alibi_slopes(heads: int) -> Tensor:
    """The slopes of H heads (H,): powers of 2**(-8/n) for n heads, n a power of 2; else every other one of 2n's fills up.

    arXiv 2108.12409, section 3, and its authors' code for other numbers of heads. They are dealt to the two halves of the heads
    in turn, from the steepest on: in the order of the paper, under a rule that treats the halves apart, one half would see only
    what is near and the other only what is far.
    """
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / whole) for i in range(whole)]
    slopes += [2.0 ** (-4 * (i + 1) / whole) for i in range(0, 2 * (heads - whole), 2)]
    slopes.sort(reverse=True)
    return torch.tensor(slopes[0::2] + slopes[1::2])


def alibi(heads: int, queries: Tensor, keys: Tensor) -> Tensor:
    """Minus slope times distance: (H, Q, K). Above the diagonal, where the input looks ahead, the distance is |q - k| too.

    So a key two positions ahead is as far as one two positions back, and bidirectional and mixed heads stay comparable with
    causal ones.
    """
    distance = (queries[:, None] - keys[None, :]).abs()
    return -alibi_slopes(heads).to(queries.device)[:, None, None] * distance


def t5_bucket(relative: Tensor, buckets: int, furthest: int, looks_ahead: bool) -> Tensor:
    """The bucket of key position minus query position (arXiv 1910.10683, 2.1).

    With `looks_ahead` half of the buckets are for keys ahead. Within a half, small distances have a bucket each, larger ones
    share buckets whose width grows with the distance, up to `furthest`.
    """
    offset = torch.zeros_like(relative)
    if looks_ahead:
        buckets //= 2
        offset = (relative > 0).long() * buckets
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = buckets // 2
    scaled = (distance.clamp(min=1).float() / exact).log() / math.log(furthest / exact) * (buckets - exact)
    return offset + torch.where(distance < exact, distance, (exact + scaled.long()).clamp(max=buckets - 1))


class RelativeBias(nn.Module):
    """A learned bias of each head for each bucket of distances, used by all layers of a stack."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.buckets, self.furthest = model.position_buckets, model.position_distance
        self.weight = nn.Parameter(torch.empty(model.position_buckets, model.query_heads))

    def forward(self, queries: Tensor, keys: Tensor, looks_ahead: bool) -> Tensor:
        """Positions (Q,) and (K,) to (H, Q, K)."""
        bucket = t5_bucket(keys[None, :] - queries[:, None], self.buckets, self.furthest, looks_ahead)
        return self.weight[bucket].permute(2, 0, 1)


class AddedPositions(nn.Module):
    """Positions added to the embeddings: a learned table, or sinusoids."""

    def __init__(self, model: Model, positions: int) -> None:
        super().__init__()
        self.width = model.width
        self.learned = model.position == "learned"
        if self.learned:
            self.weight = nn.Parameter(torch.empty(model.positions or positions, model.width))

    def forward(self, start: int, length: int, padding: Tensor | None) -> Tensor:
        """What positions start .. start + length - 1 add: (length, D), or with padding (B,) before each, (B, length, D).

        Raises UserError where the sequences reach beyond the end of a learned table. In a padded batch each ends somewhere of
        its own, which nobody says here: there what lies beyond, empty positions after a target, has the last row.
        """
        device = self.weight.device if self.learned else None if padding is None else padding.device
        places = torch.arange(start, start + length, device=device)
        if padding is not None:
            places = (places - padding[:, None]).clamp(min=0)
        if not self.learned:
            return sinusoids(places, self.width)
        rows, needed = self.weight.shape[0], start + length
        if padding is None and needed > rows:
            mend = "set model.positions, or another model.position"
            raise UserError(f"learned positions end at {rows}, and {needed} are needed: {mend}")
        return self.weight[places.clamp(max=rows - 1)]
