"""Runs a job on what a test gives it: the real job through the real shim, on a datastore that is gone afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from dsflow.engines.duckdb import open_engine
from dsflow.errors import DsflowError, UsageError, did_you_mean
from dsflow.kinds.registry import KINDS
from dsflow.model import Event, LogLine, Outcome, Output, Task
from dsflow.prepare import assignment_of
from dsflow.queries import is_ordered
from dsflow.runner import Emitter, Runner
from dsflow.runtimes.contract import Folders
from dsflow.runtimes.registry import Runtimes
from dsflow.spark import access, server
from dsflow.specs.load import JobSpec, WorkspaceSpec, load_job, load_workspace
from dsflow.specs.testfile import TestFile, load_test
from dsflow.store.datastore import Datastore
from dsflow.tasks import Maker
from dsflow.testing import given, rows
from dsflow.testing.rows import Table
from dsflow.testing.verdict import Difference, differences_of, types_of
from dsflow.workspace import Workspace
from dsflow.writers import writers_in

FOLDER = "tests"
_LAST_LINES = 10


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a run on the inputs of a test left.

    Attributes:
        task: What ran.
        outcome: How it ended.
        table: The rows of the table it wrote; empty where it wrote none.
        quarantine: The rows that broke an expectation and were put aside.
        files: The files of the raw dataset it wrote, with their text.
        log: Its last lines.
    """

    task: Task
    outcome: Outcome
    table: Table
    quarantine: Table
    files: dict[str, str]
    log: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table it wrote."""
        return list(self.table.rows)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a test ended.

    Attributes:
        job: The job.
        test: The name of the test.
        file: Its file, as a person would type it.
        ds: The date it ran for; empty where the test could not be read.
        differences: What is not as expected; none for a test that has passed.
        problem: Why there was nothing to compare: the test is wrong, or the run failed.
        details: What else a person wants to know of that.
        seconds: How long it took.
    """

    job: str
    test: str
    file: str
    ds: str = ""
    differences: tuple[Difference, ...] = ()
    problem: str = ""
    details: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.differences and not self.problem

    def lines(self) -> list[str]:
        """Give what a person is told about a test that has not passed."""
        problem = [self.problem, *(f"  {line}" for line in self.details)] if self.problem else []
        return [*problem, *map(str, self.differences)]


def tests_of(workspace: Workspace, job: str) -> list[Path]:
    """Give the test files of a job that are YAML, by name."""
    folder = workspace.job_folder(job) / FOLDER
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


class Trials:
    """Runs tests of the jobs of one workspace. Several share what makes starting a run quick; close it in the end.

    Args:
        workspace: Where the jobs are; nothing is written into it.
        runtime: A runtime by name; the job's where None, and a process where that does not say.

    Attributes:
        runtime: That name.
    """

    def __init__(self, workspace: Workspace, runtime: str | None = None) -> None:
        self._workspace = workspace
        self.runtime = runtime
        self._runtimes = Runtimes()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what is kept ready."""
        self._runtimes.close()

    def judge(self, job: str, path: Path) -> Verdict:
        """Run the test in a file and give the verdict."""
        started, shown = time.perf_counter(), self._workspace.shown(path)
        told = Verdict(job=job, test=path.stem, file=shown)
        try:
            test = load_test(path, shown)
            told = dataclasses.replace(told, ds=test.ds)
            told = self._compared(told, test, path.parent, self.run(job, test, path.parent, shown))
        except DsflowError as error:
            told = dataclasses.replace(told, problem=error.message, details=tuple(error.hint.splitlines()))
        return dataclasses.replace(told, seconds=round(time.perf_counter() - started, 3))

    def run(self, job: str, test: TestFile, folder: Path, where: str) -> Trial:
        """Run a job on what a test gives it.

        Args:
            job: The job.
            test: The test.
            folder: Where the files are that the test names.
            where: How messages call the test.

        Raises:
            UsageError: the test does not fit the job.
            EnvironmentMissing: the job cannot run here.
        """
        spec = load_job(self._workspace, job)
        if KINDS[spec.kind].port is not None:
            raise UsageError(f"{job} is a {spec.kind}: it serves until it is stopped, and has no rows to compare")
        with _throwaway() as datastore, contextlib.closing(open_engine(threads=1)) as engine:
            task, secrets = self._maker.task(
                job, test.ds, given.parameters_as_text(test), is_first=given.is_first(spec, test)
            )
            stage = given.Stage(
                datastore=datastore,
                folder=folder,
                job_folder=self._workspace.job_folder(job),
                engine=engine,
                kind=self._kind_of,
                where=where,
            )
            task = given.lay_out(task, test, stage)
            outcome, log = self._execute(task, secrets, spec, datastore)
            output = task.output if outcome else None
            return Trial(
                task=task,
                outcome=outcome,
                table=_table(datastore, output, engine),
                quarantine=_table(datastore, _quarantine(output), engine),
                files=_files(datastore, output),
                log=log,
            )

    def _execute(
        self, task: Task, secrets: dict[str, Any], spec: JobSpec, datastore: Datastore
    ) -> tuple[Outcome, tuple[str, ...]]:
        lines: list[str] = []

        def listen(event: Event) -> None:
            if isinstance(event, LogLine):
                lines.append(event.text)

        own = "process" if spec.run.runtime == "submit" else spec.run.runtime
        wanted = self.runtime or own or "process"
        runtime, reason = self._runtimes.choose("process" if wanted == "auto" else wanted)
        # Two are enough for the runtime to keep a process ready; how many there will be, nobody knows.
        runtime.expect(2)
        folders = Folders(jobs=self._workspace.jobs, datastore=datastore.root)
        runner = Runner(runtime, reason, folders, Emitter([listen]))
        task, environment = self._with_spark(task, runtime.name)
        assignment = assignment_of(task, secrets, spec, self._settings, runtime.name)
        outcome = runner.run(dataclasses.replace(assignment, environment=environment))
        return outcome, tuple(lines[-_LAST_LINES:])

    def _with_spark(self, task: Task, runtime: str) -> tuple[Task, dict[str, str]]:
        """Let a job that computes with Spark do so on this machine, whatever it has elsewhere.

        In processes that is the server of the workspace: one for a throwaway datastore would start with every test.
        """
        if task.engine != "spark":
            return task, {}
        own = {name: value for name, value in task.spark.settings.items() if name != "spark.master"}
        local = dataclasses.replace(task.spark, remote="", settings=own)
        task, elsewhere = dataclasses.replace(task, spark=local), local != task.spark
        if runtime != "process" or local.session != "connect" or access.SERVER in os.environ:
            return task, {}
        folder = access.warm_folder(self._workspace.datastore)
        folder = folder.with_name("tests") if elsewhere else folder
        server.ensure(folder, local, lambda line: None)
        return task, {access.SERVER: str(folder)}

    def _compared(self, told: Verdict, test: TestFile, folder: Path, trial: Trial) -> Verdict:
        """Give the verdict on a run."""
        failure, expected = trial.outcome.failure, test.expected
        found: list[Difference] = []
        if expected.failure is not None:
            message = failure.message if failure else "a run that succeeds"
            if failure is None or expected.failure.casefold() not in message.casefold():
                found.append(Difference(path="failure", expected=repr(expected.failure), got=repr(message)))
        elif failure is not None:
            details = [failure.place, failure.source, failure.hint, *(f"log: {line}" for line in trial.log)]
            problem = f"the job failed: {failure.message}"
            return dataclasses.replace(told, problem=problem, details=tuple(filter(None, details)))
        else:
            found += _unread(test, trial)
            found += self._output(told, test, folder, trial)
        found += _checks(test, trial)
        return dataclasses.replace(told, differences=tuple(found))

    def _output(self, told: Verdict, test: TestFile, folder: Path, trial: Trial) -> list[Difference]:
        expected, task = test.expected, trial.task
        found: list[Difference] = []
        if expected.files is not None:
            found += _texts(expected.files, trial.files)
        wanted = expected.rows
        if expected.file is not None:
            wanted = _rows_in(folder, expected.file, told.file)
        if (wanted is not None or expected.columns) and (task.output is None or task.output.store != "table"):
            raise UsageError(f"{told.file}: expected: {told.job} writes no table", "Give `files`.")
        if wanted is not None:
            spec = load_job(self._workspace, told.job)
            ordered = expected.ordered
            if ordered is None:
                ordered = task.code is not None and is_ordered(task.code, task.engine)
            keys = spec.output.keys if spec.output else ()
            found += differences_of(wanted, trial.table, ignore=expected.ignore, ordered=ordered, keys=keys)
        found += types_of(expected.columns, trial.table.types)
        if expected.quarantine is not None:
            got = trial.quarantine
            found += differences_of(expected.quarantine, got, place="quarantine", ignore=expected.ignore)
        return found

    @functools.cached_property
    def _settings(self) -> WorkspaceSpec:
        return load_workspace(self._workspace)

    @functools.cached_property
    def _maker(self) -> Maker:
        return Maker(self._workspace, self._settings)

    def _kind_of(self, table: str) -> Literal["fct", "dim"]:
        writer = self._writers.of("table", table)
        return writer.kind if writer else "fct"

    @functools.cached_property
    def _writers(self) -> Any:
        return writers_in(self._workspace)


@contextlib.contextmanager
def _throwaway() -> Iterator[Datastore]:
    folder = Path(tempfile.mkdtemp(prefix="dsflow-test-")).resolve()
    try:
        (folder / "datastore").mkdir()
        yield Datastore(folder / "datastore")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quarantine(output: Output | None) -> Output | None:
    if output is None or output.store != "table":
        return None
    return dataclasses.replace(output, name=f"{output.name}__quarantine")


def _table(datastore: Datastore, output: Output | None, engine: Any) -> Table:
    partition = None
    if output is not None and output.store == "table":
        partition = datastore.partition("table", output.name, output.ds)
    return rows.read_files(engine, partition.files) if partition else Table(types={}, rows=())


def _files(datastore: Datastore, output: Output | None) -> dict[str, str]:
    if output is None or output.store != "raw":
        return {}
    partition = datastore.partition("raw", output.name, output.ds)
    files = partition.files if partition else ()
    folder = datastore.target("raw", output.name, output.ds)
    return {str(file.relative_to(folder)): _text_of(file) for file in files}


def _text_of(file: Path) -> str:
    """Give the text of a file, unpacked where it is packed; of what is no text its hash."""
    data = file.read_bytes()
    with contextlib.suppress(OSError, EOFError, zlib.error):
        data = gzip.decompress(data) if file.suffix == ".gz" else data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _rows_in(folder: Path, name: str, where: str) -> tuple[dict[str, Any], ...]:
    path = folder / name
    if not path.resolve().is_relative_to(folder.parent.resolve()) or not path.is_file():
        raise UsageError(f"{where}: expected.file: there is no file {name[:60]!r} beside the test")
    with contextlib.closing(open_engine(threads=1)) as engine:
        return rows.fetch(rows.read_any(engine, path, f"{where}: expected.file")).rows


def _unread(test: TestFile, trial: Trial) -> list[Difference]:
    """Give the inputs of a test that its job never looked at: their names are probably wrong."""
    declared = {source.name for source in trial.task.inputs}
    read = {used.target if used.kind == "table" else f"raw.{used.target}" for used in trial.outcome.inputs}
    names = [name for name in test.inputs if name not in declared and name not in read]
    known = sorted(declared | read)
    return [
        Difference(path=f"inputs.{name}", expected="an input of the job", got="never read" + did_you_mean(name, known))
        for name in names
    ]


def _checks(test: TestFile, trial: Trial) -> list[Difference]:
    counted = {check.name: check.violations for check in trial.outcome.checks}
    return [
        Difference(
            path=f"checks.{name}",
            expected=str(violations),
            got=str(counted[name]) if name in counted else "no such expectation" + did_you_mean(name, counted),
        )
        for name, violations in test.expected.checks.items()
        if counted.get(name) != violations
    ]


def _texts(expected: dict[str, str], got: dict[str, str]) -> list[Difference]:
    found = [
        Difference(path=f"files.{name}", expected="a file", got="no such file" + did_you_mean(name, got))
        for name in expected
        if name not in got
    ]
    found += [
        Difference(path=f"files.{name}", expected="no such file", got="a file") for name in got if name not in expected
    ]
    for name in expected.keys() & got.keys():
        lines, others = expected[name].splitlines(), got[name].splitlines()
        for number in range(max(len(lines), len(others))):
            one = lines[number] if number < len(lines) else "no more lines"
            other = others[number] if number < len(others) else "no more lines"
            if one != other:
                found.append(Difference(path=f"files.{name}, line {number + 1}", expected=repr(one), got=repr(other)))
                break
    return found
