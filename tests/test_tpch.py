"""The 22 queries of TPC-H, as sql jobs over partitioned tables: equal results on both engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.comparison import compare
from dsflow.parity.judge import TOLERANCE
from dsflow.parity.words import common_type
from dsflow.store.datastore import Datastore, Partition
from dsflow.workspace import Workspace
from tests import tpch
from tests.conftest import MakeWorkspace, Screen
from tests.test_spark_jobs import WORKSPACE

Dsflow = Callable[..., Screen]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A datastore with the tables."""
    root = tmp_path_factory.mktemp("tpch") / "datastore"
    tpch.fill(root)
    return root


def made(workspace: Workspace, table: str) -> Partition:
    found = Datastore(workspace.datastore).partition("table", table, tpch.LAST)
    assert found is not None
    return found


def columns(partition: Partition) -> list[tuple[str, str]]:
    assert partition.manifest is not None
    return [(column.name, common_type(column.type)) for column in partition.manifest.columns]


def test_the_data_is_split_by_the_date_of_the_order(data: Path) -> None:
    import duckdb

    store = Datastore(data)
    assert {name: len(store.partitions("table", name)) for name in store.names("table")} == {
        **dict.fromkeys(tpch.DIMENSIONS, 1),
        **dict.fromkeys(tpch.FACTS, 14),
    }
    first = store.partition("table", "orders", "1992-07")
    assert first is not None
    assert first.manifest is not None
    [found] = duckdb.execute(
        f"SELECT min(o_orderdate)::VARCHAR, max(o_orderdate)::VARCHAR, count(*) FROM '{first.files[0]}'"
    ).fetchall()
    assert found == ("1992-07-01", "1992-12-31", first.manifest.rows)
    lines = [store.partition("table", "lineitem", ds) for ds in store.partitions("table", "lineitem")]
    assert sum(one.manifest.rows or 0 for one in lines if one and one.manifest) == 60175


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("spark")
def test_the_queries_make_the_same_on_both_engines(make_workspace: MakeWorkspace, data: Path, dsflow: Dsflow) -> None:
    workspace = make_workspace({"dsflow.yml": WORKSPACE, **tpch.jobs("duckdb"), **tpch.jobs("spark", "spark-")})
    workspace.datastore.rmdir()
    workspace.datastore.symlink_to(data)
    for selection in ("q*", "spark-q*"):
        screen = dsflow("run", selection, tpch.LAST, "-j", "4")
        assert screen.exit_code == 0, screen.err + screen.out
    different = {}
    for path in tpch.QUERIES:
        ours, theirs = made(workspace, path.stem), made(workspace, f"spark_{path.stem}")
        found = compare(ours, theirs, tolerance=TOLERANCE)
        if found.added or found.removed or columns(ours) != columns(theirs):
            different[path.stem] = (found, columns(ours), columns(theirs))
        assert found.rows[0] > 0
    assert len(tpch.QUERIES) == 22
    assert different == {}


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("spark")
def test_parity_says_so_too(make_workspace: MakeWorkspace, data: Path, dsflow: Dsflow) -> None:
    workspace = make_workspace({"dsflow.yml": WORKSPACE, **tpch.jobs()})
    workspace.datastore.rmdir()
    workspace.datastore.symlink_to(data)
    screen = dsflow("--json", "parity", "q05", tpch.LAST)
    assert screen.exit_code == 0, screen.err
    assert screen.document["same"]
    assert [target["rows"] for target in screen.document["targets"]] == [5, 5]
    inputs = [{(one["target"], one["ds"]) for one in target["inputs"]} for target in screen.document["targets"]]
    assert inputs[0] == inputs[1]
    assert json.dumps(screen.document)
