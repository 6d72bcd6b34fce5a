"""A small shop's production, and a workspace on a laptop that samples it: for tests."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from dsflow.engines.duckdb import open_engine
from dsflow.model import Output
from dsflow.store.contents import describe, manifest_of
from dsflow.store.datastore import Datastore
from dsflow.store.publishing import Staging
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace

DAYS = ("2026-11-01", "2026-11-02", "2026-11-03")
CUSTOMERS, ORDERS = 400, 2000
# Each order has one to three items, of the same day.
_TABLES = {
    "customers": (
        "SELECT i::INTEGER AS id, 'c' || i AS name, ['fr', 'de', 'it'][i % 3 + 1] AS country "
        f"FROM range({CUSTOMERS}) t(i)"
    ),
    "orders": (
        f"SELECT i::BIGINT AS id, (i * 7919 % {CUSTOMERS})::BIGINT AS customer_id, i % 90 + 10 AS amount, "
        f"i % 5 AS status FROM range({ORDERS}) t(i) WHERE i % {len(DAYS)} = {{day}}"
    ),
    "items": (
        f"SELECT i::BIGINT AS order_id, n AS line, (i * 31 + n) % 500 AS product_id FROM range({ORDERS}) t(i), "
        f"range(3) u(n) WHERE i % {len(DAYS)} = {{day}} AND n <= i % 3"
    ),
    "products": "SELECT i AS id, 'p' || i AS name FROM range(500) t(i)",
}
_SNAPSHOTS = ("customers", "products")

SOURCES = """
sources:
  customers: {environment: prod, sample: {key: customer, share: 0.1}}
  orders: {environment: prod, sample: {key: customer, share: 0.1}}
  items: {environment: prod, sample: {key: order, of: orders}}
  products: {environment: prod, sample: {key: product, of: items}}
keys:
  customer: [orders.customer_id, customers.id]
  order: [orders.id, items.order_id]
  product: [products.id, items.product_id]
"""
JOBS = {
    "jobs/sales/job_specs.yaml": """
        version: 1
        kind: sql
        output: {table: sales}
        inputs:
          customers: {table: customers, as_of: ds}
    """,
    "jobs/sales/query.sql": """
        SELECT country, count(*) AS orders, sum(amount) AS amount
        FROM orders JOIN customers ON customers.id = orders.customer_id GROUP BY ALL ORDER BY ALL
    """,
    "jobs/report/job_specs.yaml": "{version: 1, kind: sql, output: {table: report}}",
    "jobs/report/query.sql": "SELECT sum(orders) AS orders FROM sales",
}


def laptop(
    make_workspace: MakeWorkspace,
    settings: str = SOURCES,
    *,
    days: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Workspace:
    """Make a workspace whose environment is marked dev, beside a production datastore with four tables.

    Args:
        make_workspace: The fixture.
        settings: What dsflow.yml says of sources and keys.
        days: Other names for DAYS.
        files: More files.
    """
    head = "version: 1\nenvironment: laptop\nruntime: process\nenvironments:\n"
    environments = "  laptop: {dev: true}\n  prod: {datastore: ../production}\n"
    workspace = make_workspace({"dsflow.yml": head + environments + settings, **JOBS, **(files or {})})
    for table in _TABLES:
        for ds in DAYS[:1] if table in _SNAPSHOTS else DAYS:
            publish(production(workspace), table, (days or {}).get(ds, ds), _TABLES[table].format(day=DAYS.index(ds)))
    return workspace


def production(workspace: Workspace) -> Path:
    """Give the production datastore beside a workspace."""
    return workspace.root.parent / "production"


def publish(root: Path, table: str, ds: str, query: str) -> None:
    """Publish the rows of a query as a partition."""
    run_id = f"20261120T000000-{hashlib.sha256((table + ds + query).encode()).hexdigest()[:6]}"
    output = Output(store="table", name=table, ds=ds, kind="dim" if table in _SNAPSHOTS else "fct")
    engine = open_engine(threads=1)
    with Staging(Datastore(root), run_id, output, "test") as staging:
        path = staging.folder / f"{run_id}-part-0.parquet"
        engine.write(engine.sql(query), path, ds)
        inspected = engine.inspect([path])
        files = tuple(dataclasses.replace(file, rows=inspected.rows[0]) for file in describe(staging.folder))
        manifest = manifest_of(output, files, run_id=run_id, job="test", columns=inspected.columns)
        staging.publish(manifest)
    engine.close()


def everything_outside(workspace: Workspace, but: Collection[Path] = ()) -> dict[str, tuple[str, int]]:
    """Give every file and folder around a workspace that is not in its samples: contents and time of change."""
    sample = dataclasses.replace(workspace, sampled=True).datastore
    found: dict[str, tuple[str, int]] = {}
    for place, folders, names in os.walk(workspace.root.parent):
        folders[:] = [name for name in folders if Path(place, name) != sample]
        for name in [*folders, *names]:
            path = Path(place, name)
            text = path.read_bytes() if path.is_file() else b""
            # The folder that holds the samples is changed when theirs is made.
            changed = 0 if path == sample.parent else path.stat().st_mtime_ns
            found[str(path)] = (hashlib.sha256(text).hexdigest(), changed)
    return {path: state for path, state in found.items() if Path(path) not in but}
