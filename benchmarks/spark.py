"""What Spark jobs cost, as ratios measured side by side: `python benchmarks/spark.py [--only PART] [-n 3] [--check]`.

small    ten small jobs on the warm server of a workspace against the same program as ten times `python job.py`, which
         starts Spark in its own process each time
nested   nested JSON to Parquet: whole commands of dsflow, on DuckDB and on the warm server, against bare scripts that
         do the same with DuckDB and with pyspark
sizes    the same for several numbers of rows
workers  tasks of that job, so many at once, on both engines

Sides take turns, so that a busy machine slows all, and their rows are compared. The medians of the rounds count. With
`--check` the exit code is 1 when a bar is missed. `--picture FILE` draws sizes and workers.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

PARTS = ("small", "nested", "sizes", "workers")
SMALL_BAR = 5.0
DUCKDB_BAR, DUCKDB_FIXED = 1.2, 0.3
SPARK_BAR = 1.0
# So much may be the machine's own unrest.
AT_ONCE_BAR = 1.0
SMALL_ROWS = 1000
COUNTRIES = ("fr", "ch", "it", "de", "at", "es", "pt")
DSFLOW = [sys.executable, "-m", "dsflow"]
# The small program, whoever runs it: a folder to read, a folder to write.
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
engine: {engine}
inputs: {{events: {{raw: {raw}, format: json}}}}
output: {{table: {name}}}
"""
# A row of the large job, about 220 bytes of JSON: structs in structs, and a list of structs.
EVENTS = """
SELECT
    range AS id,
    strftime(TIMESTAMP '2026-11-20' + to_milliseconds(range % 86400000), '%Y-%m-%dT%H:%M:%S') AS moment,
    {'name': 'buyer ' || (range % 5000), 'country': ['fr', 'ch', 'it', 'de'][range % 4 + 1],
     'device': {'os': ['linux', 'macos', 'other'][range % 3 + 1], 'version': (range % 17)::VARCHAR}} AS buyer,
    [{'sku': 'sku-' || (range % 900), 'price': (range % 10000) / 100, 'count': range % 5 + 1},
     {'sku': 'sku-' || (range % 700), 'price': (range % 9000) / 100, 'count': range % 3 + 1}] AS items,
    {'amount': (range % 100000) / 100, 'currency': 'EUR'} AS payment
FROM range({first}, {last})
"""
NESTED = """
SELECT
    id, CAST(moment AS TIMESTAMP) AS moment, buyer.name AS buyer, buyer.country AS country, buyer.device.os AS os,
    payment.amount AS amount, items
FROM events WHERE payment.amount >= 1
"""
SAME = """
SELECT
    count(*), sum(id), sum(round(amount * 100)::BIGINT), (min(moment)::VARCHAR)[:19], count(DISTINCT buyer),
    sum(len(items))
FROM read_parquet('{}')
"""
BY_DUCKDB = f"""
import sys
import duckdb

duckdb.sql(f"CREATE VIEW events AS SELECT * FROM read_json('{{sys.argv[1]}}/*.json')")
duckdb.sql('''{NESTED}''').write_parquet(sys.argv[2] + "/part.parquet", compression="zstd")
"""
BY_SPARK = f"""
import sys
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
spark.read.json(sys.argv[1]).createOrReplaceTempView("events")
spark.sql('''{NESTED}''').write.mode("append").option("compression", "zstd").parquet(sys.argv[2])
spark.stop()
"""
LARGEST_FILE = 1_000_000
ENGINES = ("duckdb", "spark")
# A bare session of Spark takes the clock of the machine. Everybody's modules are compiled once, as on a machine where
# nobody asked for anything else.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {"TZ": "UTC"}
LABELS = {
    "duckdb bare": "a bare DuckDB script",
    "duckdb dsflow": "dsflow on DuckDB",
    "spark bare": "a bare PySpark script",
    "spark dsflow": "dsflow on warm Spark",
}


@dataclass(frozen=True)
class Cost:
    """Time of a whole command: on the clock, and of the processor, with that of the warm server."""

    seconds: float
    processor: float


def dates(count: int) -> list[str]:
    first = dt.date(2026, 11, 1)
    return [(first + dt.timedelta(days=day)).isoformat() for day in range(count)]


def run(command: Sequence[str], root: Path) -> Cost:
    started, before = time.perf_counter(), processor_seconds(root)
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return Cost(time.perf_counter() - started, processor_seconds(root) - before)


def processor_seconds(root: Path) -> float:
    """Give the time of the processor that commands took so far, and the warm server."""
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        server = json.loads((root / "datastore/.dsflow/spark/process/state.json").read_text())
        process = psutil.Process(server["pid"]).cpu_times()
    except (OSError, psutil.Error):
        return own.ru_utime + own.ru_stime
    return own.ru_utime + own.ru_stime + process.user + process.system + process.children_user + process.children_system


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.processor for c in costs))


def prepare(root: Path) -> None:
    """Make a workspace with the jobs; data comes when it is needed."""
    files = {
        "dsflow.yml": "version: 1\nruntime: process\nspark: {memory: 2g}\n",
        "jobs/program/job_specs.yaml": SPEC.format(kind="script", engine="spark", raw="small", name="program"),
        "jobs/program/job.py": PROGRAM,
        "jobs/query/job_specs.yaml": SPEC.format(kind="sql", engine="spark", raw="small", name="query"),
        "jobs/query/query.sql": QUERY,
        "bare/by_duckdb.py": BY_DUCKDB,
        "bare/by_spark.py": BY_SPARK,
    }
    for engine in ENGINES:
        name = f"nested_{engine}"
        files[f"jobs/{name}/job_specs.yaml"] = SPEC.format(kind="sql", engine=engine, raw="nested", name=name)
        files[f"jobs/{name}/query.sql"] = NESTED
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def small_events(root: Path, count: int) -> None:
    for ds in dates(count):
        events = ({"id": i, "amount": i % 97, "user": {"country": COUNTRIES[i % 7]}} for i in range(SMALL_ROWS))
        path = root / f"datastore/raw/small/ds={ds}/events.json"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")


def nested_events(root: Path, ds: str, rows: int) -> None:
    """Make a partition of the nested events, in place of what is there."""
    import duckdb

    folder = root / f"datastore/raw/nested/ds={ds}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, rows, LARGEST_FILE)):
        query = EVENTS.replace("{first}", str(first)).replace("{last}", str(min(rows, first + LARGEST_FILE)))
        duckdb.execute(f"COPY ({query}) TO '{folder}/{number}.json' (FORMAT json)")


# ---- ten small jobs


def cold(root: Path, count: int) -> float:
    """Run the program once a date, each time with a session of its own."""
    shutil.rmtree(root / "cold", ignore_errors=True)
    program = [sys.executable, "jobs/program/job.py"]
    return sum(run([*program, f"datastore/raw/small/ds={ds}", f"cold/ds={ds}"], root).seconds for ds in dates(count))


def backfill(root: Path, job: str, count: int, at_once: int) -> Cost:
    """Run a job for all dates through dsflow, with nothing there."""
    for folder in ("tables", f"job_runs/{job}", f".dsflow/manifests/tables/{job}", ".dsflow/index"):
        shutil.rmtree(root / "datastore" / folder, ignore_errors=True)
    every = dates(count)
    return run([*DSFLOW, "backfill", job, f"{every[0]}..{every[-1]}", "-y", "-j", str(at_once)], root)


def rows_in(folder: Path) -> list[tuple[object, ...]]:
    import duckdb

    query = f"SELECT * FROM read_parquet('{folder}/ds=*/*.parquet', hive_partitioning = true) ORDER BY ALL"
    return duckdb.execute(query).fetchall()


def small(root: Path, given: argparse.Namespace) -> list[str]:
    """Measure ten small jobs, and give the bars that are missed."""
    count = given.dates
    small_events(root, count)
    sides: dict[str, Callable[[], float]] = {
        "python job.py, a session each": lambda: cold(root, count),
        "dsflow backfill of the program": lambda: backfill(root, "program", count, 1).seconds,
        "dsflow backfill of the query": lambda: backfill(root, "query", count, 1).seconds,
        "dsflow run of the query, a command each": lambda: sum(
            run([*DSFLOW, "run", "query", ds], root).seconds for ds in dates(count)
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(given.n):
        for name, side in sides.items():
            seconds[name].append(side())
        assert rows_in(root / "cold") == rows_in(root / "datastore/tables/query"), "not the same rows"
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    whole = next(iter(medians.values()))
    for name, found in medians.items():
        print(f"{name:42} {found / count:6.2f} s per date   {whole / found:5.1f} times as fast")
    best = whole / medians["dsflow backfill of the program"]
    print(f"the same program on the warm server: {best:.1f} times as fast (at least {SMALL_BAR:g} wanted)\n")
    return ["small"] if best < SMALL_BAR else []


# ---- nested JSON to Parquet


def bare(root: Path, engine: str, ds: str) -> Cost:
    target = root / "bare" / engine
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    source = f"datastore/raw/nested/ds={ds}"
    return run([sys.executable, f"bare/by_{engine}.py", source, str(target)], root)


def by_dsflow(root: Path, engine: str, ds: str) -> Cost:
    return run([*DSFLOW, "run", f"nested_{engine}", ds], root)


def measure(root: Path, rows: int, rounds: int) -> dict[str, Cost]:
    """Give the cost of each side for so many rows."""
    import duckdb

    [ds] = dates(1)
    nested_events(root, ds, rows)
    costs: dict[str, list[Cost]] = {name: [] for name in LABELS}
    # What is read for the first time comes from the disk, and modules are compiled, for whoever comes first.
    run(["cat", *map(str, (root / f"datastore/raw/nested/ds={ds}").iterdir())], root)
    for engine in ENGINES:
        by_dsflow(root, engine, ds)
    for _ in range(rounds):
        for engine in ENGINES:
            costs[f"{engine} bare"].append(bare(root, engine, ds))
            costs[f"{engine} dsflow"].append(by_dsflow(root, engine, ds))
    folders = [root / "bare" / engine for engine in ENGINES]
    folders += [root / f"datastore/tables/nested_{engine}/ds={ds}" for engine in ENGINES]
    found = [duckdb.execute(SAME.format(folder / "*.parquet")).fetchall() for folder in folders]
    assert all(one == found[0] for one in found), f"not the same rows: {found}"
    return {name: median(each) for name, each in costs.items()}


def missed_by(costs: Mapping[str, Cost]) -> list[str]:
    """Say how dsflow compares with bare scripts, and give the bars that are missed."""
    theirs, ours = costs["duckdb bare"].seconds, costs["duckdb dsflow"].seconds
    most = DUCKDB_BAR * theirs + DUCKDB_FIXED
    print(f"  on DuckDB {ours:.2f} s; at most {DUCKDB_BAR} x {theirs:.2f} s + {DUCKDB_FIXED} s = {most:.2f} s")
    ratio = costs["spark dsflow"].seconds / costs["spark bare"].seconds
    print(f"  on warm Spark {ratio:.2f} times the bare script (at most {SPARK_BAR:g})\n")
    return (["nested on DuckDB"] if ours > most else []) + (["nested on Spark"] if ratio > SPARK_BAR else [])


def show(rows: int, costs: Mapping[str, Cost]) -> None:
    print(f"nested JSON to Parquet, {rows:,} rows")
    for name, cost in costs.items():
        # The Java of a bare session is nobody's child.
        own = f"   {cost.processor:7.2f} s of processor time" if name != "spark bare" else ""
        print(f"  {LABELS[name]:24} {cost.seconds:7.2f} s{own}")


def nested(root: Path, given: argparse.Namespace) -> list[str]:
    costs = measure(root, given.rows, given.n)
    show(given.rows, costs)
    return missed_by(costs)


def sizes(root: Path, given: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Give the curve of each side: rows, and seconds for them."""
    curves: dict[str, list[tuple[float, float]]] = {label: [] for label in LABELS.values()}
    for rows in given.sizes:
        # Ten million rows are for patient people.
        costs = measure(root, rows, given.n if rows <= LARGEST_FILE else 1)
        show(rows, costs)
        for name, cost in costs.items():
            curves[LABELS[name]].append((rows, cost.seconds))
    return curves


# ---- tasks at once


def workers(root: Path, given: argparse.Namespace) -> tuple[dict[str, list[tuple[float, float]]], list[str]]:
    """Give the seconds per task by how many run at once, and the bars that are missed."""
    for ds in dates(given.tasks):
        nested_events(root, ds, given.task_rows)
    found: dict[tuple[str, int], list[Cost]] = {}
    for engine in ENGINES:
        # Java makes its code faster while it runs.
        backfill(root, f"nested_{engine}", given.tasks, max(given.workers))
    for _ in range(given.n):
        for at_once in given.workers:
            for engine in ENGINES:
                found.setdefault((engine, at_once), []).append(backfill(root, f"nested_{engine}", given.tasks, at_once))
    print(f"{given.tasks} tasks of {given.task_rows:,} rows, seconds per task")
    curves: dict[str, list[tuple[float, float]]] = {LABELS[f"{engine} dsflow"]: [] for engine in ENGINES}
    for (engine, at_once), each in found.items():
        cost, label = median(each), LABELS[f"{engine} dsflow"]
        curves[label].append((at_once, cost.seconds / given.tasks))
        processor = cost.processor / given.tasks
        print(f"  {label:24} {at_once:2} at once {curves[label][-1][1]:6.2f} s   {processor:.2f} s of processor time")
    points = dict(curves[LABELS["spark dsflow"]])
    one, most = points[min(points)], points[max(points)]
    print(f"  {max(points):g} at once cost {most / one:.2f} times as much per task (at most {AT_ONCE_BAR:g})\n")
    return curves, ["tasks at once"] if most > AT_ONCE_BAR * one else []


# ---- the picture

COLOURS = ("#9bb8dd", "#1f6feb", "#e0b48c", "#d4691e")


def picture(panels: Sequence[tuple[str, str, Mapping[str, list[tuple[float, float]]]]]) -> str:
    """Draw panels beside each other, both axes by powers; a line for each curve."""
    drawn = "".join(panel(420 * number, *each) for number, each in enumerate(panels))
    size = f"0 0 {420 * len(panels)} {330 + 15 * max(len(curves) for *_, curves in panels)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{drawn}</svg>\n'
    )


def panel(left: int, title: str, across: str, curves: Mapping[str, list[tuple[float, float]]]) -> str:
    xs = sorted({x for points in curves.values() for x, _ in points})
    ys = [y for points in curves.values() for _, y in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x / xs[0]) / math.log10(xs[-1] / xs[0])) if len(xs) > 1 else 0.5
        return left + 60 + 320 * right, 270 - 220 * (math.log10(y) - low) / (high - low)

    lines, words = [], [f'<text x="{left + 60}" y="20" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        _, y = place(xs[0], 10.0**power)
        lines.append(f'<line x1="{left + 60}" y1="{y:.1f}" x2="{left + 380}" y2="{y:.1f}" stroke="#dddddd"/>')
        words.append(f'<text x="{left + 54}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    words += [f'<text x="{place(x, 1)[0]:.1f}" y="288" text-anchor="middle">{x:,.0f}</text>' for x in xs]
    words.append(f'<text x="{left + 220}" y="308" text-anchor="middle">{across}</text>')
    for number, (colour, (label, points)) in enumerate(zip(colours(curves), curves.items(), strict=True)):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        words.append(f'<text x="{left + 60}" y="{332 + 15 * number}" fill="{colour}">{label}</text>')
    return f"<g>{''.join(lines)}</g>\n<g>{''.join(words)}</g>\n"


def colours(curves: Mapping[str, object]) -> list[str]:
    known = dict(zip(LABELS.values(), COLOURS, strict=True))
    return [known[label] for label in curves]


def numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="one of the parts; may be repeated")
    parser.add_argument("-n", type=int, default=3, help="rounds; the medians count")
    parser.add_argument("--dates", type=int, default=10, help="small: how many jobs")
    parser.add_argument("--rows", type=int, default=1_000_000, help="nested: how many rows")
    parser.add_argument(
        "--sizes", type=numbers, default=[100_000, 1_000_000, 10_000_000], help="sizes: rows, by commas"
    )
    parser.add_argument("--tasks", type=int, default=16, help="workers: how many tasks")
    parser.add_argument("--task-rows", type=int, default=50_000, help="workers: rows of each")
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4, 8], help="workers: how many at once, by commas")
    parser.add_argument("--picture", type=Path, help="write the curves of sizes and workers into this SVG file")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    parts = given.only or PARTS
    load = os.getloadavg()[0]
    print(f"pyspark {version('pyspark')}, duckdb {version('duckdb')}, Python {platform.python_version()}, ", end="")
    print(f"{os.cpu_count()} cores, load {load:.1f} at the start, medians of {given.n}")
    missed: list[str] = []
    panels: list[tuple[str, str, Mapping[str, list[tuple[float, float]]]]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        try:
            first = run([*DSFLOW, "start-spark"], root).seconds
            print(f"the server starts in {first:.1f} s, once\n")
            if "small" in parts:
                missed += small(root, given)
            if "nested" in parts:
                missed += nested(root, given)
            if "sizes" in parts:
                panels.append(("Nested JSON to Parquet", "rows", sizes(root, given)))
            if "workers" in parts:
                curves, more = workers(root, given)
                missed += more
                panels.append(("Seconds per task", "tasks at once", curves))
        finally:
            run([*DSFLOW, "start-spark", "--stop"], root)
    if given.picture and panels:
        given.picture.write_text(picture(panels), encoding="utf-8")
    print(f"missed: {', '.join(missed)}" if missed else "no bar is missed")
    return 1 if given.check and missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
