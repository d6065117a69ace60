"""paribus: does this architectural choice make a language model better, and by how much, when nothing else differs?

from paribus import load_study, run_study
outcome = run_study(load_study("decoder-only"), out="runs/decoder-only")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.api.experiment import Outcome, prepare_study, run_study
    from paribus.plan.reading import load_study, study_from
    from paribus.report.build import build_report

__all__ = ["Outcome", "build_report", "load_study", "prepare_study", "run_study", "study_from"]

_HOMES = {
    "Outcome": "paribus.api.experiment",
    "build_report": "paribus.report.build",
    "load_study": "paribus.plan.reading",
    "prepare_study": "paribus.api.experiment",
    "run_study": "paribus.api.experiment",
    "study_from": "paribus.plan.reading",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `paribus list` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'paribus' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
