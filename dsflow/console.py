"""The only writer to the terminal: lines, tables, live progress, errors, and the one JSON document.

Results go to stdout, everything about them to stderr. With `--json` stdout holds exactly one document.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Collection, Sequence
from typing import IO, TYPE_CHECKING, Any

from dsflow.errors import DsflowError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as ProgressBar

# A table that is cut by a pipe's default width of 80 would lose data for whoever greps it.
_PIPE_WIDTH = 400


class Console:
    """Writes for a person, or for a program when `json` is set.

    Args:
        json: One document on stdout, lines for people on stderr.
        verbose: Show more (tracebacks of user code, notes).
        quiet: Show results and errors only.
    """

    def __init__(self, *, json: bool = False, verbose: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.verbose = verbose
        self.quiet = quiet

    @property
    def is_terminal(self) -> bool:
        """Whether a person is likely to be watching stderr."""
        return sys.stderr.isatty()

    def line(self, text: str = "") -> None:
        """Write a line of the result (to stderr with `--json`, so that stdout stays one document)."""
        _write(sys.stderr if self.json else sys.stdout, text)

    def note(self, text: str) -> None:
        """Write a line about what is going on, to stderr; not with `--quiet`."""
        if not self.quiet:
            _write(sys.stderr, text)

    def width(self) -> int:
        """Give how many characters a line of the result may have: those of the terminal, elsewhere enough."""
        import shutil

        stream = sys.stderr if self.json else sys.stdout
        return shutil.get_terminal_size().columns if stream.isatty() else _PIPE_WIDTH

    def prose(self, text: str) -> None:
        """Write paragraphs of the result: on a terminal long lines break between words, indented ones stay whole."""
        import textwrap

        width = self.width()
        for line in text.split("\n"):
            paragraph = not line.startswith((" ", "\t"))
            lines = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) if paragraph else [line]
            self.line("\n".join(lines))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str] = ()) -> None:
        """Write a table that fits the terminal: long cells wrap there and stay whole elsewhere.

        Args:
            columns: The names of the columns.
            rows: The cells.
            whole: The columns whose cells are copied or compared, and wrap last.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for name in columns:
            table.add_column(name, overflow="fold", no_wrap=name in whole)
        for row in rows:
            table.add_row(*(Text(_printable(cell)) for cell in row))
        self.rich().print(table)

    def document(self, value: Any) -> None:
        """Write the one JSON document."""
        _write(sys.stdout, json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def error(self, error: DsflowError) -> None:
        """Write an error: what and where, then what to do next."""
        first, *more = error.message.split("\n")
        _write(sys.stderr, f"{self.style('error', 'red', sys.stderr)}: {first}")
        for line in more:
            _write(sys.stderr, f"       {line}")
        if error.traceback and self.verbose:
            _write(sys.stderr, error.traceback)
        for line in error.hint.splitlines():
            _write(sys.stderr, f"  {line}")

    def style(self, text: str, colour: str, stream: IO[str] | None = None) -> str:
        """Give the text in a colour where the stream is a terminal that wants colours."""
        import os

        codes = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}
        wanted = os.environ.get("FORCE_COLOR") or (stream or sys.stdout).isatty()
        if os.environ.get("NO_COLOR") or not wanted:
            return text
        return f"\x1b[{codes[colour]}m{text}\x1b[0m"

    def progress(self, title: str, total: int) -> ProgressBar:
        """Start a progress bar on stderr that goes away when it is stopped."""
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # Lines go above the bar; but what goes into a file or a pipe must get there.
        mixed = sys.stdout.isatty()
        bar = Progress(*columns, console=RichConsole(stderr=True), transient=True, redirect_stdout=mixed)
        bar.add_task(title, total=total)
        bar.start()
        return bar

    def rich(self) -> RichConsole:
        """Give rich's console on the stream for results."""
        from rich.console import Console as RichConsole

        stream = sys.stderr if self.json else sys.stdout
        return RichConsole(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def _write(stream: IO[str], text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


def timestamp() -> str:
    """Give the time of day for plain lines."""
    return dt.datetime.now().strftime("%H:%M:%S")
