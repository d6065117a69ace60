"""The doors of paribus: each kind of part, and what others must know of one. docs/extending.md has an example of each.

A part of your own is named `FILE.py:NAME` in a study, wherever a built-in name may stand. Decorating it is needed only where its
facts are not the defaults.
"""

from dataclasses import dataclass

from paribus.registry import Door, Facts


@dataclass(frozen=True)
class RuleFacts(Facts):
    """Of a visibility rule."""

    looks_back: bool = False
    """Whether no input position sees a later one, so that the input can be predicted too."""
    random: bool = False
    """Whether it is drawn anew for each sequence, from its seed."""
    halves: bool = False
    """Whether it treats the two halves of the heads apart, so that their number must be even."""
    alternates: bool = False
    """Whether it treats layers apart, so that there must be two or more."""
    window: bool = False
    """Whether it reads `model.attention_window`, which then must be set."""
    pairs: str = ""
    """Of a built-in rule: how many pairs input positions make, as `costs.attention` counts them; asked of it if empty."""
    forms: tuple[str, ...] = ()
    """Of a built-in rule, for layers in turn: `causal`, `anticausal`, `bidirectional`, or `forward_backward` (two halves of the
    heads): masks that linear attention reads without the square of pairs."""


rule = Door("rule", RuleFacts, "models.rules", what="a visibility rule: which keys a query sees")


@dataclass(frozen=True)
class OptimizerFacts(Facts):
    """Of an optimizer."""

    reads: tuple[str, ...] = ("weight_decay", "beta1", "beta2")
    """Of these fields of `[training]`, those that it reads: one that it ignores can be neither set nor tuned. All read the
    learning rate."""


optimizer = Door(
    "optimizer", OptimizerFacts, "training.optimizers", what="an optimizer: which rule updates which parameters"
)


@dataclass(frozen=True)
class EngineFacts(Facts):
    """Of an engine."""

    workers: int | None = None
    """Trials at a time where nobody says; None: as many as this machine has cores for."""


engine = Door("engine", EngineFacts, "engines.local", what="an engine: where trials run")
