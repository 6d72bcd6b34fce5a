"""Jobs are chosen as in dbt."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsflow.errors import UsageError
from dsflow.pipeline import Pipeline, load
from dsflow.selection import select
from dsflow.specs.load import SpecError, load_workspace
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, build_tree

# download -> clean -> (daily, users) -> report; clean is read by nobody else; `alone` by nobody.
SPECS = {
    "download": "kind: script\noutput: {raw: clicks}\ntags: [nightly, web]",
    "clean": "kind: sql\ninputs: {c: {raw: clicks}}\noutput: {table: fct_clean}",
    "daily": "tags: [web]\nkind: sql\n"
    "inputs: {c: {table: fct_clean}, o: {table: fct_other}}\noutput: {table: fct_daily}",
    "users": "kind: sql\ninputs: {c: {table: fct_clean}}\noutput: {table: dim_users}\ntags: [nightly]",
    "report": "kind: sql\ninputs: {d: {table: fct_daily}, u: {table: dim_users}}\noutput: {table: fct_report}",
    "other": "kind: sql\noutput: {table: fct_other}",
    "alone": "kind: sql",
}
TREE = {f"jobs/{name}/job_specs.yaml": f"version: 1\n{spec}\n" for name, spec in SPECS.items()} | {
    f"jobs/{name}/{'a.sh' if name == 'download' else 'q.sql'}": "SELECT 1" for name in SPECS
}


@pytest.fixture
def pipeline(make_workspace: MakeWorkspace) -> Pipeline:
    workspace = make_workspace(TREE)
    return load(workspace, load_workspace(workspace))


@pytest.mark.parametrize(
    ("expressions", "exclude", "found"),
    [
        ("", "", "alone download clean other daily users report"),
        ("clean", "", "clean"),
        ("+clean", "", "download clean"),
        ("clean+", "", "clean daily users report"),
        ("+clean+", "", "download clean daily users report"),
        ("1+report", "", "daily users report"),
        ("2+report", "", "clean other daily users report"),
        ("0+report", "", "report"),
        ("99999999999999999999+report", "", "download clean other daily users report"),
        ("download+1", "", "download clean"),
        ("download+2", "", "download clean daily users"),
        ("1+clean+1", "", "download clean daily users"),
        ("@users", "", "download clean other daily users report"),
        ("@other", "", "download clean other daily users report"),
        ("tag:nightly", "", "download users"),
        ("tag:?[ei]*", "", "download daily users"),
        ("tag:nightly+", "", "download clean daily users report"),
        ("1+tag:web", "", "download clean other daily"),
        ("table:fct_daily", "", "daily"),
        ("+table:fct_*", "", "download clean other daily users report"),
        ("raw:clicks", "", "download"),
        ("path:jobs/d*", "", "download daily"),
        ("path:jobs/daily", "", "daily"),
        ("path:jobs/daily/", "", "daily"),
        ("path:jobs/daily/q.sql", "", "daily"),
        ("path:jobs", "", "alone download clean other daily users report"),
        ("d*", "", "download daily"),
        ("?sers [ao]*", "", "alone other users"),
        ("users clean users", "", "clean users"),
        ("tag:nightly,tag:web", "", "download"),
        ("+report,tag:nightly users+", "", "download users report"),
        ("alone,clean", "", ""),
        ("", "+users", "alone other daily report"),
        ("clean+", "report tag:web", "clean users"),
        ("clean", "clean", ""),
    ],
)
def test_the_grammar(pipeline: Pipeline, expressions: str, exclude: str, found: str) -> None:
    assert select(pipeline, expressions.split(), exclude.split()) == found.split()


def test_one_argument_may_hold_several_expressions(pipeline: Pipeline) -> None:
    assert select(pipeline, ["users clean", "alone"]) == ["alone", "clean", "users"]


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("claen", "there is no job 'claen'; did you mean 'clean'?"),
        ("+claen", "there is no job 'claen'; did you mean 'clean'?"),
        ("x*", "there is no job 'x*'"),
        ("tag:nihgtly", "there is no tag 'nihgtly'; did you mean 'nightly'?"),
        ("tag:", "there is no tag ''"),
        ("table:fct_dialy", "there is no job that writes the table 'fct_dialy'; did you mean 'fct_daily'?"),
        ("raw:fct_daily", "there is no job that writes the raw dataset 'fct_daily'"),
        ("path:jobs/dialy", "there is no job at the path 'jobs/dialy'; did you mean 'jobs/daily'?"),
        ("path:/etc", "there is no job at the path '/etc'"),
        ("path:../jobs/daily", "there is no job at the path '../jobs/daily'; did you mean 'jobs/daily'?"),
        ("tga:nightly", "'tga:nightly': there is no selection by 'tga'; did you mean 'tag'?"),
        ("path:", "there is no job at the path ''"),
        ("", "an empty selection"),
        ("  ", "an empty selection"),
        ("+", "'+' is not a selection"),
        ("@", "'@' is not a selection"),
        ("clean,", "'clean,' is not a selection"),
        ("a++", "'a++' is not a selection"),
        ("x+1+", "'x+1+' is not a selection"),
        ("-1+x", "'-1+x' is not a selection"),
        ("@clean+", "'@clean+' is not a selection"),
        ("@+clean", "'@+clean' is not a selection"),
        ("../../etc/passwd", "there is no job '../../etc/passwd'"),
        ("\x1b[31mred", "there is no job '\\x1b[31mred'"),
        ("a" * 200, f"there is no job '{'a' * 37}...'"),
    ],
)
def test_a_mistake_is_told_with_a_guess(pipeline: Pipeline, expression: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(pipeline, [expression])
    assert caught.value.message == sentence
    with pytest.raises(UsageError):
        select(pipeline, ["clean"], [expression])


@given(st.lists(st.sampled_from(["download", "clean", "daily", "users", "report", "other", "alone"]), min_size=1))
def test_a_union_is_each_of_them_in_the_order_of_the_pipeline(names: list[str]) -> None:
    pipeline = _loaded()
    assert select(pipeline, names) == [name for name in pipeline.nodes if name in names]
    assert set(select(pipeline, [f"+{name}" for name in names])) == {
        each for name in names for each in select(pipeline, [f"+{name}"])
    }


@functools.cache
def _loaded() -> Pipeline:
    with tempfile.TemporaryDirectory() as folder:
        build_tree(Path(folder), {"dsflow.yml": "version: 1", **TREE})
        workspace = Workspace(Path(folder))
        return load(workspace, load_workspace(workspace))


class TestJobsThatCannotBeRead:
    @pytest.fixture
    def broken(self, make_workspace: MakeWorkspace) -> Pipeline:
        workspace = make_workspace({**TREE, "jobs/bad/job_specs.yaml": "version: 1\nkind: sql\nx: 1\n"})
        return load(workspace, load_workspace(workspace))

    def test_a_plain_name_is_not_touched_by_them(self, broken: Pipeline) -> None:
        assert select(broken, ["clean"], ["users"]) == ["clean"]

    @pytest.mark.parametrize("expression", ["", "+clean", "clean+1", "@clean", "c*", "tag:web", "clean,clean"])
    def test_where_they_might_belong_to_it_they_are_named(self, broken: Pipeline, expression: str) -> None:
        with pytest.raises(SpecError, match="jobs/bad/job_specs.yaml: x: unknown key"):
            select(broken, expression.split())

    def test_their_own_mistakes_are_told(self, broken: Pipeline) -> None:
        with pytest.raises(SpecError, match="jobs/bad/job_specs.yaml: x: unknown key"):
            select(broken, ["bad"])

    def test_a_typo_is_still_a_typo(self, broken: Pipeline) -> None:
        with pytest.raises(UsageError, match="there is no job 'claen'; did you mean 'clean'"):
            select(broken, ["claen"])
