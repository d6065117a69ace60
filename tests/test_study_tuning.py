"""Fields that are lists: what may be written, which values are chosen, and what is judged. Scores here are plain functions."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paribus
from paribus.data.store import prepare
from paribus.errors import StudyError
from paribus.plan.audit import audit, complaints
from paribus.plan.building import build_plan
from paribus.plan.reading import load_study
from paribus.plan.tuning import MOST_WIDENINGS, Scores, beyond, tune, tuned_plan, tuning_plan
from paribus.records.plan import Plan
from paribus.records.trials import Tuned
from paribus.spec.stopping import MOST_SEEDS, at_look
from paribus.spec.study import Study
from paribus.spec.training import TUNABLE, Training

RATE = "training.learning_rate"
TABLES: dict[str, Any] = {
    "question": "Does looking both ways help?",
    "vary": ["model.input_attention"],
    "data": {"window": 32},
    "model": {"layers": 2, "width": 16, "head_size": 8},
    "training": {"tokens": 4000, "batch": 4, "learning_rate": [1e-3, 2e-3, 4e-3]},
    "arm": {"gpt": {}, "unilm": {"model": {"input_attention": "bidirectional"}}},
    "claim": [{"says": "no gain", "arm": "unilm", "against": "gpt", "expect": "not_better", "margin": 0.1}],
}


BEST = {"gpt": 0.002, "unilm": 0.003}


def study_of(training: Mapping[str, Any] | None = None, **more: Any) -> Study:
    return paribus.study_from({**TABLES, **more, "training": {**TABLES["training"], **(training or {})}})


def measured(plan: Plan, loss: Callable[[str, Mapping[str, Any]], float | None]) -> Tuned:
    """What is chosen where an arm's loss is this function of its values; None is a trial that diverges."""

    def scores(stage: Plan) -> Scores:
        assert stage.tuning is not None
        found = {trial.id: loss(trial.of, trial.values) for trial in stage.tuning.trials}
        names = ("bits_per_byte", "nats_per_token", "token_accuracy")
        return {name: None if value is None else dict.fromkeys(names, value) for name, value in found.items()}

    return tune(plan, scores)


def bowl(best: Mapping[str, float]) -> Callable[[str, Mapping[str, Any]], float]:
    """A loss that is least at each arm's own rate, and grows with the ratio to it."""
    return lambda arm, values: abs(math.log(values[RATE] / best[arm.split(" ")[0]]))


def test_every_field_that_decides_learning_may_be_a_list_and_no_other() -> None:
    for name in Training.model_fields:
        value = getattr(Training(), name)
        values = [value, value * 2, value * 3] if isinstance(value, int) else [0.1, 0.2, 0.3]
        if name in TUNABLE:
            study = study_of({"learning_rate": 1e-3, "tokens": 10**5, name: values})
            assert study.training.grid == {f"training.{name}": sorted(values)}
            assert getattr(study.training.plain, name) == values[1]
        elif name != "budgets":
            with pytest.raises(StudyError, match=rf"training\.{name} = \[.*\]: cannot be tuned: ") as told:
                study_of({"learning_rate": 1e-3, name: values})
            assert "\n" not in str(told.value)


def test_a_study_with_lists_is_read_back_as_it_was_written() -> None:
    study = study_of({"batch": ["2", 4, 8]})
    assert Study.model_validate(json.loads(json.dumps(study.model_dump(mode="json")))) == study
    plan = build_plan(study)
    assert type(plan.base.training) is Training
    final = tuned_plan(plan, measured(plan, lambda arm, values: values[RATE] * 100 + values["training.batch"]))
    assert Plan.from_dict(json.loads(json.dumps(final.to_dict()))) == final


def test_set_takes_a_list() -> None:
    study = load_study("decoder-only", ["training.learning_rate=[1e-3,2e-3,4e-3]"])
    assert study.training.grid == {RATE: [1e-3, 2e-3, 4e-3]}


@pytest.mark.parametrize(
    "training,more,words",
    [
        ({"learning_rate": [1e-3]}, {}, r"learning_rate = \[0.001\]: .* one value cannot be: give 3 or more"),
        ({"learning_rate": [1e-3, 2e-3]}, {}, "two values cannot be"),
        ({"learning_rate": [1e-3, 2e-3, 1e-3]}, {}, "0.001 is there twice"),
        ({"learning_rate": [1e-3, 2e-3, -1]}, {}, "should be above 0"),
        ({"warmup": [0.1, 0.2, 0.9]}, {}, "more than the whole run"),
        ({"batch": [4, 8, 10**6]}, {}, r"batch = \[4, 8, 1000000\]: less than one step"),
        ({"batch": [2, 4, 8], "budgets": 3}, {}, "training.batch = .*: cannot be tuned with training.budgets"),
        ({}, {"vary": ["model.input_attention", RATE]}, "vary.1 = .*: is tuned"),
        ({}, {"arm": {**TABLES["arm"], "gpt": {"training": {"learning_rate": 1e-3}}}}, "gpt.training.learning_rate .* is tuned"),
        ({}, {"claim": [{**TABLES["claim"][0], "repeat_under": {RATE: [1e-3]}}]}, "repeat_under.* is tuned"),
        ({}, {"claim": [{**TABLES["claim"][0], "vary": [RATE]}]}, "claim.0.vary.0 = .*: is tuned"),
        ({}, {"tuning_seeds": [0, 5000]}, "seed 0 is one of seeds"),
        ({}, {"tuning_seeds": [999]}, "seed 999 may be added"),
        ({}, {"tuning_seeds": 0}, "a number of seeds"),
        ({}, {"tuning_seeds": [2000, 2000]}, "there twice"),
        ({}, {"seeds": [0, 1_000_001]}, "seed 1000001 is one of seeds"),
        ({}, {"common_values": "no"}, "common_values"),
        ({"learning_rate": [n / 1e4 for n in range(1, 3000)]}, {}, "11,996 trials"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_is_refused_in_one_line(training: Any, more: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words) as told:
        study_of(training, **more)
    assert "\n" not in str(told.value)


@given(
    st.lists(st.integers(0, 10**7), min_size=1, max_size=5, unique=True), st.integers(1, MOST_SEEDS), st.integers(1, 50)
)
@settings(max_examples=30, deadline=None)
def test_no_seed_that_chooses_is_ever_judged(seeds: list[int], look: int, number: int) -> None:
    study = study_of()
    declared = study.model_copy(update={"seeds": seeds, "tuning_seeds": number})
    if {*seeds} & {*declared.tuning_seed_list}:
        with pytest.raises(StudyError, match="is one of seeds"):
            build_plan(declared)
        return
    assert build_plan(declared).seeds == seeds
    assert not {*at_look(declared, look).seed_list} & {*declared.tuning_seed_list}


RATES = st.floats(1e-5, 1e-1)


@given(RATES, RATES)
@settings(max_examples=60, deadline=None)
def test_the_grid_is_widened_for_all_until_each_best_lies_inside(one: float, other: float) -> None:
    plan = build_plan(study_of())
    best = {"gpt": one, "unilm": other}
    tuned = measured(plan, bowl(best))
    (group,) = tuned.groups
    values = group.grid[RATE]
    assert values == sorted(set(values))
    assert {*group.written[RATE], *(entry.value for entry in group.widened)} == {*values}
    tried = {arm: {trial.values[RATE] for trial in tuned.trials if trial.of == arm} for arm in best}
    assert tried["gpt"] == tried["unilm"] == {*values}
    for arm, rate in best.items():
        chosen = tuned.choices[arm].values[RATE]
        assert abs(math.log(chosen / rate)) == min(abs(math.log(value / rate)) for value in values)
        at_edge = chosen in (values[0], values[-1])
        assert at_edge == bool(tuned.choices[arm].edges)
        assert not at_edge or any(arm in stop.arms for stop in group.stopped)
    assert len(group.widened) <= MOST_WIDENINGS
    if len(group.widened) < MOST_WIDENINGS:
        assert not group.stopped
    assert measured(plan, bowl(best)) == tuned


def test_of_several_fields_the_grid_stays_a_full_crossing_and_each_is_widened_by_itself() -> None:
    plan = build_plan(study_of({"batch": [2, 4, 8]}))
    tuned = measured(plan, lambda arm, values: abs(math.log(values[RATE] / 0.016)) + abs(values["training.batch"] - 4))
    (group,) = tuned.groups
    assert group.grid == {RATE: [0.001, 0.002, 0.004, 0.008, 0.016, 0.032], "training.batch": [2, 4, 8]}
    assert len(tuned.trials) == 2 * 6 * 3 * 2  # arms, rates, batches, seeds
    assert {choice.values["training.batch"] for choice in tuned.choices.values()} == {4}


def test_a_field_is_not_widened_beyond_what_it_may_be() -> None:
    plan = build_plan(study_of({"learning_rate": 1e-3, "warmup": [0.2, 0.4, 0.8], "decay": 0.1}))
    tuned = measured(plan, lambda arm, values: -values["training.warmup"])
    (stop,) = tuned.groups[0].stopped
    assert (stop.field, stop.value, stop.arms) == ("training.warmup", 0.8, ["gpt", "unilm"])
    assert "should be at most 1" in stop.reason
    assert not tuned.groups[0].widened
    down = measured(
        build_plan(study_of({"learning_rate": 1e-3, "weight_decay": [0.0, 0.1, 0.2]})),
        lambda arm, values: values["training.weight_decay"],
    )
    assert "at least 0" in down.groups[0].stopped[0].reason


@pytest.mark.parametrize(
    "field,values,lowest,highest",
    [
        ("learning_rate", [1e-3, 2e-3, 4e-3], 5e-4, 8e-3),
        ("learning_rate", [1e-3, 3e-3, 1e-2], 3.33e-4, 3.33e-2),
        ("batch", [8, 16, 32], 4, 64),
        ("batch", [1, 2, 3], 0, 4),
        ("batch", [100, 101, 102], 99, 103),
        ("weight_decay", [0.0, 0.1, 0.2], -0.1, 0.3),
        ("beta2", [0.9, 0.95, 0.99], 0.8, 0.998),
        ("clip", [0.5, 1.0, 2.0], 0.25, 4.0),
    ],
)  # fmt: skip
def test_a_grid_goes_on_as_it_is_spaced(field: str, values: list[Any], lowest: Any, highest: Any) -> None:
    name = f"training.{field}"
    assert [beyond(name, values, "lowest"), beyond(name, values, "highest")] == pytest.approx(
        [lowest, highest], rel=1e-9
    )


def test_what_diverges_is_infinitely_bad() -> None:
    plan = build_plan(study_of())
    tuned = measured(plan, lambda arm, values: None if values[RATE] > 0.003 else 1 / values[RATE])
    assert {choice.values[RATE] for choice in tuned.choices.values()} == {0.002}
    hopeless = measured(plan, lambda arm, values: None if arm == "gpt" else bowl({"unilm": 0.002})(arm, values))
    assert hopeless.choices["gpt"].score is None
    assert hopeless.choices["gpt"].values == {RATE: 0.002}
    assert not hopeless.groups[0].widened


def test_a_value_at_which_one_of_two_seeds_diverged_is_not_chosen_however_good_the_other_is() -> None:
    plan = build_plan(study_of())
    assert plan.tuning is not None

    def scores(stage: Plan) -> Scores:
        assert stage.tuning is not None
        names = ("bits_per_byte", "nats_per_token")
        found = {
            trial.id: None if trial.values[RATE] == 0.004 and trial.seed == stage.tuning.seeds[0] else trial
            for trial in stage.tuning.trials
        }
        loss = {0.001: 3.0, 0.002: 2.0, 0.004: 1.0}
        return {
            name: trial and dict.fromkeys(names, loss.get(trial.values[RATE], 9.0)) for name, trial in found.items()
        }

    assert {choice.values[RATE] for choice in tune(plan, scores).choices.values()} == {0.002}


def test_values_are_chosen_at_the_full_budget_alone() -> None:
    plan = build_plan(study_of(training={"budgets": 2, "warmup": 0.0}))
    assert plan.tuning is not None
    stage = tuning_plan(plan, plan.tuning)
    assert {arm.config.training.budgets for arm in stage.arms} == {None}
    assert {arm.config.training.budgets for arm in tuned_plan(plan, measured(plan, bowl(BEST))).arms} == {2}


def written(folder: Path) -> dict[str, Any]:
    """A corpus of a dozen small documents, as `[data]`."""
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"document {number} says " + "one thing and another " * 60)
    return {"corpus": str(folder), "tokenizer": "bytes", "window": 32}


def test_what_was_tuned_is_neither_varied_nor_undeclared_and_all_else_still_is(tmp_path: Path) -> None:
    data = written(tmp_path)
    plan = build_plan(study_of(data=data))
    final = tuned_plan(plan, measured(plan, bowl(BEST)))
    found = audit(final, prepare(plan.data))
    first, *common = found["claims"]
    assert (first["tuned"], first["varies"], first["undeclared"]) == ([RATE], ["model.input_attention"], [])
    assert all(claim["tuned"] == [] for claim in common)
    assert found["passed"]
    other = {"gpt": {}, "unilm": {"model": {"input_attention": "bidirectional", "norm": "layernorm"}}}
    plan = build_plan(study_of(data=data, arm=other, vary=["model.input_attention", "model.norm"]))
    claims = [claim.model_copy(update={"vary": ["model.input_attention"]}) for claim in plan.claims]
    plan = dataclasses.replace(plan, claims=claims)
    found = audit(tuned_plan(plan, measured(plan, bowl(BEST))), prepare(plan.data))
    assert found["claims"][0]["undeclared"] == ["model.norm"]
    assert not found["passed"]


@pytest.mark.parametrize("batch, held, passes", [([3, 5, 8], "seen_tokens", False), ([4, 8, 16], "seen_tokens", True)])
def test_a_hold_that_different_best_batches_would_break_fails_before_anything_is_trained(
    tmp_path: Path, batch: list[int], held: str, passes: bool
) -> None:
    training = {"tokens": 4096, "batch": batch, "learning_rate": 1e-3}
    plan = build_plan(study_of(training, data=written(tmp_path), hold=[held], objective={"name": "mlm"}))
    found = audit(plan, prepare(plan.data))
    assert found["passed"] == passes
    if not passes:
        assert (
            "training.batch is tuned, and arms that choose different ones of 3, 5, 8 may have" in complaints(found)[0]
        )


def test_where_more_is_better_the_largest_is_chosen_and_ties_go_to_the_middle() -> None:
    claim = {**TABLES["claim"][0], "metric": "token_accuracy"}
    plan = build_plan(study_of(claim=[claim]))
    tuned = measured(plan, lambda arm, values: -bowl({"gpt": 0.004, "unilm": 0.001})(arm, values) + 10)
    assert tuned.metric == "token_accuracy"
    assert [tuned.choices[arm].values[RATE] for arm in ("gpt", "unilm")] == [0.004, 0.001]
    same = measured(plan, lambda arm, values: 0.0)
    assert {choice.values[RATE] for choice in same.choices.values()} == {0.002}


def test_claims_are_judged_at_best_and_at_each_common_value_and_nothing_is_trained_twice() -> None:
    plan = build_plan(study_of())
    final = tuned_plan(plan, measured(plan, bowl({"gpt": 0.002, "unilm": 0.003})))
    assert final.tuning is not None
    values = final.tuning.groups[0].grid[RATE]
    assert [str(claim.condition) for claim in final.claims] == ["", *(f"{RATE} = {value:g}" for value in values)]
    for claim in final.claims[1:]:
        rates = {final.arm(name).config.training.learning_rate for name in (claim.arm, claim.against)}
        assert len(rates) == 1
        assert claim.number == 0
    configs = [(repr(final.arm(trial.arm).config), trial.seed) for trial in final.trials]
    assert len(configs) == len(set(configs)) == 2 * len(values) * 3
    assert {final.arm(name).repeats for name in final.tuning.copies} == {"gpt", "unilm"}
    assert final.arm("gpt").config.training.learning_rate == 0.002
    spared = tuned_plan(plan, measured(build_plan(study_of(common_values=False)), bowl({"gpt": 0.002, "unilm": 0.003})))
    assert [str(claim.condition) for claim in spared.claims] == [""]
    assert [arm.name for arm in spared.arms] == ["gpt", "unilm"]


def test_repetitions_are_tuned_by_themselves_and_only_the_claim_is_judged_at_common_values() -> None:
    claim = {**TABLES["claim"][0], "repeat_under": {"model.init": ["normal_0.02"]}}
    plan = build_plan(study_of(claim=[claim]))
    assert plan.tuning is not None
    stage = tuning_plan(plan, plan.tuning)
    assert len(stage.trials) == 4 * 3 * 2
    final = tuned_plan(plan, measured(plan, lambda arm, values: abs(values[RATE] - (0.004 if "[" in arm else 0.002))))
    copy = final.arm("gpt [init=normal_0.02]")
    assert copy.config.training.learning_rate == 0.004
    assert sum(bool(claim.condition.common) for claim in final.claims) == len(final.tuning.groups[0].grid[RATE])  # type: ignore[union-attr]


def test_each_size_has_a_grid_of_its_own_that_follows_its_rule() -> None:
    plan = build_plan(study_of(sizes=["10k", "40k"]))
    assert plan.tuning is not None
    small, large = plan.tuning.groups
    assert small.written[RATE][0] > large.written[RATE][0]
    assert {plan.arm(name).size for name in small.arms} == {"10k"}
    tuned = measured(plan, lambda arm, values: abs(math.log(values[RATE] / (0.001 if "10k" in arm else 0.0001))))
    final = tuned_plan(plan, tuned)
    rates = {arm.size: arm.config.training.learning_rate for arm in final.arms if not arm.repeats}
    assert rates["10k"] > rates["40k"]
    assert all(claim.condition.size in ("10k", "40k") for claim in final.claims)
