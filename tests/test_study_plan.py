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
from paribus.study.arms import consequences, differences, resolve
from paribus.study.fields import config_fields
from paribus.study.plan import Arm, Plan, build_plan, trial_id
from paribus.study.reading import load_study, study_from
from paribus.study.spec import Config
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
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,59}", trial_id(Arm(name, {}, Config()), seed))


@given(st.lists(names, min_size=2, max_size=9, unique=True))
def test_arms_of_any_name_have_ids_of_their_own(arms: list[str]) -> None:
    trials = plan_of(arm={name: {} for name in arms}, claim=[]).trials
    assert len({trial.id for trial in trials}) == len(trials)


def test_an_id_begins_with_its_arm_and_seed() -> None:
    assert [trial.id[:5] for trial in plan_of().trials] == ["a-s0-", "b-s0-", "a-s1-", "b-s1-", "a-s2-", "b-s2-"]
    assert trial_id(Arm("双向", {}, Config()), 7).startswith("arm-s7-")


def test_ids_are_the_same_in_every_process() -> None:
    program = (
        "from paribus.study.plan import build_plan; from paribus.study.reading import load_study;"
        "print(*[trial.id for trial in build_plan(load_study('decoder-only')).trials])"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert there == [trial.id for trial in build_plan(load_study("decoder-only")).trials]


OTHER: dict[str, Any] = {
    "data.corpus": "x",
    "data.text_column": "x",
    "data.tokenizer": "bytes",
    "objective.loss_on": "all",
    "objective.splits": [0.5],
    "objective.split_weights": [1.0, 2.0, 3.0],
    "model.input_attention": "bidirectional",
    "model.parameters": "separate",
    "model.memory": "final_layer",
    "model.heads": 2,
    "model.kv_heads": 2,
    "model.feed_forward": 64,
    "model.init": "zero_residual",
    "training.device": "cpu",
    "training.dtype": "float32",
    "training.compile": "never",
}


def other(field: str) -> Any:
    section, _, name = field.partition(".")
    value = getattr(getattr(Config(), section), name)
    if field in OTHER:
        return OTHER[field]
    return value * 2 if isinstance(value, int) else value * 0.9


FIXED = {"objective.name", "model.position"}  # fields of one value


@pytest.mark.parametrize("field", sorted(set(config_fields()) - FIXED))
def test_an_id_changes_with_every_field_of_the_configuration(field: str) -> None:
    tables = Config().model_dump()
    section, _, name = field.partition(".")
    tables[section][name] = other(field)
    changed = Config.model_validate(tables)
    assert trial_id(Arm("a", {}, changed), 0) != trial_id(Arm("a", {}, Config()), 0)
    assert differences(changed, Config()) == [field]


def test_an_id_changes_with_the_seed_and_the_arm() -> None:
    ids = {trial_id(Arm(name, {}, Config()), seed)[-8:] for name in ("a", "b") for seed in (0, 1)}
    assert len(ids) == 4


def test_overrides_are_kept_as_resolved_values() -> None:
    plan = plan_of(vary=["training.tokens"], arm={"a": {"training": {"tokens": "1M"}}}, claim=[])
    assert plan.arm("a").overrides == {"training.tokens": 1_000_000}


def test_a_claim_is_repeated_under_each_value_with_arms_of_its_own() -> None:
    plan = plan_of(claim=[CLAIM | {"repeat_under": {"model.init": ["normal_0.02", "zero_residual"]}}])
    assert [(claim.arm, claim.against, claim.under) for claim in plan.claims] == [
        ("b", "a", None),
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
