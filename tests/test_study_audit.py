"""The audit counts what arms cost, and fails where anything undeclared differs or anything held is unequal."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpora import documents, write_folder
from paribus.costs.counting import parameter_counts, training_flops
from paribus.data.batches import Batch, TrainingBatches
from paribus.data.store import Corpus, prepare
from paribus.errors import StudyError
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.plan.audit import audit, common_names, complaints, recorded
from paribus.plan.building import build_plan
from paribus.plan.reading import study_from
from paribus.records.condition import Condition
from paribus.records.plan import Plan
from paribus.training.runtime import Runtime
from paribus.training.trainer import Trainer

CLAIM = {"says": "s", "arm": "unilm", "against": "gpt", "expect": "better", "margin": 0.1}

NARROW: dict[str, Any] = {
    "gpt": {},
    "unilm": {"model": {"input_attention": "bidirectional"}},
    "unshared": {"model": {"parameters": "separate"}},
    "deep": {"model": {"layers": 3}},
}
ARMS = NARROW | {"wide": {"model": {"width": 64}}, "all": {"objective": {"loss_on": "all"}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARIBUS_CACHE", str(root / "cache"))
        yield write_folder(root / "texts", documents(60, words=120))


def plan_of(folder: Path, **changes: Any) -> Plan:
    tables: dict[str, Any] = {
        "question": "q",
        "vary": ["model.input_attention", "model.parameters", "model.layers", "model.width", "objective.loss_on"],
        "hold": ["parameters", "seen_tokens", "loss_tokens"],
        "seeds": 2,
        "data": {"corpus": str(folder), "tokenizer": "bytes", "window": 32},
        "model": {"layers": 2, "width": 32, "head_size": 16},
        "training": {"tokens": 2048, "batch": 4},
        "arm": ARMS,
        "claim": [CLAIM],
    }
    return build_plan(study_from(tables | changes))


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return prepare(plan_of(folder).base.data)


def test_arms_that_differ_only_in_what_is_declared_pass(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    assert result["passed"]
    assert complaints(result) == []
    (claim,) = result["claims"]
    assert (claim["varies"], claim["undeclared"]) == (["model.input_attention"], [])
    assert claim["same_start"]
    assert claim["same_data"]
    assert [hold["holds"] for hold in claim["holds"]] == [True] * 3
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_an_undeclared_difference_fails(folder: Path, corpus: Corpus) -> None:
    claim = CLAIM | {"arm": "deep", "vary": ["model.input_attention"], "hold": []}
    result = audit(plan_of(folder, claim=[claim]), corpus)
    assert result["claims"][0]["undeclared"] == ["model.layers"]
    assert not result["passed"]
    (said,) = complaints(result)
    assert '"deep" and "gpt" differ in model.layers, which its vary does not list' in said


def test_a_broken_hold_fails_and_says_what_would_be_allowed(folder: Path, corpus: Corpus) -> None:
    result = audit(plan_of(folder, claim=[CLAIM | {"arm": "unshared"}]), corpus)
    (said,) = complaints(result)
    (hold,) = [hold for hold in result["claims"][0]["holds"] if not hold["holds"]]
    arms = result["arms"]
    assert (hold["arm"], hold["against"]) == (arms["unshared"]["parameters"], arms["gpt"]["parameters"])
    share = said.partition('or allow "')[2].rstrip('"')
    again = audit(plan_of(folder, claim=[CLAIM | {"arm": "unshared", "hold": [share]}]), corpus)
    assert again["passed"]
    number = int(share.removeprefix("parameters: ").removesuffix("%"))
    less = audit(plan_of(folder, claim=[CLAIM | {"arm": "unshared", "hold": [f"parameters: {number - 1}%"]}]), corpus)
    assert not less["passed"]


def test_loss_on_the_input_breaks_a_hold_on_loss_tokens(folder: Path, corpus: Corpus) -> None:
    held = audit(plan_of(folder, claim=[CLAIM | {"arm": "all"}]), corpus)
    assert any("must hold loss_tokens equal" in said for said in complaints(held))
    free = audit(plan_of(folder, claim=[CLAIM | {"arm": "all", "hold": ["seen_tokens"]}]), corpus)
    assert free["passed"]
    assert not free["claims"][0]["same_data"]  # declared: the labels of the input are part of what is read


def test_equal_costs_are_held_for_every_seed(folder: Path, corpus: Corpus) -> None:
    held = CLAIM | {"arm": "unshared", "hold": ["train_flops"]}
    result = audit(plan_of(folder, seeds=[3, 1, 4], claim=[held]), corpus)
    assert result["passed"]
    flops = {seed["train_flops"] for seed in result["arms"]["gpt"]["seeds"].values()}
    assert len(flops) > 1  # splits are drawn, so that seeds differ
    assert list(result["arms"]["gpt"]["seeds"]) == ["3", "1", "4"]
    broken = audit(plan_of(folder, seeds=[3, 1, 4], claim=[held | {"arm": "unilm"}]), corpus)
    (hold,) = broken["claims"][0]["holds"]
    ratios = {
        broken["arms"]["unilm"]["seeds"][seed]["train_flops"] / broken["arms"]["gpt"]["seeds"][seed]["train_flops"]
        for seed in ("3", "1", "4")
    }
    assert hold["arm"] / hold["against"] == max(ratios) > 1


def predicting_in(batch: Batch) -> int:
    """Input positions of each pair that predict something: as many in every row."""
    if batch.input_labels is None:
        return 0
    (count,) = set((batch.input_labels >= 0).sum(1).tolist())
    return int(count)


def test_counts_are_those_of_real_models_and_batches(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    for arm in plan.arms:
        config, counted = arm.config, result["arms"][arm.name]
        with torch.device("meta"):
            model = Transformer(config.model, interface_of(config, corpus.vocabulary))
        assert counted["total_parameters"] == sum(parameter.numel() for parameter in model.parameters())
        for seed in plan.seeds:
            batches = TrainingBatches(corpus, config.data, config.objective, config.training.batch, seed)
            read = [batches.at(step) for step in range(2048 // (4 * 32))]
            expected = counted["seeds"][str(seed)]
            assert expected["loss_tokens"] == sum(batch.loss_tokens for batch in read)
            assert expected["seen_tokens"] == sum(batch.seen_tokens for batch in read)
            interface = interface_of(config, corpus.vocabulary)
            assert expected["train_flops"] == sum(
                training_flops(config.model, interface, batch.input.shape[1], int(tokens), predicting_in(batch))
                for batch in read
                for tokens in (batch.labels >= 0).sum(1)
            )


def test_arms_share_a_start_and_an_order_but_seeds_do_not(folder: Path, corpus: Corpus) -> None:
    arms = audit(plan_of(folder, arm=NARROW), corpus)["arms"]
    for key in ("common_init", "data_order"):
        same = {(arms[name]["seeds"]["0"][key]) for name in ("gpt", "unilm", "unshared", "deep")}
        assert len(same) == 1
        assert arms["gpt"]["seeds"]["1"][key] not in same
    assert common_names(plan_of(folder), corpus.vocabulary, ["gpt", "deep"]) > common_names(
        plan_of(folder), corpus.vocabulary
    )


def test_repeating_under_another_start_passes_with_another_start(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder, arm=NARROW, claim=[CLAIM | {"repeat_under": {"model.init": ["normal_0.02"]}}])
    result = audit(plan, corpus)
    assert result["passed"]
    assert [str(Condition.model_validate(claim["condition"])) for claim in result["claims"]] == [
        "",
        "model.init = normal_0.02",
    ]
    arms = result["arms"]
    assert arms["gpt"]["common_init"] != arms["gpt [init=normal_0.02]"]["common_init"]
    assert arms["gpt [init=normal_0.02]"]["common_init"] == arms["unilm [init=normal_0.02]"]["common_init"]


def test_what_follows_from_a_declared_field_is_shown_and_no_fault(folder: Path, corpus: Corpus) -> None:
    result = audit(plan_of(folder, claim=[CLAIM | {"arm": "wide", "hold": []}]), corpus)
    assert result["passed"]
    assert result["arms"]["wide"]["differs"] == {"model.width": 64}
    assert result["arms"]["wide"]["follows"]["model.heads"] == 4
    assert result["claims"][0]["follows"] == ["model.heads", "model.kv_heads", "model.feed_forward"]


def test_a_model_beyond_this_machine_is_refused_before_it_is_drawn(folder: Path, corpus: Corpus) -> None:
    arms = {"gpt": {}, "unilm": {"model": {"width": 10**6}}}
    with pytest.raises(StudyError, match='arm "unilm": one tensor alone is too large'):
        audit(plan_of(folder, arm=arms), corpus)


def records(plan: Plan, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What trainers that do as predicted record."""
    made = {}
    for trial in plan.trials:
        arm = result["arms"][trial.arm]
        seed = arm["seeds"][str(trial.seed)]
        made[trial.id] = {
            "status": "done",
            "steps": seed["data_order_steps"],
            "parameters": arm["parameters"],
            "total_parameters": arm["total_parameters"],
            "seen_tokens": seed["seen_tokens"],
            "loss_tokens": seed["loss_tokens"],
            "hashes": {
                "init": seed["init"],
                "common_init": seed["common_init"],
                "data_order": seed["data_order"],
                "test_windows": "w",
            },
        }
    return made


def test_a_run_that_did_as_predicted_passes(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    after = recorded(result, plan, records(plan, result))
    assert after["recorded"] == {"trials": len(plan.trials), "mismatches": []}
    assert after["passed"]
    assert "recorded" not in result


@pytest.mark.parametrize(
    "key", ["parameters", "total_parameters", "seen_tokens", "loss_tokens", "init", "common_init", "data_order"]
)
def test_a_run_that_did_otherwise_fails(key: str, folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    found = records(plan, result)
    trial = plan.trials[3].id
    holder = found[trial]["hashes"] if key in found[trial]["hashes"] else found[trial]
    holder[key] = "other" if isinstance(holder[key], str) else holder[key] + 1
    after = recorded(result, plan, found)
    assert not after["passed"]
    (said,) = complaints(after)
    assert trial in said
    assert key in said
    assert recorded(after, plan, records(plan, result))["passed"]  # judged anew each time


def test_a_real_trainer_does_as_predicted(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder, seeds=[5])
    result = audit(plan, corpus)
    found = {}
    for trial in plan.trials:
        config = plan.arm(trial.arm).config
        runtime = Runtime(device="cpu", dtype="float32", compile=False, threads=1)
        trainer = Trainer(config, corpus, trial.seed, runtime, sorted(common_names(plan, corpus.vocabulary)))
        while not trainer.done:
            trainer.step()
        total, own = parameter_counts(config.model, interface_of(config, corpus.vocabulary))
        found[trial.id] = {
            "status": "done",
            "steps": trainer.step_index,
            "parameters": own,
            "total_parameters": total,
            "seen_tokens": trainer.seen_tokens,
            "loss_tokens": trainer.loss_tokens,
            "hashes": {
                "init": trainer.init_hash,
                "common_init": trainer.common_init_hash,
                "data_order": trainer.data_order,
                "test_windows": "w",
            },
        }
    assert recorded(result, plan, found)["recorded"] == {"trials": len(plan.arms), "mismatches": []}


def test_a_long_run_is_compared_among_arms_where_the_counted_hash_ends(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    found = records(plan, result)
    for trial in plan.trials:
        found[trial.id]["steps"] += 1
        found[trial.id]["hashes"]["data_order"] += " and one step more"
    assert recorded(result, plan, found)["passed"]
    found[plan.trials[3].id]["hashes"]["data_order"] = "other"
    (said,) = complaints(recorded(result, plan, found))
    assert f"trial {plan.trials[3].id}: data_order is not that of {plan.trials[0].id}" == said


def test_trials_scored_on_different_windows_fail(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    found = records(plan, result)
    found[plan.trials[0].id]["hashes"]["test_windows"] = "other"
    assert complaints(recorded(result, plan, found)) == ["the trials were not all scored on the same test windows"]


def test_a_diverged_trial_is_compared_in_what_came_before_its_first_step(folder: Path, corpus: Corpus) -> None:
    plan = plan_of(folder)
    result = audit(plan, corpus)
    found = records(plan, result)
    ended = found[plan.trials[0].id]
    ended.update(status="diverged", seen_tokens=5, loss_tokens=2)
    ended["hashes"].update(data_order="", test_windows=None)
    assert recorded(result, plan, found)["passed"]
    worse = copy.deepcopy(found)
    worse[plan.trials[0].id]["hashes"]["common_init"] = "other"
    assert not recorded(result, plan, worse)["passed"]


def test_an_audit_does_not_touch_the_random_state(folder: Path, corpus: Corpus) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    audit(plan_of(folder), corpus)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


NAMES = ("lm", "prefix_lm", "span_corruption", "mlm", "ul2")


def test_arms_of_any_objective_cost_what_their_own_pairs_cost(folder: Path) -> None:
    arms = {name: {"objective": {"name": name}} for name in NAMES}
    claims = [
        {**CLAIM, "arm": "mlm", "against": "prefix_lm", "hold": ["parameters"]},
        {**CLAIM, "arm": "span_corruption", "against": "prefix_lm", "hold": ["loss_tokens"]},
    ]
    plan = plan_of(folder, vary=["objective.name"], arm=arms, claim=claims)
    corpus = prepare(plan.data)
    result = audit(plan, corpus)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for arm in plan.arms:
        config, counted = arm.config, result["arms"][arm.name]["seeds"]["0"]
        batches = TrainingBatches(corpus, config.data, config.objective, config.training.batch, 0)
        read = [batches.at(step) for step in range(batches.steps(config.training.tokens))]
        interface = interface_of(config, corpus.vocabulary)
        assert counted["loss_tokens"] == sum(batch.loss_tokens for batch in read)
        assert counted["seen_tokens"] == sum(batch.seen_tokens for batch in read)
        assert counted["train_flops"] == sum(
            training_flops(config.model, interface, batch.input.shape[1], int(tokens), predicting_in(batch))
            for batch in read
            for tokens in (batch.labels >= 0).sum(1)
        )
    masks, spans = result["claims"]
    assert masks["passed"]
    assert not masks["same_data"]  # declared: another objective reads other pairs
    assert any("must hold loss_tokens equal" in fault for fault in spans["faults"])
    off = {name for name in NAMES if result["arms"][name]["off_distribution"]}
    assert off == {"span_corruption", "mlm", "ul2"}
    undeclared = plan_of(folder, vary=["objective.name", "model.layers"], arm=arms, claim=[claims[0] | {"vary": []}])
    assert audit(undeclared, corpus)["claims"][0]["undeclared"] == ["objective.name"]


def test_pairs_cost_what_they_hold_without_padding(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    lengths = np.random.default_rng(0).integers(1, 40, size=(300, 2)).tolist()
    rows = [{"input": f"{n}" + "a" * one, "target": "b" * two} for n, (one, two) in enumerate(lengths)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"corpus": str(path), "tokenizer": "bytes", "window": 48}
    plan = plan_of(folder, data=data, objective={"name": "pairs"}, arm=NARROW)
    corpus = prepare(plan.data)
    result = audit(plan, corpus)
    assert result["passed"]
    assert result["claims"][0]["same_data"]
    split = corpus.split("train")
    assert result["arms"]["gpt"]["documents_left_out"] == int((split.lengths > 48).sum()) > 0
    config = plan.arm("unilm").config
    batches = TrainingBatches(corpus, config.data, config.objective, 4, 0)
    assert split.cuts is not None
    flops = 0
    for step in range(batches.steps(config.training.tokens)):
        for document in batches.at(step).documents:
            S = int(split.cuts[document])
            T = int(split.lengths[document]) - S
            flops += training_flops(config.model, interface_of(config, corpus.vocabulary), S, T)
    assert result["arms"]["unilm"]["seeds"]["0"]["train_flops"] == flops
