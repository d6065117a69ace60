"""Linear attention (arXiv 2006.16236): softmax's kernel replaced by a product of features, under any visibility.

    out_q = sum_k M_qk (R_q f(q)) . (R_k f(k)) v_k  /  sum_k M_qk f(q) . f(k)

M is the mask, f the feature map, R the rotation of rotary positions, which stands in the numerator alone (arXiv 2104.09864,
section 3.3). Keys that all queries see are kept as a state whose size does not depend on their number:
sum_k (R_k f(k)) v_k^T and sum_k f(k). Under masks with a name (`Form`) long runs of positions are read through such states,
a chunk at a time, instead of the square of pairs.

B batch, H query heads, G key heads, Q queries, K keys, d head size.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from paribus.models.attention import Mask, grouped
from paribus.models.positions import Rotary, rotate

Form = Literal["causal", "anticausal", "bidirectional", "forward_backward"] | None
"""Masks between the states' own positions that need no square: `forward_backward` is causal in the first half of the heads,
anticausal in the others."""

CHUNK = 64
"""Positions whose square of pairs is computed at once."""
EPSILON = 1e-6
"""Added to the denominator: a query that sees nothing reads zero."""
RELU_FLOOR = 1e-3
"""Added to relu features, as in the code of arXiv 2009.14794. Without it the features of a query and of a key may have no
place in common; rotated they have, and the numerator is divided by next to nothing."""

State = tuple[Tensor, ...]


def feature_map(x: Tensor, name: str) -> Tensor:
    """The features of x (..., d), not negative, (..., d) float32."""
    x = x.float()
    if name == "elu":
        return F.elu(x) + 1  # arXiv 2006.16236, equation 7
    return F.relu(x) + RELU_FLOOR if name == "relu" else x.softmax(-1)  # arXiv 2402.04347, section 4.2


def linear_features(x: Tensor, rotary: Rotary | None, name: str) -> tuple[Tensor, Tensor]:
    """Rotated and plain features of queries or keys x (B, heads, T, d), both float32."""
    plain = feature_map(x, name)
    return rotate(plain, rotary), plain


def linear_state(entries: State, present: Tensor | None) -> State:
    """The state (B, G, d, d) and (B, G, d) of keys: `entries` are rotated and plain features and values (B, G, K, d).

    `present` (B, K): keys that count; None if all do.
    """
    rotated, plain, value = entries
    if present is not None:
        here = present[:, None, :, None]
        rotated, plain = rotated * here, plain * here
    return rotated.transpose(-1, -2) @ value.float(), plain.sum(2)


def linear_read(
    query: tuple[Tensor, Tensor], before: State | None, own: State | None, mask: Mask | None, form: Form
) -> Tensor:
    """What queries (rotated and plain features, (B, H, Q, d)) read of a state and of their own positions' entries.

    All of `before` is visible; `own` as `mask` says (None: all), or, if there is one, as `form` says. Returns (B, H, Q, d) in
    the values' type.
    """
    heads = query[0].shape[1]
    above, below = _read_state(query, before, heads) if before is not None else (None, None)
    dtype = torch.float32
    if own is not None:
        dtype = own[2].dtype
        keys = tuple(grouped(part.float(), heads) for part in own)
        parts = _by_form(query, keys, form) if form else _square(query, keys, mask)
        above, below = parts if above is None or below is None else (above + parts[0], below + parts[1])
    assert above is not None
    assert below is not None
    return (above / (below + EPSILON)).to(dtype)


def _read_state(query: tuple[Tensor, Tensor], state: State, heads: int) -> tuple[Tensor, Tensor]:
    """Numerator (B, H, Q, d) and denominator (B, H, Q, 1) of what a state (of G heads) holds."""
    outer, total = (grouped(part, heads) if part.ndim == 4 else grouped(part[..., None], heads) for part in state)
    return query[0] @ outer, query[1] @ total


def _square(query: tuple[Tensor, Tensor], keys: State, mask: Mask | None) -> tuple[Tensor, Tensor]:
    rotated, plain = (q @ k.transpose(-1, -2) for q, k in zip(query, keys[:2], strict=True))
    if mask is not None:
        rotated, plain = rotated * mask.visible, plain * mask.visible
    return rotated @ keys[2], plain.sum(-1, keepdim=True)


def _by_form(query: tuple[Tensor, Tensor], keys: State, form: Form) -> tuple[Tensor, Tensor]:
    if form == "bidirectional":
        return _read_state(query, linear_state(keys, None), query[0].shape[1])
    if form == "forward_backward":
        half = query[0].shape[1] // 2
        first = _by_form((query[0][:, :half], query[1][:, :half]), tuple(part[:, :half] for part in keys), "causal")
        second = _by_form(
            (query[0][:, half:], query[1][:, half:]), tuple(part[:, half:] for part in keys), "anticausal"
        )
        return torch.cat([first[0], second[0]], 1), torch.cat([first[1], second[1]], 1)
    if form == "anticausal":
        turned = _causal((query[0].flip(2), query[1].flip(2)), tuple(part.flip(2) for part in keys))
        return turned[0].flip(2), turned[1].flip(2)
    return _causal(query, keys)


def _causal(query: tuple[Tensor, Tensor], keys: State) -> tuple[Tensor, Tensor]:
    """Chunk by chunk: the square inside a chunk, and the state of the chunks before it."""
    batch, heads, length, size = query[0].shape
    chunks = -(-length // CHUNK)

    def cut(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, chunks * CHUNK - length)).view(batch, heads, chunks, CHUNK, size)

    rotated_query, plain_query = cut(query[0]), cut(query[1])
    rotated, plain, value = (cut(part) for part in keys)
    triangle = torch.ones(CHUNK, CHUNK, device=value.device).tril()
    above = ((rotated_query @ rotated.transpose(-1, -2)) * triangle) @ value
    below = ((plain_query @ plain.transpose(-1, -2)) * triangle).sum(-1, keepdim=True)
    outer, total = rotated.transpose(-1, -2) @ value, plain.sum(3)
    # The state before each chunk: the sum over those to its left. (A sum over all up to it, less itself, would round with
    # what lies ahead, and so let its bits through.)
    above = above + rotated_query @ F.pad(outer[:, :, :-1], (0, 0, 0, 0, 1, 0)).cumsum(2)
    below = below + plain_query @ F.pad(total[:, :, :-1], (0, 0, 1, 0)).cumsum(2)[..., None]
    return above.flatten(2, 3)[:, :, :length], below.flatten(2, 3)[:, :, :length]


def form_for(form: str | None, length: int) -> Form:
    """The form in which positions of one run read each other, of a mask that has one; None: as a square.

    Short runs are cheaper as a square.
    """
    return form if length > CHUNK else None  # type: ignore[return-value]
