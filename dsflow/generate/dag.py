"""Writes the DAG file that puts jobs of a pipeline on a schedule in Airflow; a file that a person changed stays."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow.durable import write_text
from dsflow.errors import UsageError
from dsflow.partitions import Standing
from dsflow.pipeline import Node, Pipeline
from dsflow.quantities import seconds
from dsflow.schedule import check_cron
from dsflow.specs.load import JobSpec
from dsflow.workspace import Workspace, check_name

_STAMP = "# dsflow wrote everything above: "
# The plain cron lines of Airflow; its interval timetables can stop a DAG for good.
_USUAL = {"hour": "@hourly", "day": "@daily", "week": "@weekly", "month": "@monthly"}
# Before any data: which dates run is said by `catchup`, and a test of a date before this one would do nothing.
_LONG_AGO = dt.date(2000, 1, 1)
_NEVER = "none"
_WIDEST = 120
# A job ends itself at its timeout, with its page saved; Airflow steps in where that did not help.
_GRACE_MINUTES = 5


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a person asks of a DAG; what is None follows from the jobs.

    Attributes:
        name: What it is called.
        command: The command line that asks for it, for the head of the file.
        cron: When it runs; `none` for by hand only.
        partition: Which partition a run stands for.
        since: The date from which on missed runs are made up for.
    """

    name: str
    command: str
    cron: str | None = None
    partition: Standing | None = None
    since: str | None = None


@dataclass(frozen=True)
class _Timetable:
    cron: str | None
    timezone: str
    partition: Standing
    start: dt.date


def dag_text(pipeline: Pipeline, jobs: Sequence[str], wish: Wish) -> str:
    """Give the text of a DAG file.

    Args:
        pipeline: All jobs.
        jobs: Those of the DAG, in the order of the pipeline.
        wish: What else is asked for.

    Raises:
        UsageError: the jobs do not fit into one DAG, or the wish is wrong.
    """
    nodes = [pipeline.nodes[name] for name in jobs]
    times = _timetable([node.job for node in nodes], wish)
    names = _variables(jobs)
    calls = [f"{_call(node)}" for node in nodes]
    tied = [line for name in jobs if (line := _tie(name, pipeline, names))]
    mentioned = {name for name in jobs if any(names[name] in re.split(r"\W+", line) for line in tied)}
    tasks = [f"{names[name]} = {call}" if name in mentioned else call for name, call in zip(jobs, calls, strict=True)]
    body = [*tasks, *(["", *tied] if tied else [])]
    head = _head(nodes, wish, times, uses_timedelta="timedelta(" in "".join(calls))
    text = head + "".join(f"    {line}\n" if line else "\n" for line in body)
    return f"{text}\n{_STAMP}{_hash(text)}\n"


def write_dag(workspace: Workspace, name: str, text: str, *, force: bool = False) -> tuple[Path, str]:
    """Write a DAG file where there is none, or one that nobody changed since dsflow wrote it.

    Args:
        workspace: Whose `airflow/dags` it goes into.
        name: The name of the DAG and of the file.
        text: What `dag_text` gave.
        force: Replace a changed file too.

    Returns:
        The file, and what was done: `new`, `unchanged`, `renewed` or `replaced`.

    Raises:
        ChangedByHand: the file was changed, and is as it was.
    """
    path = workspace.dags / f"{check_name(name, 'DAG')}.py"
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if before == text:
        return path, "unchanged"
    by_hand = before is not None and not _is_ours(before)
    if before is not None and by_hand and not force:
        raise ChangedByHand(workspace.shown(path), before, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path, "new" if before is None else "replaced" if by_hand else "renewed"


class ChangedByHand(UsageError):
    """A DAG file has changes that dsflow did not make.

    Attributes:
        diff: What would be different in it, line by line.
    """

    def __init__(self, shown: str, before: str, after: str) -> None:
        super().__init__(
            f"{shown} was changed by hand, so it stays as it is",
            "Take over what you want of the difference, or let `--force` replace the file.",
        )
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), shown, "what dsflow would write", "", "")
        self.diff = [line.rstrip("\n") for line in lines]


def _is_ours(text: str) -> bool:
    body, stamp, digest = text.rpartition(f"\n{_STAMP}")
    return bool(stamp) and digest.strip() == _hash(body)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _timetable(jobs: Sequence[JobSpec], wish: Wish) -> _Timetable:
    grains = sorted({job.grain for job in jobs})
    if len(grains) > 1:
        raise UsageError(
            f"the jobs have partitions of different grains ({', '.join(grains)}), and a DAG has one schedule",
            "Select the jobs of one grain for each DAG.",
        )
    if wish.cron is not None and wish.cron != _NEVER:
        try:
            check_cron(wish.cron)
        except ValueError as error:
            raise UsageError(f"--schedule: {error}") from None
    schedules = [job.schedule for job in jobs if job.schedule is not None]
    crons = {one.cron for one in schedules} if wish.cron is None else {wish.cron}
    zones = {one.timezone for one in schedules}
    standings = {one.partition for one in schedules} if wish.partition is None else {wish.partition}
    if max(len(crons), len(zones), len(standings)) > 1:
        told = "; ".join(f"{job.name}: {_told(job)}" for job in jobs if job.schedule is not None)
        raise UsageError(
            f"the jobs have different schedules, and a DAG has one ({told})",
            "Give them one schedule in their specs, or select the jobs of one schedule for each DAG.",
        )
    pauses = [one.paused_until for one in schedules if one.paused_until]
    since = wish.since or max(pauses, default=None)
    cron = next(iter(crons), _USUAL[grains[0]])
    return _Timetable(
        cron=None if cron == _NEVER else cron,
        timezone=next(iter(zones), "UTC"),
        partition=next(iter(standings), "ended"),
        start=dt.datetime.fromisoformat(since).date() if since else _LONG_AGO,
    )


def _told(job: JobSpec) -> str:
    assert job.schedule is not None
    return f"{job.schedule.cron} {job.schedule.timezone} {job.schedule.partition}"


def _head(nodes: Sequence[Node], wish: Wish, times: _Timetable, *, uses_timedelta: bool) -> str:
    grain = nodes[0].job.grain
    defaults = [f'"partition": "{times.partition}"', *([f'"grain": "{grain}"'] if grain != "day" else [])]
    if any(node.job.run.retries for node in nodes):
        defaults.append('"retry_delay": timedelta(seconds=10)')
        uses_timedelta = True
    start = times.start
    return "\n".join(
        [
            f'"""Written by `{wish.command}`, which writes it again as long as nobody changes it."""',
            "",
            *(["from datetime import timedelta", ""] if uses_timedelta else []),
            "import pendulum",
            "from airflow.sdk import DAG",
            "",
            "from dsflow.airflow import PARAMS, DsflowJob",
            "",
            "with DAG(",
            f"    {_text(wish.name)},",
            f"    schedule={_text(times.cron) if times.cron else None},",
            f"    start_date=pendulum.datetime({start.year}, {start.month}, {start.day}, tz={_text(times.timezone)}),",
            f"    catchup={wish.since is not None},",
            "    max_active_runs=1,  # one date after the other, as jobs that read other dates need it",
            f"    default_args={{{', '.join(defaults)}}},",
            "    params=PARAMS,",
            '    tags=["dsflow"],',
            "):",
            "",
        ]
    )


def _call(node: Node) -> str:
    run = node.job.run
    arguments = [f"job={_text(node.job.name)}"]
    if run.retries:
        arguments.append(f"retries={run.retries}")
    if run.timeout:
        minutes = -(-int(seconds(run.timeout)) // 60) + _GRACE_MINUTES
        arguments.append(f"execution_timeout=timedelta(minutes={minutes})")
    return f"DsflowJob({', '.join(arguments)})"


def _variables(jobs: Iterable[str]) -> dict[str, str]:
    """Give a name in Python for each job."""
    found: dict[str, str] = {}
    taken = {"DAG", "PARAMS", "DsflowJob", "pendulum", "timedelta"}
    for job in jobs:
        name = re.sub(r"\W", "_", job, flags=re.ASCII)
        name = f"job_{name}" if keyword.iskeyword(name) or name[0].isdigit() else name
        while name in taken:
            name += "_"
        taken.add(name)
        found[job] = name
    return found


def _tie(job: str, pipeline: Pipeline, names: dict[str, str]) -> str:
    """Give the line that puts a job behind those that it reads from, as far as they are in the DAG."""
    parents = [names[parent] for parent in _nearest(job, pipeline, names)]
    if not parents:
        return ""
    line = f"{parents[0] if len(parents) == 1 else '[' + ', '.join(parents) + ']'} >> {names[job]}"
    if len(line) + 4 <= _WIDEST:
        return line
    return "[\n" + "".join(f"        {parent},\n" for parent in parents) + f"    ] >> {names[job]}"


def _nearest(job: str, pipeline: Pipeline, names: dict[str, str]) -> list[str]:
    """Give the parents of a job in the DAG without those that come before another one of them anyway."""
    parents = [parent for parent in pipeline.parents(job) if parent in names]
    above: set[str] = set()
    for parent in parents:
        edge = [parent]
        while edge:
            edge = [name for each in edge for name in pipeline.parents(each) if name in names and name not in above]
            above.update(edge)
    return [parent for parent in parents if parent not in above]


def _text(value: str) -> str:
    """Give a text as Python writes it, in double quotes."""
    return json.dumps(value, ensure_ascii=False)
