"""Templates from folders and git repositories."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree

Dsflow = Callable[..., Screen]


def _template(folder: str, word: str) -> dict[str, str]:
    return {
        f"{folder}/template_specs.yaml": f"description: says {word}\n",
        f"{folder}/job_specs.yaml.j2": "version: 1\nkind: script\nmain: say.sh\n",
        f"{folder}/say.sh.j2": f"echo {word}\n",
    }


def _git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with the templates `hello` and `bye`, and an empty cache of our own."""
    monkeypatch.setenv("DSFLOW_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    build_tree(folder, {**_template("hello", "hello"), **_template("more/bye", "bye")})
    _git(folder, "init", "--quiet")
    _commit(folder)
    return folder


def _commit(repository: Path) -> None:
    _git(repository, "add", ".")
    _git(repository, "commit", "--quiet", "-m", "x")


def _said(workspace: Workspace, job: str) -> str:
    return (workspace.jobs / job / "say.sh").read_text().removeprefix("echo ").strip()


def test_a_folder_can_be_given_directly(make_workspace: MakeWorkspace, dsflow: Dsflow, tmp_path: Path) -> None:
    build_tree(tmp_path, _template("elsewhere/hello", "hello"))
    workspace = make_workspace({})
    assert dsflow("generate-job", "../elsewhere/hello", "x").exit_code == 0
    assert _said(workspace, "x") == "hello"


def test_a_folder_that_is_no_template_names_those_inside(
    make_workspace: MakeWorkspace, dsflow: Dsflow, tmp_path: Path
) -> None:
    build_tree(tmp_path, _template("elsewhere/hello", "hello"))
    make_workspace({})
    screen = dsflow("generate-job", "../elsewhere", "x")
    assert screen.exit_code == 2
    assert "template_specs.yaml is missing" in screen.err
    assert "hello" in screen.err


def test_a_git_url_can_be_given_directly_and_is_fetched_anew_each_time(
    make_workspace: MakeWorkspace, dsflow: Dsflow, repository: Path
) -> None:
    workspace = make_workspace({})
    url = f"git+file://{repository}#more/bye"
    assert dsflow("generate-job", url, "x").exit_code == 0
    assert _said(workspace, "x") == "bye"
    build_tree(repository, _template("more/bye", "farewell"))
    _commit(repository)
    assert dsflow("generate-job", url, "y").exit_code == 0
    assert _said(workspace, "y") == "farewell"


def test_sources_in_the_settings_are_listed_and_used_by_name(
    make_workspace: MakeWorkspace, dsflow: Dsflow, repository: Path
) -> None:
    settings = f"templates:\n  - shared\n  - git+file://{repository}\n"
    workspace = make_workspace({"dsflow.yml": settings, **_template("shared/greet", "hi")})
    listed = {entry["name"]: entry for entry in dsflow("generate-job", "--json").document}
    assert listed["greet"]["description"] == "says hi"
    assert listed["hello"]["origin"] == f"git+file://{repository}"
    assert "download_file" in listed
    assert dsflow("generate-job", "greet", "a").exit_code == dsflow("generate-job", "hello", "b").exit_code == 0
    assert (_said(workspace, "a"), _said(workspace, "b")) == ("hi", "hello")


def test_sources_in_the_settings_are_fetched_once_and_again_with_update(
    make_workspace: MakeWorkspace, dsflow: Dsflow, repository: Path
) -> None:
    make_workspace({"dsflow.yml": f"templates: ['git+file://{repository}']\n"})

    def description(*options: str) -> str:
        listed = dsflow("generate-job", "--json", *options).document
        return next(str(entry["description"]) for entry in listed if entry["name"] == "hello")

    assert description() == "says hello"
    build_tree(repository, _template("hello", "hello again"))
    _commit(repository)
    assert description() == "says hello"
    assert description("--update") == "says hello again"


def test_a_source_that_cannot_be_had_does_not_hide_the_others(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"dsflow.yml": "templates: [nowhere]\n"})
    screen = dsflow("generate-job")
    assert screen.exit_code == 0
    assert "there is no folder nowhere" in screen.err
    assert "download_file" in screen.out


@pytest.mark.parametrize(
    "reference",
    ["ext::sh -c touch% pwned", "git+ext::sh", "git+https://-oProxyCommand=x/y", "git+-u/x", "git+ssh://-x/y", "git+x"],
)
def test_a_url_that_could_run_a_command_is_refused(
    make_workspace: MakeWorkspace, dsflow: Dsflow, repository: Path, reference: str
) -> None:
    workspace = make_workspace({})
    screen = dsflow("generate-job", reference, "x")
    assert screen.exit_code == 2
    assert "is not a git URL for templates" in screen.err
    assert sorted(path.name for path in workspace.root.iterdir()) == ["datastore", "dsflow.yml", "jobs"]


def test_a_folder_outside_the_repository_is_refused(
    make_workspace: MakeWorkspace, dsflow: Dsflow, repository: Path
) -> None:
    make_workspace({})
    screen = dsflow("generate-job", f"git+file://{repository}#../..", "x")
    assert (screen.exit_code, "has no folder" in screen.err) == (2, True)


def test_a_repository_that_is_not_there_says_so(
    make_workspace: MakeWorkspace, dsflow: Dsflow, repository: Path
) -> None:
    make_workspace({})
    screen = dsflow("generate-job", f"git+file://{repository}-not", "x")
    assert (screen.exit_code, "cannot be cloned" in screen.err) == (4, True)
