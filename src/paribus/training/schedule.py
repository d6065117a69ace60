"""Learning rate over the steps: warm-up, stable, decay (arXiv 2404.06395, 2405.18392)."""

from paribus.study.recipe import Training


def learning_rate(training: Training, step: int, steps: int) -> float:
    """The rate of step 0 .. steps - 1: rises linearly to the peak, stays, falls linearly towards 0.

    The first step already moves (rate peak / warm-up steps), and so does the last.
    """
    warmup, decay = round(training.warmup * steps), round(training.decay * steps)
    rising = (step + 1) / warmup if step < warmup else 1.0
    falling = (steps - step) / (decay + 1) if step >= steps - decay else 1.0
    return training.learning_rate * min(rising, falling)
