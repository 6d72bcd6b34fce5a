"""A notebook job, run the way the shim runs it: parameters in, executed notebook and page out, failures explained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsflow.errors import DsflowError, EnvironmentMissing, JobFailed, KernelDied, OutOfMemory, UsageError
from dsflow.kernel import fork_is_safe
from dsflow.kinds import notebook
from dsflow.kinds.contract import Work
from dsflow.masking import Masker
from dsflow.model import Task

PYTHON_SPEC = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def code(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source))}",
        "metadata": {"tags": list(tags)},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }


def text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"m{abs(hash(source))}", "metadata": {}, "source": source}


@dataclass
class Bench:
    """A job folder, a run folder, and what a run said."""

    root: Path
    parameters: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    watched: list[int] = field(default_factory=list)
    on_line: Callable[[str], object] = lambda line: None
    main: str = "job.ipynb"

    def __post_init__(self) -> None:
        for folder in (self.job, self.run):
            folder.mkdir()

    @property
    def job(self) -> Path:
        return self.root / "job with space"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def write(self, *cells: dict[str, Any] | str, metadata: dict[str, Any] | None = None) -> None:
        content = {
            "cells": [code(cell) if isinstance(cell, str) else cell for cell in cells],
            "metadata": PYTHON_SPEC if metadata is None else metadata,
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.job / self.main).write_text(json.dumps(content))

    def work(self) -> Work:
        def say(line: str) -> None:
            self.lines.append(line)
            self.on_line(line)

        return Work(
            task=Task(
                run_id="r", job="j", kind="notebook", main=self.main, ds="2026-11-20", start="", end="", created=""
            ),
            parameters=self.parameters,
            injected=self.parameters,
            job_folder=self.job,
            run_folder=self.run,
            data=self.root,
            staging=None,
            partitions={},
            source_paths={},
            environment={"PATH": os.environ["PATH"], "HOME": str(self.root), **self.environment},
            mask=Masker(self.secrets),
            say=say,
            progress=lambda done, total: self.steps.append((done, total)),
            watch=self.watched.append,
        )

    def execute(self, *cells: dict[str, Any] | str) -> dict[str, Any]:
        if cells:
            self.write(*cells)
        notebook.run(self.work())
        return self.executed()

    def fail(self, *cells: dict[str, Any] | str) -> DsflowError:
        self.write(*cells)
        with pytest.raises(DsflowError) as caught:
            notebook.run(self.work())
        return caught.value

    def executed(self) -> dict[str, Any]:
        saved: dict[str, Any] = json.loads((self.run / "notebook.ipynb").read_text())
        return saved

    def page(self) -> str:
        return notebook.body(self.work())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(params=["forked", "new interpreter"])
def any_launch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to start a kernel; the tests that take it must not see a difference."""
    if request.param != "forked":
        monkeypatch.setattr("dsflow.kernel.fork_is_safe", lambda: False)
    return str(request.param)


def outputs(saved: dict[str, Any], cell: int = -1) -> list[Any]:
    """The outputs of a code cell as plain text; streams as (name, text)."""
    cells = [one for one in saved["cells"] if one["cell_type"] == "code"]
    return [
        (one["name"], "".join(one["text"]))
        if one["output_type"] == "stream"
        else one.get("ename") or "".join(one["data"]["text/plain"])
        for one in cells[cell]["outputs"]
    ]


def test_parameters_reach_the_notebook_as_they_are(bench: Bench) -> None:
    bench.parameters = {"ds": "2026-11-20", "size": 3, "names": ["a", "b"], "missing": None}
    saved = bench.execute(code("ds = size = names = missing = 0", "parameters"), "[ds, size, names, missing]")
    assert outputs(saved) == ["['2026-11-20', 3, ['a', 'b'], None]"]
    assert [cell["metadata"]["tags"] for cell in saved["cells"]] == [["parameters"], ["injected-parameters"], []]


def test_without_parameters_no_cell_is_added(bench: Bench) -> None:
    assert len(bench.execute("1", "2")["cells"]) == 2


def test_percent_format_is_a_notebook_too(bench: Bench) -> None:
    bench.main, bench.parameters = "job.py", {"city": "lyon"}
    (bench.job / "job.py").write_text(
        '# %% [markdown]\n# # Rain\n\n# %% tags=["parameters"]\ncity = "paris"\n\n# %%\nprint(city)\n'
    )
    saved = bench.execute()
    assert outputs(saved) == [("stdout", "lyon\n")]
    assert saved["cells"][0]["source"] == ["# Rain"]


WAITING = """
import os, time
print('ready')
for _ in range(400):
    if os.path.exists('go'):
        break
    time.sleep(0.05)
assert os.path.exists('go')
print('end', end='')
"""


def test_a_line_is_said_while_its_cell_still_runs(bench: Bench) -> None:
    bench.on_line = lambda line: (bench.job / "go").touch() if line == "ready" else None
    bench.execute(WAITING)
    assert bench.lines == ["ready", "end"]


def test_both_streams_are_said_line_by_line(bench: Bench) -> None:
    bench.execute(
        "import sys\nprint('a\\nb')\nprint('bad', file=sys.stderr)", "print('1%\\r50%\\r\\x1b[32m100%\\x1b[0m')"
    )
    assert sorted(bench.lines) == ["100%", "a", "b", "bad"]


def test_what_child_processes_print_is_said_too(bench: Bench) -> None:
    bench.execute("import subprocess\n_ = subprocess.run(['echo', 'from a child'])\nimport time; time.sleep(0.3)")
    assert bench.lines == ["from a child"]


def test_progress_counts_the_cells_that_run(bench: Bench) -> None:
    bench.execute(text("# Title"), "1", "", code("2", "skip-execution"), "3")
    assert bench.steps == [(0, 2), (1, 2), (2, 2)]


def test_the_kernel_is_watched_once(bench: Bench) -> None:
    saved = bench.execute("import os; os.getpid()")
    assert [str(pid) for pid in bench.watched] == outputs(saved)


def test_the_kernel_sees_the_jobs_world_and_nothing_else(bench: Bench, any_launch: str) -> None:
    (bench.job / "helper.py").write_text("value = 42")
    bench.environment = {"DSFLOW_DS": "2026-11-20", "PYTHONPATH": str(bench.root)}
    os.environ["ONLY_HERE"] = "1"
    try:
        saved = bench.execute(
            "import os, sys, signal, threading, helper",
            "import __main__",
            "[os.getcwd(), os.environ['DSFLOW_DS'], 'ONLY_HERE' in os.environ]",
            f"[helper.value, {str(bench.root)!r} in sys.path, len(sys.argv), os.getpgrp() == os.getpid()]",
            "[__name__, __main__ is sys.modules['__main__'], 'Bench' in dir(), hasattr(__main__, '__file__')]",
            "[signal.getsignal(signal.SIGTERM).name, signal.getsignal(signal.SIGALRM).name]",
            "sys.stdin.read()",
        )
    finally:
        del os.environ["ONLY_HERE"]
    assert [outputs(saved, cell) for cell in range(2, 7)] == [
        [f"[{str(bench.job)!r},\n '2026-11-20',\n False]"],
        ["[42, True, 3, True]"],
        ["['__main__', True, False, False]"],
        ["['SIG_DFL', 'SIG_DFL']"],
        ["''"],
    ]


def test_streams_displays_and_updates_keep_their_order(bench: Bench, any_launch: str) -> None:
    saved = bench.execute(
        "import sys\nprint('one')\ndisplay(1, display_id='d')\nprint('two', file=sys.stderr)\ndisplay(2)\n3",
        "from IPython.display import update_display\nupdate_display('new', display_id='d')",
        "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('here')",
    )
    assert outputs(saved, 0) == [("stdout", "one\n"), "'new'", ("stderr", "two\n"), "2", "3"]
    assert outputs(saved, 2) == [("stdout", "here\n")]


def test_no_output_is_lost_however_many_there_are(bench: Bench) -> None:
    saved = bench.execute("for i in range(4000): display(i)")
    assert outputs(saved) == [str(number) for number in range(4000)]


def test_what_a_job_leaves_open_is_closed_and_its_exit_handlers_run(bench: Bench, any_launch: str) -> None:
    bench.execute(
        "import atexit, tempfile\nout = open('out.txt', 'w')\nout.write('all of it')",
        "atexit.register(lambda: open('bye.txt', 'w').write('bye'))",
        "folder = tempfile.TemporaryDirectory(dir='.', prefix='scratch')",
    )
    assert (bench.job / "out.txt").read_text() == "all of it"
    assert (bench.job / "bye.txt").read_text() == "bye"
    assert not list(bench.job.glob("scratch*"))


def test_what_a_job_leaves_running_is_ended(bench: Bench) -> None:
    saved = bench.execute("import subprocess; subprocess.Popen(['sh', '-c', 'trap \"\" TERM; exec sleep 600']).pid")
    state = Path(f"/proc/{outputs(saved)[0]}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


# ruff: noqa: E501
FAILURES: list[tuple[list[Any], str, str, str]] = [
    (["1", "a = 1\n  \nraise ValueError('no rain')"], "ValueError: no rain", "cell 2, line 3", "raise ValueError('no rain')"),
    (["1", "a = 1\nx = = 1"], "SyntaxError: invalid syntax", "cell 2, line 2", "x = = 1"),
    (["x = (1,\ny = 2"], "SyntaxError: '(' was never closed", "cell 1, line 1", "x = (1,"),
    (["def f():\n    1 / 0", "2\nf()"], "ZeroDivisionError: division by zero", "cell 1, line 2, called from cell 2, line 2", "1 / 0"),
    (["def f():\n    1 / 0\nf()"], "ZeroDivisionError: division by zero", "cell 1, line 2", "1 / 0"),
    (["%%time\n\nraise KeyError('x')"], "KeyError: 'x'", "cell 1, line 3", "raise KeyError('x')"),
    (["import sys\nsys.exit(3)"], "SystemExit: 3", "cell 1", ""),
    (["import sys; sys.exit('no input')"], "SystemExit: no input", "cell 1", ""),
    (["raise RuntimeError"], "RuntimeError", "cell 1, line 1", "raise RuntimeError"),
    (["raise RuntimeError('two\\nlines')"], "RuntimeError: two", "cell 1, line 1", "raise RuntimeError('two\\nlines')"),
    (["from dsflow.errors import UsageError\nraise UsageError('no such input')"], "no such input", "cell 1, line 2", "raise UsageError('no such input')"),
    (["%nosuchmagic"], "Line magic function `%nosuchmagic` not found.", "cell 1", ""),
    ([text("# One"), "", "1", "bad"], "NameError: name 'bad' is not defined", "cell 2, line 1", "bad"),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "message", "place", "source"), FAILURES)
def test_a_failing_cell_is_named_with_its_line(
    bench: Bench, cells: list[Any], message: str, place: str, source: str
) -> None:
    error = bench.fail(*cells)
    assert isinstance(error, JobFailed)
    assert (error.message, error.place, error.source) == (message, place, source)
    assert "\x1b" not in error.traceback


def test_a_failure_ends_the_notebook_and_is_saved(bench: Bench) -> None:
    error = bench.fail("print('before')", "1 / 0", "print('after')")
    saved = bench.executed()
    assert [outputs(saved, cell) for cell in range(3)] == [[("stdout", "before\n")], ["ZeroDivisionError"], []]
    assert "ZeroDivisionError" in error.traceback
    assert "1 / 0" in error.traceback


def test_a_long_notebook_is_saved_on_the_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_SAVE_SECONDS", 0)
    seen = []
    bench.on_line = lambda line: seen.append(outputs(bench.executed(), 0))
    bench.execute("1 + 1", "print('look')")
    assert seen == [["2"]]


def test_a_missing_module_comes_with_its_cure(bench: Bench) -> None:
    assert "requirements" in bench.fail("import nosuchmodule").hint


def test_an_allowed_failure_is_none(bench: Bench) -> None:
    saved = bench.execute(code("1 / 0", "raises-exception"), "print('after')")
    assert outputs(saved) == [("stdout", "after\n")]


@pytest.mark.parametrize("source", ["import sys; sys.exit()", "import sys; sys.exit(0)", "raise SystemExit"])
def test_an_exit_without_a_complaint_ends_the_notebook_well(bench: Bench, source: str) -> None:
    saved = bench.execute(source, "print('not reached')")
    assert outputs(saved) == []
    assert 'id="failed"' not in bench.page()


def test_a_cell_without_memory_says_so(bench: Bench) -> None:
    error = bench.fail("x = bytearray(10**17)")
    assert isinstance(error, OutOfMemory)
    assert error.place == "cell 1, line 1"


@pytest.mark.parametrize(
    ("source", "why"), [("import os; os._exit(7)", "exit code 7"), ("import os; os.kill(os.getpid(), 9)", "SIGKILL")]
)
def test_a_dead_kernel_is_named_with_the_cell(bench: Bench, any_launch: str, source: str, why: str) -> None:
    error = bench.fail("print('before')", source)
    assert isinstance(error, KernelDied)
    assert why in error.message
    assert error.place == "cell 2"
    assert outputs(bench.executed(), 0) == [("stdout", "before\n")]
    assert 'id="failed"' in bench.page()


@pytest.mark.skipif(not fork_is_safe(), reason="only a forked kernel reports its crash")
def test_a_crash_of_the_interpreter_tells_where(bench: Bench) -> None:
    error = bench.fail("import ctypes\n\nctypes.string_at(0)")
    assert isinstance(error, KernelDied)
    assert "SIGSEGV" in error.message
    assert "line 3 in <module>" in error.traceback


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"nbformat": 3, "worksheets": []}',
        '{"nbformat": 4, "cells": [{"cell_type": "code"}]}',
        '{"nbformat": 4, "cells": [{"cell_type": "code", "source": "1", "id": []}]}',
        '{"nbformat": 4, "cells": [{"cell_type": "code", "source": [1, 2]}]}',
    ],
)
def test_a_file_that_is_no_notebook_is_refused(bench: Bench, content: str) -> None:
    (bench.job / "job.ipynb").write_text(content)
    with pytest.raises(UsageError, match=r"job\.ipynb"):
        notebook.run(bench.work())
    assert bench.page() == ""


def test_a_notebook_may_lack_what_is_not_needed(bench: Bench) -> None:
    cells = [
        {"cell_type": "code", "source": ["1 +\\\n", " 1"]},
        {"cell_type": "markdown", "source": "x", "metadata": []},
    ]
    (bench.job / "job.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    assert outputs(bench.execute()) == ["2"]
    assert bench.page()


def test_a_kernel_that_is_not_installed_is_named(bench: Bench) -> None:
    bench.write("1", metadata={"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}})
    with pytest.raises(EnvironmentMissing, match="'ir'"):
        notebook.run(bench.work())


def test_another_language_runs_in_its_own_kernel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = bench.root / "jupyter/kernels/snake/kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Snake", "language": "snake", "env": {"S": "1"}}))
    monkeypatch.setenv("JUPYTER_PATH", str(bench.root / "jupyter"))
    bench.write("import os; os.environ['S']", metadata={"kernelspec": {"name": "snake", "language": "snake"}})
    assert outputs(bench.execute()) == ["'1'"]


def test_a_python_notebook_of_another_machine_runs_here(bench: Bench) -> None:
    bench.write("1", metadata={"kernelspec": {"name": "some-venv", "display_name": "venv", "language": "python"}})
    assert outputs(bench.execute()) == ["1"]


def test_secrets_are_blanked_in_the_notebook_and_on_the_page(bench: Bench) -> None:
    bench.secrets, bench.parameters = ('p"ss<word',), {"password": 'p"ss<word'}
    bench.execute(code("password = ''", "parameters"), "print(password)\npassword")
    for document in ((bench.run / "notebook.ipynb").read_text(), bench.page()):
        assert "ss<word" not in document
        assert "ss&lt;word" not in document
        assert "***" in document


def test_the_page_shows_cells_outputs_and_where_it_failed(bench: Bench) -> None:
    bench.fail(text("# Rain in *Paris*"), "print('a < b')", "import re\nraise ValueError('no rain')")
    page = bench.page()
    assert "Rain in <em>Paris</em>" in page
    assert "a &lt; b" in page
    assert page.count('id="failed"') == 1
    assert page.index("a &lt; b") < page.index('id="failed"') < page.index("no rain")


def test_the_page_asks_the_network_for_nothing(bench: Bench) -> None:
    bench.execute(
        text("$x^2$"),
        "from IPython.display import Javascript, Math\ndisplay(Javascript('1'), Math('x'))",
        "display({'application/vnd.jupyter.widget-view+json': {'model_id': 'x'}, 'text/plain': 'a slider'}, raw=True)",
    )
    page = bench.page()
    assert "http" not in page
    assert "<script" not in page
    assert "a slider" in page


STOPPED = """
import os, signal, sys
from pathlib import Path
from dsflow.errors import Interrupted
from dsflow.kinds import notebook
from dsflow.supervision import Stop
from tests.test_kinds_notebook import Bench

def stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stop(Interrupted("stopped"))

signal.signal(signal.SIGTERM, stop)
bench = Bench(Path(sys.argv[1]))
bench.on_line = lambda line: print(line, flush=True)
bench.write("print('first')", sys.argv[2], "print('not reached')")
try:
    notebook.run(bench.work())
except Stop:
    print("stopped", flush=True)
"""

STUBBORN = """
import os, time
print('pid', os.getpid())
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""


@contextmanager
def started(folder: Path, cell: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a notebook in a process of its own, as the shim does; give it and the kernel's pid when the cell says it."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", STOPPED, str(folder), cell]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        try:
            yield process, next(int(line.split()[1]) for line in process.stdout if line.startswith("pid"))
        finally:
            process.kill()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("cell", ["import os, time\nprint('pid', os.getpid())\ntime.sleep(600)", STUBBORN])
def test_a_stop_in_the_middle_of_a_cell_ends_the_kernel_and_saves(tmp_path: Path, cell: str) -> None:
    with started(tmp_path, cell) as (process, kernel):
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "stopped"
    assert is_gone(kernel)
    saved = json.loads((tmp_path / "run/notebook.ipynb").read_text())
    assert outputs(saved, 0) == [("stdout", "first\n")]
    assert outputs(saved, 1) == [("stdout", f"pid {kernel}\n")]
    assert saved["cells"][1]["metadata"]["papermill"]["status"] == "failed"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ipykernel looks for its parent once a second")
def test_the_kernel_dies_with_a_killed_shim(tmp_path: Path) -> None:
    with started(tmp_path, STUBBORN) as (process, kernel):
        process.kill()
        process.wait()
        for _ in range(200):
            if is_gone(kernel):
                return
            time.sleep(0.05)
    raise AssertionError("the kernel outlived the shim")
