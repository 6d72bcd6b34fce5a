"""What it costs to know many tables: `python benchmarks/tables.py [--tables 200] [--partitions 1000] [-n 3]`.

It publishes tables of one small file per partition, with manifests, and measures with Spark, in processes of their own:
`load_tables()`, which makes every table known to queries, then the first query of one table, all of its partitions. The
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
LOOK = """
import contextlib, io, json, time
from dsflow import job
job.spark.sql("SELECT 1").collect()
clock = [time.perf_counter()]
with contextlib.redirect_stdout(io.StringIO()):
    tables = job.load_tables()
clock.append(time.perf_counter())
[found] = job.spark.sql("SELECT count(*) AS rows, count(DISTINCT ds) AS partitions FROM table_7").collect()
clock.append(time.perf_counter())
print(json.dumps([len(tables), found.rows, found.partitions, clock[1] - clock[0], clock[2] - clock[1]]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tables", type=int, default=200, help="how many tables (default 200)")
    parser.add_argument("--partitions", type=int, default=1_000, help="of how many partitions each (default 1000)")
    parser.add_argument("-n", type=int, default=3, help="measurements (default 3)")
    given = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at the start, medians of {given.n}\n")
    root = Path(tempfile.mkdtemp(prefix="dsflow-benchmark-"))
    try:
        make(root, given.tables, given.partitions)
        found = [look(root) for _ in range(given.n + 1)]
        if {tuple(one[:3]) for one in found} != {(given.tables, 10 * given.partitions, given.partitions)}:
            raise SystemExit(f"what was made was not found: {found}")
        # The first time the server and the disk's cache are cold.
        loading, query = (statistics.median(one[part] for one in found[1:]) for part in (3, 4))
        print(f"load_tables() {loading:.2f} s, first query of one table {query:.2f} s")
        print(f"  the first time: {found[0][3]:.2f} s, {found[0][4]:.2f} s")
    finally:
        subprocess.run([sys.executable, "-m", "dsflow", "-C", str(root), "start-spark", "--stop"], check=False)
        shutil.rmtree(root, ignore_errors=True)
    return 0


def make(root: Path, tables: int, count: int) -> None:
    """Publish the tables; the files of all partitions are one file with many names."""
    (root / "dsflow.yml").write_text("version: 1\nruntime: process\nspark: {memory: 1g}\n")
    folder = root / "jobs" / "look"
    folder.mkdir(parents=True)
    (folder / "job_specs.yaml").write_text("version: 1\nkind: script\nengine: spark\noutput: {table: made}\n")
    (folder / "main.py").write_text("")
    layout, file = Layout(root / "datastore"), root / "file" / "run-part-0.parquet"
    file.parent.mkdir()
    engine = open_engine(threads=1)
    engine.write(engine.sql("SELECT range AS n, 'x' AS s FROM range(10)"), file, "")
    columns = engine.inspect([file]).columns
    engine.close()
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


def look(root: Path) -> list[float]:
    """Give how many tables there are, how many rows and partitions one has, and the seconds for both."""
    folder = root / "jobs" / "look"
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
