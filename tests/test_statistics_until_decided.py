"""A real study that adds seeds until its claims are decided, and the rules that keep that honest."""

import shutil
from pathlib import Path

import pytest

import paribus
from corpora import documents, write_folder
from paribus.cli.main import run_command
from paribus.engines.events import Event, Planned, Started
from paribus.errors import UserError
from paribus.files import read_json
from paribus.plan.reading import load_study
from paribus.spec.stopping import at_look, looks

STUDY = """
question = "Does looking both ways help?"
vary = ["model.input_attention"]
data = {{ corpus = "{corpus}", window = 32, vocabulary = 400 }}
model = {{ layers = 2, width = 16, head_size = 8 }}
training = {{ tokens = 2000, batch = 4, compile = "never", dtype = "float32" }}
evaluation = {{ test_windows = 16, tune_windows = 8, curve_points = 1 }}
arm.gpt = {{}}
arm.unilm.model.input_attention = "bidirectional"
[[claim]]
says = "no gain of a bit"
arm = "unilm"
against = "gpt"
expect = "not_better"
margin = {margin}
"""
OPEN = "1e-9"
"""A margin that a few seeds never resolve."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("until") / "docs", documents(40))


@pytest.fixture(scope="module")
def study(corpus: Path, tmp_path_factory: pytest.TempPathFactory):
    """Loads a study whose claim has this margin, with these `--set`s."""
    folder = tmp_path_factory.mktemp("studies")

    def load(margin: str, *sets: str):
        file = folder / "study.toml"
        file.write_text(STUDY.format(corpus=corpus, margin=margin))
        return load_study(str(file), list(sets))

    return load


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, fixed beforehand, that leave the claim open."""
    out = tmp_path_factory.mktemp("fixed") / "run"
    assert paribus.run_study(study(OPEN), out, workers=2).claims[0]["verdict"] == "undecided"
    return out


@pytest.fixture
def fixed(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_looks_are_a_quarter_a_half_and_all_of_the_maximum(study):
    assert looks(study("1")) == (3,)
    for most, expected in {None: (5, 10, 20), 12: (3, 6, 12), 10: (3, 5, 10), 6: (3, 6), 4: (3, 4), 3: (3,)}.items():
        sets = [] if most is None else [f"max_seeds={most}"]
        assert looks(study("1", "stopping=group_sequential", *sets)) == expected
    assert looks(study("1", "stopping=any_time", "seeds=4"))[:3] == (4, 5, 6)
    assert looks(study("1", "stopping=any_time", "max_seeds=6")) == (3, 4, 5, 6)


def test_a_look_trains_the_declared_seeds_first_and_none_twice(study):
    assert at_look(study("1", "seeds=[7, 1]"), 5).seed_list == [7, 1, 0, 2, 3]
    assert at_look(study("1", "seeds=[7, 1]"), 1).seed_list == [7]


@pytest.mark.parametrize("rule,seeds", [("group_sequential", [3, 4]), ("any_time", [3, 4])])
def test_an_open_claim_goes_on_to_the_maximum_and_trains_each_seed_once(study, tmp_path, rule, seeds):
    asked = study(OPEN, f"stopping={rule}", "max_seeds=4")
    events: list[Event] = []
    outcome = paribus.run_study(asked, tmp_path / "run", workers=2, listen=events.append)
    started = [event.id for event in events if isinstance(event, Started)]
    assert len(started) == len(set(started)) == 8
    assert [len(event.plan.seeds) for event in events if isinstance(event, Planned)] == seeds
    assert outcome.verdicts["stopping"]["seeds"] == 4
    assert outcome.claims[0]["decided_at"] is None
    assert read_json(tmp_path / "run" / "study.json")["stopping"] == rule
    # The same command goes on: here there is nothing left to train.
    events.clear()
    again = paribus.run_study(asked, tmp_path / "run", workers=2, listen=events.append)
    assert [type(event) for event in events] == [Planned]
    assert again.verdicts == outcome.verdicts
    assert read_json(paribus_report(tmp_path / "run"))["stopping"] == outcome.verdicts["stopping"]


def paribus_report(directory: Path) -> Path:
    from paribus.report.build import build_report

    return build_report(directory, "json")


@pytest.mark.parametrize("rule", ["group_sequential", "any_time"])
def test_a_rule_cannot_be_chosen_after_the_verdicts_have_been_seen(study, finished, rule):
    before = (finished / "verdicts.json").read_bytes()
    with pytest.raises(UserError, match='computed there with stopping = "fixed"'):
        paribus.run_study(study(OPEN, f"stopping={rule}"), finished)
    assert (finished / "verdicts.json").read_bytes() == before


def test_a_rule_can_be_chosen_before_the_first_verdict_and_not_be_changed_after_it(study, fixed):
    (fixed / "verdicts.json").unlink()  # as where a study was stopped while it trained
    outcome = paribus.run_study(study("5", "stopping=group_sequential", "max_seeds=4"), fixed)
    assert [claim["decided_at"] for claim in outcome.claims] == [3]
    with pytest.raises(UserError, match="its looks are at 3, 4 seeds"):
        paribus.run_study(study("5", "stopping=group_sequential"), fixed)
    with pytest.raises(UserError, match='with stopping = "group_sequential"'):
        paribus.run_study(study("5"), fixed)


def test_seeds_added_by_hand_after_a_verdict_are_told(study, fixed):
    assert "no rule was declared" not in read_json(fixed / "verdicts.json")["claims"][0]["note"]
    second = paribus.run_study(study(OPEN, "seeds=4"), fixed, workers=2)
    assert second.verdicts["stopping"]["looks"] == [3, 4]
    assert "computed with 3, then 4 seeds and no rule was declared" in second.claims[0]["note"]


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--max-seeds", "9"], "use it with --until-decided"),
        (["--until-decided", "--seeds", "4"], "use --max-seeds"),
        (["--until-decided", "--max-seeds", "2"], "max-seeds"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments, words, capsys):
    assert run_command(["run", "decoder-only", *arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert words in said


def test_a_clear_claim_stops_at_the_first_look_and_the_command_says_so(corpus, tmp_path, capsys):
    (tmp_path / "study.toml").write_text(STUDY.format(corpus=corpus, margin=5))
    command = ["run", str(tmp_path / "study.toml"), "--out", str(tmp_path / "run"), "--workers", "2"]
    assert run_command([*command, "--until-decided", "--max-seeds", "4"]) == 0
    said = capsys.readouterr().out
    assert "stopped after 3 seeds (looks at 3, 4 seeds): every claim is decided" in " ".join(said.split())
    assert said.splitlines()[-1].endswith("report.html")
    assert len(list((tmp_path / "run" / "trials").iterdir())) == 6
    verdicts = read_json(tmp_path / "run" / "verdicts.json")
    assert [claim["decided_at"] for claim in verdicts["claims"]] == [3]
    assert (verdicts["stopping"]["rule"], verdicts["stopping"]["looks"]) == ("group_sequential", [3, 4])
