"""The parts of a report, in order, by the section that they follow; `parts.py` says how to add one."""

from collections.abc import Iterable, Mapping

from paribus.analyses.budgets import section as budgets
from paribus.analyses.factorial import section as crossings
from paribus.analyses.ledger import section as ledger
from paribus.analyses.matching import section as matchings
from paribus.analyses.sizes import section as sizes
from paribus.analyses.tuning import section as tuning
from paribus.display.parts import Part, PartFunction
from paribus.records.reading import StudyRecord
from paribus.report import trail

PARTS: Mapping[str, tuple[PartFunction, ...]] = {
    "effects": (matchings.part, tuning.part),
    "learning": (budgets.part,),
    "lengths": (sizes.part, crossings.part),
    "trials": (ledger.part, trail.part),
}


def parts_of(record: StudyRecord) -> dict[str, tuple[Part, ...]]:
    """The parts for which the study has something, by the section that they follow."""
    return {
        section: tuple(part for make in makers if (part := make(record)) is not None)
        for section, makers in PARTS.items()
    }


def in_order(parts: Mapping[str, Iterable[Part]]) -> tuple[Part, ...]:
    """All parts, one after the other."""
    return tuple(part for found in parts.values() for part in found)
