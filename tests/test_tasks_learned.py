"""A small GPT learns every generated task: real training, scored on examples that it never saw."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from paribus.data.scored import EvaluationBatches
from paribus.data.store import prepare
from paribus.data.tasks import TASKS, find_task, least_squares
from paribus.evaluation.scoring import Score, score_windows
from paribus.spec.data import Data
from paribus.spec.study import Config
from paribus.training.runtime import Runtime
from paribus.training.trainer import Trainer

WINDOW = 24


class Lesson(NamedTuple):
    """A size of a task that a small model learns in seconds, and what it is to reach."""

    length: int
    symbols: int
    steps: int
    batch: int
    exact: float
    """Share of test examples answered in full."""
    chance: float
    """What the best guess that does not read the question would reach, at most."""
    model: dict[str, object]


SMALL: dict[str, object] = {"layers": 2, "width": 64, "head_size": 32}
MANY_HEADS: dict[str, object] = {"layers": 2, "width": 32, "head_size": 8}
LESSONS = {
    # A guess of all symbols, one of ten each.
    "copy": Lesson(6, 10, 150, 64, 0.95, 1e-6, SMALL),
    "reverse": Lesson(6, 10, 200, 64, 0.95, 1e-6, SMALL),
    # Three digits of ten, and a last one that is 0 or 1.
    "addition": Lesson(3, 10, 700, 64, 0.9, 0.5e-3, SMALL),
    # One of the two values that are shown, which are equal in one case of as many as there are; in recall, their order.
    "recall": Lesson(2, 6, 900, 128, 0.9, 0.5833, MANY_HEADS),
    "early_question": Lesson(2, 8, 600, 128, 0.95, 9 / 16, MANY_HEADS),
    "late_question": Lesson(2, 8, 700, 128, 0.95, 9 / 16, MANY_HEADS),
    # The commonest level of y.
    "regression": Lesson(4, 8, 600, 64, 0.45, 0.2, SMALL),
}


def learned(name: str, lesson: Lesson, seed: int) -> tuple[Score, Config]:
    data = Data(
        corpus=f"task:{name}",
        task_length=lesson.length,
        task_symbols=lesson.symbols,
        window=WINDOW,
        special_tokens=1,
    )
    corpus = prepare(data)
    config = Config.model_validate(
        {
            "data": data.model_dump(),
            "objective": {"name": "pairs"},
            "model": {"input_attention": "causal", **lesson.model},
            "training": {
                # All examples of a task are equally long.
                "tokens": lesson.steps * lesson.batch * int(corpus.split("train").lengths[0]),
                "batch": lesson.batch,
                "learning_rate": 3e-3,
            },
        }
    )
    trainer = Trainer(config, corpus, seed, Runtime("cpu", "float32", False, 1))
    assert trainer.steps == lesson.steps
    while not trainer.done:
        trainer.step()
    windows = EvaluationBatches(corpus, "test", config.data, config.objective, 2000, 100)
    return Score.of(score_windows(trainer.model, windows, torch.float32), windows), config


@pytest.mark.parametrize("name", TASKS)
def test_a_small_gpt_learns_the_task(name: str) -> None:
    lesson = LESSONS[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # When a look-up is suddenly found differs from seed to seed, and, by rounding, from processor to processor.
    for seed in range(3):
        score, config = learned(name, lesson, seed)
        if score.exact_match >= lesson.exact:
            break
    torch.set_num_threads(threads)
    assert score.windows >= 100
    assert score.exact_match >= lesson.exact > 1.5 * lesson.chance
    assert score.token_accuracy >= score.exact_match
    if name == "regression":
        examples = list(find_task(config.data))[:3000]
        optimum = np.mean([f"y{least_squares(each.input, lesson.symbols)}" == each.target for each in examples])
        assert score.exact_match <= optimum + 0.05
