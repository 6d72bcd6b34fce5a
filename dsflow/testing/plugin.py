"""What makes `pytest` run the tests of jobs: `jobs/NAME/tests/*.yaml`, and the fixture `run_job` for plain test files.

pytest loads this module wherever dsflow is installed. Outside of workspaces it does nothing, and it imports what it
needs only when there is a test to run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dsflow.testing.trial import Trial, Trials, Verdict

# The same names as in `dsflow.workspace`, which this module imports only where there is a workspace.
_MARKER, _SPEC = "dsflow.yml", "job_specs.yaml"
_TRIALS: pytest.StashKey[dict[Path, Trials]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Let test files of several jobs have the same name, in a workspace that has no settings of its own for pytest."""
    config.stash[_TRIALS] = {}
    here = config.invocation_params.dir
    said = any(str(argument).startswith("--import-mode") for argument in config.invocation_params.args)
    if config.inipath is None and not said and any((folder / _MARKER).is_file() for folder in (here, *here.parents)):
        config.option.importmode = "importlib"


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the tests kept ready."""
    for trials in config.stash.get(_TRIALS, {}).values():
        trials.close()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Look for no tests among the data of a workspace."""
    if collection_path.name == "datastore" and (collection_path.parent / _MARKER).is_file():
        return True
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the YAML files in the folder `tests` of a job."""
    # Deeper than that are files which tests name.
    if (
        file_path.suffix in (".yaml", ".yml")
        and file_path.parent.name == "tests"
        and _job_folder(file_path) is not None
    ):
        return JobTestFile.from_parent(parent, path=file_path)
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Let a plain test file of a job import the modules beside the job's main file."""
    folder = _job_folder(module_path)
    if folder is None:
        return
    from dsflow import shared
    from dsflow.specs.load import load_workspace
    from dsflow.store.layout import Layout
    from dsflow.workspace import Workspace

    workspace = Workspace(folder.parent.parent)
    names = load_workspace(workspace).modules
    modules = shared.import_path(workspace.jobs, names, Layout(workspace.datastore).shared)
    sys.path[:0] = [path for path in (str(folder), modules) if path and path not in sys.path]


class JobTestFile(pytest.File):
    """A YAML file; it holds one test."""

    def collect(self) -> Iterator[JobTest]:
        """Give that test."""
        yield JobTest.from_parent(self, name=self.path.stem)


class JobTest(pytest.Item):
    """The test in a YAML file."""

    def runtest(self) -> None:
        """Run the job on what the test gives it.

        Raises:
            JobTestFailed: something is not as expected.
        """
        folder = _job_folder(self.path)
        assert folder is not None
        verdict = _trials(self.config, folder).judge(folder.name, self.path)
        if not verdict.passed:
            raise JobTestFailed(verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the differences instead of a traceback of dsflow's."""
        if isinstance(excinfo.value, JobTestFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Name the job and the test."""
        folder = _job_folder(self.path)
        return self.path, 0, f"{folder.name if folder else ''}: {self.name}"


class JobTestFailed(AssertionError):
    """A test of a job has not passed.

    Args:
        verdict: What was found.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("\n".join([f"{verdict.job} ds={verdict.ds}", *(f"  {line}" for line in verdict.lines())]))
        self.verdict = verdict


RunJob = Callable[..., "Trial"]


@pytest.fixture
def run_job(request: pytest.FixtureRequest) -> RunJob:
    """Give a function that runs the job beside the test: `run_job("2026-11-20", inputs={"rain": [...]}).rows`.

    It takes the ds, `inputs` and `parameters` as a YAML test has them, and gives a `dsflow.testing.trial.Trial`. A run
    that fails is no error of its own: look at `outcome`.
    """
    folder = _job_folder(request.path)
    if folder is None:
        pytest.fail("run_job works in files in jobs/NAME/tests/", pytrace=False)
    trials = _trials(request.config, folder)

    def run(
        ds: str,
        inputs: Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Trial:
        from dsflow.specs.testfile import checked

        where = request.node.name
        test = checked({"ds": ds, "inputs": dict(inputs or {}), "parameters": dict(parameters or {})}, where)
        return trials.run(folder.name, test, request.path.parent, where)

    return run


def _job_folder(path: Path) -> Path | None:
    """Give the folder of the job that a file in `jobs/NAME/tests/` belongs to, at any depth; None for other files."""
    for tests in path.parents:
        if tests.name == "tests" and tests.parent.parent.name == "jobs":
            job = tests.parent
            there = (job / _SPEC).is_file() and (job.parent.parent / _MARKER).is_file()
            return job if there else None
    return None


def _trials(config: pytest.Config, job_folder: Path) -> Trials:
    from dsflow.testing.trial import Trials
    from dsflow.workspace import Workspace

    root = job_folder.parent.parent
    known = config.stash[_TRIALS]
    if root not in known:
        known[root] = Trials(Workspace(root), os.environ.get("DSFLOW_TEST_RUNTIME"))
    return known[root]
