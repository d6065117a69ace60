"""Studies for tests: a good one, mistakes in it, and drawn ones."""

from typing import Any

from hypothesis import strategies as st

GOOD = """
question = "Does it?"
vary = ["model.input_attention", "model.heads", "model.layers"]

[arm.gpt]
model.input_attention = "causal"

[arm.unilm]
model.input_attention = "bidirectional"

[[claim]]
says = "It does"
arm = "unilm"
against = "gpt"
expect = "better"
margin = 0.01
"""

# What is written instead of or after the good study, the key that must be named, and words that must be there.
MISTAKES = {
    "one matching twice": (
        (
            "question",
            'match = ["parameters", { quantity = "parameters", knob = ["layers", "feed_forward"] }]\nquestion',
        ),
        "match",
        "parameters by feed_forward is there twice; leave one out",
    ),
    "two quantities of which one is missing": (
        ("question", 'match = [{ quantities = ["parameters"] }]\nquestion'),
        "match.0.quantities",
        "should have 2 entries",
    ),
    "a word for a truth value": (
        ("question", 'common_values = "often"\nquestion'),
        "common_values",
        "should be true or false",
    ),
    "unknown key in a section": ("[model]\nwidht = 64", "model.widht = 64", "did you mean model.width?"),
    "unknown section": ("[modle]\nwidth = 64", "modle", "did you mean model?"),
    "field at the top instead of its section": (("question", "width = 64\nquestion"), "width = 64", "model.width"),
    "misspelled required key": (("question", "questoin"), "questoin", "did you mean question?"),
    "missing required key": (("question = ", "about = "), "question: missing", "in one sentence"),
    "unknown key in a claim": (("margin", "margn"), "claim.0.margn = 0.01", "did you mean margin?"),
    "unknown key in an arm": (
        ("model.input_attention =", "model.input_atention ="),
        "arm.gpt.model",
        "model.input_attention?",
    ),
    "arm key without its section": (
        ("model.input_attention =", "input_attention ="),
        "arm.gpt.input",
        "model.input_attention?",
    ),
    "text for a number": ('[model]\nlayers = "four"', 'model.layers = "four"', "whole number above 0"),
    "fraction for a whole number": ("[model]\nlayers = 4.5", "model.layers = 4.5", "whole number"),
    "fraction written as text": ('[training]\ntokens = "1.5"', 'training.tokens = "1.5"', "whole number"),
    "truth value for a number": ("[model]\nlayers = true", "model.layers = true", "whole number"),
    "number as text": ('[training]\nlearning_rate = "1e-3"', 'training.learning_rate = "1e-3"', "without quotes"),
    "not finite": ("[training]\nlearning_rate = inf", "training.learning_rate", "finite"),
    "too small": ("[model]\nlayers = 0", "model.layers = 0", "above 0"),
    "too many": ("[model]\nlayers = 5000", "model.layers = 5000", "at most 1000"),
    "too large": ("[data]\ntest_fraction = 0.9", "data.test_fraction = 0.9", "below 0.5"),
    "near miss of a choice": ('[model]\nmemory = "final"', 'model.memory = "final"', 'did you mean "final_layer"?'),
    "value for a table": (("question", "model = 3\nquestion"), "model = 3", "[model]"),
    "odd head size": ("[model]\nhead_size = 31", "model.head_size = 31", "use 32"),
    "width no multiple of head size": ("[model]\nwidth = 100", "model.width = 100", "such as 96"),
    "kv heads that do not divide": ("[model]\nkv_heads = 3", "model.kv_heads = 3", "[1, 2, 4]"),
    "impossible only in an arm": (
        ("[[claim]]", "model.heads = 3\n[model]\nkv_heads = 2\n[[claim]]"),
        "model.kv_heads = 2",
        '"unilm"',
    ),
    "arm's own impossible value": (("[[claim]]", "model.heads = 0\n[[claim]]"), "arm.unilm.model.heads = 0", "above 0"),
    "odd heads, half ahead": (
        ('"bidirectional"', '"forward_backward_heads"\nmodel.heads = 3'),
        'arm.unilm.model.input_attention = "forward_backward_heads"',
        "even, not 3",
    ),
    "arm outside vary": (
        ("[[claim]]", "model.width = 64\n[[claim]]"),
        "arm.unilm.model.width = 64",
        'add "model.width" to vary',
    ),
    "arm sets the data": (
        ("[[claim]]", "data.window = 64\n[[claim]]"),
        "arm.unilm.data.window = 64",
        "read the same text",
    ),
    "arm sets the study's key": (("[[claim]]", "seeds = 2\n[[claim]]"), "arm.unilm.seeds = 2", "the study's own"),
    "vary no field": (("model.heads", "model.haeds"), 'vary.1 = "model.haeds"', 'did you mean "model.heads"?'),
    "vary a section": (('"model.heads"', '"model"'), 'vary.1 = "model"', "no such field"),
    "vary the data": (("model.heads", "data.window"), 'vary.1 = "data.window"', "leave it out"),
    "vary what trials run on": (
        ("model.heads", "training.dtype"),
        'vary.1 = "training.dtype"',
        "all trials of a study run alike",
    ),
    "vary twice": (("model.heads", "model.layers"), 'vary.2 = "model.layers"', "twice"),
    "hold no quantity": (
        ("vary", 'hold = ["train_flop"]\nvary'),
        'hold.0 = "train_flop"',
        'did you mean "train_flops"?',
    ),
    "hold tolerance without percent": (
        ("vary", 'hold = ["train_flops: 5"]\nvary'),
        'hold.0 = "train_flops: 5"',
        '"train_flops: 5%"',
    ),
    "hold twice": (("vary", 'hold = ["parameters", "parameters: 1%"]\nvary'), "hold.1", "twice"),
    "claim names no arm": (('arm = "unilm"', 'arm = "unlim"'), 'claim.0.arm = "unlim"', 'did you mean "unilm"?'),
    "claim against itself": (('against = "gpt"', 'against = "unilm"'), 'claim.0.against = "unilm"', "two arms"),
    "claim varies more than the study": (
        ("margin", 'vary = ["model.width"]\nmargin'),
        "claim.0.vary.0",
        'add "model.width"',
    ),
    "claim repeated under no field": (
        ("margin", 'repeat_under = {"model.inti" = ["fan_in"]}\nmargin'),
        'claim.0.repeat_under."model.inti"',
        'did you mean "model.init"?',
    ),
    "claim repeated under what it is about": (
        ("margin", 'repeat_under = {"model.input_attention" = ["causal"]}\nmargin'),
        'claim.0.repeat_under."model.input_attention"',
        "the claim's own arms differ in it",
    ),
    "claim repeated under what it has": (
        ("margin", 'repeat_under = {"model.init" = ["fan_in"]}\nmargin'),
        '"model.init".0 = "fan_in"',
        "another value",
    ),
    "claim repeated under the impossible": (
        ("margin", 'repeat_under = {"model.head_size" = [31]}\nmargin'),
        '"model.head_size".0 = 31',
        "even",
    ),
    "repeated seed": (("vary", "seeds = [0, 1, 1]\nvary"), "seeds = [0, 1, 1]", "seed 1 is there twice"),
    "no seed": (("vary", "seeds = 0\nvary"), "seeds = 0", "a number of seeds"),
    "split repeated": ("[objective]\nsplits = [0.5, 0.5]", "objective.splits = [0.5, 0.5]", "once"),
    "split out of range": ("[objective]\nsplits = [0.5, 1.5]", "objective.splits.1 = 1.5", "below 1"),
    "weights without splits": ("[objective]\nsplit_weights = [1]", "objective.split_weights = [1]", "3 splits"),
    "a window of one token": ("[data]\nwindow = 1", "data.window = 1", "should be at least 2"),
    "no room for a target": ("[objective]\nsplits = [0.999]", "objective.splits = [0.999]", "window of 256"),
    "less than a step": ('[training]\ntokens = "1k"', "training.tokens = 1000", "at least 2048"),
    "table of positions shorter than a window": (
        '[model]\nposition = "learned"\npositions = 200',
        "model.positions = 200",
        "at least 256",
    ),
    "schedule too long": ("[training]\nwarmup = 0.9", "training.warmup = 0.9", "decay = 0.2"),
    "loss on what the input sees": ('[objective]\nloss_on = "all"', 'objective.loss_on = "all"', "lets the input see"),
    "empty question": (('"Does it?"', '""'), 'question = ""', "empty"),
    "name that does not print": (("[arm.gpt]", '[arm."g\\u001bpt"]'), "arm.", "printable"),
    "duplicate key": (("vary", 'question = "again"\nvary'), "line 3, column 19", "set twice"),
    "duplicate table": (("[arm.unilm]", "[arm.gpt]"), "line 8", "set twice"),
    "no TOML": (("vary = [", "vary = "), "line 3", "not valid TOML"),
    "open bracket": ("x = [1", "not valid TOML", "my.toml"),
}


def spoiled(change: str | tuple[str, str]) -> str:
    if isinstance(change, str):
        return f"{GOOD}\n{change}\n"
    assert change[0] in GOOD
    return GOOD.replace(change[0], change[1], 1)


names = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12).filter(
    lambda name: bool(name.strip()) and name.isprintable()
)


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """Tables of a valid study with arms of any name, drawn sizes, seeds and claims."""
    arms = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    attention = ["causal", "bidirectional", "anticausal", "forward_backward_heads"]
    return {
        "question": draw(st.text(min_size=1)),
        "vary": ["model.input_attention", "model.layers"],
        "hold": draw(st.lists(st.sampled_from(["parameters", "seen_tokens", "train_flops: 2.5%"]), unique=True)),
        "seeds": draw(st.integers(1, 9) | st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)),
        "model": {"head_size": 2 * draw(st.integers(1, 9)), "heads": 2, "layers": draw(st.integers(1, 9))},
        "training": {"tokens": draw(st.sampled_from(["2M", "0.5M", 300_000, 1e6])), "learning_rate": 1},
        "arm": {name: {"model": {"input_attention": draw(st.sampled_from(attention))}} for name in arms},
        "claim": [
            {"says": "s", "arm": arms[0], "against": arms[1], "expect": "equal", "margin": draw(st.floats(0.001, 9))}
        ],
    }
