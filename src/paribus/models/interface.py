"""What data and objective ask of a model, whatever its architecture."""

from dataclasses import dataclass

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


def interface_of(config: Config, vocabulary: int) -> Interface:
    """The interface that an arm's data and objective ask for, with `vocabulary` token ids."""
    return Interface(vocabulary, config.data.window, config.input_loss, config.has_target)
