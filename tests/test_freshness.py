"""Freshness, through the runs of real jobs: what makes a partition stale, and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow import pipeline
from dsflow.freshness import Standing, standing
from dsflow.history import History
from dsflow.model import Manifest, from_json, to_json
from dsflow.plan import State
from dsflow.specs.load import load_workspace
from dsflow.store.layout import Layout
from dsflow.store.locks import lock
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree, notebook

Dsflow = Callable[..., Screen]
DS = "2013-01-01"
RAW = f"datastore/raw/meteo/ds={DS}/a.csv"
CSV = "hour,rain\n0,1.5\n1,0\n"
SPEC = "version: 1\nkind: {kind}\ninputs: {{meteo: {{raw: meteo}}}}\noutput: {{table: wet}}\nparameters: {{least: 1}}\n"
SQL = "SELECT hour, rain FROM meteo WHERE rain >= {{ least }}"
CELL = "from dsflow import job\nimport helper\njob.write(job.read('meteo'))"

KINDS = {
    "notebook": {"n.ipynb": notebook(CELL), "helper.py": "x = 1\n"},
    "percent": {"n.py": f"# %%\n{CELL}\n", "helper.py": "x = 1\n"},
    "sql": {"q.sql": SQL},
    "script": {"s.sh": '#!/bin/sh\ncp "$1"/*.csv "$2"/a.csv\n', "helper.py": "x = 1\n"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")


def job_of(kind: str) -> dict[str, str]:
    spec = SPEC.format(kind="notebook\nmain: n.py" if kind == "percent" else kind)
    if kind == "script":
        spec = spec.replace("{table: wet}", "{raw: wet}")
    return {"jobs/t/job_specs.yaml": spec, **{f"jobs/t/{name}": text for name, text in KINDS[kind].items()}}


def standing_of(workspace: Workspace, **how: str) -> Standing:
    settings = load_workspace(workspace)
    history = History.open(workspace, settings)
    return standing(workspace, settings, pipeline.load(workspace, settings), history, given=how)


def verdict(workspace: Workspace, job: str = "t", ds: str = DS, **how: str) -> tuple[State, str]:
    found = standing_of(workspace, **how).verdict(job, ds)
    return found.state, found.reason


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a workspace in which the job of a kind has run; made once, to be copied."""
    from dsflow import cli

    made: dict[str, Path] = {}

    def give(kind: str) -> Path:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            build_tree(root, {"dsflow.yml": "version: 1\n", RAW: CSV, **job_of(kind)})
            assert cli.run(("-C", str(root), "run", "t", DS)) == 0
            made[kind] = root
        return made[kind]

    return give


@pytest.fixture
def ran(finished: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Workspace]:
    """Give the function that copies such a workspace and goes there."""
    import shutil

    def copy(kind: str) -> Workspace:
        root = tmp_path / kind
        shutil.copytree(finished(kind), root, symlinks=True)
        monkeypatch.chdir(root)
        return Workspace(root)

    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_just_run_is_fresh_and_another_date_is_missing(ran: Callable[[str], Workspace], kind: str) -> None:
    workspace = ran(kind)
    state, reason = verdict(workspace)
    assert (state, reason[:9], reason[-18:]) == (State.FRESH, "same code", ", inputs unchanged")
    assert verdict(workspace, ds="2013-01-02") == (State.MISSING, "missing")


COSMETIC = {
    "notebook": ("jobs/t/n.ipynb", notebook("# Words.\n" + CELL + "  # read and write", "# nothing")),
    "percent": ("jobs/t/n.py", f"# %% [markdown]\n# Words.\n# %%\n{CELL}  # all\n"),
    "sql": ("jobs/t/q.sql", "-- the wet hours\n" + SQL.replace("FROM", "\n  FROM").lower().replace("{{ l", "{{l")),
    "script": ("jobs/t/s.sh", '#!/bin/sh\n# copy\n\ncp "$1"/*.csv "$2"/a.csv\n'),
}  # fmt: skip
REAL = {
    "notebook": ("jobs/t/n.ipynb", notebook(CELL, "y = 2")),
    "percent": ("jobs/t/n.py", f"# %%\n{CELL}\ny = 2\n"),
    "sql": ("jobs/t/q.sql", SQL.replace(">=", ">")),
    "script": ("jobs/t/s.sh", '#!/bin/sh\ncp "$1"/*.csv "$2"/b.csv\n'),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_comments_and_formatting_make_nothing_stale_and_code_does(ran: Callable[[str], Workspace], kind: str) -> None:
    workspace = ran(kind)
    for files, expected in ((COSMETIC, State.FRESH), (REAL, State.STALE)):
        path, text = files[kind]
        (workspace.root / path).write_text(text)
        state, reason = verdict(workspace)
        assert state is expected, reason
    assert reason == "code changed"


@pytest.mark.parametrize("kind", ["notebook", "percent", "script"])
def test_a_module_of_the_job_is_its_code(ran: Callable[[str], Workspace], kind: str) -> None:
    workspace = ran(kind)
    build_tree(workspace.root, {"jobs/t/helper.py": "x = 1  # one\n", "jobs/t/README.md": "Words."})
    assert verdict(workspace)[0] is State.FRESH
    build_tree(workspace.root, {"jobs/t/helper.py": "x = 2\n"})
    assert verdict(workspace) == (State.STALE, "code changed")


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("description: Wet hours.\n", State.FRESH),
        ("run: {memory: 2g, timeout: 30m, retries: 2}\n", State.FRESH),
        ("tags: [nightly]\nschedule: 30 4 * * *\n", State.FRESH),
        ("expectations: [{name: dry, constraint: rain < 9}]\n", State.STALE),
        ("engine: duckdb\n", State.FRESH),
    ],
)
def test_of_the_spec_only_what_matters_to_the_rows_counts(
    ran: Callable[[str], Workspace], added: str, expected: State
) -> None:
    workspace = ran("sql")
    spec = workspace.root / "jobs/t/job_specs.yaml"
    spec.write_text(spec.read_text() + added)
    assert verdict(workspace) == (
        (State.STALE, "spec changed") if expected is State.STALE else (State.FRESH, verdict(workspace)[1])
    )


def test_an_expectation_that_becomes_stricter_is_a_change_and_its_name_is_not(
    ran: Callable[[str], Workspace], dsflow: Dsflow
) -> None:
    workspace = ran("sql")
    spec = workspace.root / "jobs/t/job_specs.yaml"
    text = spec.read_text()
    spec.write_text(f"{text}expectations: [{{name: dry, constraint: rain < 9}}]\n")
    assert dsflow("run", "t", DS).exit_code == 0
    spec.write_text(f"{text}expectations: [{{name: other, constraint: rain < 9}}]\n")
    assert verdict(workspace)[0] is State.FRESH
    spec.write_text(f"{text}expectations: [{{name: dry, constraint: rain < 9}}]\nexpectation_action: drop\n")
    assert verdict(workspace) == (State.STALE, "spec changed")


def test_parameters_are_compared_as_a_run_would_have_them(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    assert verdict(workspace, least="1")[0] is State.FRESH
    assert verdict(workspace, least="2") == (State.STALE, "parameters changed (least: 1 -> 2)")
    assert verdict(workspace, unknown="2")[0] is State.FRESH


def test_parameters_of_the_command_line_are_part_of_what_was_made(
    ran: Callable[[str], Workspace], dsflow: Dsflow
) -> None:
    workspace = ran("sql")
    assert dsflow("run", "t", DS, "--force", "-p", "least=0").exit_code == 0
    assert verdict(workspace) == (State.STALE, "parameters changed (least: 0 -> 1)")
    assert verdict(workspace, least="0")[0] is State.FRESH


def test_a_secret_parameter_leaves_no_trace(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    spec = SPEC.format(kind="sql").replace("least: 1", "least: 1, api_key: '0'")
    workspace = make_workspace({RAW: CSV, **job_of("sql"), "jobs/t/job_specs.yaml": spec})
    assert dsflow("run", "t", DS, "-p", "api_key=1234").exit_code == 0
    assert verdict(workspace, api_key="5678")[0] is State.FRESH


def test_the_packages_count_and_another_runtime_does_not(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    rewrite(workspace, lambda text: text.replace('"place": "process:', '"place": "process:0'))
    assert verdict(workspace) == (State.STALE, "installed packages changed")
    rewrite(workspace, lambda text: text.replace('"place": "process:', '"place": "docker:'))
    assert verdict(workspace)[0] is State.FRESH


def rewrite(workspace: Workspace, change: Callable[[str], str]) -> None:
    path = Layout(workspace.datastore).manifest("table", "wet", DS)
    path.write_text(change(path.read_text()))


def test_a_changed_image_is_named(ran: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        name = "docker"

        def identify(self, needs: object, folders: object) -> str:
            return "docker:new"

    workspace = ran("sql")
    monkeypatch.setattr("dsflow.runtimes.registry.choose", lambda name: (Elsewhere(), ""))
    rewrite(workspace, lambda text: text.replace('"place": "process:', '"place": "docker:'))
    assert verdict(workspace) == (State.STALE, "image changed")


def test_inputs_published_again_with_the_same_rows_are_the_same(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({**chain(range(3)), RAW: CSV})
    assert dsflow("run", "first", DS).exit_code == 0
    assert dsflow("run", "second", DS).exit_code == 0
    assert verdict(workspace, "second")[0] is State.FRESH
    assert dsflow("run", "first", DS, "--force").exit_code == 0
    assert verdict(workspace, "second")[0] is State.FRESH
    build_tree(workspace.root, chain(range(5)))
    assert dsflow("run", "first", DS).exit_code == 0
    assert verdict(workspace, "second") == (State.STALE, f"input tables/one ds={DS} changed (3 -> 5 rows)")


def chain(rows: range) -> dict[str, str]:
    spec = "version: 1\nkind: sql\noutput: {table: %s}\n"
    return {
        "jobs/first/job_specs.yaml": spec % "one",
        "jobs/first/q.sql": f"SELECT * FROM range({len(rows)}) AS numbers(n)",
        "jobs/second/job_specs.yaml": spec % "two",
        "jobs/second/q.sql": "SELECT n FROM one",
    }


def test_a_foreign_input_counts_by_its_files(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    (workspace.root / RAW).write_text(CSV + "2,3\n")
    assert verdict(workspace) == (State.STALE, f"input raw/meteo ds={DS} changed (20 B -> 24 B)")


def test_an_input_that_is_gone_makes_nothing_stale(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    (workspace.root / RAW).unlink()
    (workspace.root / RAW).parent.rmdir()
    assert verdict(workspace)[0] is State.FRESH


def test_local_files_count_and_addresses_do_not(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    spec = "version: 1\nkind: sql\ninputs: {codes: {path: /data/codes.csv}}\noutput: {table: wet}\n"
    files = {"jobs/t/job_specs.yaml": spec, "jobs/t/q.sql": "SELECT * FROM codes", "datastore/codes.csv": "a\n1\n"}
    workspace = make_workspace(files)
    assert dsflow("run", "t", DS).exit_code == 0
    assert verdict(workspace)[0] is State.FRESH
    (workspace.datastore / "codes.csv").write_text("a\n1\n2\n")
    assert verdict(workspace) == (State.STALE, "input /data/codes.csv changed")


def reading(how: str) -> dict[str, str]:
    """A job that reads all rows of `meteo` in some way; days 1 and 2 are there."""
    spec = f"version: 1\nkind: sql\ninputs: {{meteo: {{raw: meteo, {how}}}}}\noutput: {{table: wet}}\n"
    days = {f"datastore/raw/meteo/ds=2013-01-0{day}/a.csv": CSV for day in (1, 2)}
    return {"jobs/t/job_specs.yaml": spec, "jobs/t/q.sql": "SELECT hour, rain FROM meteo", **days}


@pytest.mark.parametrize(
    ("how", "day", "new"),
    [("lookback: 2", "2013-01-01", 3), ("window: 7", "2013-01-02", 0), ("as_of: ds", "2013-01-04", 3)],
)
def test_a_partition_that_appears_where_a_run_would_read_it_counts(
    make_workspace: MakeWorkspace, dsflow: Dsflow, how: str, day: str, new: int
) -> None:
    workspace = make_workspace(reading(how))
    assert dsflow("run", "t", day).exit_code == 0
    assert verdict(workspace, ds=day)[0] is State.FRESH
    name = "2012-12-31" if new == 0 else f"2013-01-0{new}"
    build_tree(workspace.root, {"datastore/raw/meteo/ds=2013-01-09/a.csv": CSV})
    assert verdict(workspace, ds=day)[0] is State.FRESH
    build_tree(workspace.root, {f"datastore/raw/meteo/ds={name}/a.csv": CSV})
    assert verdict(workspace, ds=day) == (State.STALE, f"input raw/meteo ds={name} is new")


def test_what_only_the_code_reads_counts_as_it_was_read(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    cell = "from dsflow import job\nname = 'on' + 'e'\njob.write(job.table(name, window=3))"
    spec = "version: 1\nkind: notebook\noutput: {table: two}\n"
    files = {"jobs/second/job_specs.yaml": spec, "jobs/second/n.ipynb": notebook(cell)}
    first = {name: text for name, text in chain(range(3)).items() if "first" in name}
    workspace = make_workspace({**first, **files})
    assert dsflow("run", "first", DS).exit_code == 0
    assert dsflow("run", "second", DS).exit_code == 0
    assert verdict(workspace, "second")[0] is State.FRESH
    build_tree(workspace.root, {name: text for name, text in chain(range(5)).items() if "first" in name})
    assert dsflow("run", "first", DS).exit_code == 0
    assert verdict(workspace, "second") == (State.STALE, f"input tables/one ds={DS} changed (3 -> 5 rows)")


@pytest.mark.parametrize("date", ["ds", "day"])
def test_the_date_of_a_job_of_version_0_1_is_no_parameter(
    make_workspace: MakeWorkspace, dsflow: Dsflow, date: str
) -> None:
    spec = f"""
        version: '0.1'
        class: CommandLineTool
        script: s.sh
        job_parameters: [{date}]
        task_specs:
          source_path: /data/raw/meteo/ds={{{{ {date} }}}}
          sink_path: /data/raw/wet/ds={{{{ {date} }}}}
        """
    copy = '#!/bin/sh\ncp "$1"/*.csv "$2"\n'
    workspace = make_workspace({RAW: CSV, "jobs/t/job_specs.yaml": spec, "jobs/t/s.sh": copy})
    assert dsflow("run", "t", DS).exit_code == 0
    assert verdict(workspace)[0] is State.FRESH
    build_tree(workspace.root, {RAW: CSV + "2,3\n"})
    assert verdict(workspace)[1] == f"input raw/meteo ds={DS} changed (20 B -> 24 B)"


def test_what_was_looked_at_is_believed_until_told_otherwise(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(chain(range(3)))
    known = standing_of(workspace)
    assert known.verdict("first", DS).state is State.MISSING
    assert dsflow("run", "first", DS).exit_code == 0
    assert known.verdict("first", DS).state is State.MISSING
    known.refresh("table", "one", DS)
    assert known.verdict("first", DS).state is State.FRESH
    assert known.there("table", "one") == [DS]


def test_a_partition_of_somebody_else_has_no_fingerprint(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    Layout(workspace.datastore).manifest("table", "wet", DS).unlink()
    assert verdict(workspace) == (State.STALE, "no fingerprint")


def test_a_run_that_failed_after_the_last_publish_is_told(ran: Callable[[str], Workspace], dsflow: Dsflow) -> None:
    workspace = ran("sql")
    build_tree(workspace.root, {"jobs/t/q.sql": "SELECT no_such_column FROM meteo"})
    assert dsflow("run", "t", DS).exit_code == 1
    assert verdict(workspace) == (State.FAILED, "failed before")
    # Going back to the code that was published is enough.
    build_tree(workspace.root, {"jobs/t/q.sql": SQL})
    assert verdict(workspace)[0] is State.FRESH


def test_a_job_without_output_is_never_fresh(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    files = {"jobs/t/job_specs.yaml": "version: 1\nkind: script\n", "jobs/t/s.sh": "#!/bin/sh\ntrue\n"}
    workspace = make_workspace(files)
    assert verdict(workspace) == (State.MISSING, "it has no output, and did not run yet")
    assert dsflow("run", "t", DS).exit_code == 0
    assert verdict(workspace) == (State.STALE, "it has no output to compare")


def test_a_run_counts_as_running_only_while_it_lives(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    run_id = "20200101T000000-abcdef"
    folder = workspace.datastore / "job_runs/t" / f"ds={DS}" / run_id
    done = next(path for path in folder.parent.iterdir())
    folder.mkdir()
    task = json.loads((done / "task.json").read_text())
    # Long ago, but with so much time that the history still believes in it.
    task |= {"run_id": run_id, "created": "2020-01-01T00:00:00+00:00", "limits": {"timeout": 10**10}}
    (folder / "task.json").write_text(json.dumps(task))
    History.open(workspace, load_workspace(workspace)).rebuild()
    assert verdict(workspace)[0] is State.FRESH
    alive = Layout(workspace.datastore.resolve()).run_folder(run_id) / "alive"
    alive.parent.mkdir(parents=True)
    with lock(alive, ""):
        assert verdict(workspace) == (State.RUNNING, f"run {run_id} is running now")
    assert verdict(workspace)[0] is State.FRESH


def test_manifests_hold_the_fingerprint_that_the_task_was_given(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    text = Layout(workspace.datastore).manifest("table", "wet", DS).read_text()
    made_with = from_json(Manifest, text).fingerprint
    assert made_with is not None
    assert made_with.place.startswith("process:")
    assert made_with == standing_of(workspace).current("t", DS)[0]
    assert to_json(from_json(Manifest, text)) == text


def test_an_estimate_is_the_median_of_what_runs_took(ran: Callable[[str], Workspace]) -> None:
    workspace = ran("sql")
    assert standing_of(workspace).seconds("t") is not None
    assert standing_of(workspace).seconds("other") is None
