"""Scores: what greedy decoding gets right, drawn visibility averaged, longer windows, and arms of any objective on one task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import paribus
from corpora import documents, write_folder
from paribus.data.batches import TrainingBatches
from paribus.data.scored import EvaluationBatches
from paribus.data.store import Corpus, prepare
from paribus.engines.trial import evaluation_batches
from paribus.evaluation.lengths import by_window_factor
from paribus.evaluation.scoring import Score, Scored, by_split, score_windows
from paribus.files import read_json
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.plan.building import build_plan
from paribus.plan.reading import study_from
from paribus.spec.study import Config
from paribus.training.runtime import Runtime
from paribus.training.trainer import Trainer

WINDOW = 32
NAMES = ("lm", "prefix_lm", "span_corruption", "ul2", "mlm")
FLOAT = torch.float32
RUNTIME = Runtime(device="cpu", dtype="float32", compile=False, threads=1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_folder(tmp_path_factory.mktemp("text") / "docs", documents(60, words=150))
    return {
        "question": "q",
        "vary": ["objective.name", "model.input_attention"],
        "hold": [],
        "seeds": 1,
        "data": {"corpus": str(folder), "tokenizer": "bytes", "window": WINDOW, "test_fraction": 0.2},
        "model": {"layers": 2, "width": 32, "head_size": 8, "input_attention": "bidirectional"},
        "training": {"tokens": 3000, "batch": 4, "compile": "never", "dtype": "float32"},
        "evaluation": {"test_windows": 30, "tune_windows": 12, "curve_points": 2},
        "arm": {name: {"objective": {"name": name}} for name in NAMES},
    }


def configs(tables: dict[str, Any], **changes: Any) -> dict[str, Config]:
    return {arm.name: arm.config for arm in build_plan(study_from(tables | changes)).arms}


@pytest.fixture(scope="module")
def corpus(tables: dict[str, Any]) -> Corpus:
    return prepare(next(iter(configs(tables).values())).data)


def scrambled(config: Config, corpus: Corpus) -> Transformer:
    model = Transformer(config.model, interface_of(config, corpus.vocabulary))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("score_on", ["objective", "continuation"])
def test_scores_are_those_of_each_row_alone(tables: dict[str, Any], corpus: Corpus, name: str, score_on: str) -> None:
    arm = {"arm": {name: tables["arm"][name]}, "evaluation": tables["evaluation"] | {"score_on": score_on}}
    config = configs(tables, **arm)[name].model_copy(update={"data": next(iter(configs(tables).values())).data})
    model, windows = scrambled(config, corpus), evaluation_batches(corpus, config, "test")
    found = score_windows(model, windows, FLOAT)
    nats, correct = np.zeros(len(windows)), np.zeros(len(windows))
    with torch.no_grad():
        for indices, batch in windows:
            for row, index in enumerate(indices):
                empty = 0 if batch.padding is None else batch.padding[row]
                source = torch.from_numpy(batch.input[row : row + 1, empty:])
                logits = model(source, torch.from_numpy(batch.target[row : row + 1]))[0]
                labels = batch.labels[row] if config.has_target else batch.input_labels[row, empty:]  # type: ignore[index]
                wanted = torch.from_numpy(labels)
                nats[index] += float(F.cross_entropy(logits, wanted, ignore_index=-1, reduction="sum"))
                correct[index] += int((logits.argmax(-1) == wanted).sum())
    np.testing.assert_allclose(found.nats, nats, rtol=1e-4)
    assert found.correct.tolist() == correct.tolist()
    assert found.exact.tolist() == ((correct == windows.tokens) & (windows.tokens > 0)).tolist()


def test_a_score_is_a_ratio_of_sums(tables: dict[str, Any], corpus: Corpus) -> None:
    windows = evaluation_batches(corpus, configs(tables)["lm"], "test")
    count, rng = len(windows), np.random.default_rng(0)
    scored = Scored(rng.random(count), rng.integers(0, 3, count).astype(float), rng.integers(0, 2, count).astype(float))
    score = Score.of(scored, windows)
    assert score.nats_per_token == pytest.approx(scored.nats.sum() / windows.tokens.sum())
    assert score.bits_per_byte == pytest.approx(scored.nats.sum() / np.log(2) / windows.bytes.sum())
    assert score.token_accuracy == pytest.approx(scored.correct.sum() / windows.tokens.sum())
    assert score.exact_match == pytest.approx(scored.exact.mean())
    parts = by_split(scored, windows)
    assert sum(part["windows"] for part in parts.values()) == count
    assert set(parts) == {"7", "14", "21"}  # a quarter, half and three quarters of what special tokens leave


def test_drawn_visibility_is_averaged_over_fixed_seeds(tables: dict[str, Any], corpus: Corpus) -> None:
    arms = {"arm": {"drawn": {"model": {"input_attention": "permuted_triangle"}}}}
    config = configs(tables, **arms)["drawn"]
    model, windows = scrambled(config, corpus), evaluation_batches(corpus, config, "test")
    assert windows.seeds.shape == (4, len(windows))
    found = score_windows(model, windows, FLOAT)
    once = []
    for draw in range(4):
        alone = evaluation_batches(corpus, config, "test")
        alone.seeds = windows.seeds[draw : draw + 1]
        once.append(score_windows(model, alone, FLOAT).nats)
    assert not np.allclose(once[0], once[1])
    np.testing.assert_allclose(found.nats, np.mean(once, axis=0))
    assert (found.nats == score_windows(model, windows, FLOAT).nats).all()


def test_longer_windows_are_scored_where_they_can_be_and_else_say_why(tables: dict[str, Any], corpus: Corpus) -> None:
    evaluation = tables["evaluation"] | {"window_factors": [2.0, 4.0, 64.0]}
    config = configs(tables, evaluation=evaluation, arm={"gpt": {}})["gpt"]
    found = by_window_factor(scrambled(config, corpus), corpus, config, FLOAT, batch=32)
    assert [(factor, part["window"]) for factor, part in found.items()] == [("2", 64), ("4", 128), ("64", 2048)]
    longer = config.data.model_copy(update={"window": 128})
    windows = EvaluationBatches(corpus, "test", longer, config.objective, 30, 8, config.evaluation, whole=True)
    expected = Score.of(score_windows(scrambled(config, corpus), windows, FLOAT), windows)
    assert found["4"]["nats_per_token"] == pytest.approx(expected.nats_per_token)
    assert (windows.tokens + windows.split == 128).all()
    assert found["4"]["reason"] is None
    assert found["64"]["nats_per_token"] is None
    assert "No document of the test split fills a window of 2048 tokens" in found["64"]["reason"]
    table = configs(tables, evaluation=evaluation, model=tables["model"] | {"position": "learned"}, arm={"gpt": {}})[
        "gpt"
    ]
    refused = by_window_factor(scrambled(table, corpus), corpus, table, FLOAT, batch=32)
    assert all("a learned table of 32 rows" in part["reason"] for part in refused.values())


@pytest.mark.parametrize("name", NAMES)
def test_one_trainer_lowers_the_loss_of_every_objective(tables: dict[str, Any], corpus: Corpus, name: str) -> None:
    config = configs(tables, training=tables["training"] | {"tokens": 20_000})[name]
    trainer = Trainer(config, corpus, 0, RUNTIME)
    records = []
    while not trainer.done:
        records.append(trainer.step())
    assert np.mean([record.loss for record in records[-20:]]) < np.mean([record.loss for record in records[:20]]) - 0.5
    plan = TrainingBatches(corpus, config.data, config.objective, 4, 0).data_plan(trainer.steps)
    assert (trainer.seen_tokens, trainer.loss_tokens) == (plan["seen_tokens"], plan["loss_tokens"])
    assert trainer.data_order == plan["data_order"]


@pytest.mark.parametrize("name", ["prefix_lm", "span_corruption", "ul2"])
def test_the_inputs_loss_counts_with_its_weight(tables: dict[str, Any], corpus: Corpus, name: str) -> None:
    arm = {
        "objective": {"name": name, "loss_on": "all", "input_loss_weight": 0.5},
        "model": {"input_attention": "causal"},
    }
    vary = ["objective.name", "objective.loss_on", "objective.input_loss_weight", "model.input_attention"]
    data = next(iter(configs(tables).values())).data.model_dump()
    trainer = Trainer(configs(tables, vary=vary, arm={name: arm}, data=data)[name], corpus, 0, RUNTIME)
    batch = trainer.batches.at(0)
    assert batch.input_labels is not None
    total, of_target = trainer.loss(batch)
    with torch.no_grad():
        of_input, target = trainer.model.states(torch.from_numpy(batch.input), torch.from_numpy(batch.target))
        assert of_input is not None
        assert target is not None
        sums = [
            float(F.cross_entropy(trainer.model.logits(states).flatten(0, 1), labels, ignore_index=-1, reduction="sum"))
            for states, labels in (
                (target, torch.from_numpy(batch.labels).flatten()),
                (of_input, torch.from_numpy(batch.input_labels).flatten()),
            )
        ]
    on_target = batch.target_tokens
    on_input = batch.loss_tokens - on_target
    assert of_target.item() == pytest.approx(sums[0] / on_target, rel=1e-4)
    assert total.item() == pytest.approx((sums[0] + 0.5 * sums[1]) / (on_target + 0.5 * on_input), rel=1e-4)


def test_a_study_of_objectives_ends_with_one_task_for_all_and_says_who_was_not_trained_on_it(
    tables: dict[str, Any], tmp_path: Path
) -> None:
    claims = [
        {"says": f"{name} is as good", "arm": name, "against": "lm", "expect": "equal", "margin": 0.5, "metric": metric}
        for name, metric in (("mlm", "bits_per_byte"), ("ul2", "token_accuracy"))
    ]
    arms = {name: tables["arm"][name] for name in ("lm", "mlm", "ul2")}
    study = study_from(tables | {"claim": claims, "arm": arms})
    outcome = paribus.run_study(study, tmp_path / "study", workers=2)
    assert [claim["verdict"] is not None for claim in outcome.claims] == [True, True]
    audit = read_json(tmp_path / "study" / "audit.json")
    assert audit["passed"]
    results = {path.parent.name: read_json(path) for path in (tmp_path / "study").glob("trials/*/result.json")}
    assert len(results) == 3
    assert len({result["hashes"]["test_windows"] for result in results.values()}) == 1
    for name, result in results.items():
        off = name.startswith(("mlm", "ul2"))
        assert (result["off_distribution"] is not None) == off
        assert (audit["arms"][name.split("-")[0]]["off_distribution"] is not None) == off
        assert 0 <= result["test"]["exact_match"] <= result["test"]["token_accuracy"] <= 1
