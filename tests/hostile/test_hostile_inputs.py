"""Whatever is written in a spec, a name, a date, a parameter or a template: a sentence and exit code 2.

Nothing but a UsageError ever comes out, and nothing is written anywhere: these commands only look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsflow import cli
from dsflow.conditions import condition_of
from dsflow.errors import UsageError
from dsflow.queries import sources_of
from dsflow.rendering import LARGEST_TEXT, render
from dsflow.specs.load import SpecError, load_job, load_service, load_template, load_workspace
from dsflow.specs.yaml import read_mapping
from dsflow.tasks import make_task
from dsflow.workspace import Workspace, check_name
from tests.conftest import Screen, build_tree, notebook
from tests.hostile.strategies import as_yaml, specs, sql_like, templates, words, yaml_like

hostile = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

GOOD = "version: 1\nkind: notebook\nparameters: {city: paris, days: 7, api_token: t, xs: [1]}\noutput: {table: t}\n"
LEGACY = """
    version: '0.1'
    class: CommandLineTool
    script: old.sh
    job_parameters: [ds, city]
    task_specs: {source_path: "/data/raw/{{ city }}/ds={{ ds }}", sink_path: "/data/tables/{{ city }}/ds={{ ds }}"}
"""
TREE = {
    "outer/inner/dsflow.yml": "version: 1\n",
    "outer/inner/jobs/good/job_specs.yaml": GOOD,
    "outer/inner/jobs/good/a.ipynb": notebook("1", parameters="city: str = 'x'\nlimit: float = 1.5"),
    "outer/inner/jobs/old/job_specs.yaml": LEGACY,
    "outer/inner/jobs/old/old.sh": "true",
    "outer/inner/jobs/x/job_specs.yaml": "",
    "outer/inner/jobs/x/query.sql": "SELECT '{{ ds }}' FROM a",
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace inside a folder whose every path is counted before and after."""
    build_tree(tmp_path, TREE)
    monkeypatch.chdir(tmp_path / "outer" / "inner")
    before = sorted(tmp_path.rglob("*"))
    yield Workspace(tmp_path / "outer" / "inner")
    assert sorted(tmp_path.rglob("*")) == before


class RefusedInSentences(contextlib.AbstractContextManager[None]):
    """Allows success, and failure by a UsageError whose mistakes are one line each."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is None or not isinstance(error, UsageError):
            return False
        sentences = error.mistakes if isinstance(error, SpecError) else (error.message,)
        assert error.exit_code == 2
        assert sentences
        for sentence in sentences:
            assert 0 < len(sentence) < 1000
            assert "\n" not in sentence
            assert "pydantic" not in sentence
        return True


@hostile
@given(content=yaml_like)
def test_any_bytes_as_yaml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with RefusedInSentences():
        read_mapping(path, "x.yaml")


@hostile
@given(content=st.one_of(specs().map(as_yaml), yaml_like), name=words)
def test_any_spec_and_date(workspace: Workspace, content: bytes, name: str) -> None:
    (workspace.jobs / "x" / "job_specs.yaml").write_bytes(content)
    with RefusedInSentences():
        job = load_job(workspace, "x")
        make_task(workspace, job, None if job.legacy else name, {}, (name,) if job.legacy else ())


@hostile
@given(content=yaml_like)
def test_any_settings_template_and_service(tmp_path: Path, content: bytes) -> None:
    for name in ("dsflow.yml", "template_specs.yaml", "service.yaml"):
        (tmp_path / name).write_bytes(content)
    with RefusedInSentences():
        load_workspace(Workspace(tmp_path))
    with RefusedInSentences():
        load_template(tmp_path)
    with RefusedInSentences():
        load_service(tmp_path)


@hostile
@given(name=words)
def test_any_name(workspace: Workspace, name: str) -> None:
    with RefusedInSentences():
        check_name(name, "job")
        assert (workspace.jobs / name).parent == workspace.jobs
    with RefusedInSentences():
        load_job(workspace, name)


@hostile
@given(ds=words, parameter=words, value=words)
def test_any_date_and_parameter(workspace: Workspace, ds: str, parameter: str, value: str) -> None:
    job = load_job(workspace, "good")
    for given_values in ({parameter: value}, {"city": value}, {"days": value}, {"xs": value}, {"limit": value}):
        with RefusedInSentences():
            task, _ = make_task(workspace, job, ds, given_values)
            assert (workspace.datastore / task.folder).resolve().is_relative_to(workspace.datastore)
    with RefusedInSentences():
        task, _ = make_task(workspace, load_job(workspace, "old"), None, {}, (ds, value))
        assert task.output is not None
        assert "/" not in task.output.name + task.output.ds


@hostile
@given(text=templates)
def test_any_template(text: str) -> None:
    with RefusedInSentences():
        values = {"ds": "2026-11-20", "x": "a", "i": 3}
        assert len(render(text, values, "q.sql")) <= LARGEST_TEXT


@hostile
@given(text=st.one_of(words, sql_like))
def test_any_sql(text: str) -> None:
    with RefusedInSentences():
        sources_of(text, "duckdb", "q.sql")
    with RefusedInSentences():
        condition_of(text, "expectation")


@pytest.mark.parametrize("command", ["validate", "render"])
@hostile
@given(arguments=st.lists(words, min_size=1, max_size=3), content=specs().map(as_yaml))
def test_any_command_line(workspace: Workspace, command: str, arguments: list[str], content: bytes) -> None:
    (workspace.jobs / "x" / "job_specs.yaml").write_bytes(content)
    for line in ([command, *arguments], [command, "x", *arguments], [command, "good", "-p", f"city={arguments[0]}"]):
        assert cli.run(line) in (0, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("render", "../../etc", "2026-11-20"),
        ("render", "x", "2026-11-20; touch y"),
        ("render", "good", "../../x"),
        ("render", "good", "2026-11-20", "-p", "days=1; rm -rf /"),
        ("render", "good", "2026-11-20", "-p", "city"),
        ("render", "good\n", "2026-11-20"),
        ("render", "", ""),
        ("validate", "../x"),
        ("validate", "x"),
        ("render", "outside"),
        ("render", "circle"),
        ("-C", "/nowhere", "validate"),
    ],
)
def test_the_screen_shows_a_sentence(
    workspace: Workspace, dsflow: Callable[..., Screen], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (workspace.jobs / "outside").symlink_to(tmp_path)
    (workspace.jobs / "circle").symlink_to(workspace.jobs / "circle")
    screen = dsflow(*arguments)
    (workspace.jobs / "outside").unlink()
    (workspace.jobs / "circle").unlink()
    assert screen.exit_code == 2
    assert "Traceback" not in screen.out + screen.err
    assert len((screen.err or screen.out).splitlines()) <= 4
