"""Main effects and interactions of crossed factors, in words and tables: the key `crossings` of `verdicts.json`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paribus.display.numbers import MISSING, interval, listed, signed
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.display.wording import after_comma, confidence_text
from paribus.evaluation.metrics import Metric, metric_of
from paribus.plan.effects import told as as_effect
from paribus.records.condition import Condition
from paribus.records.reading import StudyRecord
from paribus.spec.fields import leaf_name

CHARTS = ("interactions", "crossing_effects")
_IN_WORDS = 4
"""Interactions of one crossing that are all put in words."""

Json = Mapping[str, Any]


def part(record: StudyRecord) -> Part | None:
    """The section about crossings; None where fewer than two fields vary, or nothing was judged yet."""
    found = record.verdicts.get("crossings")
    if not found:
        return None
    texts = list(dict.fromkeys(note for design in found["designs"] for note in design["notes"]))
    claimed = record.verdicts.get("effects") or []
    texts += [_claimed(claim) for claim in claimed]
    texts += [
        text for design in found["designs"] for each in design["analysed"] for text in _of_part(found, design, each)
    ]
    analysed = [(design, each) for design in found["designs"] for each in design["analysed"]]
    if analysed:
        texts.append(family(found))
    return Part(
        "crossings",
        "Crossings",
        "Main effects and interactions",
        "What each factor does on average over the others, and whether it does more or less beside another.",
        tuple(texts),
        CHARTS,
        (
            *([_claims_table(record, claimed)] if claimed else ()),
            *(_table(found, design, each) for design, each in analysed),
        ),
    )


def family(found: Json) -> str:
    """Over what the intervals of crossings are simultaneous, and in what they are told."""
    metric, count = metric_of(found["metric"]), found["intervals"]
    about = "this very test set" if found["estimand"] == "this_test_set" else "text like the test set"
    level = f"{100 * found['confidence']:g} %"
    return (
        f"Improvements in {metric.label}, positive is better, about {about}. The {count} intervals of this section are a "
        f"family of their own: together they hold with {level}, apart from those of the claims. A simple effect is that of one "
        "factor at one level of another; an interaction is the difference of two simple effects; main effects are means over the "
        f"levels of the other factors, each level counting alike.{_setting(found)}"
    )


def _claimed(claim: Json) -> str:
    """A claim about an effect, with its verdict."""
    under = after_comma(claim["condition"])
    note = f" {claim['note']}" if claim["note"] else ""
    return f"“{claim['says'].rstrip('.')}”{under}: {claim['verdict']}.{note}"


def _claims_table(record: StudyRecord, claimed: Sequence[Json]) -> Table:
    """Claims about effects, judged in the family of all claims."""
    rows = []
    for claim in claimed:
        places = digits([claim])
        rows.append(
            (
                Cell(claim["says"] + after_comma(claim["condition"])),
                Cell(as_effect(claim)),
                Cell(claim["expect"].replace("_", " ")),
                number(f"{claim['margin']:g}"),
                Cell(claim["verdict"]),
                number(signed(claim["estimate"], places)),
                number(interval(claim["low"], claim["high"], places)),
                number(str(claim["seeds"])),
            )
        )
    columns = ("Claim", "Effect", "Expected", "Margin", "Verdict", "Estimate", "Interval", "Seeds")
    units = listed(dict.fromkeys(metric_of(claim["metric"]).label for claim in claimed))
    caption = f"Claims about effects; {units}, {confidence_text(record)}"
    return Table(caption, columns, tuple(rows))


def _setting(found: Json) -> str:
    return f" Each arm has its own best {listed(found['tuned'])}." if found["tuned"] else ""


def title(design: Json, each: Json) -> str:
    """What a complete part crosses: `input_attention × parameters, at memory = every_layer`."""
    crossed = " × ".join(leaf(name) for name in each["factors"])
    at = "".join(f", at {level(name, word)}" for name, word in each["at"].items())
    return crossed + at + after_comma(design["condition"])


def leaf(name: str) -> str:
    """A factor without its section."""
    return " with ".join(leaf_name(field) for field in name.split(" with "))


def level(name: str, word: str) -> str:
    """A level as one reads it: `position = none`, `layers 4`."""
    return word if word.startswith(leaf(name).split(" with ")[0]) else f"{leaf(name)} = {word}"


def digits(effects: Sequence[Json]) -> int:
    """Decimals with which no end and no estimate of these effects rounds to 0 that is not 0."""
    shown = [abs(value) for effect in effects for key in ("estimate", "low", "high") if (value := effect[key])]
    return next((places for places in range(3, 6) if all(round(value, places) for value in shown)), 6)


def told(effect: Json, places: int) -> str:
    """`+0.110 [+0.080, +0.140]`, or the estimate alone where the seeds give no interval."""
    if effect["estimate"] is None:
        return "no estimate"
    ends = interval(effect["low"], effect["high"], places)
    return signed(effect["estimate"], places) + (f" {ends}" if ends != MISSING else "")


def contrast(effect: Json) -> str:
    """`bidirectional against causal`, of several factors joined by `, `."""
    pairs = zip(effect["levels"], effect["against"], strict=True)
    return ", ".join(f"{one} against {other}" for one, other in pairs)


def interaction_lines(verdicts: Json) -> Iterator[str]:
    """Each interaction in a line, for the command line, and over what their intervals hold."""
    found = verdicts.get("crossings") or {"designs": []}
    lines = []
    for design in found["designs"]:
        for each in design["analysed"]:
            for effect in each["effects"]:
                if "interaction" in effect["kind"]:
                    where = f" ({title(design, each)})" if each["at"] or design["condition"] else ""
                    measured = "no estimate" if effect["estimate"] is None else f"{effect['estimate']:+.4f}"
                    if effect["low"] is not None:
                        measured += f" [{effect['low']:+.4f}, {effect['high']:+.4f}]"
                    unit = metric_of(found["metric"]).label
                    lines.append(f"{effect['kind']}: {contrast(effect)}{where}: {measured} {unit}")
    yield from lines
    if lines:
        yield f"these hold together with all {found['intervals']} effects of crossed factors, apart from the claims"


def _of_part(found: Json, design: Json, each: Json) -> Iterator[str]:
    """A sentence or two for each interaction; of many, for those that are told apart from none."""
    places, metric = digits(each["effects"]), metric_of(found["metric"])
    several = [effect for effect in each["effects"] if effect["kind"] == "interaction"]
    apart = several
    if len(several) > _IN_WORDS:
        apart = [effect for effect in several if not _may_be_none(effect)]
        which = f"{len(apart)} are" if len(apart) != 1 else "1 is"
        yield f"Of the {len(several)} interactions of {title(design, each)}, {which} told apart from none; the table has all."
    for effect in apart:
        yield _sentence(design, each, effect, places, metric)
    for effect in each["effects"]:
        if effect["kind"] == "three-factor interaction":
            none = ", not told apart from none" if _may_be_none(effect) else ""
            yield f"Three factors together, {contrast(effect)}: {told(effect, places)}{none}."


def _sentence(design: Json, each: Json, effect: Json, places: int, metric: Metric) -> str:
    """An interaction with the two simple effects of which it is the difference."""
    (first, second), (ours, other), (reference, base) = effect["factors"], effect["levels"], effect["against"]
    simple = {
        one["at"][second]: told(one, places)
        for one in each["effects"]
        if one["kind"] == "simple" and one["factors"] == [first] and one["levels"] == [ours] and second in one["at"]
    }
    at = listed(f"with {level(name, word)}" for name, word in each["at"].items())
    where = listed(filter(None, (at, str(Condition.model_validate(design["condition"])))))
    mean = [leaf(name) for name in each["factors"] if name not in effect["factors"]]
    over = f", on average over {listed(mean)}" if mean else ""
    conclusion = (
        "the seeds do not tell whether one depends on the other"
        if _may_be_none(effect)
        else f"it does {'more' if effect['low'] > 0 else 'less'} good with {level(second, other)} than with {level(second, base)}"
    )
    return (
        f"{where[:1].upper()}{where[1:]}{': ' if where else ''}{ours} against {reference}{over}, improvement in {metric.label}: "
        f"{simple[base]} with {level(second, base)}, {simple[other]} with {level(second, other)}. "
        f"Interaction {told(effect, places)}: {conclusion}."
    )


def _may_be_none(effect: Json) -> bool:
    return effect["low"] is None or bool(effect["low"] <= 0 <= effect["high"])


def _table(found: Json, design: Json, each: Json) -> Table:
    places = digits(each["effects"])
    rows = []
    for effect in each["effects"]:
        at = ", ".join(level(name, word) for name, word in effect["at"].items())
        rest = [leaf(name) for name in each["factors"] if name not in effect["factors"] and name not in effect["at"]]
        over = f"mean over {listed(rest)}" if rest else ""
        rows.append(
            (
                Cell(effect["kind"].capitalize()),
                Cell(" × ".join(leaf(name) for name in effect["factors"])),
                Cell(contrast(effect)),
                Cell(", ".join(filter(None, (at, over))) or MISSING),
                number(signed(effect["estimate"], places)),
                number(interval(effect["low"], effect["high"], places)),
                number(str(effect["seeds"])),
            )
        )
    notes = tuple(dict.fromkeys(effect["note"] for effect in each["effects"] if effect["note"]))
    columns = ("Effect", "Of", "Levels", "At", "Improvement", "Interval", "Seeds")
    simultaneous = f"intervals together {100 * found['confidence']:g} % over {found['intervals']}"
    caption = f"Effects of {title(design, each)}; {metric_of(found['metric']).label}, {simultaneous}"
    return Table(caption, columns, tuple(rows), notes)
