"""Schedule, runtime and checkpoints."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from paribus.errors import StudyError
from paribus.spec.study import Config
from paribus.spec.training import Training
from paribus.training import checkpoint
from paribus.training.runtime import (
    attention_backend,
    can_compile,
    fastest_dtype,
    has_bfloat16,
    product_rate,
    resolve,
)
from paribus.training.schedule import Schedule
from settings import small_model, start, tokens


def test_the_rate_rises_stays_and_falls() -> None:
    training = Training(learning_rate=1.0, warmup=0.1, decay=0.2)
    rates = [Schedule.of_run(training, 100).rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[:10] == sorted(rates[:10])
    assert set(rates[10:80]) == {1.0}
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert 0 < rates[-1] < 0.06
    assert all(
        Schedule.of_run(Training(warmup=0, decay=0), 3).rate(step) == Training().learning_rate for step in range(3)
    )


def test_bfloat16_is_chosen_only_where_it_is_there_and_faster() -> None:
    chosen = fastest_dtype("cpu")
    faster = has_bfloat16("cpu") and product_rate(torch.bfloat16) > 1.2 * product_rate(torch.float32)
    assert chosen == ("bfloat16" if faster else "float32")


def arms(**training: object) -> list[Config]:
    return [Config(training=Training.model_validate({"device": "cpu", "dtype": "float32", **training}))]


def test_compiling_is_chosen_for_long_runs_alone() -> None:
    assert not resolve(arms(), 1e10, 10, 2).compile
    assert resolve(arms(), 1e18, 10, 2).compile == can_compile("cpu")
    assert not resolve(arms(compile="never"), 1e18, 10, 2).compile


def test_flex_attention_is_chosen_where_it_can_train_and_pays() -> None:
    def chosen(device: str, window: int, head_size: int, asked: str = "auto") -> str:
        data, model = {"window": window}, {"head_size": head_size}
        return attention_backend(
            [Config(data=data, training={"attention": asked}), Config(data=data, model=model)], device
        )

    assert chosen("cuda", 1024, 32) == "flex"
    assert chosen("cuda", 256, 32) == chosen("cuda", 1024, 8) == chosen("cpu", 1024, 32) == "dense"
    assert chosen("cuda", 1024, 32, "dense") == "dense"
    assert chosen("cuda", 256, 32, "flex") == "flex"


def test_flex_attention_is_refused_where_it_cannot_train() -> None:
    with pytest.raises(StudyError, match="no backward pass on a CPU: use auto or dense"):
        resolve(arms(attention="flex"), 1e10, 10, 2)
    with pytest.raises(StudyError, match=r"no heads smaller than 16, and an arm has model.head_size = 8"):
        attention_backend([Config(model={"head_size": 8}, training={"attention": "flex"})], "cuda")


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    model(tokens(2, 3, seed=seed), tokens(2, 4, seed=seed + 50)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_checkpoint_restores_weights_and_optimizer_to_the_bit(tmp_path: Path) -> None:
    through = start(small_model())
    optimizer = torch.optim.AdamW(through.parameters(), lr=1e-2, fused=True)
    for seed in range(3):
        step(through, optimizer, seed)
    checkpoint.save(tmp_path, through, [optimizer], {"step": 3, "seconds": 0.1})
    resumed = start(small_model(), seed=9)
    again = torch.optim.AdamW(resumed.parameters(), lr=1e-2, fused=True)
    assert checkpoint.load(tmp_path, resumed, [again]) == {"step": 3, "seconds": 0.1}
    for seed in range(3, 6):
        step(through, optimizer, seed)
        step(resumed, again, seed)
    for a, b in zip(through.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert checkpoint.load(tmp_path / "nothing", resumed, [again]) is None


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, start(small_model()), [], {"step": 0})
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + header])["model.norm.weight"]["dtype"] == "F32"
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)
