"""What every database of runs must do, SQLite and PostgreSQL alike."""

from __future__ import annotations

import dataclasses
import datetime as dt
import multiprocessing
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dsflow import history_tables
from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.history import History
from dsflow.model import Check, Failure, Output, RunFinished, RunStarted, Status
from dsflow.records import Checked, Look, checked_of, keep_look
from tests.samples import failed_outcome, sample_outcome, sample_task, write_run

MakeHistory = Callable[[], History]


def id_of(number: int) -> str:
    return f"20261120T0435{number:02d}-00000{number % 10}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def make_history(request: pytest.FixtureRequest, tmp_path: Path) -> MakeHistory:
    """Gives what opens the same empty database, each time as another process would."""
    (tmp_path / "datastore").mkdir()
    if request.param == "sqlite":
        return lambda: History(None, tmp_path / "datastore")
    server: sa.URL = request.getfixturevalue("postgres")
    name = f"h{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = server.set(database=name, drivername="postgresql").render_as_string()
    return lambda: History(url, tmp_path / "datastore")


@pytest.fixture
def datastore(tmp_path: Path) -> Path:
    return tmp_path / "datastore"


@pytest.fixture
def history(make_history: MakeHistory) -> History:
    return make_history()


def test_a_started_run_is_running_and_a_finished_one_complete(history: History, datastore: Path) -> None:
    task = sample_task(created=dt.datetime.now(dt.UTC).isoformat())
    write_run(datastore, task)
    history(RunStarted(task=task))
    assert [(r.run_id, r.status, r.finished) for r in history.runs()] == [(task.run_id, "running", None)]
    history(RunFinished(task=task, outcome=sample_outcome()))
    (record,) = history.runs()
    assert {name: value for name, value in dataclasses.asdict(record).items() if name != "checked"} == {
        "run_id": task.run_id,
        "job": "create-table-rain",
        "ds": "2026-11-20",
        "kind": "notebook",
        "status": "succeeded",
        "exit_code": 0,
        "started": "2026-11-20T04:35:12.000+00:00",
        "finished": "2026-11-20T04:35:16.200+00:00",
        "seconds": 4.2,
        "runtime": "docker",
        "image": "dsflow/python",
        "git_revision": "4f2a9d1c7e",
        "parameters": {"city": "paris", "hours": 24},
        "rows": 26_115,
        "output": "tables/fct_rain",
        "error": None,
        "folder": task.folder,
    }


def test_a_finish_without_a_start_is_recorded_too(history: History) -> None:
    history(RunFinished(task=sample_task(), outcome=failed_outcome()))
    assert history.get().error == "KeyError: 'rian'"


def test_a_start_that_arrives_late_changes_nothing(history: History) -> None:
    history(RunFinished(task=sample_task(), outcome=sample_outcome()))
    history(RunStarted(task=sample_task()))
    assert history.get().status == "succeeded"


def test_runs_are_listed_newest_first_and_can_be_filtered(history: History) -> None:
    for number, (job, ds) in enumerate([("a", "2026-11-18"), ("b", "2026-11-19"), ("a", "2026-11-20")]):
        task = sample_task(id_of(number), job=job, ds=ds)
        ending = failed_outcome if job == "b" else sample_outcome
        started = f"2026-11-20T04:3{number}:00+00:00"
        history(RunFinished(task=task, outcome=ending(id_of(number), started=started)))

    def found(**filters: object) -> list[str]:
        return [record.ds[-2:] for record in history.runs(**filters)]  # type: ignore[arg-type]

    assert found() == ["20", "19", "18"]
    assert found(limit=2) == ["20", "19"]
    assert found(job="a") == ["20", "18"]
    assert found(ds="2026-11-19") == ["19"]
    assert found(status="failed") == ["19"]
    assert found(job="a", status="failed") == []
    # 05:31 in Paris is 04:31 in UTC
    paris = dt.timezone(dt.timedelta(hours=1))
    assert found(since=dt.datetime(2026, 11, 20, 5, 31, tzinfo=paris)) == ["20", "19"]
    assert history.last().ds == "2026-11-20"
    assert history.last(failed=True).ds == "2026-11-19"


def test_a_run_is_found_by_the_beginning_of_its_id(history: History) -> None:
    for number in (1, 2, 13):
        history(RunFinished(task=sample_task(id_of(number)), outcome=sample_outcome(id_of(number))))
    assert history.get(id_of(2)).run_id == id_of(2)
    assert history.get("20261120T043513").run_id == id_of(13)
    with pytest.raises(UsageError, match=r"several runs begin with '20261120T04350'.*043502-000002, 20261120T043501"):
        history.get("20261120T04350")
    with pytest.raises(UsageError, match=r"no run '20261120T043501-00001'; did you mean '20261120T043501-000001'\?"):
        history.get("20261120T043501-00001")
    for hostile in ("%", "_", "'; DROP TABLE dsflow_runs; --", "\udcff", "\\"):
        with pytest.raises(UsageError, match="there is no run"):
            history.get(hostile)
    assert len(history.runs()) == 3


def test_an_empty_history_says_what_makes_a_run(history: History) -> None:
    assert history.runs() == []
    with pytest.raises(UsageError, match="there is no run yet") as error:
        history.get("last")
    assert "dsflow run JOB" in error.value.hint
    with pytest.raises(UsageError, match="there is no failed run"):
        history.last(failed=True)


@pytest.mark.parametrize(
    "text", ["naïve 😀 日本語", "NUL \x00 inside", "half \ud83d surrogate", '\'; -- "quoted" %s :x {}']
)
def test_any_text_can_be_recorded(history: History, text: str) -> None:
    failure = Failure(kind="JobFailed", message=text)
    task = sample_task(parameters={"text": text, text: [text]})
    history(RunFinished(task=task, outcome=failed_outcome(failure=failure)))
    record = history.get()
    storable = "\x00" not in text and "\ud83d" not in text
    assert record.error == (text if storable else text.replace("\x00", "�").replace("\ud83d", "�"))
    assert set(record.parameters) >= {"text"}
    assert record.parameters["text"] == (text if "\ud83d" not in text else "half ? surrogate")


def test_secret_parameters_are_not_recorded(history: History) -> None:
    task = sample_task(parameters={"door": "hunter2", "api_token": "hunter3"}, secret_parameters=("door",))
    history(RunFinished(task=task, outcome=sample_outcome()))
    assert history.get().parameters == {}


def test_a_running_row_whose_folder_has_an_outcome_is_settled_on_sight(history: History, datastore: Path) -> None:
    task = sample_task()
    history(RunStarted(task=task))
    write_run(datastore, task, failed_outcome())
    assert history.get(task.run_id).status == "failed"
    assert [record.exit_code for record in history.runs(status="failed")] == [1]


def test_a_run_without_an_outcome_is_running_until_its_timeout_and_failed_after(
    history: History, datastore: Path
) -> None:
    now = dt.datetime.now(dt.UTC)
    fresh = sample_task(id_of(1), created=now.isoformat())
    stale = sample_task(id_of(2), created=(now - dt.timedelta(days=2)).isoformat())
    gone = sample_task(id_of(3), created=now.isoformat())
    for task in (fresh, stale, gone):
        history(RunStarted(task=task))
    write_run(datastore, fresh)
    write_run(datastore, stale)
    assert {r.run_id: (r.status, r.error) for r in history.runs()} == {
        fresh.run_id: ("running", None),
        stale.run_id: ("failed", "ended without an outcome"),
        gone.run_id: ("failed", "its run folder is gone or damaged"),
    }


def test_rebuild_makes_the_same_rows_from_the_run_folders(history: History, datastore: Path) -> None:
    for number in range(5):
        task = sample_task(id_of(number), kind="sql")
        outcome = (failed_outcome if number == 3 else sample_outcome)(id_of(number))
        history(RunFinished(task=task, outcome=outcome))
        write_run(datastore, task, outcome)
    before = history.runs()
    history(RunFinished(task=sample_task("no-folder"), outcome=sample_outcome("no-folder")))
    rebuilt = history.rebuild()
    assert (rebuilt.runs, rebuilt.broken) == (5, ())
    assert history.runs() == before


def test_rebuild_reports_broken_folders_and_goes_on(history: History, datastore: Path) -> None:
    write_run(datastore, sample_task(id_of(0)), sample_outcome(id_of(0)))
    damage: dict[int, tuple[str, str]] = {
        1: ("task.json", "{"),
        2: ("outcome.json", "[]"),
        3: ("outcome.json", '{"run_id": "x"}'),
        4: ("task.json", "\udcff"),
        5: ("task.json", "[" * 100_000),
    }
    for number, (name, text) in damage.items():
        folder = write_run(datastore, sample_task(id_of(number)), sample_outcome(id_of(number)))
        (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    copied = write_run(datastore, sample_task(id_of(6)), sample_outcome(id_of(6)))
    copied.rename(copied.with_name("copy-of-it"))
    (datastore / "job_runs" / "create-table-rain" / "ds=2026-11-20" / "empty").mkdir()
    rebuilt = history.rebuild()
    assert rebuilt.runs == 1
    names = {broken.folder.name for broken in rebuilt.broken}
    assert names == {*map(id_of, damage), "copy-of-it", "empty"}
    assert all(broken.reason for broken in rebuilt.broken)


def test_a_value_of_a_wrong_type_makes_a_folder_broken_not_the_rebuild_fail(history: History, datastore: Path) -> None:
    folder = write_run(datastore, sample_task(), sample_outcome())
    text = (folder / "outcome.json").read_text().replace('"seconds": 4.2', '"seconds": "long"')
    (folder / "outcome.json").write_text(text)
    assert [broken.folder for broken in history.rebuild().broken] == [folder]


def write_runs(make_history: MakeHistory, worker: int, count: int) -> None:
    history = make_history()
    for number in range(count):
        run_id = f"20261120T043512-{worker:02d}{number:04d}"
        task = sample_task(run_id, created=dt.datetime.now(dt.UTC).isoformat())
        history(RunStarted(task=task))
        history(RunFinished(task=task, outcome=sample_outcome(run_id)))


def at_once(jobs: list[Callable[[], object]]) -> list[int | None]:
    """Run functions in processes of their own, all at the same time, and give their exit codes."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(len(jobs))

    def begin(job: Callable[[], object]) -> None:
        start.wait()
        job()

    processes = [fork.Process(target=begin, args=(job,)) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_eight_processes_create_and_write_at_once(make_history: MakeHistory) -> None:
    codes = at_once([lambda worker=worker: write_runs(make_history, worker, 25) for worker in range(8)])  # type: ignore[misc]
    assert codes == [0] * 8
    records = make_history().runs(limit=1000)
    assert len(records) == 200
    assert {record.status for record in records} == {Status.SUCCEEDED}


def test_runs_that_end_during_a_rebuild_are_kept(make_history: MakeHistory, datastore: Path) -> None:
    for number in range(30):
        write_run(datastore, sample_task(id_of(number)), sample_outcome(id_of(number)))

    def work() -> None:
        history = make_history()
        for number in range(30, 60):
            task = sample_task(id_of(number), created=dt.datetime.now(dt.UTC).isoformat())
            folder = write_run(datastore, task)
            history(RunStarted(task=task))
            write_run_outcome(folder, id_of(number))
            history(RunFinished(task=task, outcome=sample_outcome(id_of(number))))

    assert at_once([work, *(lambda: [make_history().rebuild() for _ in range(5)] for _ in range(2))]) == [0, 0, 0]
    assert {(r.run_id, r.status) for r in make_history().runs(limit=100)} == {
        (id_of(number), "succeeded") for number in range(60)
    }


def write_run_outcome(folder: Path, run_id: str) -> None:
    from dsflow.model import to_json

    (folder / "new").write_text(to_json(sample_outcome(run_id)))
    (folder / "new").rename(folder / "outcome.json")


def test_an_older_database_is_migrated_once_and_keeps_its_rows(
    make_history: MakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_history()(RunFinished(task=sample_task(), outcome=sample_outcome()))
    later = (
        *history_tables.MIGRATIONS,
        ("CREATE TABLE dsflow_notes (run_id TEXT)", "INSERT INTO dsflow_notes VALUES ('x')"),
    )
    monkeypatch.setattr(history_tables, "MIGRATIONS", later)
    # A migration that ran twice would fail: the table is there already.
    assert at_once([lambda: make_history().runs() for _ in range(4)]) == [0] * 4
    assert make_history().get().rows == 26_115


def test_a_database_without_verdicts_gets_them_from_the_run_folders(
    make_history: MakeHistory, datastore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = history_tables.MIGRATIONS
    monkeypatch.setattr(history_tables, "MIGRATIONS", today[:1])
    monkeypatch.setattr(history_tables, "save_checks", lambda connection, checked: None)
    task = sample_task()
    make_history()(RunFinished(task=task, outcome=sample_outcome()))
    write_run(datastore, task, sample_outcome())
    monkeypatch.undo()
    history = make_history()
    assert [record.run_id for record in history.runs()] == [task.run_id]
    assert history.checked("tables/fct_rain") == []
    history.rebuild()
    assert [one.name for one in history.checked("tables/fct_rain")] == ["rain_not_negative"]


def checks(*violations: int) -> tuple[Check, ...]:
    return tuple(
        Check(name=f"rule {number}", constraint=f"x > {number}", action="drop", rows=100, violations=broken)
        for number, broken in enumerate(violations)
    )


def test_the_last_verdict_on_each_expectation_is_kept_for_each_ds(history: History) -> None:
    def run(number: int, ds: str, *violations: int) -> None:
        output = Output(store="table", name="fct_rain", ds=ds)
        task = sample_task(id_of(number), ds=ds, output=output)
        finished = f"2026-11-20T05:00:0{number}+00:00"
        history(
            RunFinished(task=task, outcome=sample_outcome(id_of(number), checks=checks(*violations), finished=finished))
        )

    run(1, "2026-11-19", 3, 0)
    run(2, "2026-11-20", 1)
    run(3, "2026-11-19", 2, 5)
    run(3, "2026-11-19", 2, 6)  # told twice
    found = history.checked("tables/fct_rain")
    assert [(one.ds, one.name, one.violations, one.run_id) for one in found] == [
        ("2026-11-19", "rule 0", 2, id_of(3)),
        ("2026-11-19", "rule 1", 6, id_of(3)),
        ("2026-11-20", "rule 0", 1, id_of(2)),
    ]
    assert found[0] == Checked(
        run_id=id_of(3),
        dataset="tables/fct_rain",
        ds="2026-11-19",
        number=0,
        name="rule 0",
        condition="x > 0",
        action="drop",
        severity="warn",
        rows=100,
        violations=2,
        verdict="dropped",
        at="2026-11-20T05:00:03.000+00:00",
    )
    assert history.checked("tables/other") == []


def test_verdicts_of_a_run_that_failed_are_kept_too(history: History) -> None:
    failed = tuple(dataclasses.replace(check, action="fail") for check in checks(7))
    history(RunFinished(task=sample_task(), outcome=failed_outcome(checks=failed)))
    [one] = history.checked("tables/fct_rain")
    assert (one.verdict, one.violations) == ("failed", 7)


def test_rebuild_makes_the_same_verdicts_from_the_folders_and_from_what_was_checked_later(
    history: History, datastore: Path
) -> None:
    for number in range(3):
        task, outcome = sample_task(id_of(number), ds=f"2026-11-2{number}"), sample_outcome(id_of(number))
        history(RunFinished(task=task, outcome=outcome))
        write_run(datastore, task, outcome)
    later = checked_of(checks(9), "check-1", "tables/fct_rain", "2026-11-20", "2026-11-21T00:00:00.000+00:00")
    history.record_look(later)
    keep_look(datastore, Look(run_id="check-1", checked=later))
    (datastore / ".dsflow" / "checks" / "damaged.json").write_text("{", "utf-8")
    before = history.checked("tables/fct_rain")
    assert [(one.ds, one.name) for one in before] == [
        ("2026-11-20", "rain_not_negative"),
        ("2026-11-20", "rule 0"),
        ("2026-11-21", "rain_not_negative"),
        ("2026-11-22", "rain_not_negative"),
    ]
    history.rebuild()
    assert history.checked("tables/fct_rain") == before


def test_a_database_of_a_newer_dsflow_is_refused(make_history: MakeHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    make_history().runs()
    monkeypatch.setattr(history_tables, "MIGRATIONS", ())
    with pytest.raises(
        EnvironmentMissing, match="made by a newer dsflow .its schema is version 2, this dsflow knows 0"
    ):
        make_history().runs()
