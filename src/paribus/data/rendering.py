"""Token ids as text for the eye: ends and special tokens by name."""

import itertools
from collections.abc import Iterable

from paribus.data.specials import Specials
from paribus.data.tokenizer import END, Tokenizer


def render(ids: Iterable[int], tokenizer: Tokenizer, specials: Specials) -> str:
    """Text of token ids, with ends and special tokens by name, such as `<|mask|>`."""
    names = {tokenizer.end: END}
    names |= {specials.first + place: name for place, name in enumerate(specials.names())}
    parts = []
    for special, run in itertools.groupby(map(int, ids), key=names.__contains__):
        numbers = list(run)
        parts += [names[number] for number in numbers] if special else [tokenizer.decode(numbers)]
    return tokenizer.joint.join(parts)
