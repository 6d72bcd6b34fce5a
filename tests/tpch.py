"""TPC-H as a workspace: its data split into partitions by order date, and its 22 queries as sql jobs.

The data comes from the package `tpchgen-cli` and is the same on every machine. Orders and line items are partitioned by
the month in which the order was placed (a line item lies where its order lies), some months to a partition; the other
six tables are one snapshot each, dimensions of the first month. `tests/tpch_queries` holds the queries with the
standard's parameters for validation, in SQL that DuckDB and Spark read alike: where the two give a column another
type, a CAST says which.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from dsflow.engines.duckdb import open_engine
from dsflow.model import Output
from dsflow.store.contents import describe, manifest_of
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging

QUERIES = sorted((Path(__file__).parent / "tpch_queries").glob("q*.sql"))
FIRST, LAST = "1992-01", "1998-08"
FACTS = ("orders", "lineitem")
DIMENSIONS = ("region", "nation", "supplier", "customer", "part", "partsupp")
# The columns that name a row.
KEYS: Mapping[str, tuple[str, ...]] = {
    "region": ("r_regionkey",),
    "nation": ("n_nationkey",),
    "supplier": ("s_suppkey",),
    "customer": ("c_custkey",),
    "part": ("p_partkey",),
    "partsupp": ("ps_partkey", "ps_suppkey"),
    "orders": ("o_orderkey",),
    "lineitem": ("l_orderkey", "l_linenumber"),
}
_MONTHS = 12 * 7
_DATES = """
    SELECT o_orderkey AS placed, strftime(make_date(
        year(o_orderdate)::INTEGER,
        ((month(o_orderdate) - 1) // {months} * {months} + 1)::INTEGER, 1), '%Y-%m') AS ds
    FROM '{data}/orders.parquet'"""


def fill(root: Path, scale: float = 0.01, months: int = 6) -> None:
    """Publish the eight tables in a datastore.

    Args:
        root: The datastore.
        scale: TPC-H's scale factor; 0.01 has 15,000 orders and 60,000 line items.
        months: So many months are one partition, named after the first of them: 1 to 12, a divisor of 12.
    """
    datastore = Datastore(root.resolve())
    with tempfile.TemporaryDirectory() as folder:
        program = Path(sysconfig.get_path("scripts"), "tpchgen-cli")
        subprocess.run([program, "parquet", "-s", str(scale), "-o", folder], check=True, capture_output=True)
        for table, ds, file in _split(Path(folder), months):
            _publish(datastore, table, ds, file)


def jobs(engine: str = "duckdb", prefix: str = "", scale: float = 0.01) -> dict[str, str]:
    """Give the files of the 22 jobs, by path: `jobs/q01/job_specs.yaml`, `jobs/q01/query.sql` and so on.

    Each reads the tables that its query names, orders and line items of all dates, and writes the table of its name.
    Run them for LAST.

    Args:
        engine: What computes.
        prefix: What the names of jobs and tables begin with.
        scale: That of the data; a parameter of one query depends on it.
    """
    files = {}
    for path in QUERIES:
        name, text = f"{prefix}{path.stem}", path.read_text("utf-8")
        inputs = [f"  {table}: {{table: {table}, window: {_MONTHS}}}\n" for table in FACTS if table in text]
        inputs += [f"  {table}: {{table: {table}, as_of: ds}}\n" for table in DIMENSIONS if table in text]
        files[f"jobs/{name}/job_specs.yaml"] = (
            f"version: 1\nkind: sql\nengine: {engine}\ngrain: month\ntags: [tpch]\n"
            f"inputs:\n{''.join(inputs)}output: {{table: {name.replace('-', '_')}}}\n"
            + (f"parameters: {{fraction: {0.0001 / scale:g}}}\n" if "fraction" in text else "")
        )
        files[f"jobs/{name}/query.sql"] = text
    return files


def _split(data: Path, months: int) -> Iterator[tuple[str, str, Path]]:
    """Give the files of each table with their partitions."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(f"CREATE TABLE dates AS {_DATES.format(data=data, months=months)}")
        (data / "split").mkdir()
        for table in FACTS:
            connection.execute(
                f"COPY (SELECT t.*, ds FROM '{data}/{table}.parquet' AS t JOIN dates ON placed = {KEYS[table][0]}"
                f" ORDER BY {', '.join(KEYS[table])}) TO '{data}/split/{table}' (FORMAT parquet, PARTITION_BY (ds))"
            )
            for folder in sorted((data / "split" / table).iterdir()):
                [file] = folder.iterdir()
                yield table, folder.name.removeprefix("ds="), file
    for table in DIMENSIONS:
        yield table, FIRST, data / f"{table}.parquet"


def _publish(datastore: Datastore, table: str, ds: str, file: Path) -> None:
    run_id = f"tpch-{table}-{ds}"
    output = Output(store="table", name=table, ds=ds, kind="fct" if table in FACTS else "dim")
    engine = open_engine(threads=1)
    with Staging(datastore, run_id, output, "tpch") as staging:
        staged = staging.folder / f"{run_id}-part-0.parquet"
        staged.write_bytes(file.read_bytes())
        inspected = engine.inspect([staged])
        [described] = describe(staging.folder)
        files = (dataclasses.replace(described, rows=inspected.rows[0]),)
        manifest = manifest_of(output, files, run_id=run_id, job="tpch", columns=inspected.columns)
        staging.publish(manifest)
    engine.close()
