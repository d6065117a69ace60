"""The commands `new` and `list`."""

import shutil
import textwrap
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from paribus import doors
from paribus.errors import UserError
from paribus.own_code import Code, pinned, short_name
from paribus.plan.reading import TEMPLATE, builtin_names, load_study
from paribus.spec.data import Data
from paribus.spec.model import Model
from paribus.spec.objective import OBJECTIVES
from paribus.spec.problems import did_you_mean, listed, printable

_SWITCHES = ("parameters", "memory", "position", "mixer", "activation", "norm", "init")
_VALUES = {"input_attention": doors.rule.names} | {
    field: get_args(Model.model_fields[field].annotation) for field in _SWITCHES
}


def write_template(file: Path) -> None:
    """Write the commented study to `file`, which must not exist yet. Raises UserError if it cannot be written."""
    name = printable(str(file))
    if file.suffix != ".toml":
        raise UserError(f"{name}: a study is a TOML file; did you mean {printable(str(file))}.toml?")
    text = TEMPLATE.read_text(encoding="utf-8").replace("THIS_FILE", name)
    try:
        with file.open("x", encoding="utf-8", newline="\n") as out:
            out.write(text)
    except FileExistsError as error:
        raise UserError(f"{name}: is there already; paribus new overwrites nothing, choose another name") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be written: {reason}; choose another place") from error
    print(f"Wrote {name}. Look at what it would do with: paribus audit {name}")


def show_builtin() -> None:
    """Print the built-in studies and the values of the fields that make an architecture."""
    print("Studies (run one by name, or build on it with `extends`)")
    for name in builtin_names():
        study = load_study(name)
        print(f"  {name}")
        wrapped(study.question, 4)
        claims = len(study.claim) + len(study.effect)
        size = f"{len(study.arm)} arms, {len(study.seed_list)} seeds, {claims} claim{'s' * (claims != 1)}"
        wrapped(f"{size}; {study.training.tokens:,} tokens a trial: {', '.join(study.arm)}", 4)
    print("\nModel fields (all fields: paribus schema)")
    for field, values in _VALUES.items():
        wrapped(f"{field}: {', '.join(values)}", 2)
    print()
    show_objectives()
    print("\nCorpora")
    wrapped(Data.model_fields["corpus"].description or "", 2)
    print()
    show_tasks()


def show_objectives() -> None:
    """Print every objective in a line."""
    print("Objectives (an example: paribus list objectives --show NAME)")
    for name, says in OBJECTIVES.items():
        wrapped(f"{name}: {says}", 2)


def show_rules() -> None:
    """Print every visibility rule in a line."""
    print("Visibility rules, as model.input_attention (a picture: paribus list rules --show NAME)")
    for name in doors.rule.names:
        wrapped(f"{name}: {doors.rule.entry(name).line}", 2)


def show_rule(name: str) -> None:
    """Print what a rule says and a picture of it; `name` may be FILE.py:FUNCTION.

    Raises UserError if there is no such rule, or it is not sound.
    """
    from paribus.models.visibility import picture
    from paribus.plan.soundness import rule_fault

    code = Code(True)
    try:
        model = Model(input_attention=pinned(name, Path()), layers=2, heads=2, attention_window=3)
    except ValidationError as error:
        near = did_you_mean(name, doors.rule.names)
        known = f"; there are {listed(doors.rule.names)}"
        raise UserError(f"--show {printable(name)}: no such rule{near or known}") from error
    if fault := rule_fault(model, 0, [(6, 3)], predicts_input=False, code=code):
        raise UserError(f"--show {printable(name)}: {fault}")
    says = doors.rule.entry(model.rules[0]).line or "no docstring"
    wrapped(f"{printable(short_name(name))}: {says}", 0)
    print("\n".join(["", *picture(model.rules[0], code=code)]))


def show_tasks() -> None:
    """Print every generated task in a line or two."""
    from paribus.data.tasks import TASKS

    print('Tasks, as data.corpus = "task:NAME" (an example: paribus list tasks --show NAME)')
    for name, task in TASKS.items():
        wrapped(f"{name}: {task.says}", 2)


def wrapped(text: str, indent: int) -> None:
    """Print a paragraph no wider than the terminal, from the second line on further in."""
    width = min(shutil.get_terminal_size().columns, 100)
    margin = " " * indent
    print(
        textwrap.fill(
            text, max(width, 40), initial_indent=margin, subsequent_indent=margin + "  ", break_on_hyphens=False
        )
    )
