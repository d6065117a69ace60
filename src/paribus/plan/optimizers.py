"""Whether the optimizers of a study can be what it says: asked before anything is spent."""

from collections.abc import Iterator

import torch
from torch import nn

from paribus import doors, spec
from paribus.errors import StudyError
from paribus.models.interface import interface_of
from paribus.models.transformer import parameter_shapes
from paribus.own_code import Code, is_own, short_name
from paribus.records.plan import Plan
from paribus.spec.problems import shown
from paribus.spec.training import Training
from paribus.training.optimizers import optimizers_of

FIELDS: tuple[str, ...] = doors.OptimizerFacts().reads
"""The fields of `[training]` that an optimizer may ignore."""
_VOCABULARY = 64
"""Stands for a text's: no factory depends on it."""


def check_optimizers(study: spec.Study, plan: Plan, code: Code) -> None:
    """See that each arm's optimizer reads what is set and tuned for it, and that those of the user's own take every parameter.

    Raises StudyError, one line, for the first that does not.
    """
    for fault in _ignored(study, plan, code):
        raise StudyError(f"study: {fault}")
    for arm in plan.arms:
        if is_own(arm.config.training.optimizer):
            shapes = parameter_shapes(arm.config.model, interface_of(arm.config, _VOCABULARY))
            # Nothing is written to them, so that not even those of a large model take memory.
            parameters = [(name, nn.Parameter(torch.empty(shape))) for name, shape in shapes.items()]
            try:
                optimizers_of(parameters, arm.config.training, code)
            except StudyError as error:
                raise StudyError(f"study: arm {shown(arm.name)}: {error}") from error


def _ignored(study: spec.Study, plan: Plan, code: Code) -> Iterator[str]:
    """What is set or tuned without effect, a sentence each: for one arm, or by the base for all of them."""
    reads: dict[str, set[str]] = {}
    for arm in plan.arms:
        name = arm.config.training.optimizer
        of_arm = set(doors.optimizer.entry(name, code).facts.reads)
        if unknown := sorted(of_arm - set(FIELDS)):
            yield f"training.optimizer = {shown(short_name(name))}: reads {unknown[0]!r}; should be of {', '.join(FIELDS)}"
        reads[arm.name] = of_arm
        for field in FIELDS:
            if field in of_arm:
                continue
            said = f"the optimizer {shown(short_name(name))} ignores it; leave it out"
            if f"training.{field}" in study.training.grid:
                values = study.training.grid[f"training.{field}"]
                yield f"training.{field} = {shown(values)}: cannot be tuned for arm {shown(arm.name)}: {said}"
            if f"training.{field}" in arm.overrides:
                yield f"arm.{shown(arm.name)}.training.{field} = {arm.overrides[f'training.{field}']}: {said}"
    for field in FIELDS:
        value = getattr(study.training, field)
        if value != Training.model_fields[field].default and not any(field in of_arm for of_arm in reads.values()):
            yield f"training.{field} = {value}: no arm's optimizer reads it; leave it out"
