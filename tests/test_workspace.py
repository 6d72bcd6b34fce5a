"""Where a workspace is, and which names it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.errors import UsageError
from dsflow.workspace import Workspace, check_name
from tests.conftest import MakeWorkspace, Screen

SQL_JOB = {"jobs/rain/job_specs.yaml": "version: 1\nkind: sql\n", "jobs/rain/query.sql": "SELECT 1"}


class TestFind:
    def test_a_folder_inside_finds_the_workspace_above(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace(SQL_JOB)
        assert Workspace.find(workspace.root / "jobs" / "rain") == workspace

    def test_the_current_folder_is_where_it_starts(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({})
        assert Workspace.find() == workspace

    def test_dsflow_workspace_names_another(
        self, make_workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = make_workspace({})
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DSFLOW_WORKSPACE", str(workspace.root))
        assert Workspace.find() == workspace

    def test_a_named_start_wins_over_the_variable(
        self, make_workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace = make_workspace({})
        monkeypatch.setenv("DSFLOW_WORKSPACE", str(tmp_path))
        assert Workspace.find(workspace.jobs) == workspace

    def test_7_1_03_outside_a_workspace_the_missing_file_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsflow: Callable[..., Screen]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        screen = dsflow("validate")
        assert screen.exit_code == 2
        assert "dsflow.yml" in screen.err
        assert "dsflow init" in screen.err
        assert "Traceback" not in screen.err


class TestJobs:
    def test_names_are_those_of_folders_with_a_spec(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace({**SQL_JOB, "jobs/shared/names.py": "", "jobs/agg/job_specs.yaml": ""})
        assert workspace.job_names() == ["agg", "rain"]

    def test_7_1_13_an_unknown_job_is_told_with_a_guess(self, make_workspace: MakeWorkspace) -> None:
        workspace = make_workspace(SQL_JOB)
        with pytest.raises(UsageError, match="Job does not exist, or job_specs.yaml is missing; did you mean 'rain'"):
            workspace.job_folder("rains")

    @pytest.mark.parametrize("name", ["", "..", "../rain", "/etc", "-x", ".git", "a b", "a;b", "a\nb", "é", "x" * 101])
    def test_a_name_that_is_no_folder_name_is_refused(self, make_workspace: MakeWorkspace, name: str) -> None:
        workspace = make_workspace(SQL_JOB)
        with pytest.raises(UsageError, match="not a valid job name"):
            workspace.job_folder(name)

    def test_a_link_that_leaves_the_workspace_is_refused(self, make_workspace: MakeWorkspace, tmp_path: Path) -> None:
        workspace = make_workspace({})
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "job_specs.yaml").touch()
        (workspace.jobs / "rain").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError, match="leaves the workspace"):
            workspace.job_folder("rain")


@pytest.mark.parametrize("name", ["create-table-meteo_agg", "_x", "2026", "a.b", "x" * 100])
def test_usual_names_are_taken(name: str) -> None:
    assert check_name(name, "table") == name


def test_a_workspaces_own_templates_come_first(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"templates/jobs/mine/template_specs.yaml": "version: 1"})
    own, packaged = workspace.template_folders()
    assert own == workspace.root / "templates"
    assert (packaged / "jobs").is_dir()


def test_shown_paths_can_be_typed(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(SQL_JOB)
    query = workspace.jobs / "rain" / "query.sql"
    assert workspace.shown(query) == "jobs/rain/query.sql"
    monkeypatch.chdir(workspace.jobs)
    assert workspace.shown(query) == "rain/query.sql"
    monkeypatch.chdir("/")
    assert workspace.shown(query) == str(query).removeprefix("/")
    assert workspace.shown(Path("relative")) == "relative"
