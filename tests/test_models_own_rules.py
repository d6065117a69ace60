"""Rules from the user's own file: trained, drawn, costed, leak-tested; a leaking one is refused before anything is spent."""

import json
import re
from pathlib import Path

import pytest
import torch

from paribus import doors
from paribus.cli.main import run_command
from paribus.costs.counting import training_flops
from paribus.errors import StudyError
from paribus.models.interface import Interface
from paribus.models.rules import Place
from paribus.models.visibility import square_mask
from paribus.own_code import OWN
from paribus.plan.building import build_plan
from paribus.plan.reading import load_study, study_from
from paribus.plan.soundness import check_rules, rule_fault
from settings import ALLOWED, LOOK_BACK, RULES, scrambled, small_model, tokens

DOCUMENT = Path(__file__).parents[1] / "docs" / "rules.md"
OVER_INPUT = "    return torch.where(at.query < at.input_length, seen & at.in_input, at.key <= at.query)\n"


def written(folder: Path, body: str, name: str = "mine") -> str:
    """A rule file; the rule as a study names it."""
    file = folder / "my_rules.py"
    file.write_text(f"import torch\n\ncalls = [0]\n\ndef {name}(at):\n" + body)
    return f"{file}:{name}"


def fault(
    folder: Path, body: str, predicts_input: bool = False, lengths: tuple[int, int] = (6, 4), **fields: object
) -> str:
    model = small_model(input_attention=written(folder, body), **fields)
    return rule_fault(model, 0, [lengths], predicts_input, ALLOWED) or "sound"


STUDY = """
question = "Does a rule of my own help?"
vary = ["model.input_attention"]
hold = []
seeds = 1
[data]
corpus = "task:copy"
examples = 400
window = 64
[model]
layers = 2
width = 16
head_size = 8
[training]
tokens = 2000
batch = 4
compile = "never"
dtype = "float32"
[evaluation]
test_windows = 16
tune_windows = 8
curve_points = 1
[objective]
name = "pairs"
[arm.gpt]
model.input_attention = "causal"
[arm.own]
model.input_attention = "my_rules.py:dilated"
[arm.mostly]
model.input_attention = ["my_rules.py:dilated", "causal"]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The example of docs/rules.md in a folder of its own, and a study that names it."""
    (tmp_path / "my_rules.py").write_text(re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0])
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    return file


def rules_of(study: Path, *overrides: str) -> dict[str, tuple[str, ...]]:
    return {arm.name: arm.config.model.rules for arm in build_plan(load_study(study, overrides)).arms}


def test_the_documents_example_sees_every_other_position(study: Path) -> None:
    arm = build_plan(load_study(study)).arm("own")
    check_rules(build_plan(load_study(study)).configs, ALLOWED)
    expected = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    assert torch.equal(square_mask(arm.config.model, 0, 3, 2, ALLOWED), expected.bool().expand(2, 5, 5))


def test_a_rules_file_is_found_beside_the_study_and_pinned_to_its_content(study: Path) -> None:
    rules = rules_of(study)
    own = rules["own"][0]
    match = OWN.fullmatch(own)
    assert match
    assert Path(match["file"]) == study.parent / "my_rules.py"
    assert match["hash"]
    assert rules["mostly"] == (own, "causal")
    assert rules_of(study, "arm.gpt.model.input_attention=my_rules.py:dilated")["gpt"] == (own, own)
    before = [trial.id for trial in build_plan(load_study(study)).trials]
    (study.parent / "my_rules.py").write_text("\n" + (study.parent / "my_rules.py").read_text())
    after = [trial.id for trial in build_plan(load_study(study)).trials]
    assert before[0] == after[0], "a trial without the rule stays what it is"
    assert before[1] != after[1]
    assert before[2] != after[2]


def test_a_process_that_finds_the_file_changed_refuses_it(study: Path) -> None:
    own = rules_of(study)["own"][0]
    (study.parent / "my_rules.py").write_text("def dilated(at):\n    return at.key < at.query\n")
    with pytest.raises(StudyError, match="has changed since the study was planned"):
        ALLOWED.load(own)


def test_a_file_that_ends_the_process_ends_no_study_in_silence(study: Path) -> None:
    file = study.parent / "my_rules.py"
    file.write_text("raise SystemExit(0)\n")
    with pytest.raises(StudyError, match=r"fails when it is loaded \(SystemExit: 0\)"):
        ALLOWED.load(f"{file}:dilated")


def test_a_file_that_is_not_there_is_named_with_its_key(study: Path) -> None:
    (study.parent / "my_rules.py").unlink()
    with pytest.raises(
        StudyError, match=r'study\.toml: arm\.own\.model\.input_attention = "my_rules\.py:dilated": .*cannot be read'
    ):
        load_study(study)


def test_a_study_with_a_rule_of_its_own_is_audited_run_and_drawn(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["audit", str(study)]) == 0
    shown = capsys.readouterr().out
    assert "my_rules.py:dilated" in shown
    assert "#" not in shown
    out = study.parent / "out"
    assert run_command(["run", str(study), "--out", str(out), "--workers", "1"]) == 0
    squares = json.loads((out / "visibility.json").read_text())
    assert set(squares) == {"own", "mostly"}
    first, second = squares["mostly"]
    assert first[0][2].startswith("101")
    assert second[0][2].startswith("111")
    (study.parent / "my_rules.py").unlink()  # a report needs nothing but the directory
    assert run_command(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "my_rules.py:dilated" in page
    assert not re.search(r"my_rules\.py:dilated#", page)
    assert "every head, layer 1" in page


def test_an_own_rule_is_costed_to_the_pair(tmp_path: Path) -> None:
    same = written(tmp_path, "    seen = at.key <= at.query\n" + OVER_INPUT)
    less = f"{tmp_path / 'less.py'}:mine"
    (tmp_path / "less.py").write_text("def mine(at):\n    return at.key == at.query\n")
    outside = Interface(61, target=True, code=ALLOWED)
    causal = training_flops(small_model(input_attention="causal"), outside, 5, 4)
    assert training_flops(small_model(input_attention=same), outside, 5, 4) == causal
    assert training_flops(small_model(input_attention=less), outside, 5, 4) < causal


@pytest.mark.parametrize("backend", ["dense", "flex"])
@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_memory_that_a_rule_hides_is_hidden_in_every_back_end(
    tmp_path: Path, backend: str, memory: str, padded: bool
) -> None:
    """Targets see the input's first two tokens alone: later ones change nothing."""
    body = "    return (at.key <= at.query) & ((at.query < at.input_length) | (at.key < 2) | (at.key >= at.input_length))\n"
    arm = scrambled(small_model(input_attention=written(tmp_path, body), memory=memory))
    arm.attend_with(backend)
    source, target = tokens(2, 6), tokens(2, 4, seed=1)
    padding = torch.tensor([0, 3]) if padded else None
    changed = source.clone()
    changed[0, 2:] = (changed[0, 2:] + 1) % 61
    changed[1, 5:] = (changed[1, 5:] + 1) % 61
    with torch.no_grad():
        assert torch.equal(arm(source, target, padding), arm(changed, target, padding))
        changed[:, 4] = (changed[:, 4] + 1) % 61  # the second row's second token where three are empty
        assert torch.equal(arm(source, target, padding)[1], arm(changed, target, padding)[1]) != padded


@pytest.mark.parametrize("rule", RULES)
def test_the_built_in_rules_are_sound(rule: str) -> None:
    for layer in range(2):
        model = small_model(input_attention=rule)
        assert rule_fault(model, layer, [(17, 9)], rule in LOOK_BACK) is None
        assert (rule_fault(model, layer, [(17, 9)], True) is None) == (rule in LOOK_BACK) or layer == 0


@pytest.mark.parametrize("rule", RULES)
def test_a_built_in_rule_shifted_by_one_is_not(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = doors.rule.load(rule)
    monkeypatch.setattr(doors.rule, "load", lambda *_: lambda at: right(Place(**{**vars(at), "key": at.key - 1})))
    assert "leaks: " in str(rule_fault(small_model(input_attention=rule), 0, [(5, 4)], False))


def test_a_leak_names_the_pair_the_head_and_the_layer(tmp_path: Path) -> None:
    later = "    return (at.key <= at.query) | ((at.head == 2) & (at.query == 8) & (at.key == 9))\n"
    assert fault(tmp_path, later) == (
        "leaks: a target position sees a later one, which it is to predict at (query, key) = (8, 9) in head 2 of layer 0, "
        "with 5 input and 4 target positions; all counted from 0"
    ).replace("5 input and 4", "8 input and 8")
    into_target = "    return (at.key <= at.query) | ((at.query == 3) & (at.key >= at.input_length))\n"
    assert "an input position sees the target at (query, key) = (3, 5) in head 0" in fault(tmp_path, into_target)
    far = "    return (at.key <= at.query) | ((at.query == 2000) & (at.key == 2001))\n"
    assert fault(tmp_path, far) == "sound"
    assert "(query, key) = (2000, 2001)" in fault(tmp_path, far, lengths=(1500, 600))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    return at.nothing\n", "fails in layer 0 with 0 input and 3 target positions (AttributeError: "),
        ("    return True\n", "returns 'bool'; should return a boolean tensor"),
        ("    return at.query - at.key\n", "returns a tensor of int64; should return a boolean tensor"),
        ("    return (at.key <= at.query)[..., :1, :-1]\n", "returns a shape (1, 1, 2) for (heads, queries, keys) = (4, 3, 3)"),
        ("    return torch.rand(at.query.shape[1], at.key.shape[2]) > 0.5\n", "says something else when it is asked again"),
        ("    calls[0] += 1\n    return (at.key <= at.query) & (at.key + calls[0] > 2)\n", "asked again"),
        ("    return (at.key <= at.query) & (at.key < at.key.shape[-1] - 1)\n", "asked about fewer positions"),
        ("    return at.key <= at.query if at.query.min() == 0 or 1 in at.key else at.key <= at.query\n", "(RuntimeError: "),
        ("    return (at.key <= at.query) & (range(at.input_length) is not None)\n", "not on a single head, query"),
        ("    return (at.key <= at.query) & (at.key.ndim == 3)\n", "of a single pair than of many"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_said_in_one_line(tmp_path: Path, body: str, said: str) -> None:
    found = fault(tmp_path, body)
    assert said in found
    assert "\n" not in found


def test_an_input_that_predicts_may_not_look_ahead(tmp_path: Path) -> None:
    body = "    seen = at.key >= at.query\n" + OVER_INPUT
    assert fault(tmp_path, body) == "sound"
    assert 'loss_on = "all"' in fault(tmp_path, body, predicts_input=True)
    assert "(query, key) = (0, 1)" in fault(tmp_path, body, predicts_input=True)
    back = "    seen = at.key < at.query - 1\n" + OVER_INPUT
    assert fault(tmp_path, back, predicts_input=True) == "sound"


def test_linear_attention_cannot_hide_memory(tmp_path: Path) -> None:
    body = "    return (at.key <= at.query) & ((at.query < at.input_length) | (at.key > 0))\n"
    assert fault(tmp_path, body) == "sound"
    assert 'model.mixer = "linear" keeps one sum of it for all' in fault(tmp_path, body, mixer="linear")


def test_loss_on_all_asks_the_rule_itself(study: Path) -> None:
    ahead = "import torch\n\n\ndef ahead(at):\n    seen = at.key >= at.query\n" + OVER_INPUT
    file = study.parent / "my_rules.py"
    file.write_text(file.read_text() + ahead)
    check_rules(build_plan(load_study(study, ["objective.loss_on=all"])).configs, ALLOWED)
    plan = build_plan(load_study(study, ["objective.loss_on=all", "arm.own.model.input_attention=my_rules.py:ahead"]))
    with pytest.raises(StudyError, match=r'arm "own": model\.input_attention = "my_rules\.py:ahead": looks ahead'):
        check_rules(plan.configs, ALLOWED)


@pytest.mark.parametrize("command", ["audit", "run"])
def test_a_leaking_rule_is_refused_before_anything_is_spent(
    study: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (study.parent / "my_rules.py").write_text("def dilated(at):\n    return at.key <= at.query + 1\n")
    out = study.parent / "out"
    where = ["--out", str(out)] if command == "run" else []
    assert run_command([command, str(study), *where]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith('paribus: study: arm "own": model.input_attention = "my_rules.py:dilated": leaks: ')
    assert "(query, key) = (0, 1) in head 0 of layer 0" in said
    assert not out.exists() or not list(out.iterdir())


def test_an_encoder_alone_may_see_everything(tmp_path: Path) -> None:
    whole = written(tmp_path, "    return (at.key == at.key) & (at.query >= 0)\n")
    tables = {
        "question": "?",
        "vary": [],
        "objective": {"name": "mlm"},
        "model": {"input_attention": whole},
        "arm": {"bert": {}},
    }
    check_rules(build_plan(study_from(tables)).configs, ALLOWED)
    with pytest.raises(StudyError, match="leaks: "):
        check_rules(build_plan(study_from({**tables, "objective": {"name": "prefix_lm"}})).configs, ALLOWED)


def test_a_rule_is_shown_with_its_picture(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "rules"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {rule}: " in printed for rule in RULES)
    assert run_command(["list", "rules", "--show", "forward_backward_heads"]) == 0
    printed = capsys.readouterr().out
    assert "first half of the heads:\n  input   x . . . . . | . . .\n  input   x x . . . . | . . .\n" in printed
    assert "second half of the heads:\n  input   x x x x x x | . . .\n  input   . x x x x x | . . .\n" in printed
    assert run_command(["list", "rules", "--show", f"{study.parent / 'my_rules.py'}:dilated"]) == 0
    printed = capsys.readouterr().out
    assert "dilated: The input sees every other position before it, and itself." in " ".join(printed.split())
    assert "every head and layer:" in printed
    assert "  input   x . x . x . | . . .\n" in printed
    assert run_command(["list", "rules", "--show", "casual"]) == 2
    assert capsys.readouterr().err == "paribus: --show casual: no such rule; did you mean causal?\n"
