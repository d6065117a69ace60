"""Several tasks together: against scipy, by simulation, and as a user asks for it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from paribus.cli.main import run_command
from paribus.files import read_json, write_json
from paribus.statistics.aggregate import (
    Task,
    aggregate,
    interquartile_mean,
    of_any_seeds,
    probability_of_improvement,
    standard_error,
    stratified_interval,
)
from report_study import write_study

numbers = st.floats(-100, 100, allow_subnormal=False)
few = st.integers(0, 3).map(float)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 25)), elements=numbers))
def test_the_interquartile_mean_is_scipys_trimmed_mean(values):
    assert np.allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=-1), atol=1e-9)


def test_the_bootstrap_of_one_task_has_the_standard_error_of_scipys():
    values = np.random.default_rng(3).normal(size=12)
    theirs = stats.bootstrap(
        (values,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=20_000, vectorized=True, rng=1
    ).standard_error
    assert standard_error(values[None], interquartile_mean, 20_000) == pytest.approx(theirs, rel=0.03)


def test_seeds_are_drawn_within_their_task():
    values = np.array([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0], [9.0, 9.0, 9.0]])
    assert stratified_interval(values, 0.95) == (pytest.approx(5 * 3 / 5 + 9 / 5), *[pytest.approx(24 / 5)] * 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(few, min_size=1, max_size=8), st.lists(few, min_size=1, max_size=8))
def test_the_probability_over_any_seeds_is_mann_whitneys_share_of_pairs(one, other):
    assert of_any_seeds(one, other) == pytest.approx(stats.mannwhitneyu(one, other).statistic / len(one) / len(other))


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.sampled_from([-1.0, 1.0])))
def test_the_probability_of_improvement_has_the_exact_binomial_interval(gains):
    theirs = stats.binomtest(int((gains > 0).sum()), gains.size).proportion_ci(0.9, "exact")
    assert probability_of_improvement(gains, 0.9) == pytest.approx(((gains > 0).mean(), theirs.low, theirs.high))


def test_a_tie_is_half_an_improvement_and_never_narrows_the_interval():
    tied = probability_of_improvement([[1.0, 0.0, -1.0]], 0.95)
    won, lost = (probability_of_improvement([[1.0, gain, -1.0]], 0.95) for gain in (1.0, -1.0))
    assert (tied.estimate, tied.low, tied.high) == (0.5, lost.low, won.high)


@pytest.mark.parametrize(("tasks", "freedom"), [([[1, 2, 4], [3, 3, 3]], 2), ([[1, 2, 4], [11, 12, 14]], 4)])
def test_tasks_count_for_degrees_of_freedom_as_far_as_they_vary(tasks, freedom):
    scores = np.array(tasks, dtype=float)

    def average(values):
        return values.mean(axis=-1)

    found = stratified_interval(scores, 0.95, average)
    error = standard_error(scores, average) * np.sqrt(3 / 2)
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, freedom) * error)


@pytest.mark.parametrize(
    ("seeds", "means", "spreads"),
    [
        (3, (0, 0, 0, 0), (1, 1, 1, 1)),
        (3, (0, 3, 6, 9), (1, 1, 1, 1)),
        (3, (0, 0, 0, 0), (5, 1, 0.2, 0.2)),
        (5, (0, 1), (1, 3)),
    ],
    ids=["alike", "far apart", "one task noisy", "two tasks"],
)
def test_intervals_of_several_tasks_miss_no_more_often_than_they_say(seeds, means, spreads):
    rng, studies = np.random.default_rng(7), 500
    mean, spread = (np.array(row, dtype=float)[:, None] for row in (means, spreads))

    def draw(count: int) -> np.ndarray:
        return rng.normal(size=(count, len(means), seeds)) * spread + mean

    truth = float(interquartile_mean(draw(100_000).reshape(100_000, -1)).mean())
    intervals = [stratified_interval(scores, 0.95) for scores in draw(studies)]
    missed = sum(not each.low <= truth <= each.high for each in intervals)
    assert missed <= stats.binom.ppf(0.995, studies, 0.05)


@pytest.mark.parametrize("truth", [(0.5, 0.5, 0.5), (0.1, 0.5, 0.9), (0.95, 0.95, 0.99)], ids=str)
def test_probabilities_of_several_tasks_miss_no_more_often_than_they_say(truth):
    rng = np.random.default_rng(5)
    gains = np.where(rng.random((2000, 3, 4)) < np.array(truth)[:, None], 1.0, -1.0)
    intervals = [probability_of_improvement(study, 0.95) for study in gains]
    missed = sum(not each.low <= np.mean(truth) <= each.high for each in intervals)
    assert missed <= stats.binom.ppf(0.995, 2000, 0.05)


def test_improvements_are_paired_by_seed():
    rng = np.random.default_rng(0)
    home = [rng.normal(size=4) for _ in range(3)]
    tasks = [Task(f"t{k}", range(4), {"gpt": scores, "unilm": scores + 0.25}) for k, scores in enumerate(home)]
    found = aggregate(tasks, "exact_match", "gpt", 0.95)
    (answer,) = found["improvements"]
    assert answer["low"] == pytest.approx(0.25)
    assert answer["high"] == pytest.approx(0.25)
    assert answer["probability"]["estimate"] == 1.0
    assert answer["probability_any_seeds"] < 1.0
    assert all(row["low"] < row["iqm"] < row["high"] for row in found["scores"])


def test_of_losses_less_is_better_and_they_have_no_common_score():
    tasks = [Task(name, (0, 1), {"gpt": np.array([3.0, 3.1]), "t5": np.array([2.9, 2.8])}) for name in ("a", "b")]
    found = aggregate(tasks, "bits_per_byte", "gpt", 0.95)
    assert found["scores"] is None
    assert found["improvements"][0]["iqm"] == pytest.approx(0.2)
    assert found["improvements"][0]["probability"]["estimate"] == 1.0


def test_all_intervals_of_a_column_hold_together():
    rng = np.random.default_rng(2)
    scores = {arm: rng.normal(size=3) for arm in ("gpt", "t5", "unilm")}
    tasks = [
        Task(name, range(3), {arm: each + place for arm, each in scores.items()}) for place, name in enumerate("ab")
    ]
    (first, _) = aggregate(tasks, "exact_match", "gpt", 0.95)["improvements"]
    gains = np.array([scores["t5"] - scores["gpt"]] * 2)
    alone = stratified_interval(gains, 0.975)
    assert (first["iqm"], first["low"], first["high"]) == pytest.approx(alone)


# As a user asks for it.


def another_task(folder: Path, name: str, arms: tuple[str, ...] = ("gpt", "unilm", "t5"), seeds: int = 3) -> Path:
    """A study of the same arms on other text."""
    out = write_study(folder / name, arms=arms, repeats=False, seeds=seeds)
    edit(out / "data.json", hash=name)
    return out


def edit(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)


def score(study: Path, trial: dict, **scores: float) -> None:
    path = study / "trials" / trial["id"] / "result.json"
    result = read_json(path)
    edit(path, test=result["test"] | scores)


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    return [another_task(tmp_path, name) for name in ("copy", "reverse")]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run_command(["aggregate", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_takes_scores_from_the_directories(studies: list[Path], capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rng, known = np.random.default_rng(0), {}
    for study in studies:
        for trial in read_json(study / "plan.json")["trials"]:
            known[study.name, trial["arm"], trial["seed"]] = value = float(rng.integers(0, 101)) / 100
            score(study, trial, exact_match=value)
    status, out, _ = run(capsys, *studies, "--json")
    found = json.loads(out)
    assert status == 0
    for row in found["scores"]:
        own = [value for (_, arm, _), value in known.items() if arm == row["arm"]]
        assert row["iqm"] == pytest.approx(stats.trim_mean(own, 0.25))
    for row in found["improvements"]:
        gains = [value - known[task, "gpt", seed] for (task, arm, seed), value in known.items() if arm == row["arm"]]
        assert row["iqm"] == pytest.approx(stats.trim_mean(gains, 0.25))
        assert row["probability"]["estimate"] == pytest.approx(np.mean(np.sign(gains) / 2 + 0.5))
    status, out, _ = run(capsys, *studies)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert f"{found['improvements'][0]['iqm']:+.4f}".replace("-", "−") in out


def test_losses_are_taken_together_as_improvements_only(studies: list[Path], capsys) -> None:
    status, out, _ = run(capsys, *studies, "--metric", "bits_per_byte", "--against", "unilm")
    assert status == 0
    assert "Improvement over unilm" in out
    assert "Scores" not in out
    assert "no common scale" in " ".join(out.split())


def test_seeds_that_an_arm_lacks_are_left_out_of_all_and_tasks_count_alike(tmp_path: Path, capsys) -> None:
    one = another_task(tmp_path, "copy", seeds=4)
    other = write_study(tmp_path / "reverse", arms=("gpt", "unilm"), repeats=False, seeds=4, diverged=(("gpt", 1),))
    edit(other / "data.json", hash="reverse")
    status, out, _ = run(capsys, one, other, "--metric", "bits_per_byte", "--json")
    found = json.loads(out)
    assert status == 0
    assert [task["seeds"] for task in found["tasks"]] == [[0, 1, 2], [0, 2, 3]]
    assert set(found["notes"]) == {
        "copy: without t5, which not every study has",
        "copy: the first 3 of 4 seeds, so that every task counts alike",
        "reverse: without seeds 1, where not every arm has a score",
    }


def test_what_cannot_be_taken_together_is_refused_in_a_line(studies: list[Path], tmp_path: Path, capsys) -> None:
    one, other = studies
    moved = tmp_path / "moved"
    shutil.copytree(one, moved)
    alone = another_task(tmp_path, "alone", seeds=1)
    single = another_task(tmp_path, "single", arms=("t5",))
    renamed = write_study(
        tmp_path / "renamed", arms=("gpt", "unilm"), repeats=False, rename={"gpt": "unilm", "unilm": "gpt"}
    )
    edit(renamed / "data.json", hash="renamed")
    bits = ("--metric", "bits_per_byte")
    for arguments, words in [
        ((one,), "give two or more directories"),
        ((one, one), f"{one}: the same study as {one}"),
        ((one, moved), f"{moved}: the same study as {one}"),
        ((one, tmp_path / "nothing"), "no study directory"),
        ((one, single, *bits), "1 arm in common, and two are needed: copy has gpt, unilm and t5; single has t5"),
        ((one, alone, *bits), "alone: one seed has a score (bits per byte) in every arm"),
        ((one, other), "no seed has a score (exact match) in every arm"),
        ((one, renamed, *bits), "two arms of one name"),
        ((one, other, "--metric", "loss"), "use one of bits_per_byte"),
        ((one, other, "--metric", "nats_per_token"), "another unit in each; use bits_per_byte"),
        ((one, other, *bits, "--against", "mixed"), "the arms in all are gpt, unilm and t5"),
    ]:
        status, out, err = run(capsys, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1), arguments
        assert words in err
