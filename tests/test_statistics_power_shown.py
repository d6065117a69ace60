"""The audit says what the seeds could show, in the claims' units where a spread is known."""

import json

import pytest

from corpora import documents, write_folder
from paribus.cli.main import run_command
from paribus.statistics.power import detectable_in_sd, simultaneous_level

STUDY = """
question = "Does looking both ways help?"
vary = ["model.input_attention"]
data = {{ corpus = "{corpus}", window = 32, vocabulary = 400 }}
model = {{ layers = 1, width = 16, head_size = 8 }}
training = {{ tokens = 2000, batch = 4 }}
evaluation = {{ test_windows = 16, tune_windows = 8, curve_points = 1 }}
arm.gpt = {{}}
arm.unilm.model.input_attention = "bidirectional"
claim = [
    {{ says = "no gain", arm = "unilm", against = "gpt", expect = "not_better", margin = 0.02 }},
    {{ says = "more right", arm = "unilm", against = "gpt", expect = "better", margin = 0.1, metric = "token_accuracy" }},
]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("power")
    file = folder / "study.toml"
    file.write_text(STUDY.format(corpus=write_folder(folder / "docs", documents(40))))
    return str(file)


def audited(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_command(["audit", *arguments]) == 0
    return capsys.readouterr().out


def power(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    return json.loads(audited(capsys, *arguments, "--json"))["power"]


def test_a_margin_that_the_seeds_cannot_resolve_is_a_notice_with_the_numbers(study, capsys):
    printed = audited(capsys, study, "--spread", "0.02")
    assert max(len(line) for line in printed.splitlines()) <= 80
    first, second = power(capsys, study, "--spread", "0.02")
    assert first["detectable"] == pytest.approx(0.02 * detectable_in_sd(3, simultaneous_level(0.95, 2)))
    assert first["detectable"] > first["margin"]
    assert second["detectable"] == first["detectable"] < second["margin"]
    said = " ".join(printed.split())
    assert (
        f"3 seeds cannot resolve the margin of 1 of 2 claims at this spread; {first['seeds_for_margin']} seeds" in said
    )


def test_without_a_spread_the_audit_speaks_in_spreads(study, capsys):
    said = " ".join(audited(capsys, study).split())
    assert f"{detectable_in_sd(3, simultaneous_level(0.95, 2)):.2g} times the spread" in said


def test_two_seeds_and_one_are_told_and_not_refused(study, capsys):
    assert "train at least 3" in audited(capsys, study, "--seeds", "2")
    assert "1 seed no interval has ends" in audited(capsys, study, "--seeds", "1")


def test_the_looks_of_a_rule_are_told_before_anything_is_spent(study, capsys):
    printed = audited(capsys, study, "--set", "stopping=group_sequential", "--spread", "0.02")
    assert "Looks at 5, 10, 20 seeds" in printed
    assert "2 arms x 5 seeds" in printed
    assert power(capsys, study, "--set", "stopping=group_sequential", "--spread", "1")[0]["seeds"] == 20
    assert "A look after each seed from 3 on" in audited(capsys, study, "--set", "stopping=any_time")


def test_a_pilot_gives_each_claim_the_spread_of_its_own_metric(study, tmp_path, capsys):
    claims = [
        {"arm": "gpt", "against": "unilm", "metric": "bits_per_byte", "sd_seed": 0.003},
        {"arm": "gpt", "against": "t5", "metric": "bits_per_byte", "sd_seed": 0.5},
    ]
    (tmp_path / "verdicts.json").write_text(json.dumps({"claims": claims}))
    assert [row["spread"] for row in power(capsys, study, "--pilot", str(tmp_path))] == [0.003, None]
    (tmp_path / "verdicts.json").write_text(json.dumps({"claims": claims[1:]}))
    assert [row["spread"] for row in power(capsys, study, "--pilot", str(tmp_path))] == [0.5, None]


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--spread", "-1"], "above 0"),
        (["--spread", "nan"], "above 0"),
        (["--pilot", "/nonexistent"], "holds no verdicts.json"),
        (["--pilot", "/nonexistent", "--spread", "1"], "the one or the other"),
    ],
)
def test_wrong_spreads_are_told_in_one_line(study, arguments, words, capsys):
    assert run_command(["audit", study, *arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert words in said
