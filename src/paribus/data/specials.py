"""Token ids above the text's own: what objectives put between, before and instead of text. They stand for no bytes.

In a fixed order, of which a corpus has the first `data.special_tokens`, so that all arms of a study share one embedding:
the start of a target, [MASK], the modes of UL2's denoisers R, S and X, then the sentinels of span corruption.
"""

from dataclasses import dataclass

from paribus.data.shapes import MODES, MODES_FROM, SENTINELS_FROM

START, MASK = 0, 1
"""Places in the order."""


@dataclass(frozen=True)
class Specials:
    """The special tokens of a corpus whose text has `first` ids."""

    first: int
    count: int

    @property
    def start(self) -> int:
        """The given first token of a target that has none of its own."""
        return self._id(START)

    @property
    def mask(self) -> int:
        """[MASK]."""
        return self._id(MASK)

    def mode(self, name: str) -> int:
        """The token that announces denoiser `name`, one of `MODES`."""
        return self._id(MODES_FROM + MODES.index(name))

    def sentinel(self, index: int) -> int:
        """The token that stands for the removed span `index`, from 0 on."""
        return self._id(SENTINELS_FROM + index)

    def _id(self, place: int) -> int:
        if place >= self.count:
            raise ValueError(f"special token {place} of {self.count}: data.special_tokens is too small")
        return self.first + place

    def names(self) -> list[str]:
        """How each is written, in order of id."""
        fixed = ["<|start|>", "<|mask|>", *(f"<|{mode}|>" for mode in MODES)]
        return [*fixed, *(f"<|sentinel_{index}|>" for index in range(self.count - len(fixed)))][: self.count]
