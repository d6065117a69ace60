"""The live table of a run: arms by seeds on a terminal, one line per trial in a log."""

import sys
import time
from dataclasses import dataclass
from statistics import fmean
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from paribus.cli.tuning import values_in_words
from paribus.engines.events import (
    Ended,
    Event,
    Failed,
    Message,
    Planned,
    Progress,
    Restarted,
    SetAside,
    Started,
)
from paribus.records.plan import Plan
from paribus.records.trials import TuningTrial
from paribus.spec.training import crossing

NAME_WIDTH = 26
SEED_COLUMNS = 5


@dataclass
class _State:
    """How far one trial is."""

    status: str = "waiting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float = 0.0
    began: float = 0.0


class RunDisplay:
    """Listens to the events of a run and shows them; a context manager around it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._states: dict[str, _State] = {}
        self._plan: Plan | None = None
        self._live: Live | None = None
        self._began = time.monotonic()
        self._steps_here = 0
        self._workers = 1

    def __enter__(self) -> "RunDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Planned):
            self._planned(event)
            return
        self._heard(event, self._states[event.id])
        if self._live:
            self._live.update(self._table())

    def _planned(self, event: Planned) -> None:
        plan, runtime = event.plan, event.runtime
        self._plan, self._workers = plan, event.workers
        self._states = {trial.id: _State() for trial in plan.trials}
        for name, result in event.finished.items():
            score = result["test"] or result.get("tune")
            if name in self._states:
                loss = score["nats_per_token"] if score else None
                self._states[name] = _State(result["status"], result["steps"], result["steps"], loss)
        left = sum(state.status == "waiting" for state in self._states.values())
        done = f", {len(self._states) - left} of them finished before" if left < len(self._states) else ""
        mode = "compiled" if runtime.compile else "eager"
        self.console.print(
            f"{_counts(plan)}{done}; {self._workers} workers, {runtime.device}, {runtime.dtype}, {mode}",
            markup=False,
            soft_wrap=True,
        )
        if self._live:
            self._live.stop()
            self._live = None
        if left and sys.stderr.isatty():
            self._live = Live(self._table(), console=self.console, refresh_per_second=4)
            self._live.start()

    def _heard(self, event: SetAside | Started | Restarted | Message, state: _State) -> None:
        match event:
            case SetAside():
                what = "is trained again, and what was left of it lies in set-aside/"
                self.console.print(f"{event.id}  {what}: {event.reason}", markup=False, soft_wrap=True)
            case Started():
                state.status, state.began = "running", time.monotonic()
            case Progress():
                self._steps_here += event.step - state.step if state.step else 0
                state.step, state.steps = event.step, event.steps
                state.loss, state.tokens_per_second = event.loss, event.tokens_per_second
            case Ended():
                state.status, state.loss = event.status, event.nats_per_token
                if not self._live:
                    scored = "tuning" if self._plan and tunes(self._plan) else "test"
                    shown = "" if state.loss is None else f"  {scored} loss {state.loss:.4f} nats"
                    self._line(event.id, f"{state.status}{shown}  {state.tokens_per_second:,.0f} tokens/s", state)
            case Restarted():
                state.status = "waiting"
                self._line(event.id, f"starts again: {event.reason}", state)
            case Failed():
                state.status = "failed"
                self._line(event.id, f"failed: {event.error}", state)

    def _line(self, trial: str, message: str, state: _State) -> None:
        ended = sum(other.status not in ("waiting", "running") for other in self._states.values())
        seconds = time.monotonic() - state.began
        left = self._time_left()
        about = f"  about {left} left" if left else ""
        self.console.print(
            f"[{ended}/{len(self._states)}] {trial}  {message}  {seconds:.0f} s{about}",
            markup=False,
            soft_wrap=True,
        )

    def _time_left(self) -> str:
        known = [state.steps for state in self._states.values() if state.steps]
        elapsed = time.monotonic() - self._began
        if not known or not self._steps_here or elapsed < 3:
            return ""
        usual = max(known)
        left = sum(
            (state.steps or usual) - state.step
            for state in self._states.values()
            if state.status in ("waiting", "running")
        )
        return duration(left / (self._steps_here / elapsed)) if left else ""

    def _table(self) -> Table:
        assert self._plan is not None
        seeds = self._plan.seeds
        many = len(seeds) > SEED_COLUMNS
        running = [state for state in self._states.values() if state.status == "running"]
        speed = sum(state.tokens_per_second for state in running)
        left = self._time_left()
        title = f"{speed:,.0f} tokens/s" + (f", about {left} left" if left else "") if running else ""
        table = Table(box=None, pad_edge=False, title=Text(title), title_justify="left", title_style="dim")
        table.add_column("arm", no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH)
        if tunes(self._plan):
            return self._tuning(table, self._plan)
        for column in ["done", "now"] if many else [f"seed {seed}" for seed in seeds]:
            table.add_column(column, justify="right", no_wrap=True, min_width=8)
        by_arm: dict[str, dict[int, _State]] = {arm.name: {} for arm in self._plan.arms}
        for trial in self._plan.trials:
            by_arm[trial.arm][trial.seed] = self._states[trial.id]
        for name, states in by_arm.items():
            if many:
                ended = sum(state.status not in ("waiting", "running") for state in states.values())
                now = [_cell(state) for state in states.values() if state.status == "running"]
                table.add_row(Text(name), Text(f"{ended}/{len(states)}"), Text(" ").join(now[:2]))
            else:
                table.add_row(Text(name), *(_cell(states[seed]) for seed in seeds))
        return table

    def _tuning(self, table: Table, plan: Plan) -> Table:
        """Of each arm how many values have been tried, what runs, and the best value so far (over all its seeds)."""
        for column in ("done", "now", "lowest loss so far"):
            table.add_column(column, justify="right", no_wrap=True, min_width=8)
        trials = plan.tuning.trials if plan.tuning else []
        for name in dict.fromkeys(trial.of for trial in trials):
            own = [(trial, self._states[trial.id]) for trial in trials if trial.of == name]
            ended = sum(state.status not in ("waiting", "running") for _, state in own)
            now = [_cell(state) for _, state in own if state.status == "running"]
            by_copy: dict[str, list[float | None]] = {}
            for trial, state in own:
                by_copy.setdefault(trial.arm, []).append(state.loss if state.status == "done" else None)
            means = {copy: fmean(filter(None, losses)) for copy, losses in by_copy.items() if None not in losses}
            best = min(means, key=lambda copy: means[copy]) if means else None
            values = next((trial.values for trial, _ in own if trial.arm == best), {})
            said = f"{values_in_words(values)}: {means[best]:.4f}" if best else ""
            table.add_row(Text(name), Text(f"{ended}/{len(own)}"), Text(" ").join(now[:2]), Text(said))
        return table


def tunes(plan: Plan) -> bool:
    """Whether the trials of a plan only choose values."""
    return any(isinstance(trial, TuningTrial) for trial in plan.trials)


def _counts(plan: Plan) -> str:
    """How many trials there are, and what makes them so many."""
    if not tunes(plan) or plan.tuning is None:
        chosen = "values are chosen; " if plan.tuning else ""
        return f"{chosen}{len(plan.arms)} arms x {len(plan.seeds)} seeds = {len(plan.trials)} trials"
    groups = plan.tuning.groups
    arms = sum(len(group.arms) for group in groups)
    widened = ", the grid widened" if any(group.widened for group in groups) else ""
    values = max(len(crossing(group.grid)) for group in groups)
    seeds = len(plan.tuning.seeds)
    return f"tuning{widened}: {arms} arms x {values} values x {seeds} seeds = {len(plan.trials)} trials"


def _cell(state: _State) -> Text:
    if state.status == "running":
        share = f"{state.step / state.steps:.0%}" if state.steps else "starts"
        return Text(f"{state.loss:.2f} {share}" if state.loss is not None else share, style="cyan")
    if state.status == "done":
        return Text(f"{state.loss:.4f}" if state.loss is not None else "done", style="green")
    return Text("·" if state.status == "waiting" else state.status, style="dim" if state.status == "waiting" else "red")


def duration(seconds: float) -> str:
    """A span of time for people: `45 s`, `6 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
