"""Every mistake in a study gives one line that names the file, the key, the value and what would be right."""

import re
from pathlib import Path

import pytest

from paribus.errors import StudyError
from paribus.study import spec
from paribus.study.checks import check_study
from paribus.study.plan import build_plan
from paribus.study.reading import load_study, study_from

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
    "no room for a target": ("[objective]\nsplits = [0.999]", "objective.splits = [0.999]", "window of 256"),
    "less than a step": ('[training]\ntokens = "1k"', "training.tokens = 1000", "at least 2048"),
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(source: str | Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(source, overrides)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    return line


def test_the_good_study_is_good(folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD)
    assert list(load_study("my.toml").arm) == ["gpt", "unilm"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake: str, folder: Path) -> None:
    change, key, words = MISTAKES[mistake]
    (folder / "my.toml").write_text(spoiled(change), encoding="utf-8")
    line = refused("my.toml")
    assert line.startswith("my.toml: ")
    assert key in line
    assert words in line


@pytest.mark.parametrize("mistake", ["odd head size", "repeated seed", "claim names no arm", "arm outside vary"])
def test_tables_from_python_get_the_same_checks(mistake: str) -> None:
    import tomllib

    change, key, words = MISTAKES[mistake]
    with pytest.raises(StudyError, match=re.escape(words)) as caught:
        study_from(tomllib.loads(spoiled(change)), "notebook")
    assert str(caught.value).startswith("notebook: ")
    assert key in str(caught.value)


def test_a_study_built_from_python_objects_is_checked_before_it_is_planned() -> None:
    study = spec.Study(question="q", vary=[], arm={"a": {}, "b": {"model.width": 64}})
    for check in (check_study, build_plan):
        with pytest.raises(StudyError, match=r"study: arm\.b\.model\.width = 64: arms may differ in nothing"):
            check(study)


def test_several_mistakes_are_counted(folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD.replace("margin", "margn") + "[model]\nwidht = 1\nlayers = 0\n")
    assert refused("my.toml").endswith("(and 3 more to mend)")


def test_the_same_mistake_of_all_arms_is_told_once(folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD + "[training]\ntokens = 5\n")
    assert "more to mend" not in refused("my.toml")


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.widht=64", "--set: model.widht = 64: no such field; did you mean model.width?"),
        ("arm.gtp.model.heads=2", "--set: arm.gtp: no such arm; did you mean arm.gpt?"),
        ("claim.1.margin=1", "--set: claim.1: claim has 1 entry, numbered from 0"),
        ("seeds.first=1", '--set: seeds = {"first": 1}: should be a number of seeds'),
        ("question.a=1", '--set: question.a: question = "Does it?" is a value, so it has no fields'),
        ("model.layers", '--set "model.layers": should be FIELD=VALUE'),
        ("a..b=1", '--set "a..b=1": should be FIELD=VALUE'),
        ("seeds=[1", "not valid TOML"),
        ("extends=decoder-only", "--set: extends: belongs at the top of a study file"),
        ("model.layers=four", "--set: model.layers = "),
    ],
)
def test_a_bad_override_is_named_as_an_override(override: str, words: str, folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD)
    assert words in refused("my.toml", (override,))


def test_a_mistake_in_an_extended_file_names_that_file(folder: Path) -> None:
    (folder / "parent.toml").write_text(GOOD + "[model]\nwidht = 3\n")
    (folder / "child.toml").write_text('extends = "parent.toml"\n[training]\nbatch = 4\n')
    assert refused("child.toml").startswith("parent.toml: model.widht")
    (folder / "parent.toml").write_text(GOOD)
    (folder / "child.toml").write_text('extends = "parent.toml"\n[training]\nbtach = 4\n')
    assert refused("child.toml").startswith("child.toml: training.btach")


@pytest.mark.parametrize(
    "content, words",
    [
        (b'question = "\xff"', "line 1 is not UTF-8 text"),
        (b"\n" * 1_000_001, "more than 1 MB"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"\x00", "not valid TOML"),
        (b"", "question: missing"),
        (b'extends = "bad.toml"', "goes in a circle: bad.toml -> bad.toml"),
        (b"extends = 3", "extends = 3: should be a built-in name or a TOML file"),
        (b'extends = "decoder-onyl"', 'extends = "decoder-onyl": no such study; did you mean decoder-only?'),
    ],
)
def test_a_file_that_is_no_study_is_told_in_one_line(content: bytes, words: str, folder: Path) -> None:
    (folder / "bad.toml").write_bytes(content)
    line = refused("bad.toml")
    assert line.startswith("bad.toml: ")
    assert words in line


@pytest.mark.parametrize(
    "source, words",
    [
        ("decoder-onyl", "did you mean decoder-only?"),
        ("my", "did you mean my.toml?"),
        ("myy.toml", "did you mean my.toml?"),
        ("nothing-like-it", 'built in are "decoder-only"'),
        (".", "a folder; a study is a TOML file, such as my.toml"),
        ("", "empty"),
        ("x" * 5000, "no such study"),
        ("a\nb", "no such study"),
        ("a\0b", "no such study"),
        ("/dev/null", "not a file"),
    ],
)
def test_a_missing_study_suggests_what_is_near(source: str, words: str, folder: Path) -> None:
    (folder / "my.toml").write_text(GOOD)
    assert words in refused(source)
