"""The rule by which a study's number of seeds came about, in words."""

from paribus.display.numbers import listed
from paribus.display.repeats import contrasts
from paribus.records.reading import StudyRecord
from paribus.spec.stopping import looks_of


def rule_of(record: StudyRecord) -> str:
    """`fixed`, `group_sequential` or `any_time`: as it was judged, or as the study declares it."""
    return str(record.stopping.get("rule") or record.study.get("stopping") or "fixed")


def stopping_short(record: StudyRecord) -> str:
    """The rule and its looks in a few words, for the head of a report."""
    rule, seeds, looks = rule_of(record), _seeds(record), _looks(record)
    if rule == "group_sequential":
        return f"looks planned at {listed(map(str, looks))} seeds; stopped at {seeds}"
    if rule == "any_time":
        return f"valid at any number of seeds; stopped at {seeds}"
    if len(looks) > 1:
        return f"judged at {listed(map(str, looks))} seeds: some were added later"
    return f"{seeds} {'seed' if seeds == 1 else 'seeds'}, fixed beforehand"


def stopping_text(record: StudyRecord) -> str:
    """The rule, its looks, and at which look each claim was decided, in sentences."""
    rule, seeds, looks, level = rule_of(record), _seeds(record), _looks(record), record.stopping.get("level")
    each = "" if level is None else f" One interval at one look has a level of {100 * float(level):.4g} %."
    if rule == "group_sequential":
        return (
            f"Group-sequential: seeds were added until every claim was decided, with looks planned at {listed(map(str, looks))} "
            f"seeds and none between. All looks share the confidence.{each} The study stopped at {seeds} seeds.{_decided(record)}"
        )
    if rule == "any_time":
        return (
            "Any time: the intervals are wider, and hold at all numbers of seeds at once, so that one may look after every "
            f"seed and stop when one likes.{each} The study stopped at {seeds} seeds.{_decided(record)}"
        )
    if len(looks) > 1:
        return (
            f"A fixed number of seeds was declared, and verdicts were computed at {listed(map(str, looks))} seeds: some were "
            "added after a look, for which these intervals do not allow."
        )
    alone = "" if level is None else f" Each interval by itself has {100 * float(level):.4g} %."
    return (
        f"The number of seeds, {seeds}, was fixed beforehand, and the claims were judged once, with all of them.{alone}"
    )


def _decided(record: StudyRecord) -> str:
    """At which look each claim was decided."""
    at: dict[int, list[str]] = {}
    for number, pair in enumerate(contrasts(record), 1):
        verdict = pair.claim.verdict
        if verdict and verdict.decided_at is not None:
            at.setdefault(verdict.decided_at, []).append(str(number))
    parts = [
        f"{'claim' if len(claims) == 1 else 'claims'} {listed(claims)} after {look} seeds"
        for look, claims in sorted(at.items())
    ]
    return f" Decided: {'; '.join(parts)}." if parts else ""


def _seeds(record: StudyRecord) -> int:
    return int(record.stopping.get("seeds") or len({trial.seed for trial in record.trials}))


def _looks(record: StudyRecord) -> list[int]:
    """As recorded; before anything was judged, as the study declares them."""
    looks = record.stopping.get("looks")
    if looks:
        return list(looks)
    return list(looks_of(record.study)) if rule_of(record) == "group_sequential" else [_seeds(record)]
