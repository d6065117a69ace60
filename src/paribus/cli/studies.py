"""The commands `new` and `list`."""

import shutil
import textwrap
from pathlib import Path
from typing import get_args

from paribus.errors import UserError
from paribus.study import spec
from paribus.study.problems import printable
from paribus.study.reading import TEMPLATE, builtin_names, load_study

_SWITCHES = ("input_attention", "parameters", "memory", "position", "init")


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
        _wrapped(study.question, 4)
        size = f"{len(study.arm)} arms, {len(study.seed_list)} seeds, {len(study.claim)} claims"
        _wrapped(f"{size}; {study.training.tokens:,} tokens a trial: {', '.join(study.arm)}", 4)
    print("\nModel fields (all fields: paribus schema)")
    for field in _SWITCHES:
        _wrapped(f"{field}: {', '.join(get_args(spec.Model.model_fields[field].annotation))}", 2)
    print("\nCorpora")
    _wrapped(spec.Data.model_fields["corpus"].description or "", 2)


def _wrapped(text: str, indent: int) -> None:
    width = min(shutil.get_terminal_size().columns, 100)
    margin = " " * indent
    print(
        textwrap.fill(
            text, max(width, 40), initial_indent=margin, subsequent_indent=margin + "  ", break_on_hyphens=False
        )
    )
