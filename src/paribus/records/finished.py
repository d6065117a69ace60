"""A trial that was run, found by its directory or by its study's and its arm's name: weights, configuration, tokenizer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from paribus.data.specials import Specials
from paribus.data.store import cache_folder
from paribus.data.tokenizer import Tokenizer
from paribus.errors import UserError
from paribus.files import read_json
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.own_code import DENIED, Code
from paribus.records.code import allowed_in
from paribus.spec.problems import printable
from paribus.spec.study import Config
from paribus.training.checkpoint import STATE

_PREFIX = "model."


@dataclass(frozen=True)
class FinishedTrial:
    """One trial's directory, read as it is asked for."""

    folder: Path
    arm: str
    seed: int
    config: Config
    allow_code: bool = False
    """Whether own code that its model names may be executed."""

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """The trained parameters by name, float32 on the CPU. Raises UserError where they cannot be read."""
        path = self.folder / "checkpoint" / STATE
        try:
            stored = load_file(path)
        except Exception as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(
                f"{printable(str(path))}: the weights cannot be read: {reason}; run the study again"
            ) from error
        return {name.removeprefix(_PREFIX): value for name, value in stored.items() if name.startswith(_PREFIX)}

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special tokens included."""
        return int(self.values["embedding.weight"].shape[0])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The study's tokenizer: its `tokenizer.json`, else that of the token store. Raises UserError if it is nowhere."""
        study = self.folder.parent.parent
        places = [study / "tokenizer.json"]
        summary = study / "data.json"
        if summary.exists():
            places.append(cache_folder() / "corpora" / read_json(summary)["hash"] / "tokenizer.json")
        for place in places:
            if place.exists():
                return Tokenizer.load(place)
        raise UserError(
            f"{printable(str(places[0]))}: the study's tokenizer is not there; run the study again, which writes it"
        )

    @property
    def specials(self) -> Specials:
        """The special tokens above the text's own ids."""
        first = self.tokenizer.vocabulary
        return Specials(first, self.vocabulary - first)

    @property
    def code(self) -> Code:
        """The permission to execute own code of its study, from the copies there."""
        return allowed_in(self.folder.parent.parent) if self.allow_code else DENIED

    def model(self) -> Transformer:
        """The trained model, float32 on the CPU. Raises StudyError where it needs own code that is not allowed."""
        model = Transformer(self.config.model, interface_of(self.config, self.vocabulary, self.code))
        model.load_state_dict(self.values)
        return model.eval()


def find_trial(target: str, allow_code: bool = False) -> FinishedTrial:
    """The trial that `target` names: its own directory, or `DIR:ARM`, the first finished seed of an arm of the study in DIR.

    `allow_code`: executing own code that its model names.
    Raises UserError in one line where there is none, or where it is unfinished or diverged.
    """
    folder = Path(target).expanduser()
    if not (folder / "trial.json").exists():
        directory, colon, arm = target.rpartition(":")
        study = Path(directory).expanduser() if colon else folder
        if not (study / "plan.json").exists():
            fix = "give a trial's directory, such as runs/NAME/trials/ID, or DIR:ARM"
            raise UserError(f"{printable(target)}: no such trial; {fix}")
        return _of_arm(study, arm if colon else None, target, allow_code)
    record = read_json(folder / "trial.json")
    status = _status(folder)
    if status != "done":
        fix = "train on with paribus run" if status == "unfinished" else "its weights are of no use"
        raise UserError(f"{printable(target)}: this trial is {status}; {fix}")
    config = Config.model_validate(record["config"])
    return FinishedTrial(folder, record["arm"], record["seed"], config, allow_code)


def _of_arm(study: Path, arm: str | None, target: str, allow_code: bool) -> FinishedTrial:
    plan: dict[str, Any] = read_json(study / "plan.json")
    arms = [entry["name"] for entry in plan["arms"]]
    if arm not in arms:
        said = "name an arm too" if arm is None else "no such arm"
        raise UserError(
            f"{printable(target)}: {said}, as in {printable(str(study))}:{arms[0]}; the arms are {', '.join(arms)}"
        )
    for trial in plan["trials"]:
        folder = study / "trials" / trial["id"]
        if trial["arm"] == arm and _status(folder) == "done":
            return find_trial(str(folder), allow_code)
    raise UserError(f"{printable(target)}: no seed of this arm is finished yet; train on with paribus run")


def _status(folder: Path) -> str:
    """`done`, `diverged` or `unfinished`."""
    path = folder / "result.json"
    return str(read_json(path)["status"]) if path.exists() else "unfinished"
