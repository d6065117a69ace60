"""Sizes in words and tables: how gaps change along them, and how far frontiers are apart (key `sizes` of `verdicts.json`)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paribus.analyses.factorial.section import digits, told
from paribus.analyses.sizes.judging import COSTS
from paribus.display.numbers import MISSING, compact, fixed, interval, signed
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.display.wording import after_comma
from paribus.evaluation.metrics import metric_of
from paribus.records.reading import StudyRecord

CHARTS = ("frontiers", "gaps_by_size")

Json = Mapping[str, Any]


def part(record: StudyRecord) -> Part | None:
    """The section about sizes; None where the study has one size, or nothing was judged yet."""
    found = record.verdicts.get("sizes")
    if not found:
        return None
    trends = found["trends"]
    texts = [" ".join(_of_trend(found, trend)) for trend in trends]
    compared = dict.fromkeys((each["arm"], each["against"], each["metric"]) for each in found["frontiers"])
    for pair in compared:
        same = [each for each in found["frontiers"] if (each["arm"], each["against"], each["metric"]) == pair]
        texts.append(" ".join(_of_frontiers(same)))
    texts.append(_limits(found, _rates(record)))
    return Part(
        "sizes",
        "Sizes",
        "Sizes and frontiers",
        "Whether a difference grows or shrinks with size, and which arm is ahead at equal cost.",
        tuple(texts),
        CHARTS,
        (*((_trends_table(found),) if trends else ()), *((_frontiers_table(found),) if found["frontiers"] else ())),
    )


def contrast(trend: Json) -> str:
    """`unilm against gpt, equal parameters`."""
    return f"{trend['arm']} against {trend['against']}" + after_comma(trend["condition"])


def _of_trend(found: Json, trend: Json) -> Iterator[str]:
    """How a gap changes, in a sentence, and what can be said beyond that."""
    slope, bend, ahead = trend["slope"], trend["bend"], trend["prediction"]
    unit = metric_of(trend["metric"]).label
    if slope["estimate"] is None:
        yield f"{contrast(trend)}: no trend, because at no seed all sizes of both arms ended well."
        return
    yield f"{contrast(trend)}: {change(trend)} ({_range(found)})."
    if bend is not None and bend["low"] is not None and not bend["low"] <= 0 <= bend["high"]:
        yield (
            f"{contrast(trend)}: the line bends, its slope changing by {told(bend, digits([bend]))} {unit} with each doubling, "
            "so one slope does not tell it all."
        )
    if ahead is not None and ahead["estimate"] is not None:
        yield (
            f"Model-dependent: drawn on as a straight line, the improvement of {contrast(trend)} at "
            f"{compact(ahead['parameters'])} parameters, twice the largest size, would be {told(ahead, digits([ahead]))} {unit}. "
            "No size there was trained."
        )


def change(trend: Json) -> str:
    """The slope in words: `the gap shrinks by 0.010 [0.004, 0.016] bits per byte for each doubling of the parameters`."""
    slope, unit = trend["slope"], metric_of(trend["metric"]).label
    places = digits([slope])
    per = f"{unit} for each doubling of the parameters"
    low, high = slope["low"], slope["high"]
    if low is None or low <= 0 <= high:
        return f"no trend is shown; the improvement changes by {told(slope, places)} {per}"
    rises, sides = slope["estimate"] > 0, {_side(gap) for gap in trend["gaps"]}
    ends = (low, high) if rises else (-high, -low)
    size = f"{fixed(abs(slope['estimate']), places)} [{fixed(ends[0], places)}, {fixed(ends[1], places)}]"
    if sides not in ({1}, {-1}):
        # A gap grows or shrinks where one arm is shown to be ahead at every size: no word is stronger than the intervals.
        turns = ", and changes its sign" if sides >= {1, -1} else ""
        return f"the improvement {'rises' if rises else 'falls'} by {size} {per}{turns}"
    return f"the gap {'grows' if rises == (sides == {1}) else 'shrinks'} by {size} {per}"


def _side(gap: Json) -> int:
    """1 where the whole interval of a gap lies above 0, -1 below it, else 0."""
    return 0 if gap["low"] is None else int(gap["low"] > 0) - int(gap["high"] < 0)


def _range(found: Json) -> str:
    sizes = found["sizes"]
    return f"from {compact(sizes[0]['parameters'])} to {compact(sizes[-1]['parameters'])} parameters of {found['reference']}"


def _of_frontiers(frontiers: Sequence[Json]) -> Iterator[str]:
    """What each frontier says at equal cost, and what the other arm needs for the same score."""
    for each in frontiers:
        pair, cost = f"{each['arm']} against {each['against']}", COSTS[each["cost"]]
        if each["why_not"]:
            yield f"{pair} at equal {cost}: not compared, because {each['why_not']}."
            continue
        gaps = [point for point in each["points"] if point["gap"] and point["gap"]["low"] is not None]
        ahead = [point["size"] for point in gaps if point["gap"]["low"] > 0]
        behind = [point["size"] for point in gaps if point["gap"]["high"] < 0]
        said = [f"{word} at {', '.join(labels)}" for word, labels in (("better", ahead), ("worse", behind)) if labels]
        told_apart = " and ".join(said) or "nowhere told apart"
        sentence = f"{pair} at equal {cost}: {told_apart} ({len(gaps)} of {len(each['points'])} sizes compared)"
        largest = next((point for point in reversed(each["points"]) if point["multiplier"]), None)
        if largest is None:
            why = each["points"][-1].get("why_no_multiplier", "no seed ended well")
            yield f"{sentence}. No multiplier: {why}."
        else:
            yield (
                f"{sentence}. {each['against']} needs {_times(largest['multiplier'])} times the {cost} for the score of "
                f"{each['arm']} at size {largest['size']}."
            )


def _times(multiplier: Json) -> str:
    ends = "" if multiplier["low"] is None else f" [{multiplier['low']:.3g}, {multiplier['high']:.3g}]"
    return f"{multiplier['estimate']:.3g}{ends}"


def _rates(record: StudyRecord) -> str:
    """What learning rates the sizes have."""
    if record.plan.tuning:
        return "What is tuned is tuned for each arm at each size by itself."
    sizes = record.study["sizes"]
    if sizes["learning_rate"] == "same" or sizes["knob"] == "layers":
        return "Learning rates are the same at all sizes, so a trend may be one of their fitness."
    return "Learning rates fall with the width by a rule, not tuned: a trend may be one of their fitness."


def _limits(found: Json, rates: str) -> str:
    """Over what the intervals hold, and what is not shown."""
    families, level = found["families"], f"{100 * found['confidence']:g} %"
    counts = ", ".join(
        f"{families[name]['intervals']} {words}"
        for name, words in (
            ("slopes", "slopes"),
            ("bends", "bends"),
            ("predictions", "predictions"),
            ("frontiers", "gaps of frontiers"),
            ("multipliers", "multipliers"),
        )
        if name in families
    )
    few = (
        " Two sizes give a difference and no more: whether the trend bends, and where it leads, is not shown."
        if "bends" not in families
        else ""
    )
    beyond = "Nothing is shown outside the range of sizes"
    if "predictions" in families:
        beyond = "But for predictions, which depend on the model, nothing is shown outside the range of sizes"
    return (
        f"Each of these families of intervals holds together with {level}, apart from the claims': {counts}. Frontiers are "
        "straight lines between neighbouring sizes, in the logarithm of the cost; nothing is drawn on beyond their ends. "
        f"Multipliers are over seeds, on this test set. {rates}{few} {beyond}, or for "
        "other data, tokens and recipes."
    )


def _trends_table(found: Json) -> Table:
    sizes = [size["size"] for size in found["sizes"]]
    rows = []
    for trend in found["trends"]:
        places = digits([*trend["gaps"], trend["slope"]])
        ahead = trend["prediction"]
        cells = [number(told(gap, places)) for gap in trend["gaps"]]
        rest = [number(told(trend["slope"], places))]
        if "bends" in found["families"]:
            rest += [number(told(trend["bend"], places)), number(told(ahead, places) if ahead else MISSING)]
        rows.append((Cell(contrast(trend)), Cell(metric_of(trend["metric"]).label), *cells, *rest))
    more = ("Bend", "At twice the largest, model-dependent") if "bends" in found["families"] else ()
    columns = ("Contrast", "Improvement in", *(f"At {size}" for size in sizes), "Per doubling", *more)
    caption = (
        "Improvements at each size, with the claims' intervals, and their trend in the logarithm of the parameters"
    )
    return Table(caption, columns, tuple(rows))


def _frontiers_table(found: Json) -> Table:
    rows = []
    notes: dict[str, None] = {}
    for each in found["frontiers"]:
        for point in each["points"]:
            gap, times = point["gap"], point["multiplier"]
            for key in ("why_no_gap", "why_no_multiplier"):
                if why := point.get(key):
                    notes[f"{each['arm']} at {point['size']}, {COSTS[each['cost']]}: {why}."] = None
            places = digits([gap]) if gap else 3
            rows.append(
                (
                    Cell(f"{each['arm']} against {each['against']}"),
                    Cell(COSTS[each["cost"]]),
                    Cell(point["size"]),
                    number(compact(point["x"])),
                    number(signed(gap["estimate"], places) if gap else MISSING),
                    number(interval(gap["low"], gap["high"], places) if gap else MISSING),
                    number(_times(times) if times else MISSING),
                )
            )
    columns = ("Contrast", "At equal", "Size of the arm", "Its cost", "Gap", "Interval", "The other needs, times")
    caption = (
        "Gaps between frontiers at the arm's own points, and how many times its cost the other needs for the same score"
    )
    return Table(caption, columns, tuple(rows), tuple(notes))
