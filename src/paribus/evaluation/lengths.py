"""The test loss at windows longer than those trained on."""

from typing import Any

import torch

from paribus.data.scored import EvaluationBatches
from paribus.data.shapes import special_tokens_of
from paribus.data.store import Corpus
from paribus.errors import DataError
from paribus.evaluation.scoring import Score, score_windows
from paribus.models.transformer import Transformer
from paribus.spec.study import Config


def by_window_factor(
    model: Transformer, corpus: Corpus, config: Config, trained_in: torch.dtype, batch: int
) -> dict[str, dict[str, Any]]:
    """For each of `evaluation.window_factors` the score on full windows that many times longer, and `reason`: null, or why there
    is none. `batch`: windows at a time of the trained length."""
    return {
        f"{factor:g}": _at(factor, model, corpus, config, trained_in, batch)
        for factor in config.evaluation.window_factors
    }


def _at(
    factor: float, model: Transformer, corpus: Corpus, config: Config, trained_in: torch.dtype, batch: int
) -> dict[str, Any]:
    window = round(config.data.window * factor)
    reason, score = _why_not(window, corpus, config), None
    if reason is None:
        data, at_once = config.data.model_copy(update={"window": window}), max(1, int(batch / factor))
        evaluation, objective = config.evaluation, config.objective
        try:
            windows = EvaluationBatches(
                corpus, "test", data, objective, evaluation.test_windows, at_once, evaluation, whole=True
            )
        except DataError:
            reason = f"No document of the test split fills a window of {window} tokens."
        else:
            score = Score.of(score_windows(model, windows, trained_in), windows).as_dict()
    return {"window": window, **(score or dict.fromkeys(Score.__annotations__)), "reason": reason}


def _why_not(window: int, corpus: Corpus, config: Config) -> str | None:
    model, objective = config.model, config.objective
    if objective.name == "pairs":
        return "Pairs have lengths of their own."
    rows = model.positions or config.data.window
    if model.position == "learned" and rows < window:
        return f"Positions are a learned table of {rows} rows, and such a window has {window}."
    if config.evaluation.score_on != "continuation" and special_tokens_of(objective, window) > corpus.special_tokens:
        return f"A window of {window} tokens has more spans than there are sentinels."
    return None
