"""The `dsflow` command itself: help, global options, commands of one's own, errors, exit codes, completion."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow import __version__, cli, errors
from dsflow.errors import EXIT_CODES, DsflowError
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, build_tree

Dsflow = Callable[..., Screen]
NAMES = [name for group in cli.COMMANDS.values() for name in group]
SQL_JOB = {"jobs/one/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: t}\n", "jobs/one/q.sql": "SELECT 1 AS x"}


def program(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `dsflow` as a process of its own, with changes to the environment."""
    command = [sys.executable, "-m", "dsflow", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **changes})


def own_command(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# ---- help


def test_7_1_01_alone_it_shows_version_usage_and_each_command_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsflow: Dsflow
) -> None:
    monkeypatch.chdir(tmp_path)
    screen = dsflow()
    assert screen.exit_code == 0
    assert screen.out.splitlines()[0] == f"dsflow {__version__}"
    assert "Usage: dsflow [-C DIR] [--env NAME] [--json] [-v] [-q] [COMMAND] [ARGS]..." in screen.out
    for group in cli.COMMANDS.values():
        for name, (_, line) in group.items():
            assert re.search(rf"^  {name} +{re.escape(line)}$", screen.out, re.MULTILINE), name
    assert dsflow("--help").out in screen.out
    assert dsflow("-h").out == dsflow("--help").out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(dsflow: Dsflow, name: str) -> None:
    screen = dsflow(name, "--help")
    assert (screen.exit_code, screen.err) == (0, "")
    assert screen.out.startswith(f"Usage: dsflow {name} ")
    assert len(screen.out.splitlines()) > 3


def test_the_version(dsflow: Dsflow) -> None:
    assert dsflow("--version").out == f"dsflow, version {__version__}\n"


# ---- commands of one's own

HELLO = '#!/bin/sh\necho "hello $*"\npwd\nexit 7\n'


@pytest.fixture(params=["workspace", "path"])
def hello(request: pytest.FixtureRequest, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_workspace({}).root
    folder: Path = root / "commands"
    if request.param == "path":
        folder = root.parent / "bin"
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    own_command(folder / "dsflow-hello", HELLO)
    return folder / "dsflow-hello"


def test_7_1_02_an_executable_is_a_command(hello: Path, dsflow: Dsflow) -> None:
    own = dsflow("--help").out.partition("Your own:")[2]
    assert "".join(own.split()) == f"hello{hello}".replace(" ", "")
    screen = dsflow("hello", "a b", "-v", "--json", "-q", "--help", "--", "-x")
    assert screen.out.splitlines()[0] == "hello a b -v --json -q --help -- -x"
    assert screen.exit_code == 7


def test_a_command_of_the_workspace_is_found_from_below_and_from_elsewhere(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = make_workspace({"jobs/x/readme.txt": ""}).root
    own_command(root / "commands/dsflow-hello.py", HELLO)
    monkeypatch.chdir(root / "jobs/x")
    assert dsflow("hello").exit_code == 7
    monkeypatch.chdir(tmp_path)
    assert dsflow("hello").exit_code == 2
    assert dsflow("-C", root.name, "hello").out.splitlines() == ["hello ", str(root)]


def test_what_is_not_executable_is_no_command(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"commands/dsflow-hello": "echo hello"})
    assert dsflow("hello").exit_code == 2


def test_no_executable_takes_the_place_of_a_command(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    root = make_workspace({}).root
    own_command(root / "commands/dsflow-config", HELLO)
    assert "hello" not in dsflow("config").out
    assert "Your own" not in dsflow("--help").out


def test_an_own_command_that_cannot_start_or_is_killed_says_so(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    root = make_workspace({}).root
    own_command(root / "commands/dsflow-lost", "#!/no/such/interpreter\n")
    own_command(root / "commands/dsflow-killed", "#!/bin/sh\nkill -9 $$\n")
    screen = dsflow("lost")
    assert screen.exit_code == 4
    assert "dsflow-lost cannot be started: No such file or directory" in screen.err
    assert dsflow("killed").exit_code == 137


# ---- mistakes


def test_7_1_03_outside_a_workspace_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsflow: Dsflow
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["run", "x"], ["tree"], ["runs"], ["validate"], ["config"], ["generate-job"]):
        screen = dsflow(*command)
        assert (screen.exit_code, screen.out) == (2, ""), command
        assert screen.err.startswith("error: "), command
        assert "there is no dsflow.yml" in screen.err, command
        assert "`dsflow init DIR`" in screen.err.splitlines()[1]
        assert len(screen.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "no command 'rnu'; did you mean 'run'?"),
        (["runs", "--status", "faild"], "did you mean 'failed'?"),
        (["schema", "jobs"], "did you mean 'job'?"),
        (["generate_job"], "no command 'generate_job'; did you mean 'generate-job'?"),
        (["fly-to-the-moon"], "no command 'fly-to-the-moon'\n  `dsflow --help` lists the commands."),
        (["run", "x", "--prot", "1"], "--port"),
        (["run", "x", "--port", "http"], "'http' is not a valid integer"),
        (["run", "x", "--port", "99999"], "99999"),
        (["run", "x", "--runtime", "podman"], "'podman'"),
        (["--jsn"], "--json"),
        (["completion", "tcsh"], "'tcsh'"),
        (["-C", "no/such/folder", "tree"], "-C no/such/folder: there is no such folder"),
        (["-C"], "requires an argument"),
    ],
)
def test_a_wrong_command_line_is_told_what_was_meant(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: list[str], words: str
) -> None:
    make_workspace({})
    screen = dsflow(*arguments)
    assert (screen.exit_code, screen.out) == (2, "")
    assert screen.err.startswith("error: ")
    assert words in screen.err
    assert len(screen.err.splitlines()) <= 3


def test_a_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsflow: Dsflow) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    screen = dsflow("--help")
    assert screen.exit_code == 2
    assert "the current folder is not there any more" in screen.err


# ---- global options


def test_json_may_stand_before_and_behind_the_command(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    assert dsflow("--json", "exit-codes").document == dsflow("exit-codes", "--json").document
    assert dsflow("exit-codes", "--json").document["70"] == EXIT_CODES[70]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "run", "nope"],
        ["run", "nope", "--json"],
        ["run", "--json", "x", "--nope"],
        ["--json", "-C", "nowhere", "tree"],
    ],
)
def test_with_json_an_error_is_a_document_too(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: list[str]
) -> None:
    make_workspace({})
    screen = dsflow(*arguments)
    error = screen.document["error"]
    assert set(error) == {"message", "hint", "exit_code"}
    assert error["exit_code"] == screen.exit_code == 2
    assert screen.err.startswith(f"error: {error['message']}")


def test_after_two_dashes_nothing_is_an_option(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    screen = dsflow("run", "nope", "--", "--json")
    assert screen.exit_code == 2
    assert screen.out == ""


def test_directory_acts_as_if_started_there(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = make_workspace({**SQL_JOB}).root
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    screen = dsflow("-C", str(root / "jobs"), "run", "one", "2013-01-01")
    assert screen.exit_code == 0
    assert (root / "datastore/tables/t/ds=2013-01-01").is_dir()
    # What is shown can be typed from here, not from there.
    shown = re.search(r"saved to (.+)", screen.out)
    assert shown is not None
    assert Path(shown[1]).is_dir()


def test_quiet_leaves_results_and_errors(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace({**SQL_JOB})
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    loud, quiet = dsflow("run", "one"), dsflow("run", "one", "-q")
    assert "Running one" in loud.err
    assert quiet.err == ""
    assert "✓ one" in quiet.out
    assert "Done. OK=1" in quiet.out
    assert dsflow("run", "nope", "-q").err.startswith("error: ")


def test_verbose_shows_the_traceback_of_the_users_code(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace({"jobs/t/job_specs.yaml": "version: 1\nkind: script\n", "jobs/t/t.py": "def f():\n    1 / 0\nf()\n"})
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    plain, verbose = dsflow("run", "t"), dsflow("run", "t", "-v")
    assert "in f" not in plain.out[plain.out.index("✗") :]
    assert "in f" in verbose.out[verbose.out.index("✗") :]


@pytest.mark.parametrize(
    ("settings", "coloured"),
    [
        ({"NO_COLOR": "", "FORCE_COLOR": ""}, False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_and_for_who_wants_them(settings: dict[str, str], coloured: bool) -> None:
    done = program("rnu", **settings)
    assert ("\x1b[31merror\x1b[0m: " in done.stderr) == coloured
    assert ("\x1b" in done.stderr) == coloured


# ---- what nobody expected


@pytest.fixture
def broken(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(self: Workspace) -> list[str]:
        raise RuntimeError("the moon is in the wrong place")

    make_workspace({})
    monkeypatch.setattr(Workspace, "job_names", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("broken")
def test_a_bug_is_a_sentence_and_a_report(dsflow: Dsflow, tmp_path: Path) -> None:
    screen = dsflow("run", "hunter2", "2013-01-01", "-p", "password=hunter2")
    assert screen.exit_code == 70
    assert screen.err.splitlines()[0] == "error: this is a bug in dsflow (RuntimeError: the moon is in the wrong place)"
    assert "Traceback" not in screen.out + screen.err
    report = Path(screen.err.splitlines()[1].removeprefix("  The report is "))
    assert report.parent == tmp_path
    text = report.read_text()
    assert "Traceback" in text
    assert "in fail" in text
    assert f"dsflow {__version__}, Python 3." in text
    assert "command: run" in text
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert "hunter2" not in text


@pytest.mark.usefixtures("broken")
def test_a_bug_with_verbose_shows_its_traceback_and_with_json_is_a_document(dsflow: Dsflow) -> None:
    screen = dsflow("validate", "-v", "--json")
    assert "Traceback" in screen.err
    assert screen.document["error"]["exit_code"] == 70


def test_ctrl_c_is_no_traceback(make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, dsflow: Dsflow) -> None:
    def interrupted(self: Workspace) -> list[str]:
        raise KeyboardInterrupt

    make_workspace({})
    monkeypatch.setattr(Workspace, "job_names", interrupted)
    screen = dsflow("validate")
    assert screen.exit_code == 130
    assert screen.err.strip() == "error: interrupted"


@pytest.mark.parametrize("arguments", [["--help"], ["exit-codes"], ["exit-codes", "--json"], ["rnu"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "dsflow", *arguments], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "Traceback" not in done.stderr
    assert "roken" not in done.stderr


# ---- exit codes

CLASSES = [
    made for _, made in inspect.getmembers(errors, inspect.isclass) if issubclass(made, DsflowError)
]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full (Linux)")
@pytest.mark.parametrize("arguments", [["--help"], ["exit-codes", "--json"]])
def test_a_disk_that_is_full_is_said_and_no_bug(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "dsflow", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == errors.EnvironmentMissing.exit_code
    assert done.stderr.startswith("error: the disk is full")
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


def test_output_that_nobody_wants_is_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m dsflow --version >&- 2>&-"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_at_the_end_threads_are_waited_for_and_exit_handlers_run() -> None:
    code = """if True:
        import atexit, threading, time
        from dsflow import lean
        atexit.register(print, "handler")
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
        lean.leave(3)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (3, ["thread", "handler"])


def test_every_error_has_an_exit_code_that_is_explained(dsflow: Dsflow) -> None:
    assert {made.exit_code for made in CLASSES} | {0} == set(EXIT_CODES)
    shown = dsflow("exit-codes").out
    assert [
        code for code, text in EXIT_CODES.items() if not re.search(rf"^{code} +{re.escape(text)}", shown, re.MULTILINE)
    ] == []


def test_errors_share_an_exit_code_with_what_they_are_a_kind_of_and_nothing_else() -> None:
    for one, other in itertools.combinations([made for made in CLASSES if made is not DsflowError], 2):
        related = issubclass(one, other) or issubclass(other, one)
        assert related or one.exit_code != other.exit_code, (one, other)


# ---- completion


def completed(*words: str) -> list[str]:
    """Give what bash is offered for the last word."""
    line = ["dsflow", *words]
    done = program(COMP_WORDS=" ".join(line), COMP_CWORD=str(len(line) - 1), _DSFLOW_COMPLETE="bash_complete")
    assert done.stderr == ""
    return [entry.partition(",")[2] for entry in done.stdout.split()]


def test_commands_and_options_are_completed(make_workspace: MakeWorkspace) -> None:
    root = make_workspace({}).root
    assert completed("ru") == ["run", "runs"]
    assert completed("run", "x", "--runt") == ["--runtime"]
    assert completed("run", "x", "--runtime", "p") == ["process"]
    assert completed("completion", "") == ["bash", "zsh", "fish"]
    own_command(root / "commands/dsflow-rumble", HELLO)
    assert completed("ru") == ["run", "runs", "rumble"]


def test_templates_are_completed(make_workspace: MakeWorkspace) -> None:
    make_workspace({"templates/jobs/create_magic/template_specs.yaml": "version: 1\n"})
    assert completed("generate-job", "create_m") == ["create_magic"]
    assert completed("generate-job", "create_table_from_c") == ["create_table_from_csv"]


def test_jobs_and_runs_of_the_workspace_are_completed(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_workspace({**SQL_JOB, "jobs/only/job_specs.yaml": "version: 1\nkind: sql\n", "jobs/no-job/x": ""})
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    run_id = dsflow("run", "one", "--json").document["runs"][0]["task"]["run_id"]
    assert completed("run", "o") == ["one", "only"]
    assert completed("run", "--json", "on") == ["one", "only"]
    assert completed("logs", run_id[:4]) == [run_id]
    assert completed("open", "19") == []
    monkeypatch.chdir(tmp_path)
    assert completed("run", "") == []
    assert completed("-C", "work\\ space", "run", "on") == ["one", "only"]


def in_shell(shell: str, script: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout


def test_completion_works_in_bash(make_workspace: MakeWorkspace) -> None:
    make_workspace({**SQL_JOB})
    script = """
        eval "$(dsflow completion bash)"
        complete -p dsflow
        COMP_WORDS=(dsflow run o); COMP_CWORD=2
        _dsflow_completion dsflow
        echo "${COMPREPLY[@]}"
        """
    assert in_shell("bash", script).splitlines() == ["complete -o nosort -F _dsflow_completion dsflow", "one"]


def test_completion_works_in_zsh(make_workspace: MakeWorkspace) -> None:
    make_workspace({**SQL_JOB})
    if not any(Path(folder, "zsh").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("zsh is not installed")
    script = """
        autoload -Uz compinit && compinit -D -u
        eval "$(dsflow completion zsh)"
        compadd() { print -r -- "${(@P)${@[-1]}}" }
        words=(dsflow run o); CURRENT=3
        _dsflow_completion
        """
    assert in_shell("zsh", script).split() == ["one"]


# ---- what it costs

HEAVY = {"pydantic", "sqlalchemy", "docker", "rich", "yaml", "duckdb", "pandas", "papermill", "nbconvert", "requests"}


def loaded_after(code: str) -> set[str]:
    """Give what is loaded in a new interpreter that ran some code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("code", ["import dsflow.cli", "from dsflow import cli; cli.run(['--help'])"])
def test_the_help_loads_no_library_but_click(code: str) -> None:
    loaded = loaded_after(code)
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_the_host_side_of_a_run_opens_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, {"dsflow.yml": "version: 1\n", **SQL_JOB})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    loaded = loaded_after("from dsflow import cli\nassert cli.run(['run', 'one', '-q']) == 0")
    assert "sqlalchemy" in loaded
    unwanted = {"duckdb", "pandas", "pyarrow", "papermill", "nbconvert", "nbclient", "ipykernel", "docker", "numpy"}
    assert loaded & unwanted == set()
