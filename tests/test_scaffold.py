"""`dsflow init` and the workspace of `dsflow demo`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.generate.scaffold import SAMPLE_DASHBOARD, SAMPLE_JOBS, make_workspace, sample_workspace
from dsflow.specs.load import load_job, load_workspace
from dsflow.workspace import Workspace
from tests.conftest import Screen

Command = Callable[..., Screen]
ROOT = Path(__file__).parent.parent
STORM = "2013-02-09"


def test_a_new_workspace_has_its_folders_and_valid_settings(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "new" / 'the "best" one: 100%')
    assert Workspace.find(workspace.jobs) == workspace
    assert all(folder.is_dir() for folder in (workspace.jobs, workspace.datastore, workspace.adhoc, workspace.dags))
    assert load_workspace(workspace).name == 'the "best" one: 100%'
    assert workspace.job_names() == []


def test_files_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "notes.txt").write_text("mine too")
    make_workspace(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"
    assert (tmp_path / "jobs" / "notes.txt").read_text() == "mine too"


def test_a_workspace_is_not_made_over_another_one(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    (tmp_path / "dsflow.yml").write_text("version: 1\nname: mine\n")
    with pytest.raises(UsageError, match="is a workspace already"):
        make_workspace(tmp_path)
    assert (tmp_path / "dsflow.yml").read_text() == "version: 1\nname: mine\n"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; a folder is needed there"):
        make_workspace(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(EnvironmentMissing, match="cannot write /proc/nowhere"):
        make_workspace(Path("/proc/nowhere"))


def test_init_ends_with_what_to_type_next(tmp_path: Path, dsflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    screen = dsflow("init", "my data")
    assert screen.exit_code == 0
    assert screen.out.splitlines() == [
        f"{tmp_path}/my data is a workspace now. Next:",
        "  cd 'my data'",
        "  dsflow generate-job",
        "  dsflow doctor",
    ]
    assert dsflow("init", "my data").exit_code == 2


def test_init_without_a_folder_takes_the_current_one(
    tmp_path: Path, dsflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    screen = dsflow("init", "--json")
    assert screen.document == {"workspace": str(tmp_path)}
    assert (tmp_path / "dsflow.yml").is_file()


def test_the_sample_workspace_has_valid_jobs_and_its_data(tmp_path: Path) -> None:
    workspace = sample_workspace(tmp_path / "demo")
    assert workspace.job_names() == sorted((*SAMPLE_JOBS, SAMPLE_DASHBOARD))
    for name in workspace.job_names():
        load_job(workspace, name)
    published = workspace.datastore / "published" / "nycflights13"
    for name in ("flights", "weather"):
        assert len(list((published / name).glob("2013-*.gz"))) == 365
    assert "CC0 1.0" in (published / "README.md").read_text()


def test_the_sample_workspace_is_made_only_once(tmp_path: Path) -> None:
    first = sample_workspace(tmp_path / "demo")
    changed = first.jobs / SAMPLE_JOBS[0] / "README.md"
    changed.write_text("mine")
    assert sample_workspace(tmp_path / "demo") == first
    assert changed.read_text() == "mine"


def test_the_sample_is_not_put_among_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        sample_workspace(tmp_path)
    make_workspace(tmp_path / "other")
    with pytest.raises(UsageError, match="a workspace without the sample pipeline"):
        sample_workspace(tmp_path / "other")


def test_demo_runs_the_pipeline_and_shows_the_table(
    tmp_path: Path, dsflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsflow.commands.demo.SAMPLE_DAYS", (STORM,))
    screen = dsflow("demo", "--quiet", "new york")
    assert screen.exit_code == 0, screen.err
    assert f"Done. OK={len(SAMPLE_JOBS)} SKIP=0 WARN=0 FAIL=0" in screen.out
    table = screen.out.split("the hours with the longest delays:")[1].split("The page")[0]
    assert "mean_dep_delay" in table
    assert max(map(len, table.splitlines())) <= 80
    page = next(line for line in screen.out.splitlines() if line.startswith("The page of the last run: "))
    assert Path(page.removeprefix("The page of the last run: ")).is_file()
    end = screen.out.split("Next:\n")[1].splitlines()
    assert end[-4:] == ["  cd 'new york'", "  dsflow open", "  dsflow runs", "  dsflow run dashboard-delays"]
    assert (tmp_path / "new york" / "datastore" / "tables" / "delays_by_weather" / f"ds={STORM}").is_dir()


def test_demo_names_the_way_to_dsflow_where_it_is_not_on_path(
    tmp_path: Path, dsflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsflow.commands.demo.SAMPLE_DAYS", (STORM,))
    programs = {str(Path(str(shutil.which(name))).parent) for name in ("bash", "env")}
    monkeypatch.setenv("PATH", os.pathsep.join(programs))
    sample_workspace(tmp_path / "demo")
    document = dsflow("demo", "--json", "demo").document
    assert document["next"][:2] == [f"source {ROOT}/init.sh", "cd demo"]
    assert document["rows"][0][document["columns"].index("mean_dep_delay")] == "269.0"
    assert sorted(run["job"] for run in document["runs"]) == sorted(SAMPLE_JOBS)


def test_a_day_without_weather_still_has_its_flights(tmp_path: Path, dsflow: Command) -> None:
    root = sample_workspace(tmp_path / "demo").root
    for job in SAMPLE_JOBS:
        screen = dsflow("-C", str(root), "run", job, "2013-12-31", "--runtime", "process", "--json")
        assert screen.exit_code == 0, screen.err
    rows = [output["manifest"]["files"][0]["rows"] for output in screen.document["runs"][0]["outcome"]["outputs"]]
    assert rows[0] > 0
