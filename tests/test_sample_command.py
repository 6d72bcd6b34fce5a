"""`dsflow sample`, and runs with `--sample`: what they read, what they write, and what they never touch."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dsflow.engines.duckdb import open_engine
from dsflow.store.datastore import Datastore
from dsflow.store.locks import lock
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen
from tests.production import DAYS, SOURCES, everything_outside, laptop, production, publish

Dsflow = Callable[..., Screen]
FIRST, _, LAST = DAYS
# The clock of the fixture for every table of it.
SPAN = f"{FIRST}..{LAST}"


def samples(workspace: Workspace) -> Datastore:
    return Datastore(dataclasses.replace(workspace, sampled=True).datastore)


def ask(datastore: Datastore, query: str) -> list[tuple[Any, ...]]:
    """Run a query over the tables of a datastore."""
    engine = open_engine(threads=1)
    for table in datastore.names("table"):
        parts = datastore.select("table", table, datastore.partitions("table", table))
        engine.view(
            table, engine.read([file for part in parts for file in part.files], "parquet", with_ds=True, options={})
        )
    try:
        return engine.fetch(query)
    finally:
        engine.close()


ORPHANS = """
    SELECT (SELECT count(*) FROM orders WHERE customer_id NOT IN (SELECT id FROM customers)),
           (SELECT count(*) FROM items WHERE order_id NOT IN (SELECT id FROM orders)),
           (SELECT count(*) FROM items WHERE product_id NOT IN (SELECT id FROM products))
"""


def test_a_fetched_sample_keeps_its_keys_and_says_how_many_rows_join(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = laptop(make_workspace)
    before = everything_outside(workspace)
    done = dsflow("sample", "fetch", "--json")
    assert done.exit_code == 0, done.err
    fetched = done.document["fetched"]
    # First what others depend on.
    assert list(dict.fromkeys(one["source"] for one in fetched)) == ["customers", "orders", "items", "products"]
    assert len(fetched) == 1 + 3 + 3 + 1
    kept = {name: sum(one["rows"] for one in fetched if one["source"] == name) for name in ("customers", "orders")}
    assert 20 <= kept["customers"] <= 60, "about one in ten"
    assert 100 <= kept["orders"] <= 300
    assert ask(samples(workspace), ORPHANS) == [(0, 0, 0)]
    joins = {(join["child"], join["parent"]): join for join in done.document["joins"]}
    assert set(joins) == {("orders", "customers"), ("items", "orders"), ("items", "products")}
    assert all(join["rows"] == join["joined"] > 0 for join in joins.values())
    assert everything_outside(workspace) == before


def test_what_is_fetched_already_is_left_alone_until_its_data_or_settings_change(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = laptop(make_workspace)
    dsflow("sample", "fetch")
    again = dsflow("sample", "fetch")
    assert "All is there." in again.out
    query = "SELECT i AS id, i % 400 AS customer_id, 1 AS amount, 0 AS status FROM range(3000) t(i)"
    publish(production(workspace), "orders", LAST, query)
    changed = dsflow("sample", "fetch", "--json").document["fetched"]
    # The orders of that day, and what follows them; not the customers.
    assert {one["source"] for one in changed} == {"orders", "items", "products"}
    assert [one["ds"] for one in changed if one["source"] == "orders"] == [LAST]
    assert ask(samples(workspace), ORPHANS) == [(0, 0, 0)]
    settings = workspace.marker.read_text()
    filtered = settings.replace("orders: {environment: prod,", "orders: {environment: prod, filter: amount > 50,")
    workspace.marker.write_text(filtered)
    changed = dsflow("sample", "fetch", "--json").document["fetched"]
    assert [one["ds"] for one in changed if one["source"] == "orders"] == [*DAYS]
    assert ask(samples(workspace), "SELECT min(amount) > 50 FROM orders") == [(True,)]


def test_a_sampled_run_fetches_what_it_needs_and_touches_nothing_else(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = laptop(make_workspace)
    before = everything_outside(workspace)
    done = dsflow("run", "+report", LAST, "--sample")
    assert done.exit_code == 0, done.err
    assert "sampled customers: 1 partition, " in done.err
    assert "sampled orders: 1 partition, " in done.err
    assert "items" not in done.err, "nobody reads them"
    [(orders,)] = ask(samples(workspace), "SELECT orders FROM report")
    assert 30 <= orders <= 100
    assert samples(workspace).partitions("table", "orders") == [LAST]
    again = dsflow("run", "+report", LAST, "--sample", "--offline")
    assert "OK=0 SKIP=2" in again.out
    assert everything_outside(workspace) == before


def test_a_backfill_of_samples_fetches_all_its_dates_first(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    before = everything_outside(workspace)
    planned = dsflow("backfill", SPAN, "--sample", "--dry-run")
    assert planned.err.count("would fetch orders") == 3
    assert samples(workspace).names("table") == []
    done = dsflow("backfill", SPAN, "--sample", "-y")
    assert "sampled orders: 3 partitions, " in done.err
    assert "OK=6 " in done.out
    assert everything_outside(workspace) == before


def test_samples_and_data_are_looked_at_apart(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace, SOURCES.replace("environment: prod, ", ""))
    shutil.copytree(production(workspace), workspace.root / "datastore", dirs_exist_ok=True)
    assert dsflow("run", "+report", LAST).exit_code == 0
    assert dsflow("status", "--sample", "--json").document["grids"][0]["partitions"] != {}
    assert dsflow("status", LAST, "--json").out != dsflow("status", LAST, "--sample", "--json").out
    assert "OK=2" in dsflow("run", "+report", LAST, "--sample").out, "what is fresh outside is not made here"
    whole, sampled = (
        {table["name"]: table["rows"] for table in dsflow("ls", "tables", "--json", *flag).document["tables"]}
        for flag in ([], ["--sample"])
    )
    assert 0 < sampled["orders"] < whole["orders"] / 5
    assert "items" not in sampled
    for flag in ([], ["--sample"]):
        assert len(dsflow("runs", "--json", *flag).document["runs"]) == 2
    assert dsflow("open", "--sample", "--print").out.startswith("datastore/sample/job_runs/report/")
    assert dsflow("open", "--print").out.startswith("datastore/job_runs/report/")
    assert dsflow("check", "sales", "--sample").exit_code == 0
    assert "orders" in dsflow("tree", "--sample").out


def test_offline_names_the_command_that_fetches_what_is_missing(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    refused = dsflow("run", "sales", LAST, "--sample", "--offline")
    assert refused.exit_code == 1
    assert "sales reads customers" in refused.err
    assert f"dsflow sample fetch customers {LAST}" in refused.err
    assert dsflow("sample", "fetch", "customers", "orders", LAST).exit_code == 0
    shutil.rmtree(production(workspace))
    assert dsflow("run", "+report", LAST, "--sample", "--offline").exit_code == 0
    assert dsflow("run", "sales", LAST, "--offline").exit_code == 2


def test_a_source_with_neither_filter_nor_sample_is_copied_whole_and_says_so(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = laptop(make_workspace, "sources:\n  customers: {environment: prod}\n")
    before = everything_outside(workspace)
    told = dsflow("sample", "fetch", "customers")
    assert "customers: No filter set" in told.err
    assert everything_outside(workspace) == before
    there = Datastore(production(workspace)).partition("table", "customers", FIRST)
    copied = samples(workspace).partition("table", "customers", FIRST)
    assert there
    assert copied
    assert [file.read_bytes() for file in copied.files] == [file.read_bytes() for file in there.files]


def test_what_is_over_its_limit_is_refused_and_nothing_is_copied(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    small = SOURCES.replace("orders: {environment: prod,", "orders: {environment: prod, limit: 500,")
    workspace = laptop(make_workspace, small)
    before = everything_outside(workspace)
    refused = dsflow("run", "sales", LAST, "--sample")
    assert refused.exit_code == 2
    assert "the sample of orders would have about" in refused.err
    assert "its limit is 500 B" in refused.err
    assert samples(workspace).names("table") == []
    assert everything_outside(workspace) == before


@pytest.mark.parametrize("place", ["../production", "../production/below", ".."])
def test_dev_writes_into_no_datastore_of_another_environment(
    make_workspace: MakeWorkspace, dsflow: Dsflow, place: str
) -> None:
    workspace = laptop(make_workspace)
    text = workspace.marker.read_text()
    workspace.marker.write_text(text.replace("laptop: {dev: true}", f"laptop: {{dev: true, datastore: {place}}}"))
    before = everything_outside(workspace)
    for command in (
        ["run", "sales", LAST],
        ["run", "+report", LAST],
        ["run", "sales", LAST, "--sample"],
        ["backfill", SPAN, "-y"],
        ["backfill", SPAN, "--sample", "-y"],
        ["sample", "fetch"],
        ["sample", "drop", "-y"],
        ["mark-fresh", SPAN, "-y"],
        ["prune", "orders", "--keep", "daily:1", "-y"],
        ["status"],
    ):
        refused = dsflow(*command)
        assert refused.exit_code == 2, command
        assert "is marked dev" in refused.err, command
        assert "belongs to prod" in refused.err
    assert dsflow("config").exit_code == 0
    assert everything_outside(workspace) == before


def test_dev_writes_into_no_datastore_that_all_share(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    text = workspace.marker.read_text().replace("prod: {datastore: ../production}", "prod: {}")
    workspace.marker.write_text(text + "datastore: ../production\n")
    before = everything_outside(workspace)
    refused = dsflow("run", "sales", LAST)
    assert (refused.exit_code, "belongs to prod" in refused.err) == (2, True)
    assert everything_outside(workspace) == before
    workspace.marker.write_text(text)
    assert "is marked dev" not in dsflow("run", "sales", LAST).err, "nobody has said that production is here"


def test_a_link_to_production_is_found_out(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    shutil.rmtree(workspace.root / "datastore")
    (workspace.root / "datastore").symlink_to("../production")
    before = everything_outside(workspace)
    assert "is marked dev" in dsflow("run", "sales", LAST).err
    assert "is marked dev" in dsflow("run", "sales", LAST, "--sample").err
    assert everything_outside(workspace) == before


def test_another_environment_is_chosen_by_name(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    assert dsflow("--env", "prod", "run", "sales", LAST).exit_code == 0
    assert Datastore(production(workspace)).partitions("table", "sales") == [LAST]
    assert (production(workspace) / "job_runs" / "history.db").is_file()
    assert "sales" in dsflow("--env", "prod", "runs").out
    assert "No run yet" in dsflow("runs").err


def test_jobs_that_make_a_source_run_only_when_they_are_named(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(
        make_workspace,
        "sources:\n  sales: {sample: {rows: 2}}\n  customers: {environment: prod}\n  orders: {environment: prod}\n",
    )
    publish(workspace.datastore, "sales", LAST, "SELECT 'x' AS country, 7 AS orders, 0 AS amount FROM range(5)")
    done = dsflow("run", "+report", LAST, "--sample")
    assert "left out, as samples are read instead of what they make: sales" in done.err
    assert ask(samples(workspace), "SELECT orders FROM report") == [(14,)]
    assert list(dsflow("status", LAST, "--sample", "--json").document["grids"][0]["partitions"].values()) == ["fresh"]
    assert samples(workspace).names("table") == ["report", "sales"]
    assert dsflow("run", "sales", LAST, "--sample").exit_code == 0
    assert ask(samples(workspace), "SELECT sum(orders) FROM sales WHERE country <> 'x'")[0][0] > 14


def test_a_path_is_a_source_too_whatever_its_format(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    sources = """
sources:
  orders: {path: "files/{{ ds }}.csv", filter: "amount > 1", sample: {rows: 3}}
  customers: {path: "files/customers.json"}
"""
    rows = "id,customer_id,amount\n" + "".join(f"{i},{i % 4},{i}\n" for i in range(20))
    people = "".join(f'{{"id": {i}, "country": "fr"}}\n' for i in range(4))
    workspace = laptop(make_workspace, sources, files={f"files/{LAST}.csv": rows, "files/customers.json": people})
    done = dsflow("run", "+report", LAST, "--sample")
    assert done.exit_code == 0, done.err
    assert ask(samples(workspace), "SELECT orders FROM report") == [(3,)]
    missing = dsflow("sample", "fetch", "orders", FIRST)
    assert missing.exit_code == 2
    assert "source orders has nothing from" in missing.err


def test_a_job_that_reads_a_path_reads_its_sample(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    """The path is what ties them together: no name of a table is in the job."""
    address = "file:///nowhere/{{ ds }}.csv"
    files = {
        "jobs/report/job_specs.yaml": f"""
            version: 1
            kind: sql
            inputs: {{visits: {{path: "{address}"}}, stations: {{path: "https://example.invalid/stations.csv"}}}}
            output: {{table: report}}
        """,
        "jobs/report/query.sql": "SELECT count(*) AS n FROM visits",
    }
    workspace = laptop(make_workspace, f'sources:\n  visits: {{path: "{address}", sample: {{rows: 3}}}}\n', files=files)
    refused = dsflow("run", "report", LAST, "--sample", "--offline")
    assert refused.exit_code == 2
    assert "report reads https://example.invalid/stations.csv, and --offline reads only local copies" in refused.err
    sources = workspace.marker.read_text().replace("file:///nowhere", f"file://{workspace.root.parent}")
    workspace.marker.write_text(f'{sources}  stations: {{path: "https://example.invalid/stations.csv"}}\n')
    spec = workspace.jobs / "report" / "job_specs.yaml"
    spec.write_text(spec.read_text().replace("file:///nowhere", f"file://{workspace.root.parent}"))
    (workspace.root.parent / f"{LAST}.csv").write_text("n\n" + "1\n" * 50)
    missing = dsflow("run", "report", LAST, "--sample", "--offline")
    assert f"dsflow sample fetch visits {LAST}" in missing.err
    assert dsflow("sample", "fetch", "visits", LAST).exit_code == 0
    # No server answers at the other address; its sample is a table like any other.
    publish(samples(workspace).root, "stations", LAST, "SELECT 1 AS station")
    done = dsflow("run", "report", LAST, "--sample", "--offline")
    assert done.exit_code == 0, done.err
    assert ask(samples(workspace), "SELECT n FROM report") == [(3,)]


def test_raw_data_is_sampled_in_its_own_format(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace, "sources:\n  clicks: {raw: clicks, sample: {rows: 5}}\n  notes: {raw: notes}\n")
    clicks_then = '{"n": 1, "who": {"id": 7}}\n' * 50
    for name, text in (("clicks/ds=2026-11-01/a.json", clicks_then), ("notes/ds=2026-11-01/n.txt", "hm")):
        path = workspace.root / "datastore" / "raw" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert dsflow("sample", "fetch").exit_code == 0
    clicks = samples(workspace).partition("raw", "clicks", FIRST)
    notes = samples(workspace).partition("raw", "notes", FIRST)
    assert clicks
    assert clicks.files[0].read_text().count('{"n":1,"who":{"id":7}}') == 5
    assert notes
    assert notes.files[0].read_text() == "hm"


def test_raw_data_in_sub_folders_is_copied_as_it_is(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    folder = "datastore/raw/log/ds=2026-11-01"
    workspace = make_workspace({f"{folder}/{name}/a.csv": f"x\n{name}\n" for name in ("one", "two")})
    assert dsflow("sample", "fetch", "raw/log", "2026-11-01").exit_code == 0
    made = workspace.datastore / "sample" / "raw" / "log" / "ds=2026-11-01"
    assert {name: (made / name / "a.csv").read_text() for name in ("one", "two")} == {
        "one": "x\none\n",
        "two": "x\ntwo\n",
    }


def test_an_estimate_says_what_told_it_and_reads_hardly_anything(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    laptop(make_workspace)
    told = {one["source"]: one for one in dsflow("sample", "estimate", "--json").document["sources"]}
    fetched = dsflow("sample", "fetch", "--json").document["fetched"]
    for name, one in told.items():
        rows = sum(other["rows"] for other in fetched if other["source"] == name)
        assert one["told_by"] == "manifests"
        assert one["sample"]["rows"] == pytest.approx(rows, rel=0.35, abs=5), name
    assert "at most" not in dsflow("sample", "estimate").out


def test_a_filter_is_tried_where_that_costs_nothing(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    sources = """
sources:
  cheap: {path: rows.parquet, filter: kind = 3}
  dear: {path: rows.parquet, filter: length(text) = 32 AND kind = 3}
"""
    workspace = laptop(make_workspace, sources)
    engine = open_engine(threads=1)
    query = "SELECT i // 10000 % 10 AS kind, md5(i::VARCHAR) AS text FROM range(200000) t(i)"
    engine.write(engine.sql(query), workspace.root / "rows.parquet", "")
    engine.close()
    asked = dsflow("sample", "estimate", "--json")
    assert asked.exit_code == 0, asked.err
    told = {one["source"]: one for one in asked.document["sources"]}
    assert told["cheap"]["sample"]["rows"] == 20_000
    assert told["cheap"]["told_by"] == "footers; the filter tried on 1 of 1 files"
    assert told["cheap"]["bytes_read"] < 0.01 * told["cheap"]["whole"]["bytes"]
    assert not told["cheap"]["at_most"]
    assert told["dear"]["sample"]["rows"] == 200_000
    assert told["dear"]["at_most"]


def test_samples_are_listed_and_dropped_and_nothing_else_is(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    assert "No sample yet" in dsflow("sample", "list").err
    dsflow("run", "sales", LAST, "--sample")
    listed = dsflow("sample", "list", "--json").document
    assert [one["name"] for one in listed["samples"]] == ["customers", "orders"], "what was made of them is no sample"
    files = dsflow("sample", "list", "--files").out.split()
    assert all(Path(file).is_file() for file in files)
    assert len(files) == 4, "their files and manifests"
    assert dsflow("sample", "list", "--limit", "1k").exit_code == 2
    assert dsflow("sample", "list", "--limit", "1mb").exit_code == 0
    before = everything_outside(workspace)
    assert "did you mean 'orders'" in dsflow("sample", "drop", "order").err
    assert "nobody is there to be asked" in dsflow("sample", "drop").err
    assert dsflow("sample", "drop", "-y").exit_code == 0
    assert samples(workspace).names("table") == ["sales"] or samples(workspace).partitions("table", "orders") == []
    assert samples(workspace).partitions("table", "sales") == [LAST]
    assert everything_outside(workspace) == before


_PEOPLE = """
    DROP TABLE IF EXISTS people, visits;
    CREATE TABLE people AS SELECT i AS id, 'p' || i AS name, '{"a": 1}'::jsonb AS more, now() AS at
    FROM generate_series(1, 20000) i;
    CREATE TABLE visits AS SELECT i AS n, (i % 20000 + 1)::bigint AS person, DATE '2026-11-01' + i % 3 AS day
    FROM generate_series(1, 60000) i;
    ANALYZE people, visits
"""


@pytest.mark.postgres
def test_a_database_is_sampled_by_its_own_statistics_and_hash(
    make_workspace: MakeWorkspace, dsflow: Dsflow, postgres: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sa.create_engine(postgres, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in _PEOPLE.split(";"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    sources = """
sources:
  people: {url: $SHOP, sample: {key: person, share: 0.02}}
  visits:
    url: $SHOP
    query: "SELECT * FROM visits WHERE day = '{{ ds }}'"
    filter: n % 2 = 0
    sample: {key: person, share: 0.02}
  calls:
    url: $SHOP
    query: SELECT n AS call, person FROM visits WHERE n % 60000 < 20000
    sample: {key: person, of: people}
  local: {environment: prod, table: visits, sample: {key: person, share: 0.02}}
keys:
  person: [people.id, visits.person, calls.person, local.person]
"""
    monkeypatch.setenv("SHOP", postgres.render_as_string(hide_password=False))
    workspace = laptop(make_workspace, sources)
    publish(production(workspace), "visits", FIRST, "SELECT i::BIGINT AS person FROM range(1, 20001) t(i)")
    estimated = dsflow("sample", "estimate", "people", "visits", LAST, "--json").document
    told = {one["source"]: one for one in estimated["sources"]}
    assert told["people"]["told_by"] == "database statistics"
    assert told["people"]["whole"]["rows"] == pytest.approx(20_000, rel=0.15)
    assert told["people"]["sample"]["rows"] == pytest.approx(400, rel=0.15)
    done = dsflow("sample", "fetch", "people", "visits", LAST)
    assert done.exit_code == 0, done.err
    joined_people = "count(*) FILTER (person IN (SELECT id FROM people))"
    same = ask(samples(workspace), f"SELECT count(*), {joined_people}, bool_and(n % 2 = 0) FROM visits")
    [(visits, joined, even)] = same
    assert 150 < visits == joined
    assert even
    assert dsflow("sample", "fetch", "visits", "2020-01-01").exit_code == 0
    types = "SELECT DISTINCT typeof(n), typeof(person), typeof(day) FROM visits"
    assert len(ask(samples(workspace), types)) == 1, "a day without rows has columns of the same types"
    assert dsflow("sample", "fetch", "calls", LAST).exit_code == 0
    called = "SELECT count(*), bool_and(person IN (SELECT id FROM people)) FROM calls"
    assert ask(samples(workspace), called) == ask(samples(workspace), "SELECT count(*), true FROM people")
    own = {key for (key,) in ask(samples(workspace), "SELECT id FROM people")}
    dsflow("sample", "drop", "visits", "-y")
    assert dsflow("sample", "fetch", "local", FIRST).exit_code == 0
    # The database and DuckDB chose the same people.
    assert {key for (key,) in ask(samples(workspace), "SELECT person FROM visits")} == own
    workspace.marker.write_text(workspace.marker.read_text().replace("FROM visits WHERE", "FROM visitors WHERE"))
    wrong = dsflow("sample", "fetch", "visits", LAST)
    assert wrong.exit_code == 1
    assert 'relation "visitors" does not exist' in wrong.err
    monkeypatch.delenv("SHOP")
    assert "the variable SHOP is not set" in dsflow("sample", "fetch", "people", LAST).err


def test_a_database_file_is_read_and_never_written(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace, 'sources:\n  people: {url: "sqlite:///shop.db", filter: "name LIKE \'%1%\'"}\n')
    engine = sa.create_engine(f"sqlite:///{workspace.root}/shop.db", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE people (id INTEGER, name TEXT)")
        connection.exec_driver_sql("INSERT INTO people VALUES (1, 'p1'), (2, 'p2'), (3, NULL)")
    before = everything_outside(workspace)
    assert "counted by the database" in dsflow("sample", "estimate", "people", LAST).out
    assert dsflow("sample", "fetch", "people", LAST).exit_code == 0
    assert ask(samples(workspace), "SELECT id, name FROM people") == [(1, "p1")]
    assert everything_outside(workspace) == before


@pytest.mark.crash
def test_a_killed_fetch_leaves_old_samples_whole_and_the_same_command_goes_on(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    days = [f"2026-10-{day:02d}" for day in range(1, 31)]
    workspace = laptop(make_workspace, "sources:\n  orders: {environment: prod, sample: {rows: 200}}\n")
    for day in days:
        query = f"SELECT i AS id, '{day}' AS day, random() AS r FROM range(3000) t(i)"
        publish(production(workspace), "orders", day, query)
    before = everything_outside(workspace)
    fetch = [sys.executable, "-m", "dsflow", "sample", "fetch", "--force"]
    killed = 0
    for turn in range(6):
        started = subprocess.Popen(fetch, cwd=workspace.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = newest(samples(workspace).root)
        while started.poll() is None and newest(samples(workspace).root) == seen:
            time.sleep(0.01)
        time.sleep(0.05 * turn)
        started.send_signal(signal.SIGKILL)
        killed += started.wait() == -signal.SIGKILL
        for day in samples(workspace).partitions("table", "orders"):
            part = samples(workspace).partition("table", "orders", day)
            assert part
            assert part.manifest
            assert part.manifest.rows == 200
    assert killed > 3
    assert everything_outside(workspace) == before
    there = len(samples(workspace).partitions("table", "orders"))
    rest = dsflow("sample", "fetch", "--json").document["fetched"]
    assert len(rest) == len(days) + len(DAYS) - there
    assert ask(samples(workspace), "SELECT count(*), count(DISTINCT ds) FROM orders") == [(33 * 200, 33)]
    assert everything_outside(workspace) == before


def newest(folder: Path) -> int:
    """Give the time of the newest change in a folder."""
    times = [Path(place).stat().st_mtime_ns for place, _, _ in os.walk(folder) if Path(place).is_dir()]
    return max(times, default=0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who waits for a lock")
def test_a_sample_that_somebody_else_is_fetching_is_waited_for(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = laptop(make_workspace)
    assert dsflow("sample", "fetch", "orders", LAST).exit_code == 0
    with lock(samples(workspace).lock("table", "orders", LAST), "somebody else"):
        command = [sys.executable, "-m", "dsflow", "sample", "fetch", "orders", LAST, "--force"]
        fetch = subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.DEVNULL)
        for _ in range(600):
            if any("->" in line and f" {fetch.pid} " in line for line in Path("/proc/locks").read_text().splitlines()):
                break
            assert fetch.poll() is None
            time.sleep(0.05)
    assert fetch.wait(60) == 0
