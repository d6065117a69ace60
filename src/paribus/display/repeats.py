"""Repeats of a claim by kind: under a matching, at another size, under another setting, at a common value of what was tuned."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from paribus.display.numbers import listed
from paribus.records.matching import OverKnobs
from paribus.records.reading import Claim, StudyRecord

KINDS = {
    "size": "At other sizes",
    "matching": "With arms made equal",
    "setting": "Under other settings",
    "common": "At common values of what was tuned",
}
FOLDED = 4
"""Longer groups are folded in a claim's card."""


@dataclass(frozen=True)
class Contrast:
    """A claim with its repeats under other settings: the same statement, judged again."""

    claim: Claim
    repeats: tuple[Claim, ...]

    @property
    def at_sizes(self) -> tuple[Claim, ...]:
        """In a study of several sizes, the claim as written at each of them."""
        return tuple(claim for claim in (self.claim, *self.repeats) if claim.condition.kind == "size")

    def original(self, again: Claim) -> Claim:
        """What a repeat is compared with: the claim as written at the repeat's own size."""
        own = (claim for claim in self.at_sizes if claim.size == again.size and claim is not again)
        return next(own, self.claim)


@dataclass(frozen=True)
class Group:
    """The repeats of one kind of one claim."""

    kind: str
    title: str
    summary: str
    """What they do to the verdict, in a few words."""
    changed: bool
    """Whether any has another verdict or an estimate of the other sign."""
    claims: tuple[Claim, ...]


def contrasts(record: StudyRecord) -> tuple[Contrast, ...]:
    """The claims as written, each with its repeats: the first of each that is under no other setting, and the others."""
    found = []
    for number in dict.fromkeys(claim.number for claim in record.claims):
        same = [claim for claim in record.claims if claim.number == number]
        original = next((claim for claim in same if not claim.condition), same[0])
        found.append(Contrast(original, tuple(claim for claim in same if claim is not original)))
    return tuple(found)


def groups(pair: Contrast) -> tuple[Group, ...]:
    """The repeats of a claim, kind by kind."""
    found = []
    for kind, title in KINDS.items():
        claims = tuple(claim for claim in pair.repeats if claim.condition.kind == kind)
        if claims:
            changed = any(changes(pair.original(claim), claim) for claim in claims)
            found.append(
                Group(kind, title, _summary([(pair.original(claim), claim) for claim in claims]), changed, claims)
            )
    return tuple(found)


def _summary(pairs: Sequence[tuple[Claim, Claim]]) -> str:
    judged = [(claim, again) for claim, again in pairs if "pending" not in (claim.outcome, again.outcome)]
    if not judged:
        return "not judged yet"
    other = sum(again.outcome != claim.outcome for claim, again in judged)
    signs = sum(flipped(claim, again) for claim, again in judged)
    if not other and not signs:
        return "same verdict, same sign" if len(judged) == 1 else f"same verdict and sign in all {len(judged)}"
    if len(judged) == 1:
        return " and ".join(["another verdict"] * other + ["the other sign"] * signs)
    parts = [f"another verdict in {other} of {len(judged)}"] if other else []
    return " and ".join(parts + ([f"the other sign in {signs} of {len(judged)}"] if signs else []))


def changes(claim: Claim, again: Claim) -> bool:
    """Whether the repeat gave another verdict or an estimate of the other sign."""
    judged = "pending" not in (claim.outcome, again.outcome)
    return judged and (claim.outcome != again.outcome or flipped(claim, again))


def flipped(claim: Claim, again: Claim) -> bool:
    """Whether the estimates of both have opposite signs."""
    first, second = (one.verdict.estimate if one.verdict else None for one in (claim, again))
    return first is not None and second is not None and first * second < 0


def remark(claim: Claim, again: Claim) -> str:
    """What a repeat did to the verdict, in a sentence."""
    if "pending" in (claim.outcome, again.outcome):
        return f"Not judged yet {again.condition.where}."
    if claim.outcome != again.outcome:
        sign = ", and the estimate changes its sign" if flipped(claim, again) else ""
        return f"The verdict changes with {_changed(again)}: {claim.outcome} becomes {again.outcome}{sign}."
    if flipped(claim, again):
        return f"The verdict stays {claim.outcome}; the estimate changes its sign with {_changed(again)}."
    if claim.outcome == "undecided":
        return "Undecided under both, with estimates of the same sign."
    return f"Same verdict, same sign: {_changed(again)} does not decide this."


def _changed(again: Claim) -> str:
    condition = again.condition
    if condition.kind in ("matching", "size"):
        return f"the {condition.kind}"
    names = [setting.field for setting in filter(None, (condition.setting, *condition.common))]
    return {"model.init": "the initialisation"}.get(names[0], names[0]) if names else "another setting"


def over_knobs(record: StudyRecord, claim: Claim) -> list[OverKnobs]:
    """Of a claim, its verdict under each matching over all knobs."""
    entries = (OverKnobs.model_validate(entry) for entry in record.verdicts.get("matchings") or [])
    return [entry for entry in entries if entry.claim == claim.number and entry.condition.size == claim.size]


def why_open(entry: OverKnobs) -> str:
    """Why knobs that give several verdicts leave a matching undecided; one that only leaves it open contradicts none."""
    return "the knob changes the answer" if entry.contradict else "not every knob decides it"


def over_text(entry: OverKnobs) -> str:
    """`undecided, because the knob changes the answer (supported by feed_forward, refuted by width)`, or the verdict."""
    if entry.differ:
        each = listed(f"{verdict} by {knob}" for knob, verdict in entry.verdicts.items())
        return f"{entry.verdict}, because {why_open(entry)} ({each})"
    return entry.verdict


def matched_sentence(record: StudyRecord, claim: Claim) -> str:
    """What becomes of a claim's verdict where arms are made equal; empty where they are not, or nothing was judged."""
    if claim.outcome == "pending":
        return ""
    found: dict[str, list[str]] = {}
    for entry in over_knobs(record, claim):
        stays = "stays" if entry.verdict == claim.outcome and not entry.differ else "is"
        found.setdefault(f"{stays} {over_text(entry)}", []).append(entry.words)
    text = "; ".join(f"at equal {listed(words)} it {told}" for told, words in found.items())
    return f"{text[0].upper()}{text[1:]}." if text else ""


def sentences(record: StudyRecord) -> list[str]:
    """For the head of the report: whether verdicts survive their repeats."""
    pairs = contrasts(record)
    said = (
        [text for text in (_size_sentence(pairs[0]), matched_sentence(record, pairs[0].claim)) if text] if pairs else []
    )
    for kind in ("setting", "common"):
        judged = [
            (pair.original(again), again)
            for pair in pairs
            for again in pair.repeats
            if again.condition.kind == kind and "pending" not in (pair.original(again).outcome, again.outcome)
        ]
        if judged:
            said.append(_survives(kind, judged))
    return said


def _size_sentence(pair: Contrast) -> str:
    """What becomes of a claim's verdict at further sizes; empty where it is the same, which the headline says."""
    first, *others = pair.at_sizes or (pair.claim,)
    if all(other.outcome == first.outcome for other in others):
        return ""
    found: dict[str, list[str]] = {}
    for other in others:
        stays = "stays" if other.outcome == first.outcome else "is"
        told = "not judged yet" if other.outcome == "pending" else other.outcome
        found.setdefault(f"{stays} {told}", []).append(f"size {other.size}")
    text = "; ".join(f"at {listed(sizes)} it {told}" for told, sizes in found.items())
    return f"{text[0].upper()}{text[1:]}."


def _survives(kind: str, judged: Sequence[tuple[Claim, Claim]]) -> str:
    everything = [again for _, again in judged]
    changed = [again for claim, again in judged if claim.outcome != again.outcome]
    where = "at common values of what was tuned"
    if kind != "common":
        settings = dict.fromkeys(str(again.condition.without_size) for again in changed or everything)
        where = "under " + (listed(settings) if len(settings) <= 3 else f"{len(settings)} other settings")
    if not changed:
        return f"Repeated {where}, no verdict changes."
    if len(judged) == 1:
        claim, again = judged[0]
        said, became = again.says.rstrip("."), f"no longer {claim.outcome} but {again.outcome}"
        return f"Judged again {again.condition.where}, “{said}” is {became}."
    counts = Counter(again.outcome for again in changed)
    each = listed(f"{count} {'is' if count == 1 else 'are'} {outcome}" for outcome, count in counts.items())
    return f"Judged again {where}, {len(changed)} of {len(judged)} verdicts come out otherwise: {each}."
