"""A plan resolves arms, repeats claims, and orders trials with ids that say what they are."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paribus.errors import StudyError
from paribus.plan.arms import consequences, differences, resolve
from paribus.plan.building import build_plan, trial_id
from paribus.plan.reading import load_study, study_from
from paribus.records.plan import Arm, Plan
from paribus.spec.fields import config_fields
from paribus.spec.study import Config
from study_examples import names, studies

CLAIM = {"says": "s", "arm": "b", "against": "a", "expect": "better", "margin": 0.1}
STUDY: dict[str, Any] = {
    "question": "q",
    "vary": ["model.layers", "model.width", "model.heads", "model.init"],
    "seeds": 3,
    "arm": {"a": {}, "b": {"model": {"layers": 2}}},
    "claim": [CLAIM],
}


def plan_of(**changes: Any) -> Plan:
    return build_plan(study_from(STUDY | changes))


@given(studies())
def test_trials_are_interleaved_so_that_each_round_gives_every_arm_one_seed(tables: dict[str, Any]) -> None:
    study = study_from(tables)
    plan = build_plan(study)
    arms = [arm.name for arm in plan.arms]
    assert [(trial.seed, trial.arm) for trial in plan.trials] == [
        (seed, arm) for seed in study.seed_list for arm in arms
    ]
    assert plan.seeds == study.seed_list


@given(studies())
def test_a_plan_survives_being_written_as_json(tables: dict[str, Any]) -> None:
    plan = build_plan(study_from(tables))
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False)))
    assert again.to_dict() == plan.to_dict()
    assert (again.arms, again.claims, again.trials) == (plan.arms, plan.claims, plan.trials)


@given(names, st.integers(0, 10**9))
def test_ids_are_safe_on_every_file_system(name: str, seed: int) -> None:
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,59}", trial_id(Arm(name, name, {}, Config()), seed))


@given(st.lists(names, min_size=2, max_size=9, unique=True))
def test_arms_of_any_name_have_ids_of_their_own(arms: list[str]) -> None:
    trials = plan_of(arm={name: {} for name in arms}, claim=[]).trials
    assert len({trial.id for trial in trials}) == len(trials)


def test_an_id_begins_with_its_arm_and_seed() -> None:
    assert [trial.id[:5] for trial in plan_of().trials] == ["a-s0-", "b-s0-", "a-s1-", "b-s1-", "a-s2-", "b-s2-"]
    assert trial_id(Arm("双向", "双向", {}, Config()), 7).startswith("arm-s7-")


def test_ids_are_the_same_in_every_process() -> None:
    program = (
        "from paribus.plan.building import build_plan; from paribus.plan.reading import load_study;"
        "print(*[trial.id for trial in build_plan(load_study('decoder-only')).trials])"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert there == [trial.id for trial in build_plan(load_study("decoder-only")).trials]


OTHER: dict[str, Any] = {
    "training.budgets": 2,
    "data.corpus": "x",
    "data.text_column": "x",
    "data.input_column": "x",
    "data.target_column": "x",
    "data.pairs": True,
    "data.tokenizer": "bytes",
    "data.special_tokens": 7,
    "data.task_length": 7,
    "data.task_symbols": 7,
    "objective.name": "lm",
    "objective.loss_on": "all",
    "objective.splits": [0.5],
    "objective.split_weights": [1.0, 2.0, 3.0],
    "objective.denoisers": ["S", "R", "S", "X", "X", "X", "X"],
    "objective.densities": [0.1, 0.15, 0.25, 0.5, 0.5, 0.15, 0.5],
    "objective.mean_spans": [2.0, 8.0, 1.0, 3.0, 8.0, 64.0, 64.0],
    "objective.proportions": [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "model.input_attention": "bidirectional",
    "model.parameters": "separate",
    "model.memory": "final_layer",
    "model.heads": 2,
    "model.kv_heads": 2,
    "model.feed_forward": 64,
    "model.init": "zero_residual",
    "model.attention_window": 7,
    "model.cross_weights": "tied",
    "model.cross_position": "restart",
    "model.activation": "gelu",
    "model.mixer": "linear",
    "model.feature_map": "relu",
    "model.position": "learned",
    "model.positions": 512,
    "model.norm": "layernorm",
    "model.norm_order": "post",
    "model.qk_norm": True,
    "model.bias": True,
    "model.embedding_norm": True,
    "model.prediction": "transformed",
    "model.tie_embeddings": True,
    "model.start_from": "x",
    "training.device": "cpu",
    "training.dtype": "float32",
    "training.compile": "never",
    "training.attention": "dense",
    "training.optimizer": "muon",
    "evaluation.score_on": "objective",
    "evaluation.continuation_splits": [0.5],
    "evaluation.window_factors": [2.0],
}


def other(field: str) -> Any:
    section, _, name = field.partition(".")
    value = getattr(getattr(Config(), section), name)
    if field in OTHER:
        return OTHER[field]
    return value * 2 if isinstance(value, int) else value * 0.9


@pytest.mark.parametrize("field", config_fields())
def test_an_id_changes_with_every_field_of_the_configuration(field: str) -> None:
    tables = Config().model_dump()
    section, _, name = field.partition(".")
    tables[section][name] = other(field)
    changed = Config.model_validate(tables)
    assert trial_id(Arm("a", "a", {}, changed), 0) != trial_id(Arm("a", "a", {}, Config()), 0)
    assert differences(changed, Config()) == [field]


def test_an_id_changes_with_the_seed_and_the_arm() -> None:
    ids = {trial_id(Arm(name, name, {}, Config()), seed)[-8:] for name in ("a", "b") for seed in (0, 1)}
    assert len(ids) == 4


def test_overrides_are_kept_as_resolved_values() -> None:
    plan = plan_of(vary=["training.tokens"], arm={"a": {"training": {"tokens": "1M"}}}, claim=[])
    assert plan.arm("a").overrides == {"training.tokens": 1_000_000}


def test_a_claim_is_repeated_under_each_value_with_arms_of_its_own() -> None:
    plan = plan_of(claim=[CLAIM | {"repeat_under": {"model.init": ["normal_0.02", "zero_residual"]}}])
    assert [(claim.arm, claim.against, str(claim.condition)) for claim in plan.claims] == [
        ("b", "a", ""),
        ("b [init=normal_0.02]", "a [init=normal_0.02]", "model.init = normal_0.02"),
        ("b [init=zero_residual]", "a [init=zero_residual]", "model.init = zero_residual"),
    ]
    copy = plan.arm("b [init=normal_0.02]")
    assert copy.repeats == "b"
    assert copy.overrides == {"model.layers": 2, "model.init": "normal_0.02"}
    assert differences(copy.config, plan.arm("b").config) == ["model.init"]
    assert len(plan.trials) == 3 * 6


def test_claims_that_ask_for_the_same_repetition_share_its_arms() -> None:
    repeated = {"repeat_under": {"training.batch": [4]}}
    arms = {"a": {}, "b": {"model": {"layers": 2}}, "c": {"model": {"layers": 3}}}
    plan = plan_of(arm=arms, claim=[CLAIM | repeated, CLAIM | {"arm": "c"} | repeated])
    assert [arm.name for arm in plan.arms] == ["a", "b", "c", "b [batch=4]", "a [batch=4]", "c [batch=4]"]


def test_an_arm_that_takes_the_name_of_a_repetition_is_refused() -> None:
    arms = {"a": {}, "b": {}, "a [batch=4]": {}}
    with pytest.raises(StudyError, match="rename this arm"):
        plan_of(arm=arms, claim=[CLAIM | {"repeat_under": {"training.batch": [4]}}])


def test_claims_know_what_they_vary_and_hold() -> None:
    plan = plan_of(hold=["parameters"], claim=[CLAIM, CLAIM | {"vary": ["model.layers"], "hold": []}])
    assert [(claim.vary, claim.hold) for claim in plan.claims] == [
        (STUDY["vary"], ["parameters"]),
        (["model.layers"], []),
    ]


def test_a_default_written_out_is_no_difference() -> None:
    study = study_from(STUDY)
    assert differences(resolve(study, {"model.heads": 4}), resolve(study, {})) == []
    assert differences(resolve(study, {"model.heads": 2}), resolve(study, {})) == ["model.heads"]


def test_one_rule_for_all_layers_is_that_rule_and_a_table_is_as_long_as_a_window() -> None:
    base = Config()
    listed = Config(model={"input_attention": ["causal"] * base.model.layers})  # type: ignore[arg-type]
    assert differences(listed, base) == []
    mixed = Config(model={"input_attention": ["causal"] * 3 + ["bidirectional"]})  # type: ignore[arg-type]
    assert differences(mixed, base) == ["model.input_attention"]
    tables = [{"position": "learned", "positions": rows} for rows in (None, 256, 512)]
    short, same, long = (Config(model=table) for table in tables)  # type: ignore[arg-type]
    assert differences(short, same) == []
    assert differences(short, long) == ["model.positions"]


def test_what_follows_a_declared_field_is_told_apart_from_it() -> None:
    study = study_from(STUDY)
    wide, base = resolve(study, {"model.width": 256}), resolve(study, {})
    assert differences(wide, base) == ["model.width"]
    assert consequences(wide, base) == ["model.heads", "model.kv_heads", "model.feed_forward"]


def test_a_base_that_no_arm_has_need_not_fit_together() -> None:
    arms = {"a": {"objective": {"loss_on": "all"}}}
    plan = plan_of(vary=["objective.loss_on", "model.input_attention"], arm=arms, claim=[])
    assert plan.arm("a").config.input_loss
    bidirectional = {"model": {"input_attention": "bidirectional"}, "objective": {"loss_on": "all"}}
    causal = {"a": {"model": {"input_attention": "causal"}}}
    plan = plan_of(vary=["model.input_attention"], arm=causal, claim=[], **bidirectional)
    assert Plan.from_dict(plan.to_dict()).base.model.input_attention == "bidirectional"


def mixed(*names: str, **changes: Any) -> Plan:
    arms = {name: {"objective": {"name": name}} for name in names}
    return plan_of(vary=["objective.name"], arm=arms, claim=[], **changes)


def test_all_arms_share_as_many_special_tokens_as_the_neediest_of_them_asks_for() -> None:
    needs = {name: mixed(name).data.special_tokens for name in ("lm", "prefix_lm", "pairs", "mlm", "span_corruption")}
    assert needs == {
        "lm": 0,
        "prefix_lm": 0,
        "pairs": 1,
        "mlm": 2,
        "span_corruption": 5 + 12 + 1,
    }  # 12 spans, and a last one
    plan = mixed("lm", "mlm", "span_corruption")
    assert {arm.config.data.special_tokens for arm in plan.arms} == {18}
    assert mixed("lm", data={"special_tokens": 30}).data.special_tokens == 30
    with pytest.raises(StudyError, match="span_corruption needs 18"):
        mixed("lm", "span_corruption", data={"special_tokens": 3})


def test_arms_of_one_objective_are_scored_on_it_and_others_on_what_they_share() -> None:
    def scored(plan: Plan) -> set[str | None]:
        return {arm.config.evaluation.score_on for arm in plan.arms}

    assert scored(mixed("mlm")) == {"objective"}
    assert scored(mixed("lm", "mlm", "ul2")) == {"continuation"}
    assert scored(mixed("mlm", evaluation={"score_on": "continuation"})) == {"continuation"}
    with pytest.raises(StudyError, match=r"evaluation.score_on = \"objective\": the arms differ in their objective"):
        mixed("lm", "mlm", evaluation={"score_on": "objective"})
    with pytest.raises(StudyError, match="they share no task to be scored on"):
        mixed("lm", "pairs")
    densities = {str(d): {"objective": {"noise_density": d}} for d in (0.15, 0.3)}
    vary = {"vary": ["objective.noise_density"], "arm": densities, "claim": []}
    assert scored(plan_of(objective={"name": "mlm"}, **vary)) == {"continuation"}
    assert scored(plan_of(objective={"name": "lm"}, **vary)) == {"objective"}  # no field of lm


def test_loss_on_the_input_leaves_what_is_scored_as_it_is() -> None:
    arms = {"a": {}, "b": {"objective": {"loss_on": "all"}}}
    plan = plan_of(vary=["objective.loss_on"], arm=arms, claim=[])
    assert plan.arm("b").config.evaluation.score_on == "objective"


def test_what_is_shown_of_a_continuation_is_the_studys_own_splits() -> None:
    arms = {str(split): {"objective": {"splits": [split]}} for split in (0.25, 0.5)}
    plan = plan_of(vary=["objective.splits"], arm=arms, claim=[], objective={"splits": [0.3]})
    assert {tuple(arm.config.evaluation.continuation_splits or []) for arm in plan.arms} == {(0.3,)}


def test_pairs_are_read_as_pairs_by_all_arms() -> None:
    assert mixed("pairs").data.reads_pairs
    assert not mixed("lm").data.reads_pairs
    with pytest.raises(StudyError, match=r"data\.pairs = false"):
        mixed("pairs", data={"pairs": False})


@pytest.mark.parametrize("setting", [{"parameters": "separate"}, {"memory": "final_layer"}])
def test_without_a_target_side_nothing_may_treat_it_apart(setting: dict[str, str]) -> None:
    with pytest.raises(StudyError, match="has no target side"):
        mixed("mlm", model=setting)


@pytest.mark.parametrize("name", ["lm", "mlm"])
def test_loss_on_all_is_refused_where_the_input_has_none_to_add(name: str) -> None:
    with pytest.raises(StudyError, match='loss_on = "all"'):
        mixed(name, objective={"loss_on": "all"})
