"""What a sample costs: `python benchmarks/sampling.py [--scale 3] [-n 3] [--postgres URL] [--check]`.

TPC-H, split by date (a year is a partition), is production. A sample of one customer in a hundred with all that its
rows refer to, eight tables, is fetched by `dsflow sample fetch`, start of the interpreter included. Beside it, in
turns, all of it is copied: by DuckDB, which reads and writes every row (what copying the result of a query costs), and
by `cp`, which knows no rows. With `--postgres`, the URL of an empty database, customers, orders and line items are put
there, and are fetched as a sample and whole, by the same command. The estimate is compared with what was fetched.
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
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.test_sample_tpch import SETTINGS
from tests.tpch import fill

DSFLOW = [sys.executable, "-m", "dsflow"]
FASTER = 10
# In the database: three tables, of which one follows another.
TABLES = ("customer", "orders", "lineitem")
IN_POSTGRES = """
version: 1
sources:
  customer: {{url: $PRODUCTION, sample: {customer}, limit: 100gb}}
  orders: {{url: $PRODUCTION, sample: {orders}, limit: 100gb}}
  lineitem: {{url: $PRODUCTION, sample: {lineitem}, limit: 100gb}}
keys:
  customer: [customer.c_custkey, orders.o_custkey]
  order: [orders.o_orderkey, lineitem.l_orderkey]
"""
SAMPLED = {
    "customer": "{key: customer, share: 0.01}",
    "orders": "{key: customer, share: 0.01}",
    "lineitem": "{key: order, of: orders}",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scale", type=float, default=3, help="TPC-H's scale factor (default 3: 1 GB)")
    parser.add_argument("--postgres", help="URL of an empty database, for a tenth of that")
    parser.add_argument("-n", type=int, default=3, help="measurements of each kind (default 3)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at the start, medians of {given.n}\n")
    with tempfile.TemporaryDirectory(prefix="dsflow-benchmark-") as folder:
        root = Path(folder)
        # Modules are compiled once, as they are on the machine of whoever uses them twice.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(root / "compiled")
        kept = of_files(root, given.scale, given.n)
        if given.postgres:
            kept.append(of_postgres(root, given.postgres, given.scale / 10, given.n))
    return 1 if given.check and not all(kept) else 0


def of_files(root: Path, scale: float, n: int) -> list[bool]:
    """Measure files, and compare the estimate with what came."""
    production, laptop = root / "production", root / "laptop"
    fill(production, scale, 12)
    laptop.mkdir()
    (laptop / "dsflow.yml").write_text(SETTINGS)
    told = {one["source"]: one for one in asked(laptop, "estimate")["sources"]}
    fetched = asked(laptop, "fetch")["fetched"]
    sizes = [path.stat().st_size for path in (production / "tables").rglob("*.parquet")]
    rows = {name: sum(one["rows"] for one in fetched if one["source"] == name) for name in told}
    worst = max(abs(one["sample"]["rows"] / rows[name] - 1) for name, one in told.items())
    size = sum(one["bytes"] for one in fetched)
    off = abs(sum(one["sample"]["bytes"] for one in told.values()) / size - 1)
    read = sum(one["bytes_read"] for one in told.values()) / sum(sizes)
    took = in_turns(
        n,
        {
            "sample": lambda: asked(laptop, "fetch", "--force"),
            "every row": lambda: rewrite(production, root / "rewritten"),
            "cp": lambda: copy(production, root / "copied"),
        },
    )
    print(f"files: {sum(sizes) / 1e6:,.0f} MB, the sample {size / 1e6:,.1f} MB")
    kept = [
        bar(worst <= 0.15, f"{100 * worst:.1f} % off at worst: the rows of a table, estimated"),
        bar(off <= 0.15, f"{100 * off:.1f} % off: the bytes of the sample, estimated"),
        bar(read <= 0.01, f"{100 * read:.3f} % of the bytes were read to estimate"),
        faster(took, "every row", "reading and writing every row with DuckDB"),
    ]
    print(f"{'':8}`cp -r` on the same disk takes {took['cp']:.1f} s")
    return kept


def of_postgres(root: Path, url: str, scale: float, n: int) -> bool:
    """Measure a database."""
    os.environ["PRODUCTION"] = url
    into_postgres(root / "small", url, scale)
    sampled, whole = root / "sampled", root / "whole"
    for folder, samples in ((sampled, SAMPLED), (whole, dict.fromkeys(TABLES, "{share: 1}"))):
        folder.mkdir()
        (folder / "dsflow.yml").write_text(IN_POSTGRES.format(**samples))
    took = in_turns(
        n,
        {
            "sample": lambda: asked(sampled, "fetch", "--force"),
            "everything": lambda: asked(whole, "fetch", "--force"),
        },
    )
    print("\nPostgreSQL")
    return faster(took, "everything", "`dsflow sample fetch` of all rows of the three tables")


def into_postgres(folder: Path, url: str, scale: float) -> None:
    import psycopg

    fill(folder, scale, 12)
    with psycopg.connect(url.replace("+psycopg", "")) as database, duckdb.connect() as source:
        for table in TABLES:
            source.execute(f"CREATE VIEW {table} AS FROM '{folder}/tables/{table}/*/*.parquet'")
            columns = source.execute(f"SELECT column_name, column_type FROM (DESCRIBE {table})").fetchall()
            types = ", ".join(f'"{name}" {kind}' for name, kind in columns if name != "ds")
            database.execute(f"DROP TABLE IF EXISTS {table}")
            database.execute(f"CREATE TABLE {table} ({types})")
            source.execute(f"COPY (SELECT * EXCLUDE (ds) FROM {table}) TO '{folder}/{table}.csv' (HEADER false)")
            put = database.cursor().copy(f"COPY {table} FROM STDIN (FORMAT csv)")
            with put as sink, open(folder / f"{table}.csv", "rb") as file:
                while piece := file.read(1 << 20):
                    sink.write(piece)
            database.execute(f"ANALYZE {table}")


def asked(workspace: Path, *arguments: str) -> Any:
    """Run `dsflow sample` and give its document."""
    command = [*DSFLOW, "--json", "sample", *arguments]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def rewrite(production: Path, to: Path) -> None:
    """Read and write every row as a copy of the result of a query does."""
    to.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        for number, file in enumerate((production / "tables").rglob("*.parquet")):
            connection.execute(f"COPY (FROM '{file}') TO '{to}/{number}.parquet' (FORMAT parquet, COMPRESSION zstd)")
    os.sync()


def copy(production: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-r", production / "tables", to], check=True)
    os.sync()


def in_turns(n: int, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Give the median seconds of each way, all of them measured in turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in took.items()}


def faster(took: Mapping[str, float], other: str, what: str) -> bool:
    ratio = took[other] / took["sample"]
    times = f"{took['sample']:.1f} s against {took[other]:.1f} s"
    return bar(ratio >= FASTER, f"{ratio:.1f} times faster (bar {FASTER}) than {what}: {times}")


def bar(kept: bool, what: str) -> bool:
    print(f"{'PASS' if kept else 'FAIL':8}{what}", flush=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
