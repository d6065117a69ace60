"""Who sees whom, written once more: one (query, key) at a time, from the rules' descriptions; and what follows from it.

B batch, S input, T target.
"""

from functools import lru_cache

import numpy as np

from settings import Case

WORD = 2**32


def scattered(value: int) -> int:
    """The mixing of 32 bits that drawn rules share with the library; the rest is written anew."""
    for _ in range(2):
        value = (value ^ (value >> 16)) * 0x45D9F3B % WORD
    return value ^ (value >> 16)


def in_order(seed: int, length: int) -> list[int]:
    """The positions of an input in the random order of its sequence."""
    return sorted(range(length), key=lambda at: (scattered(scattered(at + 1) ^ scattered(seed)), at))


def coin(seed: int, query: int, key: int) -> bool:
    return scattered(scattered(scattered(query + 1) ^ scattered(seed)) ^ (key + 0x5BD1E995)) % 2 == 1


def sees(rule: str, layer: int, second_half: bool, query: int, key: int, length: int, seed: int, window: int) -> bool:
    """Whether one input position sees another."""
    if rule.endswith("_heads"):
        rule = rule.removesuffix("_heads")
        if rule == "random_half":
            return query == key or coin(seed, query, key) != second_half
        if rule == "forward_backward":
            rule = "causal"
        if second_half:  # the complement turns the order round
            query, key = key, query
    if rule == "forward_backward_layers":
        rule = ("causal", "anticausal")[layer % 2]
    if rule == "permuted_triangle":
        order = in_order(seed, length)
        return order.index(key) <= order.index(query)
    return {
        "causal": key <= query,
        "bidirectional": True,
        "anticausal": key >= query,
        "strict_triangle": key < query,
        "random_half": query == key or coin(seed, query, key),
        "window": key in range(query - window + 1, query + 1),
    }[rule]


@lru_cache(maxsize=4096)
def mask(rule: str, layer: int, heads: int, length: int, target: int, seed: int, window: int) -> np.ndarray:
    """(heads, S + T, S + T), True where the query sees the key."""
    whole = length + target
    out = np.zeros((heads, whole, whole), bool)
    for head, query, key in np.ndindex(out.shape):
        if query >= length:
            out[head, query, key] = key <= query
        elif key < length:
            out[head, query, key] = sees(rule, layer, head >= heads // 2, query, key, length, seed, window)
    return out


def masks(case: Case) -> np.ndarray:
    """(layers, B, S + T, S + T), whether any head sees; empty positions are seen by nobody and see nobody."""
    model, source, target = case.model, case.input.shape[1], case.target.shape[1]
    out = np.zeros((model.layers, 2, source + target, source + target), bool)
    for layer, rule in enumerate(model.rules):
        for row in range(2):
            empty = 0 if case.padding is None else int(case.padding[row])
            seed, window = int(case.seeds[row]), model.attention_window or 0
            alone = mask(rule, layer, model.query_heads, source - empty, target, seed, window)
            out[layer, row, empty:, empty:] = alone.any(0)
    return out


def reach(case: Case) -> np.ndarray:
    """(B, S + T, S + T): which token each position's last state depends on, through all layers and the residual stream."""
    source, seen = case.input.shape[1], masks(case)
    at_input = [np.broadcast_to(np.eye(source, dtype=bool), (2, source, source))]
    for layer in seen[:, :, :source, :source]:
        at_input.append(at_input[-1] | (layer @ at_input[-1]))
    own = np.eye(seen.shape[-1], dtype=bool)[source:]
    state = np.broadcast_to(own, (2, *own.shape))
    for index, layer in enumerate(seen[:, :, source:]):
        memory = at_input[index if case.model.memory == "every_layer" else -1]
        read = layer[:, :, source:] @ state
        read[:, :, :source] |= layer[:, :, :source] @ memory
        state = state | read
    whole = np.concatenate([np.pad(at_input[-1], ((0, 0), (0, 0), (0, state.shape[1]))), state], 1)
    assert whole.shape == seen.shape[1:]
    return whole
