"""A study's directory as it is verified: what it says, and the text it was trained on where that can be had here."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from paribus import spec
from paribus.data.sources import Progress
from paribus.data.store import Corpus, cache_folder, prepare
from paribus.data.tokenizer import Tokenizer
from paribus.errors import UserError
from paribus.files import read_json
from paribus.models.interface import Interface, interface_of
from paribus.own_code import DENIED, Code
from paribus.plan.tuning import arm_of
from paribus.records.code import foreign_names
from paribus.records.plan import Plan
from paribus.records.sessions import read_sessions
from paribus.records.trial_state import TrialState, states_of
from paribus.records.trials import Trial, TuningTrial
from paribus.spec.fields import SECTIONS

Json = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What is there to be verified. Everything is read when it is asked for, and may be damaged."""

    directory: Path
    packed: bool
    """Whether it came as an archive: from anyone, and without weights."""
    code: Code = DENIED
    """Whether own code that it names may be executed."""

    @cached_property
    def study(self) -> spec.Study:
        """The study with every default filled in."""
        return spec.Study.model_validate(self.json("study.json"))

    @cached_property
    def plan(self) -> Plan:
        """Its arms, claims and trials."""
        return Plan.from_dict(self.json("plan.json"))

    @cached_property
    def states(self) -> dict[str, TrialState]:
        """How much there is of each trial."""
        return states_of(self.directory, self.plan)

    @cached_property
    def results(self) -> dict[str, Json]:
        """The `result.json` of every whole trial."""
        whole = [name for name, state in self.states.items() if state.kind in ("done", "diverged")]
        return {name: self.json(f"trials/{name}/result.json") for name in whole}

    @cached_property
    def sessions(self) -> dict[str, list[Json]]:
        """The sessions of every trial of the plan."""
        return {trial.id: read_sessions(self.folder(trial)) for trial in self.plan.all_trials}

    @property
    def whole(self) -> list[Trial]:
        """The trials with a whole result, those that tuned included."""
        return [trial for trial in self.plan.all_trials if trial.id in self.results]

    @property
    def done(self) -> list[Trial]:
        """The trials that ended well and have test losses."""
        return [trial for trial in self.well_ended if not isinstance(trial, TuningTrial)]

    @property
    def well_ended(self) -> list[Trial]:
        """The trials that ended well, those that tuned included."""
        return [trial for trial in self.whole if self.results[trial.id]["status"] == "done"]

    def folder(self, trial: Trial) -> Path:
        """The folder of a trial."""
        return self.directory / "trials" / trial.id

    def config(self, trial: Trial) -> spec.Config:
        """The resolved configuration of a trial."""
        return arm_of(self.plan, trial).config

    def json(self, name: str) -> Any:
        """One JSON file of the directory."""
        return read_json(self.directory / name)

    @cached_property
    def vocabulary(self) -> int:
        """Token ids, special tokens included."""
        data = self.json("data.json")
        return int(data["vocabulary"]) + int(data["special_tokens"])

    def interface(self, trial: Trial) -> Interface:
        """Vocabulary and positions of a trial's model."""
        return interface_of(self.config(trial), self.vocabulary, self.code)

    @cached_property
    def unread(self) -> set[str]:
        """Arms whose own code counts and masks would need, and which nobody has allowed: `[training]` decides neither."""
        return self._naming([section for section in SECTIONS if section != "training"])

    @cached_property
    def untrainable(self) -> set[str]:
        """Arms that name code which is not built in, and which nobody has allowed to execute: they are not trained again."""
        return self._naming(SECTIONS)

    def _naming(self, sections: Iterable[str]) -> set[str]:
        if self.code.allowed:
            return set()
        arms = {arm.name for arm in self.plan.arms if any(foreign_names(arm.config, sections))}
        tuned = self.plan.tuning.trials if self.plan.tuning else []
        return arms | {trial.arm for trial in tuned if trial.of in arms}

    def open_corpus(self, progress: Progress | None) -> Corpus:
        """The text: the token store that `data.json` names, if it is here, else built again from the corpus.

        Raises UserError where it cannot be built, or is other text now.
        """
        summary = self.json("data.json")
        corpus = stored(summary)
        if corpus is None:
            corpus = prepare(self.plan.data, progress)
            if corpus.hash != summary["hash"]:
                raise UserError(f"the corpus {summary['name']} holds other text here than it did there")
        return corpus


def stored(summary: Mapping[str, Any]) -> Corpus | None:
    """The corpus that `data.json` summarises, from the token store; None where it is not there."""
    if not re.fullmatch(r"[0-9a-f]{32}", str(summary["hash"])):
        return None
    folder = cache_folder() / "corpora" / summary["hash"]
    if not (folder / "meta.json").is_file():
        return None
    tokenizer, meta = Tokenizer.load(folder / "tokenizer.json"), read_json(folder / "meta.json")
    return Corpus(summary["name"], folder, tokenizer, meta, summary["special_tokens"])
