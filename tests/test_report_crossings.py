"""The report of crossed factors: sentences, tables and figures show what `verdicts.json` holds, and what is missing."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from paribus import spec
from paribus.analyses.claims.judging import judge
from paribus.analyses.factorial.judging import Asked, crossing_effects
from paribus.analyses.factorial.section import digits, interaction_lines, part
from paribus.plan.factorial import design
from paribus.records.condition import AS_WRITTEN
from paribus.records.reading import StudyRecord, read_study
from paribus.report.build import build_report
from paribus.report.charts import draw_charts
from report_study import write_json, write_study

VARY = ["model.input_attention", "model.parameters", "model.memory"]
WINDOWS = {"document": np.arange(24) // 2, "tokens": np.full(24, 10), "bytes": np.full(24, 30)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six arms with effects as `paribus run` judges them: a large interaction of attention and parameters."""
    folder = write_study(tmp_path_factory.mktemp("crossed") / "study", seeds=5)
    plan = json.loads((folder / "plan.json").read_text())
    arms = [arm for arm in plan["arms"] if not arm["repeats"]]
    crossed = design([(arm["name"], spec.Config.model_validate(arm["config"])) for arm in arms], VARY)
    assert crossed is not None
    draw = np.random.default_rng(0)
    better = {"unshared": 3.0}
    scores = {
        arm["name"]: {seed: {"nats": 30 - better.get(arm["name"], 0) + 0.1 * draw.normal(size=24)} for seed in range(5)}
        for arm in arms
    }
    weights = {"gpt": 1.0, "unilm": -1.0, "unshared_causal": -1.0, "unshared": 1.0}
    claim = {"metric": "bits_per_byte", "expect": "better", "margin": 0.01, "estimand": "text_like_it", "condition": {}}
    effect = claim | {
        "says": "Attention gains more with parameters of its own",
        "kind": "interaction",
        "weights": weights,
    }
    effect |= {
        "factors": VARY[:2],
        "levels": ["bidirectional", "separate"],
        "against": ["causal", "shared"],
        "over": [],
    }
    verdicts = json.loads((folder / "verdicts.json").read_text())
    verdicts["effects"] = judge([effect], scores, WINDOWS, 0.95)["claims"]
    verdicts["crossings"] = crossing_effects(
        [(AS_WRITTEN, crossed)], Asked("bits_per_byte", "text_like_it"), scores, WINDOWS, 0.95, range(5)
    )
    write_json(folder / "verdicts.json", verdicts)
    return folder


@pytest.fixture(scope="module")
def record(directory: Path) -> StudyRecord:
    return read_study(directory)


def effects(record: StudyRecord) -> list[dict[str, Any]]:
    (analysed,) = record.verdicts["crossings"]["designs"][0]["analysed"]
    return list(analysed["effects"])


def test_missing_cells_are_named_first(record: StudyRecord) -> None:
    shown = part(record)
    assert shown is not None
    assert "6 of 12 cells" in shown.texts[0]
    assert "causal + shared + cross_attention" in shown.texts[0]


def test_an_interaction_is_told_with_both_simple_effects_and_what_follows(record: StudyRecord) -> None:
    shown = part(record)
    assert shown is not None
    (text,) = [text for text in shown.texts if "Interaction" in text]
    places = digits(effects(record))
    for effect in effects(record):
        if effect["kind"] in ("simple", "interaction"):
            assert f"{effect['estimate']:+.{places}f}".replace("-", "−") in text
            assert f"{effect['low']:+.{places}f}".replace("-", "−") in text
    assert text.startswith("With memory = every_layer: bidirectional against causal")
    assert "it does more good with parameters = separate than with parameters = shared" in text


def test_an_interaction_that_may_be_none_is_not_told_as_one(record: StudyRecord) -> None:
    changed = json.loads(json.dumps(record.verdicts))
    for effect in changed["crossings"]["designs"][0]["analysed"][0]["effects"]:
        effect |= {"low": -1.0, "high": 1.0}
    shown = part(StudyRecord(**{**vars(record), "verdicts": changed}))
    assert shown is not None
    assert any("the seeds do not tell whether one depends on the other" in text for text in shown.texts)
    assert not any("more good" in text for text in shown.texts)


def test_claims_about_effects_stand_with_their_verdicts(record: StudyRecord) -> None:
    shown = part(record)
    assert shown is not None
    assert "“Attention gains more with parameters of its own”: supported." in shown.texts
    claims, table = shown.tables
    cells = [cell.text for cell in claims.rows[0]]
    assert cells[:5] == [
        "Attention gains more with parameters of its own",
        "interaction, bidirectional against causal, separate against shared",
        "better",
        "0.01",
        "supported",
    ]
    assert len(table.rows) == len(effects(record))


def test_the_family_of_the_intervals_is_named(record: StudyRecord) -> None:
    shown = part(record)
    assert shown is not None
    assert "The 5 intervals of this section are a family of their own" in shown.texts[-1]
    assert "intervals together 95 % over 5" in shown.tables[-1].caption


def test_dots_are_means_of_the_seeds_and_rings_lose_only_what_the_seed_adds_to_all(record: StudyRecord) -> None:
    book = draw_charts(record)
    assert book.chart("interactions") is not None
    means, rings = book.data["crossing_0"], book.data["crossing_0_seeds"]
    for row in means:
        assert row["score"] == pytest.approx(fmean(record.scores(row["arms"], "bits_per_byte")), rel=1e-5)
        own = [ring["level"] for ring in rings if ring["arms"] == row["arms"]]
        assert fmean(own) == pytest.approx(row["score"], rel=1e-5)
    for seed in range(5):
        of_seed = [ring["level"] for ring in rings if ring["seed"] == seed]
        assert fmean(of_seed) == pytest.approx(fmean(row["score"] for row in means), rel=1e-5)
    assert {row["line"] for row in means} == {"causal", "bidirectional"}
    assert {row["x"] for row in means} == {"shared", "separate"}


def test_every_effect_is_drawn_with_its_interval(record: StudyRecord) -> None:
    rows = draw_charts(record).data["crossing_effects_0"]
    assert [row["estimate"] for row in rows] == pytest.approx(
        [effect["estimate"] for effect in effects(record)], rel=1e-5
    )
    assert [row["low"] for row in rows] == pytest.approx([effect["low"] for effect in effects(record)], rel=1e-5)


def test_a_seed_that_one_cell_lacks_is_drawn_in_none(tmp_path: Path, directory: Path) -> None:
    folder = write_study(tmp_path / "study", seeds=5, diverged=(("unshared", 3),))
    write_json(folder / "verdicts.json", json.loads((directory / "verdicts.json").read_text()))
    rings = draw_charts(read_study(folder)).data["crossing_0_seeds"]
    assert {ring["seed"] for ring in rings} == {0, 1, 2, 4}


def test_the_command_line_has_a_line_for_each_interaction(record: StudyRecord) -> None:
    first, last = interaction_lines(record.verdicts)
    assert first.startswith("interaction: bidirectional against causal, separate against shared (")
    assert "all 5 effects of crossed factors" in last
    assert list(interaction_lines({})) == []


@pytest.mark.parametrize("form", ["html", "md", "latex", "json"])
def test_every_format_holds_the_section(directory: Path, form: Any) -> None:
    text = build_report(directory, form).read_text()
    assert "nteraction" in text
    assert "family of their own" in text or form == "latex"


def test_a_study_of_one_factor_has_no_such_section(tmp_path: Path) -> None:
    assert part(read_study(write_study(tmp_path / "study", arms=("gpt", "unilm")))) is None


@pytest.mark.parametrize(
    "values, places", [((0.02, -0.1, 0.14), 3), ((0.0004, -0.1, 0.2), 4), ((0.0, -0.1, 0.1), 3), ((1e-9, 0.1, 0.2), 6)]
)
def test_no_number_that_is_not_zero_is_shown_as_zero(values: tuple[float, ...], places: int) -> None:
    assert digits([dict(zip(("estimate", "low", "high"), values, strict=True))]) == places
