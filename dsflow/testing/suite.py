"""All tests of some jobs: YAML files are run here, plain test files by pytest in a process per job."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from dsflow.errors import EnvironmentMissing
from dsflow.testing.trial import FOLDER, Trials, Verdict, tests_of
from dsflow.workspace import Workspace

# What pytest says where the chosen tests are none.
_NOTHING_CHOSEN = 5
_LAST_LINES = 20


@dataclass(frozen=True)
class Batch:
    """A YAML test, or all plain test files of a job."""

    job: str
    file: Path | None = None


def find(workspace: Workspace, jobs: Iterable[str], part: str = "") -> list[Batch]:
    """Give what there is to run, in the order of the jobs.

    Args:
        workspace: Where the jobs are.
        jobs: Their names.
        part: Only tests whose name has this in it.

    Raises:
        UsageError: there is no such job.
    """
    found: list[Batch] = []
    for job in jobs:
        found += [Batch(job, path) for path in tests_of(workspace, job) if part in path.stem]
        if any((workspace.job_folder(job) / FOLDER).rglob("test_*.py")):
            found.append(Batch(job))
    return found


def run(batch: Batch, trials: Trials, workspace: Workspace, part: str = "") -> Sequence[Verdict]:
    """Run a test, or the plain test files of a job, and give the verdicts.

    Raises:
        EnvironmentMissing: pytest is needed, and not there.
    """
    if batch.file is not None:
        return [trials.judge(batch.job, batch.file)]
    if importlib.util.find_spec("pytest") is None:
        problem = f"jobs/{batch.job}/{FOLDER} has test_*.py files, and there is no pytest to run them"
        raise EnvironmentMissing(problem, "pip install 'dsflow[test]' brings it.")
    return _pytest(batch.job, workspace, part, trials.runtime)


def _pytest(job: str, workspace: Workspace, part: str, runtime: str | None) -> list[Verdict]:
    folder = workspace.job_folder(job)
    with tempfile.TemporaryDirectory(prefix="dsflow-test-") as scratch:
        report = Path(scratch) / "report.xml"
        # YAML files in the folder are run already, in this process.
        options = [
            "--import-mode=importlib",
            f"--rootdir={workspace.root}",
            "--ignore-glob=*.yaml",
            "--ignore-glob=*.yml",
        ]
        chosen = ["-k", part] if part else []
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *options,
            *chosen,
            f"--junit-xml={report}",
            str(folder / FOLDER),
        ]
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
        done = subprocess.run(
            command,
            cwd=workspace.root,
            env={**os.environ, "PYTHONPATH": path, **({"DSFLOW_TEST_RUNTIME": runtime} if runtime else {})},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        verdicts = list(_cases(report, job, workspace)) if report.is_file() else []
    if done.returncode not in (0, _NOTHING_CHOSEN) and all(verdict.passed for verdict in verdicts):
        last = tuple((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        shown = workspace.shown(folder / FOLDER)
        verdicts.append(Verdict(job=job, test="pytest", file=shown, problem="pytest failed", details=last))
    return verdicts


def _cases(report: Path, job: str, workspace: Workspace) -> Iterable[Verdict]:
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        module, _, _ = case.get("classname", "").partition(f"{FOLDER}.")[2].partition("::")
        shown = workspace.shown(workspace.job_folder(job) / FOLDER)
        yield Verdict(
            job=job,
            test=f"{module}::{case.get('name', '')}",
            file=shown,
            problem="" if bad is None else _first(bad.get("message") or "it failed"),
            details=() if bad is None else tuple((bad.text or "").strip().splitlines()[-_LAST_LINES:]),
            seconds=round(float(case.get("time", "0")), 3),
        )


def _first(text: str) -> str:
    return text.strip().split("\n", 1)[0]
