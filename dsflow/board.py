"""What moves on a terminal while a plan is executed: a line for each running task, and a bar for the whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_WHOLE = "whole"


class _Bars(Progress):
    """Bars with that of the whole at the bottom."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table([*self.tasks[1:], *self.tasks[:1]])


class _Time(ProgressColumn):
    """How long a task has been running; of the whole, how long it will still take."""

    def __init__(self) -> None:
        self._elapsed, self._remaining = TimeElapsedColumn(), TimeRemainingColumn()
        super().__init__()

    def render(self, task: Task) -> Text:
        if not task.fields.get(_WHOLE):
            return self._elapsed.render(task)
        return Text.assemble(self._elapsed.render(task), ", still ", self._remaining.render(task))


class Board:
    """The live display of one plan, on stderr. Lines that are printed meanwhile stay above it.

    Args:
        total: How many steps are going to run.
    """

    def __init__(self, total: int) -> None:
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[units]}", markup=False),
            _Time(),
        )
        # What goes into a file or a pipe must get there.
        piped = not sys.stdout.isatty()
        screen = Console(stderr=True)
        self._bars = _Bars(*columns, console=screen, transient=True, refresh_per_second=4, redirect_stdout=not piped)
        self._ended, self._total = 0, total
        self._whole = self._bars.add_task("all steps", total=total, units=f"0/{total}", **{_WHOLE: True})
        self._lines: dict[str, TaskID] = {}

    def start(self) -> None:
        """Show it."""
        self._bars.start()

    def stop(self) -> None:
        """Take it away."""
        self._bars.stop()

    def begin(self, name: str) -> None:
        """Add the line of a task that has started."""
        self._lines[name] = self._bars.add_task(name, total=None, units="")

    def advance(self, name: str, done: int, total: int) -> None:
        """Show how far a task is."""
        if name in self._lines:
            self._bars.update(self._lines[name], completed=done, total=total, units=f"{done}/{total}")

    def end(self, name: str) -> None:
        """Take the line of a task away."""
        if name in self._lines:
            self._bars.remove_task(self._lines.pop(name))

    def count(self) -> None:
        """Count one step that has ended."""
        self._ended += 1
        self._bars.update(self._whole, completed=self._ended, units=f"{self._ended}/{self._total}")
