"""A sample of one in a hundred of TPC-H, split by date: its keys, its size before it is drawn, and queries on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeWorkspace, Screen
from tests.production import everything_outside
from tests.tpch import LAST, fill, jobs

Dsflow = Callable[..., Screen]
SCALE = 0.5
# `tests.tpch` partitions by month; here a year is one partition.
MONTHS = 12
SETTINGS = """
version: 1
environment: laptop
runtime: process
environments:
  laptop: {dev: true}
  prod: {datastore: ../production}
sources:
  customer: {environment: prod, sample: {key: customer, share: 0.01}}
  orders: {environment: prod, sample: {key: customer, share: 0.01}}
  lineitem: {environment: prod, sample: {key: order, of: orders}}
  partsupp: {environment: prod, sample: {key: part_supplier, of: lineitem}}
  part: {environment: prod, sample: {key: part, of: [lineitem, partsupp]}}
  supplier: {environment: prod, sample: {key: supplier, of: [lineitem, partsupp]}}
  nation: {environment: prod, sample: {share: 1}}
  region: {environment: prod, sample: {share: 1}}
keys:
  customer: [customer.c_custkey, orders.o_custkey]
  order: [orders.o_orderkey, lineitem.l_orderkey]
  part: [part.p_partkey, partsupp.ps_partkey, lineitem.l_partkey]
  supplier: [supplier.s_suppkey, partsupp.ps_suppkey, lineitem.l_suppkey]
  part_supplier: [[partsupp.ps_partkey, partsupp.ps_suppkey], [lineitem.l_partkey, lineitem.l_suppkey]]
  nation: [nation.n_nationkey, customer.c_nationkey, supplier.s_nationkey]
  region: [region.r_regionkey, nation.n_regionkey]
"""


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tpch")
    fill(root / "production", SCALE, MONTHS)
    return root / "production"


def by_source(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["source"]: one for one in documents}


def test_a_key_coherent_sample_of_eight_tables(production: Path, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({"dsflow.yml": SETTINGS.replace("../production", str(production)), **jobs(scale=SCALE)})
    before = everything_outside(workspace), state_of(production)
    told = by_source(dsflow("sample", "estimate", "--json").document["sources"])
    document = dsflow("sample", "fetch", "--json").document
    joins, fetched = document["joins"], document["fetched"]

    # Every row of the sample finds all that it refers to.
    assert {(join["child"], join["parent"]) for join in joins} == {
        *(("orders", "customer"), ("lineitem", "orders"), ("lineitem", "part"), ("lineitem", "supplier")),
        *(("lineitem", "partsupp"), ("partsupp", "part"), ("partsupp", "supplier")),
        *(("customer", "nation"), ("supplier", "nation"), ("nation", "region")),
    }
    assert all(join["joined"] == join["rows"] > 0 for join in joins), joins

    # The estimate was right, and had read next to nothing.
    rows = {name: sum(one["rows"] for one in fetched if one["source"] == name) for name in told}
    size = sum(one["bytes"] for one in fetched)
    assert rows["customer"] == pytest.approx(750, rel=0.2), "one customer in a hundred"
    assert {name: one["sample"]["rows"] for name, one in told.items()} == pytest.approx(rows, rel=0.15)
    assert sum(one["sample"]["bytes"] for one in told.values()) == pytest.approx(size, rel=0.15)
    whole = sum(one["whole"]["bytes"] for one in told.values())
    assert sum(one["bytes_read"] for one in told.values()) <= 0.01 * whole

    # Queries with up to seven joins run on it as they are.
    assert "OK=4" in dsflow("run", "q02", "q05", "q08", "q09", LAST, "--sample", "--offline").out
    assert (everything_outside(workspace), state_of(production)) == before


def state_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}
