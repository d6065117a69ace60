"""What a report says: of losses and accuracies, of arms off their training distribution, of lengths, and of settings."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from paribus.display import measured, scope, tables, wording
from paribus.errors import StudyError
from paribus.evaluation.metrics import METRICS
from paribus.records.reading import StudyRecord, read_study
from paribus.records.scores import Weight
from paribus.report import settings as repeat
from paribus.report.build import build_report
from paribus.report.charts import draw_charts
from paribus.report.lengths import BINS, MOST_SPLITS, length_bins
from report_study import write_study
from report_variants import as_pairs, edit, off_distribution, with_longer_windows

TWO = ("gpt", "unilm")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", arms=TWO, repeats=False, steps=60)


def all_text(record: StudyRecord) -> str:
    """Every title, caption and axis of the charts."""
    return json.dumps([[chart.title, chart.caption, chart.views] for chart in draw_charts(record).charts])


def test_an_accuracy_is_never_called_a_loss(directory: Path) -> None:
    as_pairs(directory, "exact_match")
    record = read_study(directory)
    claim = record.claims[0]
    assert "in exact match" in wording.effect(record, claim)
    guide = " ".join(text for _, text in scope.guide(record))
    assert "Higher is better" in guide
    assert "exact match is the share of whole targets that greedy decoding would get right" in guide
    assert "Lower loss" not in guide
    charts = draw_charts(record)
    drawn = json.dumps(charts.chart("cost").views)
    assert "Exact match (higher is better)" in drawn
    assert "loss" not in json.dumps([charts.chart("cost").title, charts.chart("cost").caption, drawn]).lower()
    assert charts.chart("cost").caption.startswith("Up and to the left is better")
    assert "loss" not in json.dumps(charts.chart("forest").views).lower()


def test_a_loss_says_that_lower_is_better(directory: Path) -> None:
    record = read_study(directory)
    drawn = all_text(record)
    assert "Test loss, bits per byte (lower is better)" in drawn
    assert "higher is better" not in drawn
    assert draw_charts(record).chart("cost").caption.startswith("Down and to the left is better")
    assert "bits per byte" in wording.effect(record, record.claims[0])


@pytest.mark.parametrize("metric", list(METRICS))
def test_right_of_zero_the_arm_is_better_whatever_the_metric(directory: Path, metric: str) -> None:
    as_pairs(directory, metric)
    tokens = load_file(directory / "test_windows.safetensors")["tokens"]
    for trial in read_study(directory).trials_of(
        "unilm"
    ):  # right everywhere, at less than the least loss of the other arm
        perfect = {"nats": tokens * 0.001, "correct": tokens * 1.0, "exact": np.ones(len(tokens))}
        save_file(perfect, directory / f"trials/{trial.id}/test_losses.safetensors")
    rows = draw_charts(read_study(directory)).data["splits_difference"]
    assert len(rows) == BINS
    assert all(row["arm"] == "unilm" and row["low"] > 0 for row in rows)


def test_pairs_show_accuracies_even_where_no_claim_is_about_them(directory: Path) -> None:
    assert "Exact match" not in tables.results_table(read_study(directory)).columns
    as_pairs(directory, "bits_per_byte")
    record = read_study(directory)
    results = tables.results_table(record)
    assert {"Exact match", "Token accuracy", "Test loss, bits per byte"} <= set(results.columns)
    shown = results.rows[0][results.columns.index("Token accuracy")].text
    assert shown == f"{np.mean(record.scores('gpt', 'token_accuracy')):.4f}"
    assert "Exact match" in tables.trials_table(record).columns


def test_every_claimed_metric_has_its_columns(directory: Path) -> None:
    as_pairs(directory, "token_accuracy")
    columns = tables.results_table(read_study(directory)).columns
    assert columns[1:3] == ("Token accuracy", "SD of seeds")
    summary = json.loads(build_report(directory, "json").read_text())
    assert {"token_accuracy", "exact_match", "bits_per_byte"} <= set(summary["arms"]["gpt"])


def test_an_unknown_metric_is_one_clear_line(directory: Path) -> None:
    edit(directory / "plan.json", lambda plan: plan["claims"][0].update(metric="charm"))
    with pytest.raises(StudyError, match="'charm': this version knows bits_per_byte"):
        read_study(directory)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(st.integers(0, 500), st.integers(1, 60), min_size=1, max_size=60))
def test_bins_hold_every_length_once_in_order_and_are_few(count: dict[int, int]) -> None:
    bins = length_bins(set(count), {length: Weight(n, n, n) for length, n in count.items()})
    assert [length for lengths in bins for length in lengths] == sorted(count)
    assert all(bins)
    assert len(bins) <= MOST_SPLITS
    if len(count) > MOST_SPLITS:
        assert len(bins) <= BINS
        heavy = max(count.values())
        fair = sum(count.values()) / BINS
        assert all(sum(count[length] for length in lengths) <= fair + heavy for lengths in bins)


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_bin_scores_what_its_windows_score_together(directory: Path, metric: str) -> None:
    as_pairs(directory, metric)
    record = read_study(directory)
    rows = draw_charts(record).data[f"splits_{metric}"]
    windows = load_file(directory / "test_windows.safetensors")
    numerator, denominator, unit = {
        "bits_per_byte": ("nats", windows["bytes"], np.log(2)),
        "nats_per_token": ("nats", windows["tokens"], 1),
        "token_accuracy": ("correct", windows["tokens"], 1),
        "exact_match": ("exact", np.ones(len(windows["bytes"])), 1),
    }[metric]
    kept = [load_file(directory / f"trials/{t.id}/test_losses.safetensors")[numerator] for t in record.trials_of("gpt")]
    own = [row for row in rows if row["arm"] == "gpt"]
    assert 2 <= len(own) <= BINS
    for row in own:
        low, _, high = row["place"].partition("–")
        there = (windows["split"] >= int(low)) & (windows["split"] <= int(high or low))
        expected = np.mean([column[there].sum() / unit / denominator[there].sum() for column in kept])
        assert row["score"] == pytest.approx(expected, rel=1e-4)


def test_an_arm_off_its_distribution_is_labelled_wherever_its_score_stands(directory: Path) -> None:
    why = "Here [MASK] is the <last> token"
    off_distribution(directory, "unilm", why)
    with_longer_windows(directory, {})
    record = read_study(directory)
    assert wording.cautions(record, "unilm", "gpt") == [("unilm", f"{why}.")]
    for table in (tables.results_table(record), tables.trials_table(record), tables.lengths_table(record)):
        assert {row[0].text for row in table.rows if row[0].tag == tables.OFF} == {"unilm"}
    assert any("off distribution" in row["label"] for row in draw_charts(record).data["effects_bits_per_byte"])
    assert {row["arm"]: row["scored"] for row in draw_charts(record).data["cost"]} == {
        "gpt": "as trained",
        "unilm": "off distribution",
    }
    assert why + "." in " ".join(wording.answer(record).sentences)
    page, markdown = build_report(directory).read_text(), build_report(directory, "md").read_text()
    assert "unilm is scored off its training distribution.</b> Here [MASK] is the &lt;last&gt; token." in page
    assert "unilm (off distribution)" in markdown
    assert json.loads(build_report(directory, "json").read_text())["arms"]["unilm"]["off_distribution"] == why


def test_a_recorded_reason_counts_where_the_audit_says_nothing(directory: Path) -> None:
    path = next(directory.glob("trials/*/result.json"))
    edit(path, lambda result: result.update(off_distribution="It never saw such text"))
    arm = next(trial.arm for trial in read_study(directory).trials if trial.id == path.parent.name)
    assert read_study(directory).arm(arm).off_distribution == "It never saw such text"


def test_the_scope_says_what_all_arms_were_scored_on(directory: Path) -> None:
    assert dict(scope.scope_of(read_study(directory)))["Scored on"] == "the rest of a window, given its first part"

    def differ(plan: dict) -> None:
        plan["arms"][1]["config"]["objective"]["name"] = "mlm"
        for arm in plan["arms"]:
            arm["config"]["evaluation"] |= {"score_on": "continuation", "continuation_tokens": 5}

    edit(directory / "plan.json", differ)
    told = dict(scope.scope_of(read_study(directory)))
    assert told["Scored on"].startswith("continuation: 5 tokens of a window")
    assert told["Objective"] == "prefix_lm and mlm"


def test_defaults_go_without_saying(directory: Path) -> None:
    record = read_study(directory)
    assert not {"Objective", "Positions", "Token mixer"} & dict(scope.scope_of(record)).keys()
    shown = {name: dict(rows) for name, rows in repeat.settings(record)}
    assert shown["model"]["input_attention"] == "causal (gpt); bidirectional (unilm)"
    assert shown["model"]["layers"] == "4"
    assert not {"mean_spans", "task_length", "beta1"} & {name for rows in shown.values() for name in rows}

    def change(plan: dict) -> None:
        plan["arms"][0]["config"]["model"]["position"] = "alibi"
        for arm in plan["arms"]:
            arm["config"]["training"]["beta1"] = 0.8

    edit(directory / "plan.json", change)
    record = read_study(directory)
    shown = {name: dict(rows) for name, rows in repeat.settings(record)}
    assert shown["training"]["beta1"] == "0.8"
    assert shown["model"]["position"] == "alibi (gpt); rope (unilm)"
    assert dict(scope.scope_of(record))["Positions"] == "alibi and rope"


def test_documents_that_no_arm_reads_are_counted(directory: Path) -> None:
    as_pairs(directory, "exact_match")
    edit(
        directory / "audit.json", lambda audit: [arm.update(documents_left_out=1234) for arm in audit["arms"].values()]
    )
    assert (
        "1 234 training pairs longer than the window left out".replace(" ", "\u202f", 1)
        in dict(scope.scope_of(read_study(directory)))["Corpus"]
    )


def test_longer_windows_have_a_chart_a_table_and_reasons(directory: Path) -> None:
    assert draw_charts(read_study(directory)).chart("beyond") is None
    assert tables.lengths_table(read_study(directory)) is None
    with_longer_windows(directory, {"unilm": "Positions are a learned table of 128 rows."})
    record = read_study(directory)
    rows = draw_charts(record).data["beyond_bits_per_byte"]
    assert [(row["arm"], row["place"]) for row in rows] == [("gpt", "128"), ("unilm", "128"), ("gpt", "256 (2 ×)")]
    assert rows[2]["score"] == pytest.approx(rows[0]["score"] + 0.05, abs=1e-4)
    table = tables.lengths_table(record)
    assert table.columns[1:] == ("128 tokens, as trained", "256 tokens (2 ×)")
    assert table.rows[1][2].text == "–"
    assert table.notes == ("No score of unilm at 256 tokens (2 ×): Positions are a learned table of 128 rows.",)
    for form in ("html", "md"):
        assert "Beyond the training length" in build_report(directory, form).read_text()


def test_no_arm_can_read_longer_windows_and_the_reasons_still_stand(directory: Path) -> None:
    with_longer_windows(directory, dict.fromkeys(TWO, "Pairs have lengths of their own."))
    record = read_study(directory)
    assert draw_charts(record).chart("beyond") is None
    assert "Pairs have lengths of their own." in build_report(directory).read_text()


def test_one_length_of_input_is_no_chart(directory: Path) -> None:
    for path in directory.glob("trials/*/result.json"):
        edit(path, lambda result: result["test"].update(by_split={"0": result["test"]["by_split"]["32"]}))
    assert draw_charts(read_study(directory)).chart("splits") is None


def test_other_batches_are_no_fault_where_the_objective_differs_as_declared(directory: Path) -> None:
    def order(result: dict) -> None:
        result["hashes"]["data_order"] += "x"

    arms = {trial.id: trial.arm for trial in read_study(directory).trials}
    for path in directory.glob("trials/*/result.json"):
        if arms[path.parent.name] == "unilm":
            edit(path, order)
    assert [check.holds for check in tables.checks(read_study(directory))] == [True, False, True, True]
    edit(directory / "plan.json", lambda plan: plan["arms"][1]["config"]["objective"].update(name="lm"))
    assert all(check.holds for check in tables.checks(read_study(directory)))

    def declared(audit: dict) -> None:
        audit["claims"][0] |= {"same_data": False, "varies": ["objective.name"]}

    edit(directory / "audit.json", declared)
    assert tables.contrasts_table(read_study(directory)).rows[0][5].text == "no, as declared"
    edit(directory / "audit.json", lambda audit: audit["claims"][0].update(undeclared=["objective.name"]))
    assert tables.contrasts_table(read_study(directory)).rows[0][5].kind == "bad"


def test_the_main_metric_is_the_one_most_claims_are_about(directory: Path) -> None:
    as_pairs(directory, "token_accuracy")
    record = read_study(directory)
    assert [metric.name for metric in measured.charted(record)] == ["token_accuracy", "bits_per_byte"]
    edit(directory / "plan.json", lambda plan: plan.update(claims=[]))
    (directory / "verdicts.json").unlink()
    assert measured.main_metric(read_study(directory)).name == "bits_per_byte"


def test_curves_show_the_main_accuracy_and_the_loss_beside_it(directory: Path) -> None:
    as_pairs(directory, "exact_match")
    labels = [label for label, _ in draw_charts(read_study(directory)).chart("learning").views]
    assert "Log scales" in labels  # curves that hold no accuracies show the loss
    for path in directory.glob("trials/*/curve.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row | {"exact_match": row["step"] / 600}) + "\n" for row in rows))
    charts = draw_charts(read_study(directory))
    assert [label for label, _ in charts.chart("learning").views] == ["Whole run", "Second half", "Against gpt", "Loss"]
    assert max(row["score"] for row in charts.data["curve_exact_match"]) == pytest.approx(0.1)
    assert {row["score"] for row in charts.data["curve_exact_match_difference"]} == {0.0}


def test_a_plan_that_names_what_is_not_there_is_refused_in_one_plain_line(directory: Path) -> None:
    def unknown(plan: dict) -> None:
        plan["arms"][0]["config"]["model"]["input_attention"] = "nowhere"

    edit(directory / "plan.json", unknown)
    with pytest.raises(StudyError) as refused:
        read_study(directory)
    said = str(refused.value)
    assert '(arms.0.config.model: input_attention = "nowhere": should be one of causal' in said
    assert "\n" not in said
    assert "pydantic" not in said
