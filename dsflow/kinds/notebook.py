"""Notebooks: parameterised and executed by papermill. The only module that imports it, nbclient and nbformat.

The kernel is started first and everything else is loaded while it comes up: the libraries of this side cost as much
time as the kernel's. Cells are numbered as on the page: `cell 3` is the one shown as `In [3]`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsflow import errors
from dsflow.durable import write_text
from dsflow.engines import registry
from dsflow.errors import DsflowError, JobFailed, KernelDied, OutOfMemory, UsageError
from dsflow.kinds.contract import Traces, Work
from dsflow.lean import lean
from dsflow.model import Task
from dsflow.notebooks import read_notebook

if TYPE_CHECKING:
    from dsflow.kernel import Kernel

EXECUTED = "notebook.ipynb"
_SAVE_SECONDS = 5.0
# How long a cell's output may still be on its way after the cell has ended.
_OUTPUT_SECONDS = 600
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
_FRAME = re.compile(r"^\s*(?:Cell In\[(\d+)\], line (\d+)|File <timed \w+>:(\d+))", re.MULTILINE)
# Python adds the name of a temporary file to what it says about a syntax error.
_IN_FILE = re.compile(r" \(\S+\.py, line \d+\)$")
_WORD = re.compile(r"[A-Za-z_]\w*")
# What takes long to import, starts nothing by itself, and survives a fork.
_LARGE = frozenset({"duckdb", "matplotlib", "numpy", "pandas", "plotly", "pyarrow"})
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryException")


def load(task: Task, job_folder: Path) -> None:
    """Load what runs and shows a notebook, and the large libraries that this one imports."""
    from dsflow import forked_kernel, notebook_page

    # First: it remembers what a kernel alone would load.
    forked_kernel.load()
    notebook_page.load()
    path = job_folder / task.main
    # As the run will do it: what this loads on its way is loaded then.
    papermill = _papermill()
    papermill.parameterize.parameterize_notebook(
        _node(read_notebook(path, task.main), task.main), {"ds": ""}, kernel_name="python3", language="python"
    )
    words = set(_WORD.findall(path.read_text(encoding="utf-8", errors="replace")))
    for library in sorted(words & _LARGE):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    if "dsflow" in words:
        importlib.import_module("dsflow.job")
    if "dsflow" in words or task.engine == "spark":
        registry.prepare(task.engine)


def traces(task: Task) -> Traces:
    """Say that its code can do anything to its process, which is the kernel. A session of Spark is in ours too."""
    return "inside" if task.engine == "spark" else "outside"


def run(work: Work) -> None:
    """Execute the notebook; what is executed so far is in the run folder, however it ends.

    Raises:
        JobFailed: a cell raised; `place` is its number on the page and the line.
        OutOfMemory: a cell could not get the memory it asked for.
        KernelDied: the kernel's process is gone.
        EnvironmentMissing: the notebook's kernel is not installed.
        UsageError: the file is not a notebook.
    """
    path = work.job_folder / work.task.main
    with lean():
        # Reading percent format loads jupytext, which can wait until the kernel has begun to start.
        content = None if path.suffix == ".py" else read_notebook(path, work.task.main)
        other = None if content is None else _other_kernel(content)
        from dsflow.kernel import PYTHON, Kernel

        kernel = Kernel.start(work.job_folder, work.environment, other or PYTHON)
    try:
        work.watch(kernel.pid)
        with lean():
            notebook = _prepared(work, content or read_notebook(path, work.task.main), other)
        _Execution(work, kernel, notebook).run()
    finally:
        kernel.stop()


def body(work: Work) -> str:
    """Give the executed notebook as HTML; the cell that failed has the anchor `failed`."""
    path = work.run_folder / EXECUTED
    if not path.exists():
        return ""
    with lean():
        import nbformat

        from dsflow.notebook_page import fragment

        return work.mask(fragment(nbformat.v4.reads(path.read_text(encoding="utf-8"))))


def _other_kernel(content: dict[str, Any]) -> str | None:
    """Give the name of the notebook's kernel spec when its language is not Python."""
    metadata = _mapping(content.get("metadata"))
    asked, info = _mapping(metadata.get("kernelspec")), _mapping(metadata.get("language_info"))
    language = str(asked.get("language") or info.get("name") or "python")
    return None if language.lower() == "python" else str(asked.get("name", language))


def _prepared(work: Work, content: dict[str, Any], other: str | None) -> Any:
    """Give the notebook as nbformat has it, with the cell of injected parameters where there are any."""
    notebook = _node(content, work.task.main)
    if work.injected:
        papermill = _papermill()
        try:
            notebook = papermill.parameterize.parameterize_notebook(
                notebook, dict(work.injected), kernel_name=other or "python3", language=None if other else "python"
            )
        except papermill.exceptions.PapermillException as error:
            raise UsageError(f"{work.task.main} cannot take parameters: {error}") from None
    return notebook


def _node(content: dict[str, Any], where: str) -> Any:
    import nbformat

    try:
        cells = [{**cell, "metadata": _mapping(cell.get("metadata"))} for cell in content["cells"]]
        names = {cell.get("id") for cell in cells} - {None}
        # Cells must have names of their own; nbformat gives them to notebooks from before there were any.
        minor = nbformat.v4.nbformat_minor if len(names) == len(cells) else 4
        notebook = nbformat.v4.to_notebook(
            {"metadata": _mapping(content.get("metadata")), "cells": cells, "nbformat": 4}
        )
        notebook.nbformat_minor = minor
        notebook = nbformat.v4.upgrade(notebook)
        for cell in notebook.cells:
            cell.metadata.setdefault("tags", [])
            cell.source = str(cell.source)
    except (AttributeError, TypeError, KeyError, ValueError):
        raise UsageError(f"{where}: not a notebook of nbformat 4", "Open it in Jupyter and save it again.") from None
    notebook.metadata.papermill = nbformat.NotebookNode()
    return notebook


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _papermill() -> Any:
    # It takes along every storage library that it finds; pyarrow alone costs 30 MB.
    with lean("adlfs", "azure", "boto3", "gcsfs", "github", "pyarrow"):
        import papermill.clientwrap
        import papermill.parameterize
    return papermill


class _Execution:
    """One notebook on its way through a kernel."""

    def __init__(self, work: Work, kernel: Kernel, notebook: Any) -> None:
        self._work = work
        self._kernel = kernel
        self._notebook = notebook
        self._total = sum(1 for cell in notebook.cells if _is_executed(cell))
        self._number = 0
        self._cell: Any = None
        self._error: dict[str, Any] = {}
        self._saved = time.monotonic()
        self._streams = _Lines(work.say), _Lines(work.say)

    def run(self) -> None:
        """Execute the cells in order until one fails.

        Raises:
            JobFailed: a cell failed.
            OutOfMemory: a cell could not get memory.
            KernelDied: the kernel ended.
        """
        from nbclient.exceptions import DeadKernelError

        manager = self._manager()
        manager.notebook_start()
        try:
            self._client(manager).execute()
            self._kernel.ask_to_stop()
            manager.notebook_complete()
            self._accept_exit()
        except DeadKernelError:
            self._mark_failed()
            said = self._kernel.last_words()
            raise KernelDied(f"the kernel died: {self._kernel.ending()}", place=self._place(), traceback=said) from None
        except BaseException:
            self._mark_failed()
            self._kernel.interrupt()
            raise
        finally:
            for lines in self._streams:
                lines.end()
            self._save()
        if self._notebook.metadata.papermill.exception:
            raise _failure(self._notebook, self._number, self._error)

    def _manager(self) -> Any:
        execution = self

        class Manager(_papermill().engines.NotebookExecutionManager):  # type: ignore[misc]
            def save(self, **_: Any) -> None:
                self.last_save_time = self.now()
                if time.monotonic() - execution._saved >= _SAVE_SECONDS:
                    execution._save()

        return Manager(self._notebook, progress_bar=False)

    def _client(self, manager: Any) -> Any:
        client = _papermill().clientwrap.PapermillNotebookClient(
            manager,
            km=self._kernel.manager,
            log=_silent_log(),
            iopub_timeout=_OUTPUT_SECONDS,
            raise_on_iopub_timeout=False,
            stdout_file=self._streams[0],
            stderr_file=self._streams[1],
            on_cell_execute=self._on_start,
            on_cell_executed=self._on_end,
            on_cell_error=self._on_error,
        )
        client.kc = self._kernel.connect()
        self._work.progress(0, self._total)
        return client

    def _on_start(self, cell: Any, cell_index: int) -> None:
        self._number += 1
        self._cell = cell

    def _on_end(self, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        for lines in self._streams:
            lines.end()
        self._work.progress(self._number, self._total)

    def _on_error(self, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        self._error = execute_reply["content"]

    def _accept_exit(self) -> None:
        """Take `sys.exit()` and `sys.exit(0)` for what they say: the notebook is done."""
        facts = self._notebook.metadata.papermill
        if facts.exception and self._error.get("ename") == "SystemExit" and self._error["evalue"] in ("", "0", "None"):
            facts.exception = None
            self._cell.metadata.papermill.update(exception=False, status="completed")

    def _mark_failed(self) -> None:
        if self._cell is not None:
            self._cell.metadata.papermill.update(exception=True, status="failed")

    def _place(self) -> str:
        return f"cell {self._number}" if self._number else ""

    def _save(self) -> None:
        import nbformat

        self._saved = time.monotonic()
        text = self._work.mask(nbformat.v4.writes(self._notebook))
        write_text(self._work.run_folder / EXECUTED, text, wait=False)


class _Lines:
    """A text stream for papermill that passes on whole lines; a progress bar counts as its last state."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._pass_on(line)

    def flush(self) -> None:
        """Do nothing: papermill flushes after every write, in the middle of lines too."""

    def end(self) -> None:
        if self._rest:
            self._pass_on(self._rest)
            self._rest = ""

    def _pass_on(self, line: str) -> None:
        self._say(_plain(line.rstrip("\r").rsplit("\r", 1)[-1]))


def _is_executed(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip()) and "skip-execution" not in cell.metadata.tags


def _silent_log() -> logging.Logger:
    """Give a logger for nbclient: what it has to say reaches the user as an exception."""
    log = logging.getLogger("dsflow.notebook")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    return log


def _failure(notebook: Any, number: int, error: dict[str, Any]) -> DsflowError:
    """Say what went wrong in cell `number`, and on which line of the user's.

    Where a function of another cell failed, the place names both: the line itself, and the one that called it.
    """
    name = error.get("ename", "Error")
    said = _IN_FILE.sub("", _plain(error.get("evalue", "")).strip().split("\n")[0])
    text = _plain("\n".join(error.get("traceback", [])))
    frames = [
        (int(cell), int(line)) if cell else (number, _line_after_magic(notebook, number, int(timed)))
        for cell, line, timed in _FRAME.findall(text)
    ]
    place, source = f"cell {number}", ""
    if frames:
        (cell, line), calls = frames[-1], [line for cell, line in frames if cell == number]
        place = f"cell {cell}, line {line}"
        if cell != number and calls:
            place += f", called from cell {number}, line {calls[-1]}"
        source = "".join(_lines_of(notebook, cell)[line - 1 : line]).strip()
    message = said if said and hasattr(errors, name) else f"{name}: {said}".rstrip(": ")
    if name.endswith(_OUT_OF_MEMORY):
        hint = "Read less at once, or raise `run: {memory: ...}` in job_specs.yaml."
        return OutOfMemory(f"out of memory: {message}", hint, place=place, source=source, traceback=text)
    hint = "Add it to `run: {requirements: [...]}` in job_specs.yaml." if name == "ModuleNotFoundError" else ""
    return JobFailed(message, hint, place=place, source=source, traceback=text)


def _lines_of(notebook: Any, number: int) -> list[str]:
    found = [one for one in notebook.cells if one.cell_type == "code" and one.execution_count == number]
    return found[0].source.splitlines() if found else []


def _line_after_magic(notebook: Any, number: int, line: int) -> int:
    """Give the line of the cell that is line `line` of what `%%time` ran: the code below it, from its first text on."""
    rest = _lines_of(notebook, number)[1:]
    return line + 1 + next((index for index, text in enumerate(rest) if text.strip()), 0)


def _plain(text: str) -> str:
    return _ANSI.sub("", text)
