"""What DAG files import: an operator that has a job run by `dsflow serve`, wherever Airflow itself runs.

    with DAG("rain", schedule="30 4 * * *", start_date=datetime(2026, 1, 1), catchup=False, params=PARAMS):
        DsflowJob(job="download-rain") >> DsflowJob(job="create-table-rain")

Besides Airflow it needs the standard library and a few small modules of dsflow, so that Airflow's container carries
neither dsflow's libraries nor a way to the Docker engine: it has the folder with the server's socket and token.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dsflow import partitions
from dsflow.errors import DsflowError
from dsflow.model import Grain
from dsflow.partitions import Standing
from dsflow.serve.client import Client, Event, Refused, Unreachable

# What a person may fill in who triggers a run by hand.
PARAMS = {
    "ds": Param(
        None,
        type=["null", "string"],
        title="Partition",
        description="The partition to run, such as 2026-11-20. Empty: the one that the moment of the run stands for.",
    )
}
# Where the socket and the token of `dsflow serve` are.
FOLDER = "DSFLOW_SERVE"
# Wrong again however often it is tried: a wrong spec or parameter, an expectation that the data do not meet.
_NEVER_RETRIED = (2, 3)
_ENDED = ("succeeded", "skipped", "failed", "interrupted")
_LONGEST_KEY = 200


class DsflowJob(BaseOperator):  # type: ignore[misc]
    """Runs a job for the partition that the DAG run stands for, shows its log, and ends as the job ends.

    The job is stopped when the task is: marked as failed or successful, cleared, or out of time. Where only Airflow or
    the server went away, the job goes on or is run again, and the task's next try takes it up.

    Args:
        job: The name of the job.
        grain: The grain of its partitions.
        partition: Which one the moment of a run stands for: `ended`, the last that was complete by then (a daily run
            of 2026-11-20 makes ds=2026-11-19), or `current` (ds=2026-11-20). The clock is that of the DAG's time zone.
        parameters: Values of the job's parameters, by name.
        if_stale: Leave a partition alone that is fresh.
        patience: Seconds without an answer of the server before the task fails.
        task_id: What the task is called; like the job if absent.
        arguments: What every operator takes.
    """

    template_fields = ("parameters",)
    ui_color = "#d5ead8"

    def __init__(
        self,
        *,
        job: str,
        grain: Grain = "day",
        partition: Standing = "ended",
        parameters: Mapping[str, Any] | None = None,
        if_stale: bool = False,
        patience: float = 300,
        task_id: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(task_id=task_id or job, **arguments)
        self.job = job
        self.grain = grain
        self.partition = partition
        self.parameters = dict(parameters or {})
        self.if_stale = if_stale
        self.patience = patience
        self._run: str | None = None

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the job and wait for its end.

        Returns:
            `run_id`, `ds` and `exit_code`, for tasks that ask for them.

        Raises:
            AirflowException: the job failed.
            AirflowFailException: it did, and trying again would not help.
        """
        ds = self.partition_of(context)
        try:
            end = self._taken_up(context) or self._new(context, ds)
        except Unreachable as error:
            raise AirflowException(str(error)) from error
        except Refused as error:
            raise _failure(f"{self.job} ds={ds} was refused: {error}", error.exit_code) from error
        except BaseException:
            # Out of time, or interrupted: the job goes on until somebody stops it.
            self.on_kill()
            raise
        if end["exit_code"]:
            said = (end.get("error") or {}).get("message") or end["status"]
            raise _failure(f"{self.job} ds={ds}: {said} (exit code {end['exit_code']})", end["exit_code"])
        return {"run_id": (end["run_ids"] or [None])[-1], "ds": ds, "exit_code": 0}

    def on_kill(self) -> None:
        """Stop the job: the task was cancelled or cleared, or its time is over."""
        run, self._run = self._run, None
        if run is not None:
            self.log.info("The task was stopped; stopping %s", self.job)
            self._client().cancel(run)

    def partition_of(self, context: Mapping[str, Any]) -> str:
        """Give the partition that a person chose, else the one that the moment of the run stands for.

        Raises:
            AirflowFailException: what was chosen is no partition of the job.
        """
        run = context["dag_run"]
        try:
            if chosen := (run.conf or {}).get("ds") or context["params"].get("ds"):
                partitions.start_of(chosen, self.grain)
                return str(chosen)
        except DsflowError as error:
            raise AirflowFailException(f"{error.message}. {error.hint}") from None
        # A run that was triggered without a date has only the moment at which it was to start.
        moment: dt.datetime = run.logical_date or run.run_after
        return partitions.stands_for(moment.astimezone(context["dag"].timezone), self.grain, self.partition)

    def _taken_up(self, context: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the good end of a run that an earlier try has begun and could not wait for; follow it if it goes on."""
        ti = context["ti"]
        # Whoever clears a task wants to see it run anew: Airflow counts the tries from there.
        cleared = ti.max_tries - self.retries
        for tried in range(ti.try_number - 1, 0, -1):
            for run in self._asked(_key(context, tried)):
                self.log.info("Run %s of try %s is %s", run["id"], tried, run["status"])
                end = run if run["status"] in _ENDED else self._followed(run["id"])
                return end if end["exit_code"] == 0 and tried > cleared else None
        return None

    def _asked(self, key: str) -> list[dict[str, Any]]:
        """Give the run of a key, if there is one; wait for a server that is away."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self._client().list(key=key)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _new(self, context: Mapping[str, Any], ds: str) -> dict[str, Any]:
        """Ask for a run and follow it to its end."""
        key = _key(context, context["ti"].try_number)
        self.log.info("Asking dsflow to run %s for ds=%s", self.job, ds)
        run = self._client().submit(
            self.job, ds, self.parameters, key=key, if_stale=self.if_stale, retries=0, patience=self.patience
        )
        return self._followed(run["id"])

    def _followed(self, run: str) -> dict[str, Any]:
        """Show what happens to a run until it has ended; give what the server says of it then."""
        self._run = run
        end: dict[str, Any] = {}
        for event in self._client().follow(run, patience=self.patience):
            end = event.data
            for line in _lines(event):
                self.log.info("%s", line)
        return end

    def _client(self) -> Client:
        folder = os.environ.get(FOLDER)
        if not folder:
            raise AirflowFailException(f"{FOLDER} does not name the folder of `dsflow serve` (.dsflow/serve)")
        return Client.of(folder)


def _key(context: Mapping[str, Any], attempt: int) -> str:
    """Give the name that a try of a task has at the server: asked twice, it is still one run."""
    ti = context["ti"]
    key = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{attempt}"
    return key if len(key) <= _LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()


def _lines(event: Event) -> Iterator[str]:
    """Give what the task's log shows of an event."""
    if event.kind in ("log", "notice"):
        yield event.data["text"]
    elif event.kind == "started":
        yield f"Run {event.data['run_id']}, its page: datastore/{event.data['folder']}/index.html"


def _failure(message: str, exit_code: int) -> AirflowException:
    return AirflowFailException(message) if exit_code in _NEVER_RETRIED else AirflowException(message)
