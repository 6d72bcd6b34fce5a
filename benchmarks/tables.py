"""What it costs to know many tables: `python benchmarks/tables.py [--tables 200] [--partitions 1000] [-n 3]`.

It publishes tables of one small file per partition, with manifests, and measures in processes of their own, for each
engine: `load_tables()`, which makes every table known to queries, and then the first query of one table. The Spark
server is warm. Making the 200,000 partitions takes a minute and 2 GB of disk, which are given back.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from dsflow import partitions
from dsflow.engines.duckdb import open_engine
from dsflow.model import Manifest, to_json
from dsflow.store.contents import content_hash, describe
from dsflow.store.layout import Layout

FIRST = "2020-01-01"
ENGINES = ("spark", "duckdb")
LOOK = """
import contextlib, io, json, time
from dsflow import job
getattr(job, "spark", None) if {engine!r} == "spark" else job.sql("SELECT 1")
clock = [time.perf_counter()]
with contextlib.redirect_stdout(io.StringIO()):
    tables = job.load_tables()
clock.append(time.perf_counter())
query = "SELECT count(*), sum(n) FROM table_7"
found = job.spark.sql(query).collect() if {engine!r} == "spark" else job.sql(query).fetchall()
clock.append(time.perf_counter())
print(json.dumps([len(tables), int(found[0][0]), clock[1] - clock[0], clock[2] - clock[1]]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tables", type=int, default=200, help="how many tables (default 200)")
    parser.add_argument("--partitions", type=int, default=1_000, help="of how many partitions each (default 1000)")
    parser.add_argument("-n", type=int, default=3, help="measurements of each engine (default 3)")
    given = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at the start, medians of {given.n}\n")
    root = Path(tempfile.mkdtemp(prefix="dsflow-benchmark-"))
    try:
        make(root, given.tables, given.partitions)
        for engine in ENGINES:
            found = [look(root, engine) for _ in range(given.n + 1)]
            if {tuple(one[:2]) for one in found} != {(given.tables, 10 * given.partitions)}:
                raise SystemExit(f"{engine} did not find what was made: {found}")
            # The first time Spark's server and the disk's cache are cold.
            loading, query = (statistics.median(one[part] for one in found[1:]) for part in (2, 3))
            print(f"{engine}: load_tables() {loading:.2f} s, first query of one table {query:.2f} s")
            print(f"  the first time: {found[0][2]:.2f} s, {found[0][3]:.2f} s")
    finally:
        subprocess.run([sys.executable, "-m", "dsflow", "-C", str(root), "start-spark", "--stop"], check=False)
        shutil.rmtree(root, ignore_errors=True)
    return 0


def make(root: Path, tables: int, count: int) -> None:
    """Publish the tables; the files of all partitions are one file with many names."""
    (root / "dsflow.yml").write_text("version: 1\nruntime: process\nspark: {memory: 1g}\n")
    for engine in ENGINES:
        folder = root / "jobs" / f"look-{engine}"
        folder.mkdir(parents=True)
        (folder / "job_specs.yaml").write_text(f"version: 1\nkind: script\nengine: {engine}\noutput: {{table: made}}\n")
        (folder / "main.py").write_text("")
    layout, file = Layout(root / "datastore"), root / "file" / "run-part-0.parquet"
    file.parent.mkdir()
    engine_here = open_engine(threads=1)
    engine_here.write(engine_here.sql("SELECT range AS n, 'x' AS s FROM range(10)"), file, "")
    columns = engine_here.inspect([file]).columns
    engine_here.close()
    files = describe(file.parent)
    wanted = partitions.window(partitions.shift(FIRST, count - 1), count)
    for number in range(tables):
        name = f"table_{number}"
        layout.manifests("table", name).mkdir(parents=True)
        for ds in wanted:
            target = layout.target("table", name, ds)
            target.mkdir(parents=True)
            # A file has only so many names on some file systems.
            os.link(file, target / file.name) if ds != wanted[0] else shutil.copy(file, target / file.name)
            manifest = Manifest(
                run_id="run",
                job="made",
                store="table",
                name=name,
                ds=ds,
                published="2026-11-20T00:00:00+00:00",
                files=files,
                columns=columns,
                hash=content_hash(files),
            )
            layout.manifest("table", name, ds).write_text(to_json(manifest))
        file = layout.target("table", name, wanted[0]) / file.name


def look(root: Path, engine: str) -> list[float]:
    """Give how many tables there are, how many rows one has, and the seconds for both."""
    code = LOOK.format(engine=engine)
    folder = root / "jobs" / f"look-{engine}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
