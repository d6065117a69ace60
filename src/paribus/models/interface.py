"""What data and objective ask of a model, whatever its architecture."""

from dataclasses import dataclass

from paribus.own_code import DENIED, Code
from paribus.spec.study import Config


@dataclass(frozen=True)
class Interface:
    """The outside of a model: what goes in, and what is predicted from what."""

    vocabulary: int
    """Token ids."""
    positions: int = 0
    """Tokens of the longest sequence, for a table of learned positions."""
    input_loss: bool = False
    """Whether something is predicted from input positions, so that their last states are read."""
    target: bool = True
    """Whether there is a target side; without one (BERT) the input is all there is."""
    code: Code = DENIED
    """Whether code of the user's own, which a model may name, may be executed."""


def interface_of(config: Config, vocabulary: int, code: Code = DENIED) -> Interface:
    """The interface that an arm's data and objective ask for, with `vocabulary` token ids."""
    return Interface(vocabulary, config.data.window, config.input_loss, config.has_target, code)
