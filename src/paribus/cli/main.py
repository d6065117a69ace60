"""The command `paribus`.

Exit status: 0 done, 1 the audit failed or what is verified does not hold, 2 wrong use. What a user can
mend is told in one line, never with a traceback.
Commands import what they need when they run, so that the light ones start without torch.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from paribus.cli.options import AllowCode, Overrides, Seeds, Study
from paribus.errors import AuditError, UserError

# Typer's own "wrong use" errors: the base of BadParameter's base, wherever this version of typer keeps it.
_WrongUse: type[BaseException] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="Settles arguments about language-model architecture by controlled experiments.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def overrides_of(overrides: list[str] | None, seeds: int | None) -> list[str]:
    """The `--set` and `--seeds` of a command, as `load_study` takes them."""
    return [*(overrides or []), *([] if seeds is None else [f"seeds={seeds}"])]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"paribus {version('paribus')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _paribus(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    study: Study,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; runs/NAME by default.")
    ] = None,
    seeds: Seeds = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=256, help="Trials at a time.")] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="Where trials run: local, or FILE.py:NAME.")
    ] = "local",
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Add seeds until every claim is decided; see docs/verdicts.md.")
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option("--max-seeds", min=3, max=1000, help="With --until-decided: never more seeds; 20 by default."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train all trials (resuming what is unfinished), evaluate, judge the claims and write the report.

    Ctrl-C stops cleanly; the same command goes on from there. The last line printed is the report's path.
    """
    from paribus.plan.reading import load_study

    sets = overrides_of(overrides, seeds)
    checked = load_study(study, sets)
    if until_decided and checked.stopping == "fixed":
        sets = [*sets, "stopping=group_sequential"]
    if max_seeds is not None:
        if checked.stopping == "fixed" and not until_decided:
            raise UserError("--max-seeds: says where to stop adding seeds; use it with --until-decided, or use --seeds")
        sets = [*sets, f"max_seeds={max_seeds}"]
    checked = load_study(study, sets)
    if seeds is not None and checked.stopping == "group_sequential":
        raise UserError("--seeds: until the claims are decided, the looks say how many seeds; use --max-seeds")
    from paribus.cli.run import default_directory
    from paribus.cli.run import run as run_it

    run_it(checked, out or default_directory(study), workers, shlex.join(["paribus", *sys.argv[1:]]), engine)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A study's directory, or an archive of pack.")],
    form: Annotated[
        Literal["html", "md", "latex", "json"], typer.Option("--format", help="html, md, latex or json.")
    ] = "html",
) -> None:
    """Write the report of a study's directory again, as a page, as Markdown, as JSON or as LaTeX tables; print its path.

    That of an archive is written beside it.
    """
    from paribus.cli.verify import readable, report_of

    with readable(directory):
        print(report_of(directory, form))


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A study's directory, or an archive of pack.")],
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Draws the trial to train again; drawn anew if not given.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=0, max=1_000_000, help="Steps of it to train again.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Check a finished study from outside: every hash, score and verdict again, and the first steps of one trial.

    Writes nothing there. Exit status 1 when something does not hold, each in a line.
    """
    from paribus.cli.verify import show_verification

    if not show_verification(directory, seed, steps, as_json, allow_code):
        raise typer.Exit(1)


@app.command()
def pack(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a finished study.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A new .tar.xz or .tar.gz; DIR.tar.xz if not given.")
    ] = None,
) -> None:
    """Write a finished study as one file without weights, from which report and verdicts can be made and verified."""
    from paribus.cli.verify import pack_study

    pack_study(directory, file)


@app.command()
def aggregate(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Finished studies, one for each task.")],
    metric: Annotated[str, typer.Option("--metric", help="What is compared, such as bits_per_byte.")] = "exact_match",
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="ARM", help="What others are compared with; by default the first."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Take studies of the same arms on several tasks together: interquartile means, probabilities of improvement."""
    from paribus.cli.aggregate import show_aggregate

    show_aggregate(directories, metric, against, as_json)


@app.command()
def audit(
    study: Study,
    overrides: Overrides = None,
    seeds: Seeds = None,
    spread: Annotated[
        float | None,
        typer.Option("--spread", metavar="SD", help="Assume this spread of an improvement over seeds, in its metric."),
    ] = None,
    pilot: Annotated[
        Path | None, typer.Option("--pilot", metavar="DIR", help="Take the spreads from this finished study.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
) -> None:
    """Show what differs between the arms, what is equal and what each costs, before anything is spent.

    Exit status 1 when a `hold` breaks or an undeclared field differs. With --spread or --pilot it says what difference the
    seeds could detect.
    """
    from paribus.plan.reading import load_study

    checked = load_study(study, overrides_of(overrides, seeds))  # a mistake is told before torch is imported
    from paribus.cli.power import spreads

    known = spreads(spread, pilot)
    from paribus.cli.audit import show_audit

    show_audit(checked, as_json, known)


def _whole_numbers(text: str | None, option: str, most: int) -> list[int] | None:
    """Whole numbers above 0 with commas between. Raises BadParameter for anything else."""
    if text is None:
        return None
    numbers = [int(part) if part.strip().isascii() and part.strip().isdigit() else 0 for part in text.split(",")]
    if not all(0 < number <= most for number in numbers):
        raise typer.BadParameter(
            f"{text!r} should be whole numbers from 1 to {most:,}, such as 1,16", param_hint=option
        )
    return numbers


@app.command()
def cost(
    study: Study,
    overrides: Overrides = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="N,...", help="Sequences at a time; 1,16 by default.")
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="N,...", help="Tokens of a prompt; a quarter and half of data.window by default."
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens", min=1, max=100_000, help="Tokens generated; 32, or a quarter of data.window, by default."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads; training.threads by default.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option("--dtype", help="Of products, keys and values when generating.")
    ] = "float32",
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="Measurements of each arm.")] = 5,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Measure time and memory too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts and measurements as JSON.")] = False,
) -> None:
    """Show what each arm costs to train and to use: FLOPs, keys and values, and measured latency and memory.

    Nothing is trained: weights are random.
    """
    from paribus.plan.reading import load_study

    batches, prompts = _whole_numbers(batch, "--batch", 100_000), _whole_numbers(input_, "--input", 10_000_000)
    checked = load_study(study, overrides_of(overrides, None))
    from paribus.cli.cost import Asked, show_cost

    show_cost(checked, Asked(batches, prompts, tokens, threads, dtype, repeats, measure), as_json)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study to write, such as my-study.toml.")],
) -> None:
    """Write a commented study to start from. It runs as it stands."""
    from paribus.cli.studies import write_template

    write_template(file)


@app.command("list")
def list_(
    what: Annotated[
        Literal["all", "objectives", "tasks", "rules"],
        typer.Argument(metavar="[WHAT]", help="objectives, tasks or rules alone."),
    ] = "all",
    show: Annotated[
        str | None, typer.Option("--show", metavar="NAME", help="Print an example of this objective, task or rule.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", help="Of an objective's example, as data.corpus; stdlib by default.")
    ] = None,
) -> None:
    """List what is built in: studies, values of the fields that make an architecture, objectives, tasks, rules."""
    from paribus.cli.studies import show_builtin, show_objectives, show_rule, show_rules, show_tasks

    if show is None:
        {"all": show_builtin, "objectives": show_objectives, "tasks": show_tasks, "rules": show_rules}[what]()
    elif what == "all":
        raise UserError(
            f"--show {show}: say of what: paribus list objectives --show NAME, paribus list tasks --show NAME, "
            "or paribus list rules --show NAME"
        )
    elif what == "rules":
        show_rule(show)
    else:
        from paribus.cli.examples import show_objective, show_task

        show_task(show) if what == "tasks" else show_objective(show, corpus)


@app.command()
def generate(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's directory, or DIR:ARM.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to continue, to answer, or to fill in (<|mask|>).")],
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, max=1_000_000, help="New tokens, at most; 128 by default.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="0 takes the most probable token; 1 draws as the model predicts.")
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Draw from the K most probable tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", help="Draw from the fewest tokens with probability P together.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text. May be given again.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="Texts to draw, as one batch.")] = 1,
    allow_code: AllowCode = False,
) -> None:
    """Generate text with a finished trial's model, in the form it was trained on. An mlm arm fills each <|mask|>."""
    from paribus.cli.generate import Wanted, show_generation

    show_generation(trial, text, allow_code, Wanted(max_tokens, temperature, top_k, top_p, stop or [], seed, count))


@app.command("export")
def export_(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's directory, or DIR:ARM.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; new or empty.")],
) -> None:
    """Write a finished trial in the transformers format, where an architecture there computes what the arm does."""
    from paribus.cli.checkpoints import export_trial

    export_trial(trial, folder)


@app.command("import")
def import_(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A checkpoint in the transformers format.")],
    file: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study to write.")],
) -> None:
    """Write a commented study whose arms start from a checkpoint (Llama, Qwen3, GPT-2, BERT, T5). It runs as it stands."""
    from paribus.cli.checkpoints import import_checkpoint

    import_checkpoint(folder, file)


@app.command()
def schema() -> None:
    """Print the JSON schema of a study file, for editors that complete and check it."""
    import json

    from paribus.spec.schema import study_schema

    print(json.dumps(study_schema(), indent=2, ensure_ascii=False))


_INTERRUPTED = 130


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        status = app(args=given, prog_name="paribus", standalone_mode=False)
        sys.stdout.flush()
        if status == _INTERRUPTED:  # what typer makes of Ctrl-C
            goes_on = "; the same command goes on from there" if given[:1] == ["run"] else ""
            return _complain(f"stopped{goes_on}", _INTERRUPTED)
        return status if isinstance(status, int) else 0
    except UserError as error:
        return _complain(str(error), 1 if isinstance(error, AuditError) else 2)
    except _WrongUse as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        return _complain(f"{said.rstrip('.').replace('Value error, ', '')}; see paribus --help", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("stopped", _INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _complain(message: str, status: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        print(f"paribus: {' '.join(message.split())}", file=sys.stderr)
    return status


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end a study
    sys.exit(run_command())


if __name__ == "__main__":
    main()
