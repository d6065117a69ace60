"""The audit of a study with sizes, in 80 columns: what each size is, and each arm and claim once for all sizes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from paribus.cli.tables import table
from paribus.plan.arms import used_value
from paribus.records.condition import Condition, arm_name
from paribus.records.plan import Arm, Plan

_FIELDS = {
    "width": "model.width",
    "layers": "model.layers",
    "heads": "model.heads",
    "hidden": "model.feed_forward",
    "rate": "training.learning_rate",
    "tokens": "training.tokens",
}


def sizes_table(plan: Plan) -> Table:
    """A row for each size of a plan: what its reference arm has there."""
    reference = plan.sizes[0].reference
    made = table(f"Sizes, of the arm {reference}", "size")
    for column in ("parameters", *_FIELDS):
        made.add_column(column, justify="right", overflow="fold")
    arms = {(arm.written, arm.size): arm for arm in plan.arms if arm.repeats is None}
    for size in plan.sizes:
        config = arms[reference, size.label].config
        values = (used_value(config, field) for field in _FIELDS.values())
        made.add_row(
            size.label, f"{size.parameters:,}", *(f"{v:,}" if isinstance(v, int) else f"{v:g}" for v in values)
        )
    return made


def own_changes(
    plan: Plan, audited: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, list[Any]], dict[str, list[Any]]]]:
    """Each arm once for all sizes: its name, and what it sets and what follows beyond what its size sets, values by size."""
    for name, arms in _unsized(plan).items():
        sets: dict[str, list[Any]] = {}
        follows: dict[str, list[Any]] = {}
        for arm in arms:
            size = next(size for size in plan.sizes if size.label == arm.size)
            for field, value in audited[arm.name]["differs"].items():
                if field not in size.changes or size.changes[field] != value:
                    sets.setdefault(field, []).append(value)
            shared = [audited[other]["follows"] for other in plan.at_size(arm.size)]
            for field, value in audited[arm.name]["follows"].items():
                if not all(other.get(field) == value for other in shared):
                    follows.setdefault(field, []).append(value)
        yield name, sets, follows


def _unsized(plan: Plan) -> dict[str, list[Arm]]:
    """The arms by their name without the size."""
    found: dict[str, list[Arm]] = {}
    for arm in plan.arms:
        found.setdefault(_label(arm), []).append(arm)
    return found


def by_size(values: Sequence[Any]) -> Sequence[Any]:
    """Values of all sizes, once where they are the same."""
    return values[:1] if all(value == values[0] for value in values) else values


def hashes_table(plan: Plan, audited: Mapping[str, Any], digits: int) -> Table:
    """A row for each size: hashes of the start and of the order of the data that its arms share."""
    made = table("Shared by all arms", "size", "start", "batches")
    for size in plan.sizes:
        arms = [audited[name] for name in plan.at_size(size.label)]
        starts = list(dict.fromkeys(arm["common_init"][:digits] if arm["common_parameters"] else "-" for arm in arms))
        orders = list(dict.fromkeys(arm["data_order"][:digits] for arm in arms))
        made.add_row(size.label, "\n".join(starts), "\n".join(orders))
    return made


def same_claims(plan: Plan, claims: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The claims of an audit, each with the words for its arms; once where it is the same at all sizes."""
    arms = {arm.name: arm for arm in plan.arms}
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for claim in claims:
        pair = (_label(arms[claim["arm"]]), _label(arms[claim["against"]]))
        setting = str(Condition.model_validate(claim["condition"]).matching or "")
        holds = tuple((hold["quantity"], hold["tolerance"], hold["holds"]) for hold in claim["holds"])
        same = (claim["says"], *pair, setting, tuple(claim["varies"]), holds, claim["passed"])
        found.setdefault(same, []).append(claim)
    for (_, arm, against, setting, *_), several in found.items():
        words = f"{arm} against {against}" + (f", at {setting}" if setting else "")
        if len(several) == len(plan.sizes) and several[0]["passed"]:
            yield f"{words}, at each size", several[0]
        else:
            for claim in several:
                yield f"{words}, at size {arms[claim['arm']].size}", claim


def of_size(plan: Plan, name: str) -> tuple[Text, Text]:
    """The two cells that name an arm in a table of arms and sizes."""
    arm = plan.arm(name)
    return Text(arm.size or ""), Text(_label(arm))


def _label(arm: Arm) -> str:
    """An arm's name without its size, and of one that was solved for without what it sets: that differs from size to size."""
    if matching := arm.condition.matching:
        return f"{arm.written} [{matching.quantity}]"
    return arm_name(arm.written, arm.condition.without_size, arm.changes)


def tight(count: int) -> str:
    """A count in six characters: exact below a hundred thousand, else three digits; exact ones are in `--json`."""
    if count < 10**5:
        return f"{count:,}"
    unit, letter = next((10**power, letter) for power, letter in ((9, "G"), (6, "M"), (3, "k")) if count >= 10**power)
    return f"{count / unit:.3g}{letter}" if count < 10**13 else f"{count:.3g}".replace("e+", "e")
