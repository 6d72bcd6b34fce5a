"""What is particular to the SQLite file, to URLs and to start-up; what every database must do is in `contracts/`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.history import History
from dsflow.history_tables import MIGRATIONS
from dsflow.model import LogLine, Notice, Progress, RunFinished
from dsflow.records import Broken, Record, scan
from dsflow.specs.load import load_workspace
from tests.conftest import MakeWorkspace
from tests.samples import sample_outcome, sample_task, write_run


def test_importing_the_history_does_not_import_sqlalchemy() -> None:
    code = "import sys, dsflow.history; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_default_is_a_file_in_wal_mode_beside_the_run_folders(tmp_path: Path) -> None:
    History(None, tmp_path)(RunFinished(task=sample_task(), outcome=sample_outcome()))
    assert [path.name for path in (tmp_path / "job_runs").iterdir()] == ["history.db"]
    with sqlite3.connect(tmp_path / "job_runs" / "history.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT max(version) FROM dsflow_schema").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_nothing_is_opened_before_a_run_starts(tmp_path: Path) -> None:
    history = History(None, tmp_path)
    for event in (
        Notice(text="x"),
        LogLine(task=sample_task(), text="x"),
        Progress(task=sample_task(), done=1, total=2),
    ):
        history(event)
    assert list(tmp_path.iterdir()) == []


def test_the_workspace_file_names_the_database(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"dsflow.yml": "version: 1\nhistory: sqlite:///my runs.db\n"})
    History.open(workspace, load_workspace(workspace))(RunFinished(task=sample_task(), outcome=sample_outcome()))
    assert (workspace.root / "my runs.db").is_file()
    assert not (workspace.datastore / "job_runs").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/x", "not in mysql"),
        ("postgressql://host/x", "not in postgressql; did you mean 'postgresql'?"),
        ("nonsense", "not a database URL"),
        ("", "not a database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql://host:port/x", "not a database URL"),
    ],
)
def test_a_url_that_cannot_work_is_a_usage_error(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        History(url, tmp_path).runs()
    assert error.value.message.startswith("history: ")
    assert message in error.value.message


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing) as error:
        History("postgresql://ada:hunter2@127.0.0.1:1/runs", tmp_path).runs()
    assert "run history postgresql+psycopg://ada:***@127.0.0.1:1/runs: " in error.value.message
    assert "hunter2" not in error.value.message + error.value.hint


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "job_runs").mkdir()
    (tmp_path / "job_runs" / "history.db").write_text("no database" * 1000)
    with pytest.raises(EnvironmentMissing, match="history.db: file is not a database"):
        History(None, tmp_path)(RunFinished(task=sample_task(), outcome=sample_outcome()))


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "job_runs").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentMissing, match="job_runs"):
        History(None, tmp_path).runs()


def test_a_scan_gives_the_records_and_the_broken_folders_and_can_leave_some_out(tmp_path: Path) -> None:
    write_run(tmp_path, sample_task("a"), sample_outcome("a"))
    write_run(tmp_path, sample_task("b"), sample_outcome("b"))
    (write_run(tmp_path, sample_task("c"), sample_outcome("c")) / "task.json").unlink()
    found = list(scan(tmp_path, skip={"b"}))
    assert [record.run_id for record in found if isinstance(record, Record)] == ["a"]
    assert [broken.folder.name for broken in found if isinstance(broken, Broken)] == ["c"]
    assert list(scan(tmp_path / "nowhere")) == []
