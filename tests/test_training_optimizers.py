"""Optimizers: built in or of one's own, they follow one schedule and resume with the same bits."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import paribus
from paribus.cli.main import run_command
from paribus.data.store import Corpus, prepare
from paribus.doors import optimizer
from paribus.errors import StudyError, UserError
from paribus.files import read_json
from paribus.models.interface import Interface
from paribus.models.transformer import Transformer
from paribus.own_code import Code, pinned
from paribus.plan.building import build_plan
from paribus.plan.preparing import prepare_plan
from paribus.spec.model import Model
from paribus.spec.study import Config
from paribus.spec.training import Training
from paribus.training.optimizers import Named, optimizers_of, parameters_of
from paribus.training.runtime import Runtime
from paribus.training.trainer import Trainer

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
RUNTIME = Runtime("cpu", "float32", False, 1)
ALLOWED = Code(allowed=True)
TABLES: dict[str, Any] = {
    "question": "?",
    "vary": ["training.optimizer"],
    "hold": [],
    "seeds": 1,
    "data": {"corpus": "task:copy", "examples": 400, "window": 64},
    "objective": {"name": "pairs"},
    "model": {"layers": 2, "width": 16, "head_size": 8},
    "training": {"tokens": 4000, "batch": 4, "compile": "never", "dtype": "float32"},
    "evaluation": {"test_windows": 16, "tune_windows": 8, "curve_points": 1},
    "arm": {"adamw": {}},
}
# Keeps state in another type than its parameters, in lists and in its groups, as optimizers of today do.
OWN = """
import torch

class Odd(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr, "steps": 0, "ends": (0.5, None)})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["steps"] += 1
            for each in group["params"]:
                if each.grad is None:
                    continue
                state = self.state[each]
                if not state:
                    state["means"] = [torch.zeros_like(each, dtype=torch.bfloat16), torch.zeros((), dtype=torch.float64)]
                    state["seen"] = torch.tensor(2**25 + 1)
                mean, size = state["means"]
                mean.lerp_(each.grad.bfloat16(), 0.1)
                size += each.grad.double().norm()
                state["seen"] += 1
                each.sub_(mean.float() * group["lr"] / (1 + 1e-3 * size.float() / group["steps"] + state["seen"] % 3))

def odd(parameters, training):
    return Odd([each for _, each in parameters], training.learning_rate)

def lazy(parameters, training):
    return torch.optim.SGD([each for name, each in parameters if name != "norm.weight"], lr=1.0)

def twice(parameters, training):
    return [torch.optim.SGD([each for _, each in parameters], lr=1.0) for _ in range(2)]

def nothing(parameters, training):
    return None

def failing(parameters, training):
    return torch.optim.SGD([each for _, each in parameters], lr=training.rate)

def secretive(parameters, training):
    return torch.optim.SGD([{"params": [each for _, each in parameters], "secret": {1, 2}}], lr=1.0)
"""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return prepare(build_plan(paribus.study_from(TABLES)).data)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with optimizers, and the one of docs/extending.md."""
    file = tmp_path_factory.mktemp("own") / "my_optimizer.py"
    (example,) = re.findall(r"```python\n(# my_optimizer\.py\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 15
    file.write_text(example + OWN)
    return file


def config(name: str) -> Config:
    plan = build_plan(paribus.study_from({**TABLES, "training": {**TABLES["training"], "optimizer": name}}))
    return plan.arm("adamw").config


def named(**model: Any) -> Named:
    return list(Transformer(Model(layers=2, width=16, head_size=8, **model), Interface(50, 16)).named_parameters())


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd", "odd"])
def test_a_trial_that_was_stopped_goes_on_with_the_same_bits(
    name: str, corpus: Corpus, own: Path, tmp_path: Path
) -> None:
    asked = config(name if name in optimizer.built_in else f"{own}:{name}")

    def trainer() -> Trainer:
        return Trainer(asked, corpus, 0, RUNTIME, code=ALLOWED)

    through, stopped = trainer(), trainer()
    for _ in range(5):
        stopped.step()
    stopped.save(tmp_path, {"more": 1})
    resumed = trainer()
    assert (resumed.restore(tmp_path) or {})["more"] == 1
    before = [parameter.clone() for parameter in through.model.parameters()]
    while not through.done:
        step = through.step()
    while not resumed.done:
        again = resumed.step()
    assert step.loss == again.loss
    for start, one, other in zip(before, through.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(start, one)


def test_going_back_to_a_checkpoint_forgets_what_was_learned_since(corpus: Corpus, own: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(f"{own}:odd"), corpus, 0, RUNTIME, code=ALLOWED)
    for _ in range(3):
        trainer.step()
    trainer.save(tmp_path, {})
    first = trainer.step()
    trainer.step()
    trainer.restore(tmp_path)
    again = trainer.step()
    assert (first.loss, first.gradient_norm) == (again.loss, again.gradient_norm)


def test_muon_takes_the_matrices_of_layers_and_adamw_the_rest() -> None:
    parameters = named(parameters="separate", memory="cross_attention", position="learned", bias=True)
    hidden, others = optimizers_of(parameters, Training(optimizer="muon"))
    names = {id(parameter): name for name, parameter in parameters}
    by_muon = {names[id(parameter)] for parameter in parameters_of(hidden)}
    assert isinstance(hidden, torch.optim.Muon)
    assert isinstance(others, torch.optim.AdamW)
    assert {name.rpartition(".")[0].partition(".")[2].partition(".")[2] for name in by_muon} == {
        *(
            f"{block}.{part}"
            for block in ("attention", "cross_attention")
            for part in ("query", "key", "value", "output")
        ),
        *(f"feed_forward.{part}" for part in ("gate", "up", "down")),
    }
    assert {name.partition(".")[0] for name in by_muon} == {"layers", "input_layers"}
    rest = {names[id(parameter)] for parameter in parameters_of(others)}
    assert {"embedding.weight", "position.weight", "head.weight", "layers.0.attention.query.bias"} <= rest
    assert not by_muon & rest


@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_the_schedule_moves_every_group_by_its_own_share(name: str, corpus: Corpus, own: Path) -> None:
    asked = config(name if name in optimizer.built_in else f"{own}:{name}")
    trainer = Trainer(asked, corpus, 0, RUNTIME, code=ALLOWED)
    shares = {"muon": [1, 1, 1], "sgd": [1, 0.1]}[name]
    for _ in range(3):
        record = trainer.step()
        rates = [group["lr"] for each in trainer.optimizers for group in each.param_groups]
        assert rates == pytest.approx([record.learning_rate * share for share in shares], rel=1e-12)
        assert rates[0] == record.learning_rate


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lazy", "leaves out norm.weight; should give every parameter to one group"),
        ("twice", "takes more than once embedding.weight"),
        ("nothing", "returns 'NoneType'; should return a torch.optim.Optimizer"),
        ("failing", "fails (AttributeError: "),
    ],
)
def test_what_is_no_optimizer_is_refused_in_one_line_before_anything_is_spent(name: str, said: str, own: Path) -> None:
    with pytest.raises(StudyError, match=re.escape(f'training.optimizer = "my_optimizer.py:{name}": {said}')):
        prepare_plan(
            paribus.study_from(TABLES | {"arm": {"own": {"training": {"optimizer": f"{own}:{name}"}}}}), ALLOWED
        )


def test_a_state_that_no_checkpoint_can_hold_is_named(corpus: Corpus, own: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(f"{own}:secretive"), corpus, 0, RUNTIME, code=ALLOWED)
    with pytest.raises(
        UserError, match=r"the state of the optimizer holds 'set' \(optimizer.0.param_groups.0.secret\)"
    ):
        trainer.save(tmp_path, {})


@pytest.mark.parametrize(
    ("training", "arm", "said"),
    [
        ({"beta1": [0.8, 0.9, 0.95]}, {}, 'training.beta1 = [0.8, 0.9, 0.95]: cannot be tuned for arm "own"'),
        ({}, {"beta2": 0.99}, 'arm."own".training.beta2 = 0.99: the optimizer "my_optimizer.py:sgd" ignores it'),
        ({"beta1": 0.8}, {}, "training.beta1 = 0.8: no arm's optimizer reads it"),
    ],
)
def test_a_field_that_is_ignored_is_refused(
    training: dict[str, Any], arm: dict[str, Any], said: str, own: Path
) -> None:
    tables = TABLES | {
        "vary": ["training.optimizer", "training.beta2"],
        "training": TABLES["training"] | training,
        "arm": {"own": {"training": {"optimizer": f"{own}:sgd", **arm}}},
    }
    with pytest.raises(StudyError, match=re.escape(said)):
        prepare_plan(paribus.study_from(tables), ALLOWED)


def test_a_base_may_set_what_one_of_its_arms_ignores(own: Path) -> None:
    arms = {"adamw": {}, "own": {"training": {"optimizer": f"{own}:sgd"}}}
    tables = TABLES | {"training": TABLES["training"] | {"beta1": 0.8, "weight_decay": 0.2}, "arm": arms}
    plan, _ = prepare_plan(paribus.study_from(tables), ALLOWED)
    assert plan.arm("own").config.training.optimizer == pinned(f"{own}:sgd", Path())


def test_without_permission_an_optimizer_of_ones_own_is_not_executed(own: Path) -> None:
    with pytest.raises(StudyError, match="executed only by commands that train, or with --allow-code"):
        optimizers_of(named(), Training(optimizer=f"{own}:sgd"))


def test_a_misspelled_optimizer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["audit", "decoder-only", "--set", "training.optimizer=moun"]) == 2
    assert 'training.optimizer = "moun": should be one of adamw, muon; did you mean muon?' in capsys.readouterr().err


def test_rates_are_tuned_for_each_optimizer(own: Path, tmp_path: Path) -> None:
    arms = {name: {"training": {"optimizer": name}} for name in ("adamw", "muon")}
    arms["own"] = {"training": {"optimizer": f"{own}:sgd"}}
    training = TABLES["training"] | {"learning_rate": [1e-3, 1e-2, 1e-1]}
    claim = {"says": "muon is no worse", "arm": "muon", "against": "adamw", "expect": "not_worse", "margin": 1.0}
    tables = TABLES | {"arm": arms, "training": training, "tuning_seeds": 1, "common_values": False, "claim": [claim]}
    outcome = paribus.run_study(paribus.study_from(tables), tmp_path / "study", workers=2)
    assert outcome.verdicts["claims"][0]["estimate"] is not None
    tuning = read_json(tmp_path / "study" / "plan.json")["tuning"]
    assert set(tuning["choices"]) == {"adamw", "muon", "own"}
    scores = [score for score in tuning["scores"].values() if score is not None]
    assert len(set(scores)) == len(scores) >= 9
