"""Sizes solved for: how wide and deep the arms of a study must be for a reference arm to have so many parameters.

The knob is turned in legal steps (the width by heads) to where the base's ratio of feed-forward to width comes nearest, then the
feed-forward's hidden size makes the count exact. Every arm keeps its own ratios: head size, feed-forward against the
reference's, and under the knob "both" width against layers.
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import ValidationError

from paribus import spec
from paribus.costs.counting import parameter_counts
from paribus.errors import StudyError
from paribus.models.interface import interface_of
from paribus.plan.arms import resolve
from paribus.plan.checks import check_study
from paribus.plan.search import nearest
from paribus.records.plan import StudySize
from paribus.spec.fields import flatten
from paribus.spec.holds import distance
from paribus.spec.match import TOLERANCE
from paribus.spec.model import Model
from paribus.spec.problems import shown
from paribus.spec.sizes import TURNED, size_label

STRETCH = 2.0
"""How far a ratio (of feed-forward to width, of width to layers) may be from the base's, as a factor: beyond it a size would be
another shape."""
_AROUND = 8
"""Steps of the knob that are tried on either side, where arms cannot be built nearer by."""
_WIDEST = 10**6


class Sized(NamedTuple):
    """A study at one of its sizes."""

    size: StudySize
    study: spec.Study
    """The study whose base has that size; it has no sizes itself."""


class _Shape(NamedTuple):
    width: int
    layers: int
    hidden: int
    """Hidden size of the reference's feed-forward."""


def sized_studies(study: spec.Study) -> list[Sized]:
    """The study at each of its sizes, smallest first; `study` is checked (`checks.check_study`).

    Raises StudyError, one line, where the reference arm cannot have a size, with the nearest that it can have.
    """
    solver = _Solver(study)
    found = [solver.sized(goal) for goal in study.sizes.values]
    for before, after in pairwise(found):
        if before.study.model == after.study.model:
            raise StudyError(
                f"study: sizes = {shown([before.size.label, after.size.label])}: both give the same model, of "
                f"{after.size.parameters:,} parameters; give sizes that lie further apart"
            )
    return found


class _Solver:
    """The sizes of one study."""

    def __init__(self, study: spec.Study) -> None:
        self._study, self._sizes = study, study.sizes
        self._reference = study.sizes.reference or next(iter(study.arm))
        self._config = resolve(study, study.arm[self._reference])
        model = self._config.model
        self._base = _Shape(model.width, model.layers, model.hidden)
        self._count = cache(self._counted)
        self._as_written = self._count(self._base)
        self._step = model.head_size if model.heads is None else max(1, round(model.width / model.heads))

    def sized(self, goal: int) -> Sized:
        """The study at one size."""
        label = size_label(goal)
        if distance(self._as_written, goal) <= TOLERANCE:
            study = self._study.model_copy(update={"sizes": type(self._sizes)()})
            return Sized(StudySize(label, goal, self._reference, self._as_written, {}), study)
        tried: list[tuple[_Shape, int]] = []
        refusal: StudyError | None = None
        for several in self._nearby(goal):
            tried += [(shape, self._count(shape)) for ends in several for shape in ends]
            nearest_of_each = [min(ends, key=lambda shape: distance(self._count(shape), goal)) for ends in several]
            for shape in sorted(nearest_of_each, key=self._stretched):
                if distance(self._count(shape), goal) > TOLERANCE:
                    continue
                try:
                    study = self._checked(shape)
                except (ValidationError, StudyError) as error:
                    refusal = refusal or self._cannot_be_built(label, shape, error)
                    continue
                size = StudySize(label, goal, self._reference, self._count(shape), self._changes(study))
                return Sized(size, study)
        raise refusal or self._refused(label, goal, tried)

    def _nearby(self, goal: int) -> Iterator[list[list[_Shape]]]:
        """Shapes around a size, from the nearest step of the knob outwards: of each width and depth one or two."""
        most = (1000 if self._sizes.knob == "layers" else _WIDEST) // self._unit
        low, high = nearest(lambda turns: self._count(self._plain(turns)), 1, most, goal)
        for further in range(_AROUND + 1):
            turned = dict.fromkeys((low.knob - further, high.knob + further))
            outer = [pair for turns in turned if turns > 0 for pair in self._outer(turns)]
            yield [self._around(*pair, goal) for pair in outer]

    def _around(self, width: int, layers: int, goal: int) -> list[_Shape]:
        """Of one width and depth the one or two feed-forwards between which a size lies, the shape near the base's."""
        ratio = self._base.hidden / self._base.width * width
        first, last = max(1, math.ceil(ratio / STRETCH)), max(1, math.floor(ratio * STRETCH))
        ends = nearest(lambda hidden: self._count(_Shape(width, layers, hidden)), first, last, goal)
        return [_Shape(width, layers, each.knob) for each in dict.fromkeys(ends)]

    @property
    def _unit(self) -> int:
        """What the knob is turned by."""
        return 1 if self._sizes.knob == "layers" else self._step

    def _outer(self, turns: int) -> list[tuple[int, int]]:
        """Width and layers of a turn of the knob; under "both" the two depths between which the ratio is the base's."""
        if self._sizes.knob == "layers":
            return [(self._base.width, turns)]
        width = turns * self._step
        if self._sizes.knob == "width":
            return [(width, self._base.layers)]
        depth = width * self._base.layers / self._base.width
        return [(width, layers) for layers in dict.fromkeys((max(1, math.floor(depth)), max(1, math.ceil(depth))))]

    def _plain(self, turns: int) -> _Shape:
        """The shape whose feed-forward has the base's ratio."""
        width, layers = min(self._outer(turns), key=lambda pair: self._stretched(self._proportioned(*pair)))
        return self._proportioned(width, layers)

    def _proportioned(self, width: int, layers: int) -> _Shape:
        return _Shape(width, layers, max(1, round(width * self._base.hidden / self._base.width)))

    def _stretched(self, shape: _Shape) -> float:
        """How far a shape's ratios are from the base's: the logarithm of the larger factor."""
        hidden = (shape.hidden / shape.width) / (self._base.hidden / self._base.width)
        aspect = (shape.width / shape.layers) / (self._base.width / self._base.layers)
        return max(abs(math.log(hidden)), abs(math.log(aspect)) if self._sizes.knob == "both" else 0.0)

    def _counted(self, shape: _Shape) -> int:
        """Parameters of the reference arm outside the embeddings, whatever the vocabulary."""
        tables = self._config.model.model_dump() | self._of_model(self._config.model, shape)
        return parameter_counts(Model.model_construct(**tables), interface_of(self._config, 1))[1]

    def _of_model(self, model: Model, shape: _Shape) -> dict[str, Any]:
        """The fields of a `[model]` that a shape sets, ratios kept."""
        heads = {} if model.heads is None else {"heads": max(1, round(model.heads * shape.width / self._base.width))}
        hidden = max(1, round(shape.hidden * model.hidden / self._base.hidden))
        return {"width": shape.width, "layers": shape.layers, "feed_forward": hidden, **heads}

    def _at(self, shape: _Shape) -> spec.Study:
        """The study with a base of that shape. Raises ValidationError where the base cannot have it."""
        own = self._study
        rate = self._base.width / shape.width if self._sizes.learning_rate == "inverse_width" else 1.0
        tokens = self._count(shape) / self._as_written if self._sizes.tokens == "proportional" else 1.0
        model = Model.model_validate(own.model.model_dump() | self._of_model(own.model, shape))
        training = {name: _scaled(name, value, rate, tokens) for name, value in own.training.model_dump().items()}
        arms = {}
        for name, overrides in own.arm.items():
            flat = {field: _scaled(field, value, rate, tokens) for field, value in flatten(overrides).items()}
            arm = resolve(own, overrides).model
            fields = self._of_model(arm, shape)
            if "model.feed_forward" in flat or fields["feed_forward"] != model.feed_forward:
                flat["model.feed_forward"] = fields["feed_forward"]
            if "model.heads" in flat:
                flat["model.heads"] = fields["heads"]
            arms[name] = flat
        differ = any("model.feed_forward" in flat for flat in arms.values())
        more = [field for field in ("model.feed_forward",) if differ and field not in own.vary]
        claims = [
            claim.model_copy(
                update={
                    "vary": None if claim.vary is None else [*claim.vary, *more],
                    "repeat_under": {
                        field: [_scaled(field, value, rate, tokens) for value in values]
                        for field, values in claim.repeat_under.items()
                    },
                }
            )
            for claim in own.claim
        ]
        changed = {
            "sizes": type(self._sizes)(),
            "model": model,
            "training": type(own.training).model_validate(training),
            "arm": arms,
            "vary": [*own.vary, *more],
            "claim": claims,
        }
        return own.model_copy(update=changed)

    def _changes(self, sized: spec.Study) -> dict[str, Any]:
        """What the base of a size has that the study's own has not."""
        return {
            f"{section}.{name}": value
            for section in ("model", "training")
            for name, value in getattr(sized, section).model_dump().items()
            if value != getattr(getattr(self._study, section), name)
        }

    def _refused(self, label: str, goal: int, tried: list[tuple[_Shape, int]]) -> StudyError:
        """The nearest sizes on either side that the reference can have."""
        below = max((each for each in tried if each[1] < goal), key=lambda each: each[1], default=None)
        above = min((each for each in tried if each[1] > goal), key=lambda each: each[1], default=None)
        reached = " or ".join(f"{count:,} ({self._words(shape)})" for shape, count in filter(None, (below, above)))
        return StudyError(
            f"study: sizes: {label}: arm {shown(self._reference)} comes nearest with {reached} parameters outside the "
            f"embeddings, its shape within a factor {STRETCH:g} of the base's: not within {100 * TOLERANCE:g} %; give "
            "another size, or a smaller model.head_size"
        )

    def _checked(self, shape: _Shape) -> spec.Study:
        """The study at a shape. Raises ValidationError or StudyError where some arm cannot have it."""
        study = self._at(shape)
        check_study(study)
        return study

    def _possible(self, shape: _Shape) -> bool:
        try:
            self._checked(shape)
        except (ValidationError, StudyError):
            return False
        return True

    def _cannot_be_built(self, label: str, shape: _Shape, error: Exception) -> StudyError:
        reason = str(error).removeprefix("study: ")
        if isinstance(error, ValidationError):
            reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        turns = round(shape.layers if self._sizes.knob == "layers" else shape.width / self._step)
        below = (self._plain(each) for each in range(turns - 1, max(0, turns - _AROUND), -1))
        above = (self._plain(each) for each in range(turns + 1, turns + _AROUND))
        ends = [next((each for each in side if self._possible(each)), None) for side in (below, above)]
        sizes = " or ".join(f"{self._count(each):,} ({self._words(each)})" for each in ends if each)
        mend = f"; all can be with {sizes} parameters" if sizes else ""
        return StudyError(f"study: sizes: {label}: not all arms can be built with {self._words(shape)}: {reason}{mend}")

    def _words(self, shape: _Shape) -> str:
        fields = [(name, getattr(shape, name.partition(".")[2])) for name in TURNED[self._sizes.knob]]
        return ", ".join(f"{name.partition('.')[2]} = {value:,}" for name, value in fields) + (
            f", feed_forward = {shape.hidden:,}"
        )


def _scaled(field: str, value: Any, rate: float, tokens: float) -> Any:
    """The value of a training field at a size: rates follow the rule, counts of tokens the parameters; others stay."""
    name = field.rpartition(".")[2]
    if isinstance(value, list):
        return [_scaled("tokens" if name == "budgets" else field, each, rate, tokens) for each in value]
    if name == "learning_rate" and rate != 1:
        return float(f"{value * rate:.3g}")
    if tokens != 1 and name == "tokens":
        return round(value * tokens)
    return value
