"""What ten expectations cost, as a share of the publish they guard: `python benchmarks/expectations.py [--check]`.

One job writes a table of ten columns, another the same table with ten expectations on it, in turns, so that a busy
machine slows both; every run is a whole `dsflow run` of a SQL job on DuckDB. The median of the runs with expectations
is compared with the median of those without, as time on the clock and as time of the processor. With `--check` the
exit code is 1 when the share misses its bar.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

DSFLOW = [sys.executable, "-m", "dsflow"]
DS = "2026-11-20"
BAR = 0.25
# Measurements of weather stations: counters, moments, words that repeat, words that do not, numbers, gaps.
QUERY = """\
SELECT
    range AS id,
    TIMESTAMP '2026-11-20' + to_microseconds(range * 8640) AS seen,
    'station-' || (range % 2000) AS station,
    ['Paris', 'Orly', 'Lyon', 'Nantes', 'Lille'][(hash(range) % 5)::INTEGER + 1] AS city,
    (hash(range, 1) % 400) / 10 AS rain,
    (hash(range, 2) % 500) / 10 - 10 AS temperature,
    (hash(range, 3) % 101)::INTEGER AS humidity,
    (hash(range, 4) % 100000)::DECIMAL(18, 2) / 100 AS price,
    CASE WHEN range % 10 = 0 THEN NULL ELSE md5(range::VARCHAR) END AS note,
    range % 3 = 0 AS manual
FROM range(ROWS)
"""
EXPECTATIONS = """\
expectations:
  - {name: rain is not negative, constraint: rain >= 0}
  - {name: temperature is one of this planet, constraint: "temperature BETWEEN -90 AND 60"}
  - {name: humidity is a percentage, constraint: "humidity BETWEEN 0 AND 100"}
  - {name: the moment is of the day, constraint: "CAST(seen AS DATE) = DATE '{{ ds }}'"}
  - {name: a note is a hash, constraint: "note IS NULL OR length(note) = 32", action: allow}
  - {name: nobody pays for rain, constraint: "price >= 0 OR manual", action: drop}
  - {name: a station has a number, constraint: "station LIKE 'station-%'"}
  - {not_null: [id, seen, station]}
  - {accepted_values: {column: city, values: [Paris, Orly, Lyon, Nantes, Lille]}}
  - {row_count: {min: 1}}
"""
UNIQUE = "  - {unique: [id]}\n"


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds on the clock, and of the processor."""

    clock: float
    processor: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", type=int, default=5, help="runs of each kind (default 5)")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the table (default 10 million)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, n = {given.n}")
    print(f"Python {platform.python_version()}, dsflow {version('dsflow')}, duckdb {version('duckdb')}\n")
    root = Path(tempfile.mkdtemp(prefix="dsflow-expectations-"))
    try:
        return report(measure(root, given.n, given.rows), given.rows, given.check)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def measure(root: Path, n: int, rows: int) -> dict[str, list[Cost]]:
    """Run the three jobs in turns, after once each that does not count."""
    write(root, "alone", "", rows)
    write(root, "ten", EXPECTATIONS, rows)
    write(root, "unique", EXPECTATIONS.replace("  - {row_count: {min: 1}}\n", UNIQUE), rows)
    costs: dict[str, list[Cost]] = {job: [] for job in ("alone", "ten", "unique")}
    for job in costs:
        run(root, job)
    for _ in range(n):
        for job, found in costs.items():
            found.append(run(root, job))
    return costs


def write(root: Path, job: str, expectations: str, rows: int) -> None:
    folder = root / "jobs" / job
    folder.mkdir(parents=True)
    (root / "datastore").mkdir(exist_ok=True)
    (root / "dsflow.yml").write_text("version: 1\n", "utf-8")
    spec = f"version: 1\nkind: sql\noutput: {{table: {job}}}\n{expectations}"
    (folder / "job_specs.yaml").write_text(spec, "utf-8")
    (folder / "query.sql").write_text(QUERY.replace("ROWS", str(rows)), "utf-8")


def run(root: Path, job: str) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [*DSFLOW, "-C", str(root), "--json", "run", job, DS, "--runtime", "process"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(clock=json.loads(done.stdout)["runs"][0]["outcome"]["seconds"], processor=processor)


def report(costs: dict[str, list[Cost]], rows: int, check: bool) -> int:
    alone = costs["alone"]
    print(f"{rows:,} rows, ten columns: {median(alone, 'clock'):.2f} s without expectations\n")
    share = 0.0
    for job, what in (("ten", "ten expectations"), ("unique", "ten, one of them `unique: [id]`")):
        clock = median(costs[job], "clock") / median(alone, "clock") - 1
        processor = median(costs[job], "processor") / median(alone, "processor") - 1
        share = clock if job == "ten" else share
        bar = f"bar {BAR:.0%}: {'PASS' if clock <= BAR else 'FAIL'}" if job == "ten" else "no bar"
        print(f"{what:<34} {clock:+7.1%} on the clock, {processor:+7.1%} of the processor   {bar}")
    return int(check and share > BAR)


def median(costs: Sequence[Cost], what: str) -> float:
    return statistics.median(getattr(cost, what) for cost in costs)


if __name__ == "__main__":
    sys.exit(main())
