"""What one task does is nothing to the next: each sees what a process of its own would show it, whatever was before.

The same cases run where every task is a new interpreter, where all are forks of one warm process, and in containers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from dsflow import prepare, runner
from dsflow.model import Outcome, Status
from dsflow.specs.load import load_workspace
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Tree, notebook

DS = "2013-01-01"
NOTEBOOK = "version: 1\nkind: notebook\nmain: main.ipynb\n"
Run = Callable[..., list[Outcome]]


DOCKER = [pytest.param(way, marks=pytest.mark.docker) for way in ("docker", "batch docker")]


@pytest.fixture(params=["process", "warm process", *DOCKER])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    way: str = request.param
    if way == "warm process" and sys.platform != "linux":
        pytest.skip("forks are unsafe here: every task is a new interpreter")
    if "docker" in way:
        request.getfixturevalue("python_image")
    monkeypatch.setenv("DSFLOW_RUNTIME", way.removeprefix("warm ").removeprefix("batch "))
    return way


@pytest.fixture
def run(way: str) -> Run:
    """Gives a function that runs some jobs of a workspace one after the other."""

    def run(ws: Workspace, *jobs: str) -> list[Outcome]:
        settings = load_workspace(ws)
        chosen = [prepare.prepare(ws, settings, job, [DS], []) for job in jobs]
        if way not in ("warm process", "batch docker"):
            return [_execute(one) for one in chosen]
        first = chosen[0]
        first.runtime.expect(len(chosen) + 1, batch=way == "batch docker")
        work = runner.Runner(first.runtime, first.reason, first.folders, runner.Emitter([]))
        try:
            return [work.run(one.assignment) for one in chosen]
        finally:
            work.close()

    return run


def _execute(chosen: prepare.Chosen) -> Outcome:
    (outcome,) = runner.execute([chosen.assignment], chosen.runtime, chosen.reason, chosen.folders, [])
    return outcome


def job(name: str, *cells: str, **more: str) -> Tree:
    tree = {f"jobs/{name}/job_specs.yaml": NOTEBOOK, f"jobs/{name}/main.ipynb": notebook(*cells)}
    return tree | {f"jobs/{name}/{file.replace('__', '.')}": text for file, text in more.items()}


# Everything that a job can see of its process, into a file for the test.
LOOK = """
    import builtins, gc, json, locale, os, pathlib, resource, signal, sys, textwrap, threading, warnings
    here = str(pathlib.Path.cwd().parent)
    own = {"DSFLOW_RUN_ID", "DSFLOW_RUN_FOLDER", "DSFLOW_JOB", "TASK_SPECS"}
    places = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    files = sorted(os.readlink(place) for place in places if os.path.exists(place))
    files = [name for name in files if name.startswith("/") and name != "/dev/null" and not name.endswith("/log.txt")]
    umask = os.umask(0)
    os.umask(umask)
    seen = {
        "environment": {name: value for name, value in os.environ.items() if name not in own},
        "folder": os.getcwd(),
        "path": sys.path,
        "umask": umask,
        "handlers": [str(signal.getsignal(n)) .split(" at ")[0] for n in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "threads": sorted(thread.name.rstrip("0123456789") for thread in threading.enumerate()),
        "files": [name for name in files if not name.startswith("/proc/")],
        "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_CORE)],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "recursion": sys.getrecursionlimit(),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": [str(one[:2]) for one in warnings.filters][:12],
        "collector": [gc.isenabled(), gc.get_threshold()],
        "hooks": [sys.excepthook.__module__, str(sys.gettrace()), str(sys.getprofile())],
        "patches": [sys.stdin.__class__.__name__, textwrap.dedent("  x"), hasattr(builtins, "left")],
        "leader": os.getsid(0) == os.getpid() == os.getpgid(0),
        "shell": [str(_dh), get_ipython().starting_dir, __name__, sys.modules["__main__"].__dict__ is globals(),
                  get_ipython().parent is get_ipython().kernel, display.__module__, __IPYTHON__, len(In), dict(Out)],
        "modules": sorted(n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(here)),
    }
    data = pathlib.Path(os.environ["DSFLOW_DATA"])
    number = len(list(data.glob("seen-*")))
    (data / f"seen-{number}").write_text(json.dumps(seen))
    """

VANDAL = """
    import builtins, common, gc, logging, os, random, resource, signal, sys, textwrap, threading, time, warnings
    import numpy, pandas
    os.environ["LEFT"] = "behind"
    os.environ.pop("HOME", None)
    os.chdir("/")
    os.umask(0o077)
    os.nice(1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    sys.path.insert(0, "/somewhere")
    sys.setrecursionlimit(5000)
    sys.excepthook = print
    textwrap.dedent = lambda text: "broken"
    builtins.left = "behind"
    random.seed(1), numpy.random.seed(1)
    pandas.set_option("display.max_rows", 1)
    warnings.simplefilter("error")
    logging.basicConfig(level=1)
    gc.disable()
    held = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(held, True)
    threading.Thread(target=time.sleep, args=(600,), daemon=True, name="left").start()
    """


def seen(ws: Workspace) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(ws.datastore.glob("seen-*"))]


def test_a_task_sees_the_same_whatever_ran_before_it(make_workspace: MakeWorkspace, run: Run) -> None:
    ws = make_workspace({**job("look", LOOK), **job("vandal", VANDAL, common__py="name = 'vandal'\n")})
    outcomes = run(ws, "look", "vandal", "look")
    assert [outcome.status for outcome in outcomes] == [Status.SUCCEEDED] * 3, outcomes
    before, after = seen(ws)
    assert after == before
    assert before["modules"] == []
    assert before["files"] == []
    assert before["blocked"] == []
    assert before["leader"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every task is a new interpreter")
def test_a_fork_sees_what_a_new_interpreter_sees(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    ws = make_workspace(job("look", LOOK))
    chosen = prepare.prepare(ws, load_workspace(ws), "look", [DS], [])
    assert _execute(chosen)
    chosen = prepare.prepare(ws, load_workspace(ws), "look", [DS], [])
    chosen.runtime.expect(2)
    assert _execute(chosen)
    alone, forked = seen(ws)
    assert forked == alone


def test_modules_of_one_job_are_not_those_of_another(make_workspace: MakeWorkspace, run: Run) -> None:
    """Not even where a library that the warm process has loaded is called like the job's own module."""
    say = "import common, colors\nassert (common.name, colors.name) == ('{0}', '{0}'), (common, colors)"
    tree: dict[str, str | bytes] = {}
    for name in ("one", "two"):
        text = f"name = '{name}'\n"
        tree.update(job(name, say.format(name), common__py=text, colors__py=text))
    outcomes = run(make_workspace(tree), "one", "two", "one")
    assert [outcome.status for outcome in outcomes] == [Status.SUCCEEDED] * 3, outcomes


def test_every_task_has_random_numbers_of_its_own(make_workspace: MakeWorkspace, run: Run) -> None:
    code = """
        import json, os, pathlib, random, secrets, uuid
        import numpy
        numbers = [random.random(), numpy.random.random(), numpy.random.default_rng().random(), str(uuid.uuid4())]
        data = pathlib.Path(os.environ["DSFLOW_DATA"])
        (data / f"seen-{len(list(data.glob('seen-*')))}").write_text(json.dumps(numbers))
        """
    ws = make_workspace(job("dice", code))
    assert all(run(ws, "dice", "dice", "dice"))
    drawn = seen(ws)
    assert all(len({str(numbers[kind]) for numbers in drawn}) == 3 for kind in range(4)), drawn


def test_queries_share_no_session(make_workspace: MakeWorkspace, run: Run) -> None:
    tree = {
        "jobs/leave/job_specs.yaml": "version: 1\nkind: sql\n",
        "jobs/leave/q.sql": "CREATE TABLE kept AS SELECT 1; SET VARIABLE kept = 1; SET threads = 1; SELECT 1 AS x",
        "jobs/look/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n",
        "jobs/look/q.sql": """
            SELECT random() AS number, getvariable('kept') AS variable, current_setting('threads') AS threads,
                (SELECT count(*) FROM duckdb_tables()) AS tables,
                (SELECT count(*) FROM duckdb_views() WHERE NOT internal) AS views
            """,
    }
    ws = make_workspace(tree)
    rows: list[tuple[object, ...]] = []
    for _ in range(2):
        outcomes = run(ws, "look", "leave", "look")
        assert all(outcomes), outcomes
        query = f"SELECT number, variable, threads, tables, views FROM '{ws.datastore}/tables/t/*/*.parquet'"
        rows += duckdb.connect().execute(query).fetchall()
    assert {row[1:] for row in rows} == {(None, rows[0][2], 0, 0)}
    assert len({row[0] for row in rows}) == 2


CRASHES = {
    "leaves": ("import os; os._exit(1)", 138),
    "crashes": ("import ctypes; ctypes.string_at(0)", 138),
    "kills its shim": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", 137),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_task_that_takes_its_process_with_it_costs_only_itself(
    make_workspace: MakeWorkspace, run: Run, crash: str
) -> None:
    code, exit_code = CRASHES[crash]
    ws = make_workspace({**job("crash", code), **job("good", "1")})
    outcomes = run(ws, "good", "crash", "good")
    assert [outcome.exit_code for outcome in outcomes] == [0, exit_code, 0], outcomes


def test_what_a_job_leaves_open_is_written_out(make_workspace: MakeWorkspace, run: Run) -> None:
    code = """
        import atexit, os, pathlib
        data = pathlib.Path(os.environ["DSFLOW_DATA"])
        kept = open(data / "kept", "w")
        kept.write("in a buffer")
        atexit.register(lambda: (data / "handler").write_text("ran"))

        class Closing:
            def __del__(self, path=data / "deleted"):
                path.write_text("gone")

        closing = Closing()
        """
    ws = make_workspace(job("open", code))
    assert all(run(ws, "open"))
    left = {path.name: path.read_text() for path in ws.datastore.iterdir() if path.is_file()}
    assert left == {"kept": "in a buffer", "handler": "ran", "deleted": "gone"}
