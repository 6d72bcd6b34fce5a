"""Running a DAG once for a date, in an Airflow that is there for this alone: the scheduler's database hears nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dsflow.errors import JobFailed, UsageError, did_you_mean
from dsflow.partitions import grain_of
from dsflow.services import lifecycle, registry
from dsflow.services.contract import Asked, FormName, Notify, Service
from dsflow.workspace import Workspace, check_name

_REPORT = "report.json"
_LOUD = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING", "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.task=INFO"}
# Airflow's lines: moment, level, what is said, who says it, and where in the source.
_SAID = re.compile(r"\S+ \[\w+ *\] (?P<words>.*?) +\[airflow\.task[\w.]*\](?: .*)?")


@dataclass(frozen=True)
class Trial:
    """How a DAG run ended: the state of each task by its name, in order."""

    tasks: Mapping[str, str]

    @property
    def failed(self) -> list[str]:
        """The tasks that did not succeed."""
        return [name for name, state in self.tasks.items() if state not in ("success", "skipped")]


def run(
    workspace: Workspace, dag: str, ds: str, form: FormName | None, notify: Notify, say: Callable[[str], None]
) -> Trial:
    """Run a DAG once. Its jobs run for real, and publish what they make.

    Args:
        workspace: Whose `airflow/dags` has it.
        dag: Its name.
        ds: The partition that the run is for.
        form: Where Airflow runs; None for the usual one.
        notify: Gets lines about what is going on.
        say: Gets the lines that the tasks print.

    Raises:
        UsageError: the name or the date is none.
        JobFailed: there is no such DAG, its file has mistakes, or Airflow itself failed.
        EnvironmentMissing: Airflow cannot be started.
    """
    check_name(dag, "DAG")
    if grain_of(ds) is None:
        raise UsageError(f"{ds[:40]!r} is not a partition", "Write it like 2026-11-20.")
    files = [path.stem for path in sorted(workspace.dags.glob("*.py"))]
    if not files:
        raise UsageError("there is no DAG yet", "`dsflow generate-dag` writes one.")
    service = _passing(registry.service_of(workspace, "airflow"), dag, ds)
    (service.state / _REPORT).unlink(missing_ok=True)
    started = lifecycle.start(service, Asked(form=form, wait=False), notify)
    try:
        last = _follow(service, started.found.form, say)
        report = json.loads(service.kept(_REPORT) or "{}")
    finally:
        lifecycle.stop(workspace, service.name, lambda _line: None)
    if not report:
        raise JobFailed(f"Airflow ended in the middle: {' / '.join(last) or 'it said nothing'}")
    if report["error"]:
        raise JobFailed(f"{dag}: {report['error'].strip()}{did_you_mean(dag, files) if dag not in files else ''}")
    if not report["tasks"]:
        raise JobFailed(f"{dag} has no tasks", f"airflow/dags/{dag}.py")
    return Trial(report["tasks"])


def _passing(service: Service, dag: str, ds: str) -> Service:
    """Give Airflow as a service that runs one DAG and ends: in a folder, and so with a database, of its own."""
    command = ("python", "{{ here }}/trial.py", dag, ds, f"{{{{ state }}}}/{_REPORT}")
    spec = service.spec
    changes = {
        "command": command,
        "environment": {**spec.environment, **_LOUD},
        "ports": (),
        "process": spec.process.model_copy(update={"command": command}) if spec.process else None,
        "readiness": None,
    }
    return replace(service, name=f"{service.name}-test", spec=spec.model_copy(update=changes))


def _follow(service: Service, form: FormName, say: Callable[[str], None]) -> list[str]:
    """Pass on what tasks print until the end; give the last lines of all."""
    last: list[str] = []
    for line in registry.form_of(form).lines(
        service.workspace, lifecycle.running(service.workspace, service.name), follow=True
    ):
        last = [*last[-2:], line]
        if (said := _SAID.fullmatch(line)) is not None:
            say(said["words"])
        elif "[error" in line or "Traceback" in line:
            say(line)
    return last
