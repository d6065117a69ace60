"""What is wrong with the sizes of a study, or with what its arms do to them."""

from collections.abc import Iterator

from paribus import spec
from paribus.spec.fields import flatten
from paribus.spec.problems import Path, Problem, did_you_mean, listed, shown
from paribus.spec.sizes import TURNED

_OWN = ("model.width", "model.layers")
_FOLLOW = ("model.feed_forward", "model.heads")


def size_problems(study: spec.Study) -> Iterator[Problem]:
    """The problems of a study with sizes: whatever would give an arm another size than the one it is said to have."""
    sizes = study.sizes
    if not sizes.values:
        return
    if sizes.reference is not None and sizes.reference not in study.arm:
        near = did_you_mean(sizes.reference, study.arm, quoted=True) or f"; the arms are {listed(study.arm)}"
        yield Problem(("sizes", "reference"), f"no such arm{near}", sizes.reference)
    for name, overrides in study.arm.items():
        for field, value in flatten(overrides).items():
            if field in _OWN:
                text = "the study has sizes, which set it for all arms; leave it out, and use match to make arms equal"
                yield Problem(("arm", name, *field.split(".")), text, value)
            if field == "model.start_from" and value is not None:
                yield Problem(("arm", name, *field.split(".")), _CHECKPOINT, value)
    for number, field in enumerate(study.vary):
        if field in _OWN:
            yield Problem(("vary", number), "the study has sizes, which set it for all arms; leave it out", field)
    if study.model.start_from is not None:
        yield Problem(("model", "start_from"), _CHECKPOINT, study.model.start_from)
    for number, claim in enumerate(study.claim):
        for field, values in claim.repeat_under.items():
            path: Path = ("claim", number, "repeat_under", field)
            if field in (*_OWN, *_FOLLOW):
                yield Problem(path, "the study has sizes, which set it; leave it out", values)
            elif field == "model.start_from":
                yield Problem(path, _CHECKPOINT, values)
    yield from _rules_by_layer(study)


_CHECKPOINT = "a checkpoint has a size of its own; leave it out, or leave sizes out"


def _rules_by_layer(study: spec.Study) -> Iterator[Problem]:
    """A list of rules has one for each layer, so that it fits one depth only."""
    if "model.layers" not in TURNED[study.sizes.knob]:
        return
    written: list[tuple[Path, object]] = [(("model", "input_attention"), study.model.input_attention)]
    written += [
        (("arm", name, "model", "input_attention"), flatten(overrides).get("model.input_attention"))
        for name, overrides in study.arm.items()
    ]
    for path, value in written:
        if isinstance(value, list):
            text = f'has a rule for each layer, and sizes.knob = {shown(study.sizes.knob)} changes their number; use "width"'
            yield Problem(path, text, value)
