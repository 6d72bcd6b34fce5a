"""Facts and dimensions in jobs, and the commands that look after tables."""

from __future__ import annotations

import hashlib
import os
import pty
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsflow import cli
from tests.conftest import MakeWorkspace, Screen, build_tree, notebook

Dsflow = Callable[..., Screen]
D1, D2, D3 = "2026-11-18", "2026-11-19", "2026-11-20"
SHOPS = {
    f"datastore/raw/shops/ds={ds}/a.csv": "id,city,size\n" + rows
    for ds, rows in ((D1, "1,paris,10\n2,lyon,5\n"), (D2, "1,paris,12\n3,nice,7\n"))
}
ORDERS = {
    f"datastore/raw/orders/ds={ds}/a.csv": f"shop,amount\n1,{n}0\n2,{n}5\n" for n, ds in enumerate((D1, D2, D3), 1)
}
JOBS = {
    "jobs/shops/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: dim_shops, kind: dim, keys: [id]}\n",
    "jobs/shops/q.sql": "SELECT * FROM raw.shops",
    "jobs/orders/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: fct_orders}\n",
    "jobs/orders/q.sql": "SELECT * FROM raw.orders",
}
SPEC = "version: 1\nkind: notebook\n"


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two snapshots of a dimension and three days of facts."""
    root = tmp_path_factory.mktemp("made")
    build_tree(root, {"dsflow.yml": "version: 1\nruntime: process\n", **SHOPS, **ORDERS, **JOBS})
    for job, days in (("shops", (D1, D2)), ("orders", (D1, D2, D3))):
        for ds in days:
            assert cli.run(["-C", str(root), "run", job, ds]) == 0
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the test is there."""
    root = tmp_path / "work space"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return root


def table(root: Path, name: str) -> list[tuple[Any, ...]]:
    """What a reader sees that knows nothing of dsflow, all partitions."""
    files = f"{root}/datastore/tables/{name}/*/*.parquet"
    return sorted(
        duckdb.execute(
            "FROM read_parquet($1, hive_partitioning = true, hive_types = {'ds': VARCHAR})", [files]
        ).fetchall()
    )


def add_job(root: Path, name: str, spec: str, *cells: str) -> None:
    folder = root / "jobs" / name
    folder.mkdir()
    (folder / "job_specs.yaml").write_text(spec)
    (folder / "n.ipynb").write_text(notebook(*cells))


# ---- facts and dimensions


def test_a_job_sees_the_newest_snapshot_of_a_dimension_and_its_own_day_of_facts(root: Path, dsflow: Dsflow) -> None:
    cell = """
        from dsflow import job, load_tables
        print("table", sorted(job.table("dim_shops").fetchall()))
        print("sql", job.sql("SELECT count(*), min(ds), max(ds) FROM dim_shops").fetchall())
        print("facts", job.sql("SELECT count(*), min(ds), max(ds) FROM fct_orders").fetchall())
        print("own day", job.table("fct_orders").fetchall())
        query = "SELECT city, sum(amount) FROM fct_orders, dim_shops WHERE shop = id GROUP BY 1"
        print("joined", job.sql(query).fetchall())
        print("window", job.sql("SELECT 1").fetchall(), len(job.table("dim_shops", window=3).fetchall()))
        print("before", job.table("dim_shops", as_of="2026-11-18").fetchall())
        """
    add_job(root, "t", SPEC, cell)
    screen = dsflow("run", "t", D3, "--json")
    assert screen.exit_code == 0, screen
    for line in (
        f"table [(1, 'paris', 12, '{D2}'), (3, 'nice', 7, '{D2}')]",
        f"sql [(2, '{D2}', '{D2}')]",
        f"facts [(6, '{D1}', '{D3}')]",
        f"own day [(1, 30, '{D3}'), (2, 35, '{D3}')]",
        "joined [('paris', 60)]",
        "window [(1,)] 4",
        f"before [(1, 'paris', 10, '{D1}'), (2, 'lyon', 5, '{D1}')]",
    ):
        assert line in screen.err
    used = {(i["target"], i["ds"]) for i in screen.document["runs"][0]["outcome"]["inputs"]}
    assert used == {("dim_shops", D1), ("dim_shops", D2), *(("fct_orders", ds) for ds in (D1, D2, D3))}


def test_an_earlier_run_does_not_see_a_later_snapshot(root: Path, dsflow: Dsflow) -> None:
    add_job(root, "t", SPEC, "from dsflow import job\nprint(job.sql('SELECT max(ds) FROM dim_shops').fetchall())")
    screen = dsflow("run", "t", D1)
    assert f"[('{D1}',)]" in screen.out
    screen = dsflow("run", "t", "2026-11-17")
    assert screen.exit_code == 1
    assert "table 'dim_shops' has no partition ds=2026-11-17; it has 2, from ds=2026-11-18" in screen.out


def test_load_tables_gives_each_table_by_its_kind(root: Path, dsflow: Dsflow) -> None:
    cell = """
        from dsflow import job, load_tables
        print("loaded", load_tables())
        print(job.sql("SELECT (SELECT count(*) FROM dim_shops), (SELECT count(*) FROM fct_orders)").fetchall())
        """
    add_job(root, "t", SPEC, cell)
    screen = dsflow("run", "t", D1)
    assert "loaded ['dim_shops', 'fct_orders']" in screen.out
    assert "[(2, 6)]" in screen.out


def test_a_dimension_that_grows_from_its_own_past_does_not_see_itself(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    cell = """
        from dsflow import job
        before = job.table("dim_sum").fetchall() if job.ds > "2026-11-18" else [(0,)]
        job.write([{"total": before[0][0] + 1}])
        """
    ws = make_workspace(
        {
            "jobs/t/job_specs.yaml": SPEC + "output: {table: dim_sum, kind: dim}\n",
            "jobs/t/t.ipynb": notebook(cell),
        }
    )
    for ds in (D1, D2, D3, D3, D2):
        assert dsflow("run", "t", ds).exit_code == 0
    assert table(ws.root, "dim_sum") == [(1, D1), (2, D2), (3, D3)]


IS_FIRST = "{% if is_first %}SELECT 1 AS total{% else %}SELECT total + 1 AS total FROM {past}{% endif %}"
FROM_ITS_PAST = {
    "named": ("kind: sql\n", {"q.sql": IS_FIRST.replace("{past}", "dim_sum")}),
    "declared": ("kind: sql\ninputs: {past: {table: dim_sum}}\n", {"q.sql": IS_FIRST.replace("{past}", "past")}),
    "in code": (
        "kind: notebook\n",
        {
            "t.ipynb": notebook("""
                from dsflow import job
                before = 0 if job.is_first else job.table("dim_sum").fetchall()[0][0]
                job.write([{"total": before + 1}])
                """)
        },
    ),
}


@pytest.mark.parametrize("way", FROM_ITS_PAST)
def test_a_job_says_what_the_first_partition_of_its_own_past_is(
    make_workspace: MakeWorkspace, dsflow: Dsflow, way: str
) -> None:
    spec, files = FROM_ITS_PAST[way]
    job = {"job_specs.yaml": f"version: 1\n{spec}output: {{table: dim_sum, kind: dim}}\n", **files}
    ws = make_workspace({f"jobs/t/{name}": content for name, content in job.items()})
    assert "its own past" in dsflow("graph").out
    assert dsflow("backfill", "t", f"{D1}..{D3}", "-y", "-j", "3").exit_code == 0
    assert table(ws.root, "dim_sum") == [(1, D1), (2, D2), (3, D3)]
    assert dsflow("run", "t", D2).exit_code == 0
    assert dsflow("run", "t", D1).exit_code == 0
    assert table(ws.root, "dim_sum") == [(1, D1), (2, D2), (3, D3)]
    # What comes before the first one later makes it another one.
    assert dsflow("run", "t", "2026-11-17").exit_code == 0
    assert dsflow("backfill", "t", f"{D1}..{D3}", "-y").exit_code == 0
    assert table(ws.root, "dim_sum") == [(1, "2026-11-17"), (2, D1), (3, D2), (4, D3)]


@pytest.mark.parametrize("way", FROM_ITS_PAST)
def test_a_test_gives_the_past_or_is_about_the_first_partition(
    make_workspace: MakeWorkspace, dsflow: Dsflow, way: str
) -> None:
    spec, files = FROM_ITS_PAST[way]
    name = "past" if way == "declared" else "dim_sum"
    past = f"inputs: {{{name}: {{partitions: {{{D1}: [{{total: 4}}]}}}}}}\n"
    tests = {
        "first": f"ds: {D1}\nexpected: [{{total: 1}}]\n",
        "later": f"ds: {D2}\n{past}expected: [{{total: 5}}]\n",
    }
    make_workspace(
        {
            "jobs/t/job_specs.yaml": f"version: 1\n{spec}output: {{table: dim_sum, kind: dim}}\n",
            **{f"jobs/t/{file}": content for file, content in files.items()},
            **{f"jobs/t/tests/{test}.yaml": text for test, text in tests.items()},
        }
    )
    assert dsflow("run", "t", D1).exit_code == 0
    screen = dsflow("test", "t")
    assert screen.exit_code == 0, screen


def test_a_job_that_does_not_say_is_told_how(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    spec = "version: 1\nkind: sql\noutput: {table: dim_sum, kind: dim}\n"
    make_workspace({"jobs/t/job_specs.yaml": spec, "jobs/t/q.sql": "SELECT total + 1 AS total FROM dim_sum"})
    screen = dsflow("run", "t", D1)
    assert screen.exit_code == 1
    assert "dim_sum" in screen.out
    assert "is_first" in screen.out


def test_a_daily_job_reads_a_weekly_dimension(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    weekly = SPEC + "grain: week\noutput: {table: dim_week, kind: dim}\n"
    make_workspace(
        {
            "jobs/w/job_specs.yaml": weekly,
            "jobs/w/w.ipynb": notebook("from dsflow import job\njob.write([{'week': job.ds}])"),
            "jobs/t/job_specs.yaml": SPEC,
            "jobs/t/t.ipynb": notebook("from dsflow import job\nprint(job.table('dim_week').fetchall())"),
        }
    )
    for week in ("2026-W45", "2026-W47", "2026-W48"):
        dsflow("run", "w", week)
    assert "('2026-W47', '2026-W47')" in dsflow("run", "t", "2026-11-20").out
    assert "('2026-W45', '2026-W45')" in dsflow("run", "t", "2026-11-14").out


def test_partitions_with_other_columns_are_read_together(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    """Columns are known from the manifests; where they differ, or nobody wrote one, each file is looked at."""
    ws = make_workspace(
        {
            "jobs/w/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n",
            "jobs/w/q.sql": "SELECT 1 AS a{% if ds > '2026-11-19' %}, 'x' AS b{% endif %}",
            "jobs/r/job_specs.yaml": SPEC,
            "jobs/r/r.ipynb": notebook("from dsflow import job\nprint(job.sql('FROM t ORDER BY ds').fetchall())"),
        }
    )
    dsflow("backfill", "w", f"{D1}..{D2}", "-y")
    assert f"[(1, '{D1}'), (1, '{D2}')]" in dsflow("run", "r", D3).out
    dsflow("run", "w", D3)
    assert f"[(1, None, '{D1}'), (1, None, '{D2}'), (1, 'x', '{D3}')]" in dsflow("run", "r", D3).out
    foreign = ws.datastore / "tables/t/ds=2026-11-21"
    foreign.mkdir()
    duckdb.sql(f"COPY (SELECT 2 AS a, 'y' AS b, true AS c) TO '{foreign}/f.parquet'")
    assert f"(1, 'x', None, '{D3}'), (2, 'y', True, '2026-11-21')]" in dsflow("run", "r", D3).out


# ---- what dbt-duckdb's partitioned external tables leave behind


def test_a_narrower_query_leaves_no_stale_rows_and_no_stale_files(root: Path, dsflow: Dsflow) -> None:
    """The same job again with a narrower query: exactly its rows, in exactly its files, and nothing else is touched."""
    assert len(table(root, "fct_orders")) == 6
    untouched = fingerprints(root, D1)
    (root / "jobs/orders/q.sql").write_text("SELECT * FROM raw.orders WHERE amount >= 25")
    for ds in (D2, D3):
        assert dsflow("run", "orders", ds).exit_code == 0
    assert [row for row in table(root, "fct_orders") if row[2] != D1] == [(1, 30, D3), (2, 25, D2), (2, 35, D3)]
    assert fingerprints(root, D1) == untouched
    folders = [root / f"datastore/tables/fct_orders/ds={ds}" for ds in (D1, D2, D3)]
    assert [len(list(folder.iterdir())) for folder in folders] == [1, 1, 1]


def test_a_query_that_leaves_nothing_of_a_day_leaves_no_row_of_it(root: Path, dsflow: Dsflow) -> None:
    """Where the old rows were, there is an empty partition with its columns: nobody takes it for one not yet made."""
    (root / "jobs/orders/q.sql").write_text("SELECT * FROM raw.orders WHERE amount >= 30")
    for ds in (D1, D2, D3):
        assert dsflow("run", "orders", ds).exit_code == 0
    assert table(root, "fct_orders") == [(1, 30, D3), (2, 35, D3)]
    empty = duckdb.execute("FROM read_parquet($1)", [f"{root}/datastore/tables/fct_orders/ds={D1}/*.parquet"])
    assert [column[0] for column in empty.description or ()] == ["shop", "amount", "ds"]
    assert empty.fetchall() == []


def test_a_job_that_wrote_three_files_and_now_writes_one_leaves_one(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    cell = "from dsflow import job\nfor part in range(parts):\n    job.write([{'part': part}])"
    ws = make_workspace(
        {
            "jobs/t/job_specs.yaml": SPEC + "output: {table: t}\n",
            "jobs/t/t.ipynb": notebook(cell, parameters="parts = 3"),
        }
    )
    assert dsflow("run", "t", D1).exit_code == 0
    assert table(ws.root, "t") == [(0, D1), (1, D1), (2, D1)]
    assert dsflow("run", "t", D1, "-p", "parts=1").exit_code == 0
    assert table(ws.root, "t") == [(0, D1)]
    assert len(list((ws.root / f"datastore/tables/t/ds={D1}").iterdir())) == 1


def fingerprints(root: Path, ds: str) -> dict[str, tuple[str, int]]:
    folder = root / f"datastore/tables/fct_orders/ds={ds}"
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


# ---- dsflow diff


def test_diff_matches_rows_by_the_keys_of_the_job(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("diff", "dim_shops", D1, D2)
    assert screen.exit_code == 0
    assert screen.out.splitlines() == [
        f"dim_shops: ds={D1} has 2 rows, ds={D2} has 2 rows; matched by id",
        "added 1 row",
        "  id=3 city=nice size=7",
        "removed 1 row",
        "  id=2 city=lyon size=5",
        "changed 1 row: size 1",
        "  id=1: size 10 -> 12",
    ]
    assert screen.err == ""


def test_diff_without_keys_counts_whole_rows_and_says_so(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("diff", "fct_orders", D1, D2, "--limit", "1")
    assert screen.out.splitlines() == [
        f"fct_orders: ds={D1} has 2 rows, ds={D2} has 2 rows; whole rows counted",
        "added 2 rows",
        "  shop=1 amount=20",
        "  and 1 more",
        "removed 2 rows",
        "  shop=1 amount=10",
        "  and 1 more",
    ]
    assert "Give --keys" in screen.err
    assert "amount 2" in dsflow("diff", "fct_orders", D1, D2, "--keys", "shop").out


def test_diff_of_a_partition_with_itself_is_nothing(root: Path, dsflow: Dsflow) -> None:
    assert dsflow("diff", "dim_shops", D1, D1).out.splitlines()[1:] == ["Nothing differs."]


def test_diff_shows_schema_changes(root: Path, dsflow: Dsflow) -> None:
    (root / "jobs/shops/q.sql").write_text("SELECT id, size::DOUBLE AS size, 'fr' AS country FROM raw.shops")
    dsflow("run", "shops", D2)
    lines = dsflow("diff", "dim_shops", D1, D2).out.splitlines()
    assert lines[1:5] == ["columns", "  - city VARCHAR", "  + country VARCHAR", "  ~ size BIGINT -> DOUBLE"]
    assert "changed 1 row: size 1" in lines


def test_diff_as_json(root: Path, dsflow: Dsflow) -> None:
    document = dsflow("diff", "dim_shops", D1, D2, "--json").document
    assert document["keys"] == ["id"]
    assert (document["a"], document["b"], document["rows"]) == (D1, D2, [2, 2])
    assert (document["added"], document["removed"], document["changed"]) == (1, 1, 1)
    assert document["columns"] == {"size": 1}
    assert document["examples_changed"] == [{"keys": {"id": 1}, "values": {"size": [10, 12]}}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dim_shop", D1, D2], "there is no table 'dim_shop'; did you mean 'dim_shops'?"),
        (["dim_shops", D1, D3], f"table 'dim_shops' has no partition ds={D3}; it has 2, from ds={D1} to ds={D2}"),
        (["dim_shops", D1, D2, "--keys", "idd"], "has no column 'idd'; did you mean 'id'?"),
        (["../x", D1, D2], "'../x' cannot be a table name"),
    ],
)
def test_diff_explains_mistakes(root: Path, dsflow: Dsflow, arguments: list[str], message: str) -> None:
    screen = dsflow("diff", *arguments)
    assert screen.exit_code == 2
    assert message in screen.err


def test_diff_does_without_the_keys_of_a_job_that_is_gone(root: Path, dsflow: Dsflow) -> None:
    (root / "jobs/shops").rename(root / "jobs/other")
    assert "whole rows counted" in dsflow("diff", "dim_shops", D1, D2).out


# ---- dsflow prune


def partitions(root: Path, name: str) -> list[str]:
    return sorted(path.name[3:] for path in (root / "datastore/tables" / name).iterdir())


def test_prune_without_a_table_takes_old_snapshots_of_dimensions_only(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("prune", "--keep", "daily:1", "-y")
    assert screen.exit_code == 0
    assert partitions(root, "dim_shops") == [D2]
    assert partitions(root, "fct_orders") == [D1, D2, D3]
    assert not (root / f"datastore/.dsflow/manifests/tables/dim_shops/ds={D1}.json").exists()
    last = screen.out.splitlines()[-1]
    assert last.startswith("Done. 1 partition went, ")
    assert "for an hour" in last
    assert "Nothing has to go." in dsflow("prune", "--keep", "daily:1", "-y").out


def test_prune_takes_facts_and_raw_datasets_where_they_are_named(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("prune", "fct_orders", "raw/orders", "--keep", "daily:2", "-y")
    assert "Done. 2 partitions went" in screen.out
    assert partitions(root, "fct_orders") == [D2, D3]
    assert sorted(path.name for path in (root / "datastore/raw/orders").iterdir()) == [f"ds={D2}", f"ds={D3}"]
    assert partitions(root, "dim_shops") == [D1, D2]


def test_prune_shows_what_would_go(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("prune", "fct_orders", "--keep", "daily:1", "--dry-run", "-v")
    assert f"{D1} .. {D2}" in screen.out
    assert f"fct_orders ds={D2} goes" in screen.out
    assert f"fct_orders ds={D3} stays: daily, newest" in screen.out
    assert screen.out.splitlines()[-1].startswith("2 partitions would go, ")
    document = dsflow("prune", "fct_orders", "--keep", "daily:1", "--dry-run", "--json").document
    [pruned] = document["tables"]
    assert (pruned["name"], pruned["stays"], pruned["goes"]) == ("fct_orders", [D3], [D1, D2])
    assert pruned["bytes"] > 0
    assert document["done"] is False
    assert partitions(root, "fct_orders") == [D1, D2, D3]


def test_prune_does_nothing_where_nobody_can_be_asked(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("prune", "fct_orders", "--keep", "daily:1")
    assert screen.exit_code == 2
    assert "nothing was taken away" in screen.err
    assert partitions(root, "fct_orders") == [D1, D2, D3]


@pytest.mark.parametrize(("answer", "left"), [("n", [D1, D2, D3]), ("y", [D3])])
def test_prune_asks_first(
    root: Path, dsflow: Dsflow, answer: str, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as keyboard:
        monkeypatch.setattr("sys.stdin", terminal)
        keyboard.write(f"{answer}\n")
        keyboard.flush()
        screen = dsflow("prune", "fct_orders", "--keep", "daily:1")
    assert screen.exit_code == 0
    assert "Take 2 partitions away? [y/N]" in screen.out + screen.err
    assert partitions(root, "fct_orders") == left


def test_prune_explains_mistakes(root: Path, dsflow: Dsflow) -> None:
    screen = dsflow("prune", "fct_order", "--keep", "daily:1")
    assert screen.exit_code == 2
    assert "there is no table 'fct_order'; did you mean 'fct_orders'?" in screen.err
    assert "'dayly' is no period; did you mean 'daily'?" in dsflow("prune", "--keep", "dayly:1").err
    assert "--keep" in dsflow("prune").err


# ---- dsflow ls tables


def test_ls_tables_says_what_is_there(root: Path, dsflow: Dsflow) -> None:
    (root / f"datastore/tables/foreign/ds={D1}").mkdir(parents=True)
    (root / f"datastore/tables/foreign/ds={D1}/x.parquet").write_bytes(bytes(1500))
    (root / "datastore/tables/empty").mkdir()
    screen = dsflow("ls", "tables")
    assert screen.exit_code == 0
    lines = {line.split()[0]: " ".join(line.split()) for line in screen.out.splitlines()[2:]}
    assert lines["dim_shops"].startswith(f"dim_shops dim 2 {D1} .. {D2} 4 ")
    assert lines["fct_orders"].startswith(f"fct_orders fct 3 {D1} .. {D3} 6 ")
    assert lines["foreign"] == f"foreign 1 {D1} 1.5 kB"
    assert lines["empty"] == "empty 0 0 B"


def test_ls_tables_as_json_and_with_columns(root: Path, dsflow: Dsflow) -> None:
    found = {entry["name"]: entry for entry in dsflow("ls", "tables", "--json").document["tables"]}
    shops = found["dim_shops"]
    assert (shops["kind"], shops["partitions"], shops["first"], shops["last"], shops["rows"]) == ("dim", 2, D1, D2, 4)
    assert [column["name"] for column in shops["columns"]] == ["id", "city", "size"]
    runs = dsflow("runs", "--job", "shops", "--limit", "1", "--json").document["runs"]
    assert shops["last_run"] == runs[0]["run_id"]
    assert "\ndim_shops\n  id  BIGINT\n  city  VARCHAR\n" in dsflow("ls", "tables", "-v").out


def test_ls_tables_of_a_new_workspace(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    assert "No table yet" in dsflow("ls", "tables").err
    assert dsflow("ls", "tables", "--json").document == {"tables": []}


def test_ls_tables_goes_on_after_a_damaged_partition(root: Path, dsflow: Dsflow) -> None:
    [file] = (root / f"datastore/tables/dim_shops/ds={D2}").iterdir()
    file.write_bytes(b"changed")
    screen = dsflow("ls", "tables")
    assert screen.exit_code == 0
    assert "is damaged" in screen.err
    assert "fct_orders" in screen.out
