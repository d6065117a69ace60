"""The commands `export` and `import`: checkpoints out to transformers, and in."""

from pathlib import Path

from paribus.checkpoints.export import export
from paribus.checkpoints.importing import study_text
from paribus.errors import UserError
from paribus.records.finished import find_trial
from paribus.spec.problems import printable


def export_trial(trial: str, folder: Path) -> None:
    """Write a finished trial as a folder in the transformers format. Raises UserError where that cannot be."""
    found = find_trial(trial)
    try:
        made = export(found.config, found.values, found.tokenizer, folder)
    except UserError as error:
        raise UserError(f"{printable(trial)}: {error}") from error
    print(f"Wrote {printable(str(made.folder))}, a {made.architecture}.")


def import_checkpoint(folder: str, file: Path) -> None:
    """Write a study that starts from a checkpoint to `file`, which must not exist yet. Raises UserError if it cannot be."""
    name = printable(str(file))
    if file.suffix != ".toml":
        raise UserError(f"{name}: a study is a TOML file; did you mean {name}.toml?")
    text = study_text(folder, name)
    try:
        with file.open("x", encoding="utf-8", newline="\n") as out:
            out.write(text)
    except FileExistsError as error:
        raise UserError(f"{name}: is there already; paribus import overwrites nothing, choose another name") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be written: {error.strerror}; choose another place") from error
    print(f"Wrote {name}. Look at what it would do with: paribus audit {name}")
