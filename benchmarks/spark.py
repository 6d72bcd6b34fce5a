"""What Spark jobs cost, as ratios measured side by side: `python benchmarks/spark.py [-n 3] [--dates 10] [--check]`.

Ten small jobs on the warm server of a workspace, started there by the first of them, against the same program as ten
times `python job.py`, which starts Spark in its own process each time. All sides read and write the same rows, which is
checked. They take turns, so that a busy machine slows both; with `--check` the exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

BAR = 5.0
ROWS = 1000
COUNTRIES = ("fr", "ch", "it", "de", "at", "es", "pt")
# The program, whoever runs it: a folder to read, a folder to write.
PROGRAM = """
import sys
from pyspark.sql import SparkSession, functions as f

spark = SparkSession.builder.getOrCreate()
events = spark.read.json(sys.argv[1])
by_country = events.groupBy("user.country").agg(f.count("*").alias("n"), f.sum("amount").alias("amount"))
by_country.coalesce(1).write.mode("append").parquet(sys.argv[2])
spark.stop()
"""
QUERY = "SELECT user.country, count(*) AS n, sum(amount) AS amount FROM events GROUP BY user.country"
SPEC = """\
version: 1
kind: {kind}
engine: spark
inputs: {{events: {{raw: events, format: json}}}}
output: {{table: {name}}}
"""


def dates(count: int) -> list[str]:
    first = dt.date(2026, 11, 1)
    return [(first + dt.timedelta(days=day)).isoformat() for day in range(count)]


def prepare(root: Path, count: int) -> None:
    """Make a workspace with a few events a day, and the same job as a program and as a query."""
    files = {
        "dsflow.yml": "version: 1\nruntime: process\nspark: {memory: 2g}\n",
        "jobs/program/job_specs.yaml": SPEC.format(kind="script", name="program"),
        "jobs/program/job.py": PROGRAM,
        "jobs/query/job_specs.yaml": SPEC.format(kind="sql", name="query"),
        "jobs/query/query.sql": QUERY,
    }
    for ds in dates(count):
        events = ({"id": i, "amount": i % 97, "user": {"country": COUNTRIES[i % 7]}} for i in range(ROWS))
        files[f"datastore/raw/events/ds={ds}/events.json"] = "".join(f"{json.dumps(event)}\n" for event in events)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def run(command: list[str], root: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def cold(root: Path, count: int) -> float:
    """Run the program once a date, each time with a session of its own."""
    shutil.rmtree(root / "cold", ignore_errors=True)
    return sum(
        run(
            [sys.executable, "jobs/program/job.py", f"datastore/raw/events/ds={ds}", f"cold/ds={ds}"],
            root,
        )
        for ds in dates(count)
    )


def warm(job: str) -> Callable[[Path, int], float]:
    """Give what runs a job for all dates through dsflow, one after the other."""

    def measured(root: Path, count: int) -> float:
        for folder in ("tables", f"job_runs/{job}", f".dsflow/manifests/tables/{job}", ".dsflow/index"):
            shutil.rmtree(root / "datastore" / folder, ignore_errors=True)
        every = dates(count)
        command = [sys.executable, "-m", "dsflow", "backfill", job, f"{every[0]}..{every[-1]}", "-y", "-j", "1"]
        return run(command, root)

    return measured


def one_by_one(root: Path, count: int) -> float:
    """Run the query once a date, each time with a command of its own."""
    return sum(run([sys.executable, "-m", "dsflow", "run", "query", ds], root) for ds in dates(count))


def rows(folder: Path) -> list[tuple[object, ...]]:
    import duckdb

    query = f"SELECT * FROM read_parquet('{folder}/ds=*/*.parquet', hive_partitioning = true) ORDER BY ALL"
    return duckdb.execute(query).fetchall()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3, help="rounds; the medians count")
    parser.add_argument("--dates", type=int, default=10)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    sides: dict[str, Callable[[Path, int], float]] = {
        "python job.py, a session each": cold,
        "dsflow backfill of the program": warm("program"),
        "dsflow backfill of the query": warm("query"),
        "dsflow run of the query, a command each": one_by_one,
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, given.dates)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        try:
            first = run([sys.executable, "-m", "dsflow", "start-spark"], root)
            for _ in range(given.n):
                for name, side in sides.items():
                    seconds[name].append(side(root, given.dates))
                assert rows(root / "cold") == rows(root / "datastore/tables/query"), "not the same rows"
        finally:
            run([sys.executable, "-m", "dsflow", "start-spark", "--stop"], root)
    return report({name: statistics.median(times) for name, times in seconds.items()}, given.dates, first, given.check)


def report(medians: dict[str, float], count: int, first: float, check: bool) -> int:
    load = os.getloadavg()[0]
    print(f"pyspark {version('pyspark')}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}")
    print(f"the server starts in {first:.1f} s, once")
    whole = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:42} {median / count:6.2f} s per date   {whole / median:5.1f} times as fast")
    best = whole / medians["dsflow backfill of the program"]
    print(f"the same program on the warm server: {best:.1f} times as fast (at least {BAR:g} wanted)")
    return 1 if check and best < BAR else 0


if __name__ == "__main__":
    raise SystemExit(main())
