"""A study's tokenizer as the files that `AutoTokenizer` reads: text gives the same ids as in the study.

Special tokens are found in text there, as its users expect; here text that spells one is text.
"""

import json
from pathlib import Path
from typing import Any

import tokenizers

from paribus.data.specials import Specials
from paribus.data.tokenizer import Tokenizer
from paribus.errors import UserError
from paribus.files import write_json, write_text

MASK = "<|mask|>"


def write_tokenizer(folder: Path, tokenizer: Tokenizer, specials: Specials, longest: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into `folder`.

    `longest`: tokens that the model reads at most. Raises UserError where the special tokens would get other ids.
    """
    # What a tokenizer from elsewhere puts around a text ([CLS], <s>) no arm has seen.
    made = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(tokenizer.bpe.to_str()), "post_processor": None}))
    names = specials.names()
    made.add_special_tokens(names)
    ids = [made.token_to_id(name) for name in names]
    if ids != list(range(specials.first, specials.first + specials.count)):
        raise UserError(
            f"the tokenizer has ids that no token uses, so that its special tokens would not get ids from {specials.first} on"
        )
    end = made.id_to_token(tokenizer.end)
    tokens: dict[str, Any] = {"eos_token": end, "pad_token": end, "bos_token": end}
    unknown = getattr(made.model, "unk_token", None)
    if unknown:
        tokens["unk_token"] = unknown
    if MASK in names:
        tokens["mask_token"] = MASK
    others = [name for name in names if name not in tokens.values()]
    write_text(folder / "tokenizer.json", made.to_str())
    write_json(folder / "special_tokens_map.json", tokens)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "clean_up_tokenization_spaces": False,
            "add_prefix_space": False,
            "additional_special_tokens": others,
            **tokens,
        },
    )
