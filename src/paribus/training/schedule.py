"""Learning rate over the steps: warm-up, stable, decay (arXiv 2404.06395, 2405.18392)."""

from typing import NamedTuple

from paribus.spec.budgets import Branch
from paribus.spec.training import Training


class Schedule(NamedTuple):
    """The rates of a run, or of a branch of it."""

    peak: float
    warmup: int
    """Steps, the first ones, over which the rate rises."""
    decay: int
    """Steps, the last ones, over which it falls."""
    steps: int

    @classmethod
    def of_run(cls, training: Training, steps: int) -> "Schedule":
        """The schedule of a whole run of so many steps."""
        return cls(training.learning_rate, round(training.warmup * steps), round(training.decay * steps), steps)

    def of_branch(self, branch: Branch) -> "Schedule":
        """The schedule of a branch of this run: the same warm-up in steps, and an end of its own."""
        return self._replace(decay=branch.decay, steps=branch.steps)

    def rate(self, step: int) -> float:
        """The rate of step 0 .. steps - 1: rises linearly to the peak, stays, falls linearly towards 0.

        The first step already moves (rate peak / warm-up steps), and so does the last.
        """
        rising = (step + 1) / self.warmup if step < self.warmup else 1.0
        falling = (self.steps - step) / (self.decay + 1) if step >= self.steps - self.decay else 1.0
        return self.peak * min(rising, falling)
