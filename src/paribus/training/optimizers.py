"""Optimizers: which rule updates which parameters.

An entry is a factory of (named parameters, `[training]`) that returns a torch optimizer, or a list of them. Every parameter
belongs to exactly one group; the trainer multiplies the learning rate that each group begins with by the schedule.
"""

import re
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from paribus.doors import optimizer
from paribus.errors import StudyError
from paribus.own_code import DENIED, Code, is_own, short_name
from paribus.spec.training import Training

Named = Sequence[tuple[str, nn.Parameter]]
"""Parameters with their names in the model, such as `layers.0.attention.query.weight`."""

_IN_A_LAYER = re.compile(r"(input_)?layers\.\d+\.")


@optimizer("adamw")
def adamw(parameters: Named, training: Training) -> Optimizer:
    """AdamW (arXiv 1711.05101) for all parameters.

    Matrices decay, tables of embeddings and positions included; gains and biases do not.
    """
    matrices = [parameter for _, parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for _, parameter in parameters if parameter.ndim <= 1]
    return AdamW(
        [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=training.learning_rate,
        betas=(training.beta1, training.beta2),
        fused=True,
    )


@optimizer("muon")
def muon(parameters: Named, training: Training) -> list[Optimizer]:
    """Muon (torch.optim.Muon) for the matrices of layers, AdamW for all other parameters.

    Muon takes what has two dimensions and belongs to a layer: projections of attention and feed-forward, of both stacks. Tables
    of embeddings and positions, the output head and what stands before it, gains and biases go to `adamw`. The momentum is 0.95;
    updates are scaled to the root mean square of AdamW's (arXiv 2502.16982, section 2.2), so that both share one learning rate
    and one weight decay.
    """
    hidden = [(name, each) for name, each in parameters if each.ndim == 2 and _IN_A_LAYER.match(name)]
    names = {name for name, _ in hidden}
    return [
        Muon(
            [parameter for _, parameter in hidden],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        adamw([(name, parameter) for name, parameter in parameters if name not in names], training),
    ]


def optimizers_of(parameters: Named, training: Training, code: Code = DENIED) -> list[Optimizer]:
    """The optimizers that `training.optimizer` makes of a model's parameters, which are all in exactly one of them.

    Raises StudyError where one of the user's own is denied, fails, or does not take every parameter once.
    """
    name = training.optimizer
    factory = optimizer.load(name, code)
    said = f'training.optimizer = "{short_name(name)}"'
    try:
        made = factory(parameters, training)
    except Exception as error:
        if not is_own(name):
            raise
        raise StudyError(f"{said}: fails ({type(error).__name__}: {' '.join(str(error).split())})") from error
    optimizers = [made] if isinstance(made, Optimizer) else made
    if not isinstance(optimizers, list | tuple) or not all(isinstance(each, Optimizer) for each in optimizers):
        raise StudyError(
            f"{said}: returns {type(made).__name__!r}; should return a torch.optim.Optimizer, or a list of them"
        )
    taken = Counter(id(parameter) for each in optimizers for parameter in parameters_of(each))
    for parameter_name, parameter in parameters:
        if taken[id(parameter)] != 1:
            how = "leaves out" if not taken[id(parameter)] else "takes more than once"
            raise StudyError(f"{said}: {how} {parameter_name}; should give every parameter to one group")
    return list(optimizers)


def parameters_of(each: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer, group by group."""
    return [parameter for group in each.param_groups for parameter in group["params"]]
