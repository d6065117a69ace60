"""What a claim comes to under each matching of its study (`verdicts.json`, `matchings`)."""

from paribus.records.condition import Condition
from paribus.records.record import Record
from paribus.statistics.verdicts import Verdict


class OverKnobs(Record):
    """A claim under one matching, at one size: its verdict by each knob, and the one over all knobs."""

    says: str
    claim: int
    """Its place among the claims of the study file."""
    arm: str
    against: str
    """The arms as written, at that size."""
    condition: Condition
    """The matching, without its knobs, and the size."""
    verdicts: dict[str, Verdict]
    """By knob."""
    verdict: Verdict

    @property
    def words(self) -> str:
        """The quantities as verdicts name them: `training cost`."""
        return self.condition.matching.words if self.condition.matching else ""

    @property
    def differ(self) -> bool:
        """Whether the knobs give several verdicts."""
        return len(set(self.verdicts.values())) > 1

    @property
    def contradict(self) -> bool:
        """Whether one knob supports the claim and another refutes it: then no number of seeds decides it."""
        return {"supported", "refuted"} <= set(self.verdicts.values())
