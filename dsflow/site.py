"""Where a run takes place on the job side: its paths, its parameters, its inputs, and what its code gets to see."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dsflow import model, shared
from dsflow.errors import JobFailed
from dsflow.inputs import local, location, nothing_before, partitions_of, stamp, used
from dsflow.kinds.contract import Work
from dsflow.masking import Masker
from dsflow.model import EXPECTED, MADE, Expectation, Input, InputUsed, Task
from dsflow.store.datastore import Datastore, Partition
from dsflow.store.layout import Layout

# A job that runs `dsflow run` itself must not lend the inner run what is its own.
_OF_ONE_RUN = ("DSFLOW_SINK", "DSFLOW_PORT", "DSFLOW_SAMPLES", shared.PLACE)


class Log(Protocol):
    """Where lines and progress of a run go."""

    mask: Masker

    def say(self, text: str) -> None:
        """Print one line."""

    def progress(self, done: int, total: int) -> None:
        """Report units done."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One run's task and its folders as seen from here.

    Attributes:
        task: What runs.
        run_folder: Where its documents are.
        data: The datastore.
        jobs: The folder of the jobs.
        secrets: The values of the task's secret parameters.
    """

    task: Task
    run_folder: Path
    data: Path
    jobs: Path
    secrets: Mapping[str, Any]

    @functools.cached_property
    def store(self) -> Datastore:
        """The datastore."""
        return Datastore(self.data)

    @functools.cached_property
    def destination(self) -> Datastore:
        """Where the output is published: the datastore, or one in the run folder for a task that is kept apart."""
        return Datastore(self.run_folder / MADE) if self.task.apart else self.store

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """All parameters, secrets included."""
        return {**self.task.parameters, **self.secrets}

    @functools.cached_property
    def _partitions(self) -> dict[str, list[Partition]]:
        return {source.name: self._partitions_of(source) for source in self.task.inputs}

    def _partitions_of(self, source: Input) -> list[Partition]:
        try:
            return partitions_of(source, self.store)
        except JobFailed as error:
            output = self.task.output
            if output is not None and (source.kind, source.target) == (output.store, output.name):
                error.hint = "`{% if is_first %}` in a query, `job.is_first` in code: say what the first partition is."
            raise

    def declared_inputs(self) -> list[InputUsed]:
        """Give what the declared inputs stand for now.

        Raises:
            JobFailed: one of them is not there.
        """
        found = (entry for source in self.task.inputs for entry in used(source, self._partitions[source.name]))
        first = [nothing_before(self.task.output)] if self.task.is_first and self.task.output else []
        return [*(self._stamped(entry) for entry in found), *first]

    def own_reads(self, known: Sequence[InputUsed]) -> list[InputUsed]:
        """Give what the job's code read beyond `known` on its own account (`job.table`, `job.sql`)."""
        path = self.run_folder / "reads.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        path.unlink()
        entries: dict[InputUsed, None] = {}
        for line in lines:
            # A job that was killed while it wrote its last line.
            with contextlib.suppress(ValueError):
                entries[self._stamped(model.from_json(InputUsed, line))] = None
        return [entry for entry in entries if entry not in known]

    def expectations(self) -> tuple[Expectation, ...]:
        """Give what is expected of the output, by the spec and then by the job's code (`job.expect`)."""
        path = self.run_folder / EXPECTED
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        # A cell that was run twice says the same twice.
        own = dict.fromkeys(lines)
        return (*self.task.expectations, *(model.from_json(Expectation, line) for line in own))

    def _stamped(self, entry: InputUsed) -> InputUsed:
        if entry.kind != "path":
            return entry
        return dataclasses.replace(entry, hash=stamp(entry.target, self.data, self.jobs / self.task.job))

    def work(self, staging: Path | None, log: Log, watch: Callable[[int], None]) -> Work:
        """Give the job's kind all it needs.

        Raises:
            JobFailed: a declared input is not there.
        """
        paths = self._source_paths()
        return Work(
            task=self.task,
            parameters=self.parameters,
            injected=self.injected,
            job_folder=self.jobs / self.task.job,
            run_folder=self.run_folder,
            data=self.data,
            staging=staging,
            partitions=self._partitions,
            source_paths=paths,
            environment=self._environment(staging, paths),
            mask=log.mask,
            say=log.say,
            progress=log.progress,
            watch=watch,
        )

    @property
    def injected(self) -> dict[str, Any]:
        """The part of the parameters that a notebook's parameters cell declares."""
        return {name: self.parameters.get(name, value) for name, value in self.task.injected.items()}

    def environment(self, staging: Path | None) -> dict[str, str]:
        """Give the whole environment for the job's code.

        Raises:
            JobFailed: a declared input is not there.
        """
        return self._environment(staging, self._source_paths())

    def _source_paths(self) -> dict[str, str]:
        return {source.name: location(source, self._partitions[source.name], self.data) for source in self.task.inputs}

    def _environment(self, staging: Path | None, paths: Mapping[str, str]) -> dict[str, str]:
        task = self.task
        inherited = {name: value for name, value in os.environ.items() if name not in _OF_ONE_RUN}
        added = {
            "DSFLOW_DS": task.ds,
            "DSFLOW_START": task.start,
            "DSFLOW_END": task.end,
            "DSFLOW_RUN_ID": task.run_id,
            "DSFLOW_JOB": task.job,
            "DSFLOW_PARAMS": json.dumps(self.parameters),
            "DSFLOW_RUN_FOLDER": str(self.run_folder),
            "DSFLOW_DATA": str(self.data),
            "DSFLOW_JOBS": str(self.jobs),
            "TASK_SPECS": self._task_specs(paths, staging),
        }
        if modules := shared.import_path(self.jobs, task.modules, Layout(self.data).shared):
            added[shared.PLACE] = modules
            added["PYTHONPATH"] = os.pathsep.join([modules, *filter(None, [inherited.get("PYTHONPATH")])])
        if staging is not None:
            added["DSFLOW_SINK"] = str(staging)
        if task.samples:
            added["DSFLOW_SAMPLES"] = task.samples
        if task.port is not None:
            added["DSFLOW_PORT"] = str(task.port)
            added["DSFLOW_HOST"] = os.environ.get("DSFLOW_HOST", "127.0.0.1")
        return inherited | added

    def _task_specs(self, paths: Mapping[str, str], staging: Path | None) -> str:
        """Give TASK_SPECS: `/data/...` is where the data really is, and the sink is the staging folder."""
        made = {"ds": self.task.ds, **self.parameters, **{f"{name}_path": path for name, path in paths.items()}}
        specs = self.task.task_specs or made
        here = {name: local(value, self.data) if isinstance(value, str) else value for name, value in specs.items()}
        return json.dumps(here if staging is None else here | {"sink_path": str(staging)})
