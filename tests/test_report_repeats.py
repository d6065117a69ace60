"""Repeats of claims: told apart by kind, compact, and never stronger than what was judged; and the rule for seeds."""

import json
from pathlib import Path

import pytest

from paribus.display import repeats, scope, stopping, wording
from paribus.records.reading import read_study
from paribus.report.build import build_report
from paribus.report.cards import cards
from paribus.report.charts import draw_charts
from paribus.report.contents import parts_of
from report_study import write_study
from report_variants import edit, under_values, with_matchings

KNOBS = {"feed_forward": "supported", "width": "refuted"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", arms=("gpt", "unilm"), repeats=False, steps=60)


def test_where_the_knob_changes_the_answer_it_is_undecided_and_said_why(directory: Path) -> None:
    with_matchings(directory, {"parameters": KNOBS, "train_flops": {"feed_forward": "refuted"}})
    record = read_study(directory)
    claim = record.claims[0]
    said = repeats.matched_sentence(record, claim)
    assert "at equal parameters it is undecided, because the knob changes the answer" in said[0].lower() + said[1:]
    assert "supported by feed_forward and refuted by width" in said
    assert said in wording.answer(record).sentences
    (part,) = parts_of(record)["effects"]
    verdicts = [row[-1].text for row in part.tables[0].rows]
    assert verdicts == [claim.outcome, "supported", "refuted", "refuted", "undecided, the knob changes the answer"]
    for form in ("html", "md", "json", "latex"):
        text = build_report(directory, form).read_text(encoding="utf-8")
        assert "because the knob changes the answer" in text or form == "latex"
        assert "equal parameters, over all knobs" in text


def test_a_knob_that_leaves_it_open_does_not_contradict_one_that_decides(directory: Path) -> None:
    with_matchings(directory, {"parameters": dict(zip(KNOBS, ("supported", "undecided"), strict=False))})
    record = read_study(directory)
    said = repeats.matched_sentence(record, record.claims[0])
    assert "because not every knob decides it" in said
    assert "changes the answer" not in build_report(directory, "md").read_text(encoding="utf-8")


def test_what_agrees_over_all_knobs_is_told_once(directory: Path) -> None:
    with_matchings(directory, {"parameters": dict.fromkeys(KNOBS, "refuted"), "kv_bytes": {"layers": "refuted"}})
    edit(directory / "verdicts.json", lambda found: found["claims"][0].update(verdict="refuted"))
    record = read_study(directory)
    said = repeats.matched_sentence(record, record.claims[0])
    assert said == "At equal parameters and bytes of keys and values it stays refuted."


def test_what_each_arm_costs_stands_beside_the_reference(directory: Path) -> None:
    with_matchings(directory, {"parameters": {"feed_forward": "refuted"}})
    edit(
        directory / "audit.json",
        lambda audit: audit["arms"]["unilm"].update(parameters=2 * audit["arms"]["gpt"]["parameters"]),
    )
    (part,) = parts_of(read_study(directory))["effects"]
    costs = part.tables[-1]
    column = costs.columns.index("Parameters")
    found = {(row[0].text, row[1].text): row[column] for row in costs.rows}
    assert found["unilm", "as written"].text.endswith("(+100.0 %)")
    assert found["unilm", "parameters"].text.endswith("(0.0 %)")
    assert found["unilm", "parameters"].tag == "matched"
    assert "%" not in found["gpt", "as written"].text
    assert {row[2].text for row in costs.rows} == {"–", "the reference", "model.feed_forward = 100"}


def test_effects_are_drawn_as_written_first_and_matched_ones_below_one_another(directory: Path) -> None:
    with_matchings(directory, {"parameters": KNOBS})
    charts = draw_charts(read_study(directory))
    assert len(charts.data["effects_bits_per_byte"]) == 1
    assert len(charts.data["all_effects_bits_per_byte"]) == 3
    assert [row["label"] for row in charts.data["matched_bits_per_byte"]] == [
        "unilm − gpt · as written",
        "unilm − gpt · equal parameters by feed_forward",
        "unilm − gpt · equal parameters by width",
    ]


def test_repeats_are_grouped_by_kind_and_long_lists_are_folded(directory: Path) -> None:
    edit(directory / "study.json", lambda study: study["training"].update(learning_rate=[0.001, 0.002, 0.004]))
    with_matchings(directory, {"parameters": {"width": "refuted"}})
    under_values(directory, "training.learning_rate", [0.001 * 2**n for n in range(9)], "supported")
    under_values(directory, "model.init", ["normal_0.02"], "undecided")
    record = read_study(directory)
    (card,) = cards(record)
    assert [(group.title, len(group.rows), group.folded) for group in card.groups] == [
        ("With arms made equal", 1, False),
        ("Under other settings", 1, False),
        ("At common values of what was tuned", 9, True),
    ]
    names = [row.name for group in card.groups for row in group.rows]
    assert len(set(names)) == 11
    page = build_report(directory).read_text(encoding="utf-8")
    assert "9 judged again" in page
    assert len(wording.answer(record).sentences) < 6


def test_a_size_is_told_from_a_setting_at_that_size(directory: Path) -> None:
    def sized(plan: dict) -> None:
        claim = plan["claims"][0]
        setting = {"field": "model.init", "value": "normal_0.02"}
        matching = {"quantities": ["parameters"], "knobs": ["feed_forward"]}
        more: list[dict] = [{}, {}, {"setting": setting}, {"matching": matching}]
        conditions = [{"size": size, **own} for size, own in zip(("1M", "3M", "1M", "3M"), more, strict=True)]
        plan["claims"] = [{**claim, "condition": condition} for condition in conditions]

    edit(directory / "plan.json", sized)
    edit(directory / "verdicts.json", lambda found: found.update(claims=found["claims"] * 4))
    record = read_study(directory)
    assert [claim.condition.kind for claim in record.claims] == ["size", "size", "setting", "matching"]
    (pair,) = repeats.contrasts(record)
    assert str(pair.claim.condition) == "size 1M"
    assert [group.kind for group in repeats.groups(pair)] == ["size", "matching", "setting"]
    said = wording.answer(record)
    assert "at every size (1M and 3M)" in said.headline
    assert sum("at size" in sentence.lower() for sentence in said.sentences) == 1  # of what was measured
    assert "Repeated under model.init = normal_0.02, no verdict changes." in said.sentences


def test_a_verdict_that_another_size_changes_is_never_told_of_all_sizes(directory: Path) -> None:
    def sized(plan: dict) -> None:
        claim = plan["claims"][0]
        plan["claims"] = [{**claim, "condition": {"size": size}} for size in ("1M", "3M", "9M")]

    def judged(found: dict) -> None:
        claim = found["claims"][0]
        found["claims"] = [{**claim, "verdict": verdict} for verdict in ("refuted", "undecided", "refuted")]

    edit(directory / "plan.json", sized)
    edit(directory / "verdicts.json", judged)
    said = wording.answer(read_study(directory))
    assert said.headline.endswith("is refuted at size 1M.")
    assert "At size 3M it is undecided; at size 9M it stays refuted." in said.sentences


def test_a_study_of_several_sizes_does_not_say_that_one_size_allows_nothing(directory: Path) -> None:
    assert "One size allows no statement" in scope.scope_note(read_study(directory))
    edit(directory / "study.json", lambda study: study["sizes"].update(values=[1_000_000, 3_000_000]))
    assert "No verdict reaches beyond the largest" in scope.scope_note(read_study(directory))


@pytest.mark.parametrize(
    "rule,looks,seeds,words",
    [
        ("fixed", [3], 3, ["fixed beforehand"]),
        ("fixed", [3, 5], 5, ["3 and 5 seeds", "do not allow"]),
        (
            "group_sequential",
            [5, 10, 20],
            10,
            ["looks planned at 5, 10 and 20 seeds", "stopped at 10", "claim 1 after 5 seeds"],
        ),
        ("any_time", [3, 4], 4, ["after every seed", "stopped at 4", "claim 1 after 5 seeds"]),
    ],
)
def test_the_rule_for_seeds_is_told_with_its_looks(
    directory: Path, rule: str, looks: list[int], seeds: int, words: list[str]
) -> None:
    def stopped(found: dict) -> None:
        found["stopping"] = {"rule": rule, "looks": looks, "seeds": seeds, "level": 0.9805}
        found["claims"][0].update(decided_at=5, verdict="refuted")

    edit(directory / "verdicts.json", stopped)
    record = read_study(directory)
    told = stopping.stopping_text(record)
    assert all(word in told for word in words)
    assert dict(scope.guide(record))["When seeds stopped."] == told
    assert dict(wording.answer(record).scope)["Stopping rule"] == stopping.stopping_short(record)
    assert (list(cards(record)[0].flags) == ["decided after 5 seeds"]) == (rule != "fixed")


def test_a_study_that_was_not_judged_yet_tells_its_rule_too(directory: Path) -> None:
    (directory / "verdicts.json").unlink()
    edit(directory / "study.json", lambda study: study.update(stopping="group_sequential", max_seeds=20))
    assert "looks planned at 5, 10 and 20 seeds" in stopping.stopping_text(read_study(directory))


def test_outlying_seeds_are_flagged_in_every_format(directory: Path) -> None:
    edit(directory / "verdicts.json", lambda found: found["claims"][0].update(outliers=[2]))
    for form in ("html", "md", "latex"):
        assert "utlying seed" in build_report(directory, form).read_text(encoding="utf-8")
    assert json.loads(build_report(directory, "json").read_text())["claims"][0]["outliers"] == [2]


def test_many_repeats_are_left_out_of_crowded_charts_and_this_is_said(directory: Path) -> None:
    with_matchings(directory, dict.fromkeys(("parameters", "train_flops", "serve_flops"), KNOBS))
    charts = draw_charts(read_study(directory))
    assert {row["arm"] for row in charts.data["training"]} == {"gpt", "unilm"}
    assert "6 repeated arms are not drawn" in charts.chart("training").caption
