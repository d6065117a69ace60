"""Scores on the test set: as trials report them, and as what was kept of each test window adds up to them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from paribus.errors import StudyError
from paribus.statistics.intervals import METRICS

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Score:
    """Loss and accuracy on what was to be predicted; accuracies are shares, None where none were kept."""

    nats_per_token: float
    bits_per_byte: float
    token_accuracy: float | None = None
    exact_match: float | None = None

    def get(self, metric: str) -> float | None:
        """The value of one of `METRICS`."""
        value: float | None = getattr(self, metric)
        return value


@dataclass(frozen=True)
class Weight:
    """How much of the test set has one length of input."""

    windows: int
    tokens: int
    """Tokens that are predicted."""
    bytes: int
    """Bytes of these."""


def score_of(value: Mapping[str, Any] | None) -> Score | None:
    """A score, or None where it is missing or not finite."""
    if not value or value.get("nats_per_token") is None or value.get("bits_per_byte") is None:
        return None
    shares = (
        None if (share := value.get(name)) is None else float(share) for name in ("token_accuracy", "exact_match")
    )
    score = Score(float(value["nats_per_token"]), float(value["bits_per_byte"]), *shares)
    return score if math.isfinite(score.nats_per_token) and math.isfinite(score.bits_per_byte) else None


def arrays_of(path: Path, needed: tuple[str, ...]) -> Arrays:
    """The arrays of a file; none where it is not there yet."""
    if not path.is_file():
        return {}
    try:
        arrays = load_file(path)
        return {**arrays, **{name: arrays[name] for name in needed}}
    except (OSError, SafetensorError, KeyError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); delete it and run the study again, which resumes"
        ) from error


def weights_of(windows: Arrays) -> dict[int, Weight]:
    """How much of the test set has each length of input."""
    if not windows:
        return {}
    lengths, place, count = np.unique(windows["split"], return_inverse=True, return_counts=True)
    tokens, size = (np.bincount(place, weights=windows[name]) for name in ("tokens", "bytes"))
    return {int(length): Weight(int(count[n]), int(tokens[n]), int(size[n])) for n, length in enumerate(lengths)}


def by_length(scored: Arrays, windows: Arrays) -> dict[int, Score | None]:
    """A trial's score at each length of input, from what was kept of each test window."""
    lengths, place = np.unique(windows["split"], return_inverse=True)
    if not scored or len(scored["nats"]) != len(place):
        return {}
    sums = {name: np.bincount(place, weights=column) for name, column in scored.items()}
    weights = weights_of(windows)
    return {
        length: score_of(
            {
                metric: sums[ratio.numerator][n]
                / ratio.unit
                / max(getattr(weights[length], ratio.denominator or "windows"), 1)
                for metric, ratio in METRICS.items()
                if ratio.numerator in sums
            }
        )
        for n, length in enumerate(map(int, lengths))
    }
