"""What users of DDataFlow know of its object, behaviour by behaviour, on every engine."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dsflow.errors import JobFailed, UsageError
from dsflow.sampling import DDataFlow, DDataflow
from dsflow.sampling.refusals import (
    CopyNotFound,
    DataSourceNotFound,
    ProjectNotFound,
    WriterNotFoundException,
    WritingToLocationDenied,
)
from dsflow.sampling.sizes import BiggerThanMaxSize
from dsflow.spark import server, sessions
from tests.spark_server import MARKS, join


class World:
    """An engine with tables, and a home without samples."""

    def __init__(self, session: Any, home: Path) -> None:
        self.session = session
        self.home = home
        self.spark = not isinstance(session, duckdb.DuckDBPyConnection)
        self.local = home / ".ddataflow" / "proj"
        self.snapshot = home / ".ddataflow" / ".snapshot" / "proj"

    def project(self, **config: Any) -> DDataflow:
        return DDataflow(**{"project_folder_name": "proj", "engine": self.session, **config})

    def numbers(self, count: int) -> str:
        """A query with a column `id`."""
        return f"SELECT id FROM range({count})" if self.spark else f"SELECT range AS id FROM range({count})"

    def rows(self, query: str) -> Any:
        return self.session.sql(query)

    def table(self, name: str, query: str) -> None:
        made = "TEMPORARY VIEW" if self.spark else "VIEW"
        self.session.sql(f"CREATE OR REPLACE {made} {name} AS {query}")

    def ids(self, rows: Any) -> list[int]:
        """The first column."""
        found = rows.collect() if self.spark else rows.fetchall()
        return sorted(row[0] for row in found)

    def write(self, query: str, folder: Path) -> None:
        """Files that somebody else wrote."""
        if self.spark:
            self.rows(query).write.mode("overwrite").parquet(str(folder))
        else:
            folder.mkdir(parents=True)
            self.rows(query).write_parquet(str(folder / "a.parquet"))


@pytest.fixture(scope="module")
def spark_session(spark_server: server.Server) -> Iterator[Any]:
    """One session for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        join(spark_server, patch)
        session = sessions.open_session()
        yield session
        sessions.close_session(session)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a folder that is no workspace."""
    (tmp_path / "home").mkdir()
    (tmp_path / "code").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "code")
    return tmp_path / "home"


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=MARKS["spark"])])
def world(request: pytest.FixtureRequest, home: Path) -> World:
    """Tables `tour` (7 rows) and `days` (5 rows of yesterday, 5 of today)."""
    session = request.getfixturevalue("spark_session") if request.param == "spark" else duckdb.connect()
    made = World(session, home)
    made.table("tour", made.numbers(7))
    today = dt.datetime.now()
    yesterday = (today - dt.timedelta(days=1)).date()
    date = f"CASE WHEN id < 5 THEN '{yesterday}' ELSE '{today.date()}' END"
    made.table("days", f"SELECT id, {date} AS date FROM ({made.numbers(10)})")
    return made


def first(count: int) -> Callable[[Any], Any]:
    return lambda rows: rows.filter(f"id < {count}")


TOUR = {"tour": {"filter": first(3)}}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ---- 1 to 5: the configuration and the switches


def test_01_a_project_needs_a_name_and_knows_its_keys() -> None:
    DDataflow(project_folder_name="proj")
    assert DDataFlow is DDataflow
    with pytest.raises(TypeError, match="unknown key 'data_source'; did you mean 'data_sources'"):
        DDataflow(project_folder_name="proj", data_source={})
    with pytest.raises(TypeError, match=r"data_sources\['a'\]: unknown key 'filtr'; did you mean 'filter'"):
        DDataflow("proj", {"a": {"filtr": None}})
    with pytest.raises(TypeError, match="default_sampler: unknown key 'rows'"):
        DDataflow("proj", default_sampler={"rows": 3})
    with pytest.raises(TypeError, match=r"data_writers\['w'\]: unknown key 'writr'"):
        DDataflow("proj", data_writers={"w": {"writr": print}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"project_folder_name": "../x"}, "cannot be a project_folder_name"),
        ({"data_sources": {"a": {"filter": "x > 1"}}}, "'filter' must be a function"),
        ({"data_sources": {"a": {"file-type": "csv"}}}, "can only be 'parquet'"),
        ({"data_sources": {"a": {"default_sampling": "no"}}}, "must be True or False"),
        ({"data_sources": {"a/b": {}, "a_b": {}}}, "'a/b' and 'a_b' have the same folder 'a_b'"),
        ({"data_sources": {"..": {}}}, "cannot be the name of a source"),
        ({"data_sources": ["a"]}, "data_sources must be a dict"),
        ({"sources_with_default_sampling": "tour"}, "must be a list of names"),
        ({"data_writers": {"w": {}}}, "needs a function"),
        ({"default_sampler": {"limit": 0}}, "1 or more"),
        ({"data_source_size_limit_gb": "3"}, "must be a number of GB"),
        ({"engine": "duckdp", "default_database": "x"}, "no engine 'duckdp'; did you mean 'duckdb'"),
        ({"engine": 3, "default_database": "x"}, "is no session"),
    ],
)
def test_01_a_value_that_cannot_be_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DDataflow(**{"project_folder_name": "proj", **config})


def test_02_it_is_disabled_and_reads_production(world: World) -> None:
    project = world.project(data_sources=TOUR)
    assert project.is_enabled() is False
    assert len(world.ids(project.source("tour"))) == 7


def test_03_it_is_switched_on_and_off(world: World) -> None:
    project = world.project(data_sources=TOUR)
    project.enable()
    assert project.is_enabled() is True
    assert world.ids(project.source("tour")) == [0, 1, 2]
    project.disable()
    assert len(world.ids(project.source("tour"))) == 7


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("true", True),
        ("1", True),
        ("Yes", True),
        ("on", True),
        ("false", False),
        ("0", False),
        ("no", False),
        ("", False),
    ],
)
def test_04_the_environment_switches_it_by_what_it_says(
    monkeypatch: pytest.MonkeyPatch, text: str, enabled: bool
) -> None:
    monkeypatch.setenv("ENABLE_DDATAFLOW", text)
    assert DDataflow("proj").is_enabled() is enabled
    assert DDataflow("proj", enable_ddataflow=True).is_enabled() is enabled


@pytest.mark.parametrize("name", ["ENABLE_DDATAFLOW", "ENABLE_OFFLINE_MODE"])
def test_04_what_is_neither_true_nor_false_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "maybe")
    with pytest.raises(UsageError, match=f"{name}='maybe' is neither true nor false"):
        DDataflow("proj")


def test_05_offline_mode_is_enabled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DDataflow("proj", enable_ddataflow=True).is_local() is False
    monkeypatch.setenv("ENABLE_OFFLINE_MODE", "true")
    project = DDataflow("proj")
    assert (project.is_enabled(), project.is_local()) == (True, True)
    project.disable_offline()
    assert (project.is_enabled(), project.is_local()) == (True, False)
    monkeypatch.setenv("ENABLE_OFFLINE_MODE", "false")
    assert DDataflow("proj").is_enabled() is False


def test_05_offline_mode_ends_into_samples_and_not_into_production(capsys: pytest.CaptureFixture[str]) -> None:
    project = DDataflow("proj")
    project.enable_offline()
    project.disable()
    assert (project.is_enabled(), project.is_local()) == (True, True)
    assert "Offline mode is still on" in capsys.readouterr().out
    project.enable()
    project.disable_offline()
    assert (project.is_enabled(), project.is_local()) == (True, False)


# ---- 6 to 12: sources


def test_06_a_source_without_a_function_is_the_table_or_the_files_of_its_name(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "a=b" / "cleaned" / "EventName"
    world.write(world.numbers(4), folder)
    project = world.project(data_sources={"tour": {}, str(folder): {"file-type": "parquet"}})
    assert len(world.ids(project.source("tour"))) == 7
    rows = project.source(str(folder))
    assert (rows.columns, world.ids(rows)) == (["id"], [0, 1, 2, 3])


def test_06_a_function_may_do_without_the_session(world: World) -> None:
    project = world.project(data_sources={"a": {"source": lambda: world.rows("SELECT 1 AS id")}})
    assert world.ids(project.source("a")) == [1]


@pytest.mark.parametrize("type_", ["STRING", "DATE", "TIMESTAMP"])
def test_07_default_sampling_keeps_yesterday(world: World, type_: str) -> None:
    world.table("typed", f"SELECT id, CAST(date AS {type_}) AS date FROM days")
    project = world.project(data_sources={"typed": {"default_sampling": True}}, enable_ddataflow=True)
    assert world.ids(project.source("typed")) == [0, 1, 2, 3, 4]


def test_07_without_a_date_default_sampling_keeps_the_first_rows(world: World) -> None:
    world.table("many", world.numbers(100_010))
    project = world.project(data_sources={"many": {"default_sampling": True}}, enable_ddataflow=True)
    assert len(world.ids(project.source("many"))) == 100_000


def test_08_each_object_has_its_own_default_sampler(world: World) -> None:
    config: dict[str, Any] = {"data_sources": {"tour": {"default_sampling": True}}, "enable_ddataflow": True}
    assert len(world.ids(world.project(**config, default_sampler={"limit": 4}).source("tour"))) == 4
    assert len(world.ids(world.project(**config).source("tour"))) == 7


def test_09_a_filter_counts_instead_of_default_sampling(world: World) -> None:
    config = {"days": {"default_sampling": True, "filter": lambda rows: rows.filter("id >= 8")}}
    assert world.ids(world.project(data_sources=config, enable_ddataflow=True).source("days")) == [8, 9]


def test_10_a_source_that_nothing_makes_smaller_is_read_whole_and_says_so(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    project = world.project(data_sources={"tour": {}}, enable_ddataflow=True)
    assert len(world.ids(project.source("tour"))) == 7
    assert "No filter set for tour" in capsys.readouterr().out


def test_11_each_of_the_sources_with_default_sampling_is_its_own_table(world: World) -> None:
    world.table("a", "SELECT 1 AS id")
    world.table("b", "SELECT 2 AS id")
    project = world.project(sources_with_default_sampling=["a", "b", "tour"], data_sources=TOUR, enable_ddataflow=True)
    assert [world.ids(project.source(name)) for name in ("a", "b", "tour")] == [[1], [2], [0, 1, 2]]


def test_12_an_unknown_source_is_named_with_those_that_are_known(world: World) -> None:
    message = r"Data source does not exist tuor; did you mean 'tour'\? \(there are: tour, days\)"
    with pytest.raises(DataSourceNotFound, match=message):
        world.project(data_sources={"tour": {}, "days": {}}).source("tuor")


def test_12_a_function_that_fails_says_whose_it_was(world: World) -> None:
    config = {"tour": {"filter": lambda rows: os.environ["NO_SUCH_THING"]}, "none": {"source": lambda: None}}
    project = world.project(data_sources=config, enable_ddataflow=True)
    with pytest.raises(KeyError) as caught:
        project.source("tour")
    assert "That was the filter of 'tour', with the engine" in caught.value.__notes__[0]
    with pytest.raises(UsageError, match="the source 'none' gives nothing"):
        project.source("none")


# ---- 13 to 16: names and paths


def test_13_a_name_is_that_of_a_view_with_the_sample(world: World) -> None:
    project = world.project(data_sources=TOUR)
    assert project.name("tour") == project.source_name("tour") == "tour"
    project.enable()
    assert project.name("tour") == "proj_tour"
    assert world.ids(world.rows("SELECT id FROM proj_tour")) == [0, 1, 2]
    other = world.project(data_sources={"dwh.tour": {"source": lambda session: session.table("tour")}})
    other.enable()
    assert other.name("dwh.tour") == "proj_tour"
    assert len(world.ids(world.rows("SELECT id FROM proj_tour"))) == 7


@pytest.mark.parametrize(
    ("name", "view"), [("db.tour", "my_proj_db_tour"), ("/mnt/a-b", "my_proj__mnt_a_b"), ("dbfs:/x", "my_proj_dbfs__x")]
)
def test_14_every_name_becomes_one_that_a_query_can_use(world: World, name: str, view: str) -> None:
    config = {name: {"source": lambda session: session.table("tour"), "filter": first(2)}}
    project = world.project(project_folder_name="my-proj", data_sources=config, enable_ddataflow=True)
    assert project.name(name) == view
    assert world.ids(world.rows(f"SELECT id FROM {view}")) == [0, 1]


def test_14_two_sources_never_share_a_view(world: World) -> None:
    config = {name: {"source": lambda session: session.table("tour")} for name in ("db.tour", "db-tour")}
    project = world.project(data_sources=config, enable_ddataflow=True)
    project.name("db.tour")
    with pytest.raises(UsageError, match="'db.tour' and 'db-tour' would have one view, proj_db_tour"):
        project.name("db-tour")


def test_15_a_name_that_is_not_mapped_stays_as_it_is(world: World) -> None:
    project = world.project(data_sources=TOUR, enable_ddataflow=True)
    assert project.name("unmapped") == "unmapped"
    assert project.name("tour", disable_view_creation=True) == "proj_tour"
    with pytest.raises(Exception, match="proj_unseen|does not exist|cannot be found"):
        world.ids(world.rows("SELECT * FROM proj_unseen"))


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("dbfs:/mnt/x", "mnt/x"),
        ("s3://b/x", "b/x"),
        ("/mnt/x", "mnt/x"),
        ("file:///mnt/x", "mnt/x"),
        ("s3a://b//x/", "b/x/"),
        ("x", "x"),
        ("a/../b", "b"),
        ("dbfs:/", ""),
    ],
)
def test_16_a_path_leads_into_the_project(home: Path, path: str, inside: str) -> None:
    project = DDataflow("proj", snapshot_path="~/snap/")
    assert project.path(path) == path
    project.enable()
    assert project.path(path) == f"{home}/snap/proj/{inside}".removesuffix("/" if not inside else "")
    project.enable_offline()
    assert project.path(path).startswith(f"{home}/.ddataflow/proj")


@pytest.mark.parametrize("path", ["../x", "dbfs:/../x", "/a/../../x", "s3://../x", "file:/../../etc"])
def test_16_no_path_leads_out(path: str) -> None:
    with pytest.raises(WritingToLocationDenied, match="leads out of"):
        DDataflow("proj", enable_ddataflow=True).path(path)


def test_16_on_databricks_the_snapshot_is_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert DDataflow("proj", enable_ddataflow=True).path("dbfs:/mnt/x") == "dbfs:/ddataflow/proj/mnt/x"
    given = DDataflow("proj", snapshot_path="dbfs:/", enable_ddataflow=True)
    assert given.path("s3://b/x") == "dbfs:/proj/b/x"


# ---- 17 to 20: writing


def test_17_a_writer_that_is_not_there_is_named(world: World) -> None:
    project = world.project(data_writers={"report": {"writer": print}})
    for switch in (project.disable, project.enable):
        switch()
        with pytest.raises(WriterNotFoundException, match="data_writers has no writer 'reprot'; did you mean 'report'"):
            project.write(world.rows("SELECT 1 AS id"), "reprot")


def test_18_disabled_the_writer_is_called_once_and_nothing_else_is_written(world: World) -> None:
    calls: list[tuple[Any, ...]] = []
    project = world.project(data_writers={"w": {"writer": lambda *given: calls.append(given)}})
    rows = world.rows("SELECT 1 AS id")
    project.write(rows, "w")
    assert calls == [(rows, "w", world.session)]
    assert list(world.home.iterdir()) == []


def refuse(*given: Any) -> None:
    raise AssertionError("production was written")


def test_19_offline_what_is_written_stays_on_this_machine(world: World) -> None:
    project = world.project(data_writers={"db.w": {"writer": refuse}})
    project.enable_offline()
    for count in (3, 2):
        project.write(world.rows(world.numbers(count)), "db.w")
        assert world.ids(project.read("db.w")) == list(range(count))
    assert {name.split("/")[0] for name in files(world.local)} == {"db.w"}
    project.write(project.read("db.w").filter("id > 0"), "db.w")
    assert world.ids(project.read("db.w")) == [1]


def test_20_online_what_is_written_goes_to_the_snapshot_wherever_that_is(world: World, tmp_path: Path) -> None:
    for given, base in ((None, world.snapshot.parent), (str(tmp_path / "a b"), tmp_path / "a b")):
        project = world.project(data_writers={"a/w": {"writer": refuse}}, snapshot_path=given, enable_ddataflow=True)
        with pytest.raises(CopyNotFound, match="nothing was written as 'a/w'"):
            project.read("a/w")
        project.write(world.rows("SELECT 1 AS id"), "a/w")
        assert world.ids(project.read("a/w")) == [1]
        assert any(name.endswith(".parquet") for name in files(base / "proj" / "a_w"))
    assert not world.local.exists()


def test_20_a_write_that_fails_leaves_what_was_there(world: World) -> None:
    project = world.project(data_writers={"w": {"writer": refuse}}, enable_ddataflow=True)
    project.write(world.rows("SELECT 1 AS id"), "w")
    before = files(world.home)
    with pytest.raises(Exception, match=r"(?i)divi|conver|cast"):
        project.write(world.rows("SELECT CAST(text AS INT) AS id FROM (SELECT 'x' AS text)"), "w")
    assert world.ids(project.read("w")) == [1]
    assert files(world.home) == before


def test_20_the_copies_are_never_the_snapshot(home: Path) -> None:
    for path in ("~/.ddataflow", f"{home}/.ddataflow/proj", f"file:{home}/.ddataflow/proj/x"):
        with pytest.raises(UsageError, match="would be one folder"):
            DDataflow("proj", snapshot_path=path)


# ---- 21 to 27: samples


def test_21_saving_is_a_dry_run_unless_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.project(data_sources=TOUR).save_sampled_data_sources()
    assert "Not writing, dry run enabled" in capsys.readouterr().out
    assert list(world.home.iterdir()) == []


def test_22_each_sample_is_one_file(world: World) -> None:
    config = {
        "/mnt/foo/bar": {"source": lambda session: session.table("tour"), "filter": first(3)},
        "days": {"filter": lambda rows: rows.filter("id > 99")},
    }
    project = world.project(data_sources=config)
    with pytest.raises(DataSourceNotFound, match="does not exist zzz"):
        project.save_sampled_data_sources(dry_run=False, sample_only=["days", "zzz"])
    assert list(world.home.iterdir()) == []
    project.save_sampled_data_sources(dry_run=False, sample_only=["/mnt/foo/bar"])
    assert [path.name for path in world.snapshot.iterdir()] == ["_mnt_foo_bar"]
    project.save_sampled_data_sources(dry_run=False)
    for name in ("_mnt_foo_bar", "days"):
        assert len(list((world.snapshot / name).glob("*.parquet"))) == 1
    project.download_data_sources()
    project.enable_offline()
    assert world.ids(project.source("/mnt/foo/bar")) == [0, 1, 2]
    assert (project.source("days").columns, world.ids(project.source("days"))) == (["id", "date"], [])


def test_23_who_says_no_skips_one_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, questions = iter(["n", "y", "n", "y"]), []

    def answer(question: str) -> str:
        questions.append(question)
        return next(answers)

    monkeypatch.setattr("builtins.input", answer)
    project = world.project(data_sources={"tour": {}, "days": {}})
    project.save_sampled_data_sources(dry_run=False, ask_confirmation=True)
    assert [path.name for path in world.snapshot.iterdir()] == ["days"]
    assert questions == ["Do you want to proceed with the sampling creation? (y/n): "] * 2
    project.sample_and_download()
    assert [path.name for path in world.local.iterdir()] == ["days"]


def test_23_where_nobody_can_answer_nothing_is_saved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    world.project(data_sources=TOUR).save_sampled_data_sources(dry_run=False, ask_confirmation=True)
    assert list(world.home.iterdir()) == []
    sys.stdin.close()


def test_24_what_is_larger_than_the_limit_is_refused(world: World) -> None:
    project = world.project(data_sources={"tour": {}}, data_source_size_limit_gb=1e-7)
    for dry_run in (True, False):
        with pytest.raises(BiggerThanMaxSize) as caught:
            project.save_sampled_data_sources(dry_run=dry_run)
        assert caught.value.message == "the sample of tour has about 3.26e-07 GB, and the limit is 1e-07 GB"
        assert "data_source_size_limit_gb" in caught.value.hint
    assert list(world.home.iterdir()) == []


def test_25_the_size_is_rows_by_columns_by_50_bytes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ", ".join(f"id AS c{number}" for number in range(10))
    world.table("wide", f"SELECT {columns} FROM ({world.numbers(1_000_000)})")
    project = world.project(data_sources={"wide": {}, **TOUR})
    assert round(project.estimate_source_size("wide"), 4) == 0.4657
    assert "Estimated size of the Dataset in GB:  0.4657" in capsys.readouterr().out
    assert project.estimate_source_size("tour") == 3 * 50 / 1024**3
    with pytest.raises(DataSourceNotFound):
        project.estimate_source_size("nothing")


def test_26_offline_a_missing_copy_names_its_path_and_the_command(world: World) -> None:
    project = world.project(data_sources=TOUR)
    project.enable_offline()
    command = "`dsflow ddataflow current_project sample_and_download` fetches it"
    with pytest.raises(CopyNotFound, match=f"no local copy of tour at {world.local}/tour; {command}"):
        project.source("tour")


def saved(world: World, *names: str) -> DDataflow:
    project = world.project(data_sources={name: {"source": lambda s: s.table("tour")} for name in names})
    project.save_sampled_data_sources(dry_run=False)
    return project


def test_27_fetching_replaces_the_folder_of_the_project_and_no_other(world: World) -> None:
    project = saved(world, "a", "b")
    for name in ("proj/a/old", "proj/old/x", "other/a/x"):
        path = world.local.parent / name
        path.parent.mkdir(parents=True)
        path.write_text("old")
    project.download_data_sources()
    assert sorted(path.name for path in world.local.iterdir()) == ["a", "b"]
    assert files(world.local) == files(world.snapshot)
    assert files(world.local.parent / "other") == {"a/x"}


def test_27_without_overwrite_only_what_is_missing_is_fetched(world: World) -> None:
    project = saved(world, "a", "b")
    (world.local / "a").mkdir(parents=True)
    (world.local / "a" / "mine").write_text("mine")
    project.download_data_sources(overwrite=False)
    assert files(world.local / "a") == {"mine"}
    assert files(world.local / "b") == files(world.snapshot / "b")


def test_27_a_copy_that_fails_leaves_the_old_one(world: World) -> None:
    project = saved(world, "a", "b")
    project.download_data_sources()
    before = files(world.local)
    for path in (world.snapshot / "b").iterdir():
        path.unlink()
    (world.snapshot / "b").rmdir()
    with pytest.raises(CopyNotFound, match="no sample at"):
        project.download_data_sources()
    assert files(world.local) == before
    assert [path.name for path in (world.local.parent / ".staging").iterdir()] == ["gate"]


DATABRICKS = """#!/bin/sh
echo "$@" >> "$HOME/calls"
shift 3
[ "$1" = dbfs:/s/proj/bad ] && { mkdir -p "$2"; exit 3; }
mkdir -p "$2" && echo "$1" > "$2/part.parquet"
"""


@pytest.fixture
def databricks(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for a program that needs an account, as far as its arguments and its exit code go."""
    folder = home.parent / "bin"
    folder.mkdir()
    (folder / "databricks").write_text(DATABRICKS)
    (folder / "databricks").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return home / "calls"


def test_27_from_databricks_its_own_command_line_copies(databricks: Path, home: Path) -> None:
    local = home / ".ddataflow" / "proj"
    DDataflow("proj", {"a/b; rm -rf ~": {}}, snapshot_path="dbfs:/s").download_data_sources()
    assert (local / "a_b; rm -rf ~" / "part.parquet").read_text() == "dbfs:/s/proj/a_b; rm -rf ~\n"
    assert databricks.read_text().startswith("fs cp -r dbfs:/s/proj/a_b; rm -rf ~ ")
    with pytest.raises(JobFailed, match="the Databricks command line failed: databricks fs cp -r dbfs:/s/proj/bad"):
        DDataflow("proj", {"bad": {}}, snapshot_path="dbfs:/s").download_data_sources()
    assert files(local) == {"a_b; rm -rf ~/part.parquet"}


def test_27_other_file_systems_are_those_of_fsspec(home: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/lake/proj/a/part.parquet", b"x")
    DDataflow("proj", {"a": {}}, snapshot_path="memory://lake").download_data_sources()
    assert (home / ".ddataflow" / "proj" / "a" / "part.parquet").read_bytes() == b"x"
    with pytest.raises(JobFailed, match="memory://lake/proj/b is no folder"):
        DDataflow("proj", {"a": {}, "b": {}}, snapshot_path="memory://lake").download_data_sources()
    assert files(home / ".ddataflow" / "proj") == {"a/part.parquet"}


KILLED = """
import os, signal, sys
from pathlib import Path
from dsflow.sampling import ddataflow
from dsflow.sampling.ddataflow import DDataflow
whole = ddataflow.copy_folder
def copy(address, into, debug):
    whole(address, into, debug=debug)
    if sys.argv[1] in address:
        os.kill(os.getpid(), signal.SIGKILL)
ddataflow.copy_folder = copy
DDataflow("proj", {"a": {}, "b": {}}, engine="duckdb").download_data_sources()
"""


@pytest.mark.parametrize("moment", ["proj/a", "proj/b"])
def test_27_a_fetch_that_is_killed_changes_nothing_and_the_next_one_cleans_up(home: Path, moment: str) -> None:
    base = home / ".ddataflow"
    for place in (".snapshot/proj/a", ".snapshot/proj/b", "proj/a", "other/a"):
        (base / place).mkdir(parents=True)
        (base / place / "part.parquet").write_text(place)
    done = subprocess.run([sys.executable, "-c", KILLED, moment], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert (base / "proj" / "a" / "part.parquet").read_text() == "proj/a"
    assert files(base / "proj") == {"a/part.parquet"}
    assert any(name.endswith("part.parquet") for name in files(base / ".staging"))
    DDataflow("proj", {"a": {}, "b": {}}).download_data_sources()
    assert files(base) == {
        *(f"{place}/{name}/part.parquet" for place in (".snapshot/proj", "proj") for name in "ab"),
        "other/a/part.parquet",
        ".staging/gate",
    }
    assert (base / "proj" / "a" / "part.parquet").read_text() == ".snapshot/proj/a"


# ---- 28 to 30: the project, and the rest


def test_28_a_project_begins_with_a_file_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DDataflow.setup_project()
    file = Path("ddataflow_config.py")
    project = DDataflow.current_project()
    assert project.name("events") == "events"
    assert DDataflow.current_project() is project
    file.write_text("mine")
    with pytest.raises(UsageError, match="ddataflow_config.py is there already") as caught:
        DDataflow.setup_project()
    assert file.read_text() == "mine"
    assert "--force" in caught.value.hint
    DDataflow.setup_project(force=True)
    assert "ddataflow_client" in file.read_text()


def test_28_the_pipeline_and_the_command_line_have_one_object(tmp_path: Path) -> None:
    DDataflow.setup_project()
    code = "from ddataflow_config import ddataflow_client as c\nfrom dsflow.sampling import DDataflow as D\n"
    command = [sys.executable, "-c", f"{code}assert D.current_project() is c"]
    environment = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from dsflow.sampling import DDataflow\nddataflow = DDataflow('one')", "one_t"),
        ("config = {'project_folder_name': 'two', 'data_sources': {'t': {}}}", "two_t"),
    ],
)
def test_28_a_project_is_an_object_or_a_mapping(tmp_path: Path, text: str, name: str) -> None:
    Path("dsflow_sources.py").write_text(text)
    Path("deeper").mkdir()
    os.chdir("deeper")
    project = DDataflow.current_project()
    project.enable()
    assert project.path("t").split("/")[-2:] == [name.removesuffix("_t"), "t"]


def test_28_projects_of_the_same_name_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        Path(name).mkdir()
        (Path(name) / "helping.py").write_text(f"NAME = '{name}'")
        text = f"from dsflow.sampling import DDataflow\nddataflow = DDataflow('{name}', enable_ddataflow=True)"
        (Path(name) / "ddataflow_config.py").write_text(text)
    for name in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / "code" / name)
        assert DDataflow.current_project().path("x").endswith(f"{name}/x")


def test_29_without_a_project_the_command_that_makes_one_is_named(dsflow: Callable[..., Any]) -> None:
    with pytest.raises(ProjectNotFound, match="`dsflow ddataflow setup_project` writes one"):
        DDataflow.current_project()
    screen = dsflow("ddataflow", "current_project", "print_status")
    assert screen.exit_code == 2
    assert "there is no dsflow_sources.py or ddataflow_config.py" in screen.err
    assert "`dsflow ddataflow setup_project`" in screen.err
    Path("ddataflow_config.py").write_text("x = 1")
    assert "defines no ddataflow_client" in dsflow("ddataflow", "current_project").err


def test_30_the_status_is_visible_in_every_mode(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = DDataflow("proj")
    said = []
    for switch in (project.disable, project.enable, project.enable_offline):
        switch()
        project.print_status()
        said.append(capsys.readouterr().out)
    assert said[0] == "DDataflow is DISABLED: it reads production, and writes there.\n"
    assert said[1].startswith("DDataflow is ONLINE")
    assert said[1].endswith(f"{home}/.ddataflow/.snapshot/proj.\n")
    assert said[2].startswith(f"DDataflow is OFFLINE: it reads the copies in {home}/.ddataflow/proj,")


def test_30_an_experiment_goes_to_the_folder_of_samples(home: Path) -> None:
    project = DDataflow("proj", snapshot_path="/snap")
    assert project.get_mlflow_path("/a/b/M") == "/a/b/M"
    project.enable()
    assert project.get_mlflow_path("/a/b/M") == "/snap/proj/M"
    project.enable_offline()
    assert project.get_mlflow_path("/a/b/M/") == f"{home}/.ddataflow/proj/M"


def test_30_the_database_is_one_for_samples(world: World) -> None:
    def current() -> str:
        found = world.rows("SELECT current_schema() AS name")
        return str((found.collect() if world.spark else found.fetchall())[0][0])

    before = current()
    try:
        project = world.project(default_database="mydb", enable_ddataflow=True)
        assert current() == "ddataflow_mydb"
        project.disable()
        assert current() == "mydb"
        project.enable()
        project.set_up_database("other")
        assert current() == "ddataflow_other"
    finally:
        world.session.sql(f"USE {before}")
