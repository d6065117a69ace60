"""How text that a user writes becomes what an arm was trained to go on from: an input, and the first tokens of a target.

- `lm`: no input; the text is the beginning of the target.
- `prefix_lm`: the text is the input but for its last token, which is the given first one of the target.
- `pairs`: the text is the input; the target begins with the start token.
- `span_corruption`: the text and sentinel 0 are the input; the target begins with the start token and sentinel 0, and ends
  where the next sentinel would come. `ul2`: the same after the token of mode S.
- `mlm`: the text is the input, in which `<|mask|>` stands for what is to be filled in. There is no target.
"""

import re
from typing import NamedTuple

from paribus.data.specials import Specials
from paribus.data.tokenizer import Tokenizer
from paribus.errors import UserError
from paribus.spec.objective import Objective

MASK = "<|mask|>"
"""How [MASK] is written in a text."""


class Prompt(NamedTuple):
    """What a model is given, and what ends its answer."""

    input: tuple[int, ...]
    """Tokens of the input."""
    given: tuple[int, ...]
    """First tokens of the target; none where there is no target side."""
    stop: frozenset[int]
    """Tokens of which the first one generated ends the target."""


def prompt_of(section: Objective, text: str, tokenizer: Tokenizer, specials: Specials) -> Prompt:
    """The prompt that `text` is to an arm trained on the objective `section`.

    Raises UserError in one line where the objective needs some text, or a mask in it, and there is none.
    """
    name = section.name
    if name == "mlm":
        tokens = _with_masks(text, tokenizer, specials.mask)
        if specials.mask not in tokens:
            raise UserError(f"nothing to fill in: an arm trained on mlm fills each {MASK} written in the text")
    else:
        tokens = _tokens(text, tokenizer)
        if not tokens and name in ("lm", "prefix_lm"):
            raise UserError(f"the text is empty: an arm trained on {name} continues a text and needs its beginning")
        if not tokens and name == "pairs":
            raise UserError("the text is empty: an arm trained on pairs answers an input")
    return prompt_from(section, tokens, tokenizer.end, specials)


def prompt_from(section: Objective, tokens: tuple[int, ...], end: int, specials: Specials) -> Prompt:
    """The prompt that the tokens of a text are, masks in them included; `end` is the token that ends a document."""
    name, stop = section.name, frozenset({end})
    if name == "mlm":
        return Prompt(tokens, (), frozenset())
    if name in ("lm", "prefix_lm"):
        return Prompt((), tokens, stop) if name == "lm" else Prompt(tokens[:-1], tokens[-1:], stop)
    if name == "pairs":
        return Prompt(tokens, (specials.start,), stop)
    mode = (specials.mode("S"),) if name == "ul2" else ()
    sentinel = specials.sentinel(0)
    sentinels = range(sentinel, specials.first + specials.count)
    return Prompt((*mode, *tokens, sentinel), (specials.start, sentinel), stop | frozenset(sentinels))


def _tokens(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode(text).tolist())
    except UnicodeEncodeError as error:
        raise UserError("the text is not UTF-8: it holds half a surrogate pair") from error


def _with_masks(text: str, tokenizer: Tokenizer, mask: int) -> tuple[int, ...]:
    """Tokens of a text with masks. Blanks before a mask belong to what it stands for, as in training."""
    first, *others = re.split(rf"\s*{re.escape(MASK)}", text)
    tokens = _tokens(first, tokenizer)
    for part in others:
        tokens += (mask, *_tokens(part, tokenizer))
    return tokens
