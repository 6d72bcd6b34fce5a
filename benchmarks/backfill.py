"""What a backfill costs per date, as ratios measured side by side: `python benchmarks/backfill.py [--json FILE]`.

Two jobs, each for many dates. `notebook`: a notebook of one cell, against papermill, Dagster and Kedro doing as much.
`sql`: an aggregate on DuckDB over one day of orders, against the same loop written by hand and against dbt-duckdb and
SQLMesh doing it day by day. Every round measures all of them in turn; the medians of the rounds are compared.

The peers are installed from PyPI into environments of their own (`--environments`); one that cannot be installed is
reported and left out. Three rounds take five minutes on two cores; `-n 1 --dates 20` is a quick look.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import duckdb
from peers import DAGSTER, DBT, FIRST, KEDRO, PAPERMILL, SQLMESH, CannotInstall, Peer, Project, prepare

DSFLOW = [sys.executable, "-m", "dsflow"]
SHOPS = 200
# While a task waits for the disk, another computes.
SQL_WORKERS = 2 * (os.cpu_count() or 1)
CELL = "print('hello', ds)"
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "only",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": f"ds = '{FIRST}'\n{CELL}",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
QUERY = "SELECT shop, count(*) AS orders, sum(amount) AS amount FROM {orders} GROUP BY shop ORDER BY shop"
SQL_SPEC = """\
version: 1
kind: sql
inputs: {orders: {raw: orders, format: parquet}}
output: {table: daily}
expectations: [{name: something was sold, constraint: orders > 0}]
"""
HAND = f"""\
import duckdb, os, sys
connection = duckdb.connect()
for ds in sys.argv[3:]:
    os.makedirs(f"{{sys.argv[2]}}/ds={{ds}}", exist_ok=True)
    query = "{QUERY}".format(orders=f"read_parquet('{{sys.argv[1]}}/ds={{ds}}/*.parquet')")
    connection.execute(f"COPY ({{query}}) TO '{{sys.argv[2]}}/ds={{ds}}/part-0.parquet' (COMPRESSION zstd)")
"""
READ_WAREHOUSE = """\
import duckdb
connection = duckdb.connect("warehouse.duckdb")
print(*connection.sql("SELECT count(*), sum(orders)::BIGINT FROM main.{table}").fetchall()[0])
"""


@dataclass(frozen=True)
class Bar:
    """A promise: `ours` takes at most 1 / `times` of what `theirs` takes per date."""

    ours: str
    theirs: str
    times: float


@dataclass(frozen=True)
class Result:
    """A bar and what was measured, in seconds per date."""

    what: str
    bar: float
    ratio: float
    ours: float
    theirs: float
    verdict: str


Measure = Callable[[], float]
NOTEBOOK_BARS = (Bar("dsflow", "papermill", 15), Bar("dsflow", "dagster", 30), Bar("dsflow", "kedro, the notebook", 30))
SQL_BARS = (
    Bar("dsflow", "by hand", 1 / 3),
    Bar("dsflow", "sqlmesh", 3),
    Bar("dsflow", "dbt, a Parquet file a day", 3),
    Bar("dsflow", "dbt, microbatch", 3),
)


def main() -> int:
    given = arguments()
    measured: dict[str, dict[str, list[float]]] = {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="dsflow-benchmark-") as folder:
        bench = Bench(Path(folder), given.environments, given.dates, given.rows)
        print(bench.machine(), flush=True)
        if given.only != "sql":
            measured["notebook"] = rounds(bench.notebook(given.samples), given.n)
            results += judged(f"{bench.notebook_dates} dates of a notebook", measured["notebook"], NOTEBOOK_BARS)
        if given.only != "notebook":
            measured["sql"] = rounds(bench.sql(given.samples), given.n)
            what = f"{bench.dates} dates of an aggregate over {given.rows:,} rows"
            results += judged(what, measured["sql"], SQL_BARS)
        document = {
            "machine": bench.machine(),
            "versions": bench.versions,
            "left out": bench.left_out,
            "results": [asdict(result) for result in results],
            "seconds per date": measured,
        }
    if given.json:
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if given.check and any(result.verdict == "FAIL" for result in results) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", type=int, default=3, help="rounds (3)")
    parser.add_argument(
        "--dates", type=int, default=365, help="dates of the aggregate; the notebook has 100 at most (365)"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of one day of orders (1,000,000)")
    parser.add_argument("--samples", type=int, default=4, help="commands in a loop of one command per date (4)")
    parser.add_argument("--only", choices=["notebook", "sql"], help="one of the two jobs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dsflow-benchmarks"
    parser.add_argument("--environments", type=Path, default=cache, help=f"where the peers are installed ({cache})")
    return parser.parse_args()


class Bench:
    """The folder everything happens in, and what can be measured there."""

    def __init__(self, root: Path, cache: Path, dates: int, rows: int) -> None:
        self.root = root
        self.cache = cache
        self.dates = dates
        self.notebook_dates = min(dates, 100)
        self.orders = root / "dsflow" / "datastore" / "raw" / "orders"
        self.versions = {"dsflow": version("dsflow"), "duckdb": version("duckdb"), "Python": platform.python_version()}
        self.left_out: dict[str, str] = {}
        self.rows = rows
        self.old = root / "old"
        self.old.mkdir()
        self._rounds = 0
        self._write_workspace()

    def machine(self) -> str:
        """Say what this runs on."""
        return f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"

    def days(self, count: int) -> list[str]:
        """Give the first dates of the year."""
        first = dt.date.fromisoformat(FIRST)
        return [(first + dt.timedelta(number)).isoformat() for number in range(count)]

    def notebook(self, samples: int) -> dict[str, Measure]:
        """Give what measures the notebook, by name; each takes one round and gives seconds per date."""
        (self.root / "one.ipynb").write_text(json.dumps(NOTEBOOK))
        days = self.days(samples)
        materialize = ["asset", "materialize", "-f", "defs.py", "--select", "one", "--partition"]
        loops = {
            "papermill": (PAPERMILL, [["../one.ipynb", f"{ds}.ipynb", "-p", "ds", ds] for ds in days]),
            "dagster": (DAGSTER, [[*materialize, ds] for ds in days[:2]]),
            "kedro, the notebook": (KEDRO, [["run", "--pipeline", "notebook", "--params", f"ds={ds}"] for ds in days]),
            "kedro, prints only": (KEDRO, [["run", "--pipeline", "prints", "--params", f"ds={ds}"] for ds in days]),
        }
        projects = {project.peer: project for project in self._projects([PAPERMILL, DAGSTER, KEDRO])}
        measures: dict[str, Measure] = {"dsflow": self._dsflow_notebook}
        for name, (peer, loop) in loops.items():
            if peer in projects:
                measures[name] = functools.partial(in_loop, projects[peer], loop)
        return measures

    def sql(self, samples: int) -> dict[str, Measure]:
        """Give what measures the aggregate, by name; each takes one round and gives seconds per date."""
        self._write_orders()
        measures: dict[str, Measure] = {"dsflow": self._dsflow_sql, "by hand": self._by_hand}
        end = (dt.date.fromisoformat(FIRST) + dt.timedelta(self.dates)).isoformat()
        for project in self._projects([DBT, SQLMESH]):
            if project.peer is DBT:
                microbatch = ["run", "--select", "microbatch", "--event-time-start", FIRST, "--event-time-end", end]
                measures["dbt, microbatch"] = lambda p=project, c=microbatch: self._warehouse(p, c)  # type: ignore[misc]
                loop = [self._dbt_day(project, ds) for ds in self.days(samples)[:2]]
                measures["dbt, a Parquet file a day"] = lambda p=project, c=loop: in_loop(p, c)  # type: ignore[misc]
            else:
                until = ["--execution-time", f"{end} 00:00:00"]
                plan = ["plan", "--auto-apply", "--no-prompts", "--skip-tests", *until]
                measures["sqlmesh"] = lambda p=project, c=plan: self._warehouse(p, c)  # type: ignore[misc]
        return measures

    def _projects(self, wanted: Sequence[Peer]) -> list[Project]:
        found = []
        for peer in wanted:
            try:
                project = prepare(peer, self.cache, self.root / peer.name, self.orders)
            except CannotInstall as error:
                self.left_out[peer.name] = str(error)
                print(f"LEFT OUT  {peer.name} cannot be installed: {error}", flush=True)
                continue
            self.versions[peer.name] = project.versions
            found.append(project)
        return found

    def _write_workspace(self) -> None:
        root = self.root / "dsflow"
        files = {
            "dsflow.yml": "version: 1\nname: benchmark\nruntime: process\n",
            "jobs/one/job_specs.yaml": "version: 1\nkind: notebook\n",
            "jobs/one/one.ipynb": json.dumps(NOTEBOOK),
            "jobs/daily/job_specs.yaml": SQL_SPEC,
            "jobs/daily/daily.sql": QUERY.format(orders="orders"),
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def _write_orders(self) -> None:
        """Make one day of orders; the other days are the same file under another name."""
        day = self.root / "day.parquet"
        columns = (
            f"(range * 7919) % {SHOPS} AS shop, (range * 31) % 1000 / 10.0 AS amount, 'item-' || range % 5000 AS item"
        )
        duckdb.sql(f"COPY (SELECT {columns} FROM range({self.rows})) TO '{day}'")
        for ds in self.days(self.dates):
            folder = self.orders / f"ds={ds}"
            folder.mkdir(parents=True)
            os.link(day, folder / "orders.parquet")

    def _dsflow_notebook(self) -> float:
        runs = self._backfilled("one", self.notebook_dates, workers=2) / "job_runs" / "one"
        pages = len(list(runs.glob("ds=*/*/index.html")))
        assert pages == self.notebook_dates, f"{pages} pages"
        return self._seconds / self.notebook_dates

    def _dsflow_sql(self) -> float:
        self._same_as_expected(self._backfilled("daily", self.dates, workers=SQL_WORKERS) / "tables" / "daily")
        return self._seconds / self.dates

    def _backfilled(self, job: str, count: int, workers: int) -> Path:
        root = self.root / "dsflow"
        for name in ("tables", "job_runs", ".dsflow"):
            self._put_away(root / "datastore" / name)
        days = self.days(count)
        command = [*DSFLOW, "backfill", job, f"{days[0]}..{days[-1]}", "-y", "-j", str(workers)]
        self._seconds = timed(command, root)
        return root / "datastore"

    def _put_away(self, path: Path) -> None:
        """Move what the round before made out of the way.

        ext4 is slow to make files for some minutes after many were removed, which nobody has done before a backfill.
        """
        if path.exists():
            self._rounds += 1
            path.rename(self.old / f"{path.name}-{self._rounds}")

    def _by_hand(self) -> float:
        self._put_away(self.root / "hand")
        command = [sys.executable, "-c", HAND, str(self.orders), str(self.root / "hand"), *self.days(self.dates)]
        seconds = timed(command, self.root)
        self._same_as_expected(self.root / "hand")
        return seconds / self.dates

    def _dbt_day(self, project: Project, ds: str) -> list[str]:
        sink = project.folder / "out" / f"ds={ds}"
        sink.mkdir(parents=True)
        return ["run", "--select", "parquet", "--vars", json.dumps({"ds": ds, "sink": str(sink)})]

    def _warehouse(self, project: Project, command: Sequence[str]) -> float:
        """Time a command that fills a DuckDB file from nothing, and look whether it did."""
        for path in project.folder.glob("warehouse.duckdb*"):
            path.unlink()
        seconds = timed([project.program, *command], project.folder, project.variables)
        code = READ_WAREHOUSE.format(table="daily" if project.peer is SQLMESH else "microbatch")
        read = [str(project.environment / "bin/python"), "-c", code]
        printed = subprocess.run(read, cwd=project.folder, capture_output=True, text=True, check=True).stdout
        self._check(project.peer.name, tuple(map(int, printed.split())))
        return seconds / self.dates

    def _same_as_expected(self, table: Path) -> None:
        found = duckdb.sql(f"SELECT count(*), sum(orders)::BIGINT FROM '{table}/*/*.parquet'").fetchall()[0]
        self._check(str(table), found)

    def _check(self, who: str, found: tuple[int, ...]) -> None:
        expected = (self.dates * min(SHOPS, self.rows), self.dates * self.rows)
        assert found == expected, f"{who} computed {found}, not {expected}"


def in_loop(project: Project, loop: Sequence[Sequence[str]]) -> float:
    """Give the seconds per date of a loop of one command per date."""
    return sum(timed([project.program, *command], project.folder, project.variables) for command in loop) / len(loop)


def rounds(measures: Mapping[str, Measure], count: int) -> dict[str, list[float]]:
    """Measure everything in turn, so that a busy machine slows all; the first turn of a peer is warmed up before."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(count):
        for name, measure in measures.items():
            found[name].append(measure())
            print(
                f"round {number + 1}  {name:26} {found[name][-1] * 1000:9.1f} ms per date", file=sys.stderr, flush=True
            )
    return found


def judged(what: str, measured: Mapping[str, Sequence[float]], bars: Sequence[Bar]) -> list[Result]:
    """Compare medians with the bars and print a line for each."""
    medians = {name: statistics.median(values) for name, values in measured.items()}
    results = []
    for bar in bars:
        if bar.theirs not in medians:
            continue
        ours, theirs = medians[bar.ours], medians[bar.theirs]
        ratio = theirs / ours
        verdict = "PASS" if ratio >= bar.times else "FAIL"
        if bar.times >= 1:
            text = f"{ratio:6.1f} times faster than {bar.theirs} (at least {bar.times:g})"
        else:
            text = f"{1 / ratio:6.1f} times as long as {bar.theirs} (at most {1 / bar.times:g})"
        print(f"{verdict}  {what}: {text}; {ours * 1000:.1f} ms / {theirs * 1000:.1f} ms per date", flush=True)
        results.append(Result(f"{what} / {bar.theirs}", bar.times, ratio, ours, theirs, verdict))
    return results


def timed(command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> float:
    """Give the seconds a command takes; one that fails ends the benchmark."""
    # Everybody's modules are compiled once, as on a machine where nobody asked for anything else.
    whole = {name: value for name, value in (variables or os.environ).items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=whole, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        shown = " ".join(command)[:300]
        sys.exit(f"{shown}\nfailed with exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
