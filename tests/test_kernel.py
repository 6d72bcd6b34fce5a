"""A kernel by fork is an ordinary kernel: a job sees nothing of the parent, and nothing is left when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dsflow.errors import EnvironmentMissing, KernelDied
from dsflow.kernel import Kernel, fork_is_safe

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


def ask(kernel: Kernel, code: str) -> str:
    """Run code in a kernel and give what it printed."""
    from jupyter_core.utils import run_sync

    assert kernel.client is not None
    client, said = kernel.client, []

    async def answer() -> None:
        request = client.execute(code)
        while True:
            message = await client.get_iopub_msg(timeout=30)
            if message["parent_header"].get("msg_id") != request:
                continue
            said.append(message["content"].get("text", ""))
            if message["content"].get("execution_state") == "idle":
                return

    run_sync(answer)()
    return "".join(said).strip()


@contextmanager
def kernel_in(cwd: Path, environment: Mapping[str, str] | None = None) -> Iterator[Kernel]:
    kernel = Kernel.start(cwd, {"PATH": os.environ["PATH"], "HOME": str(cwd), **(environment or {})})
    try:
        kernel.connect()
        yield kernel
    finally:
        kernel.stop()


def in_a_process_of_its_own(code: str, folder: Path, **environment: str) -> str:
    """Run code that starts kernels in a new interpreter, and give what it printed."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    here = {**os.environ, "PYTHONPATH": path, **environment}
    prelude = "from pathlib import Path\nfrom tests.test_kernel import ask, kernel_in\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(code)]
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@linux
def test_a_process_with_threads_does_not_fork() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not fork_is_safe()
    finally:
        done.set()
        thread.join()


@linux
def test_otherwise_kernels_are_forked_one_after_the_other(tmp_path: Path) -> None:
    said = in_a_process_of_its_own(
        """
        for number in range(3):
            with kernel_in(Path.cwd()) as kernel:
                forked = Path(f"/proc/{kernel.pid}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
                print(ask(kernel, f"print({number})"), forked)
        """,
        tmp_path,
    )
    assert said.splitlines() == ["0 True", "1 True", "2 True"]


def test_nothing_is_left_of_a_kernel_that_was_stopped(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    in_a_process_of_its_own(
        """
        with kernel_in(Path.cwd()) as kernel:
            pid = kernel.pid
        try:
            import os
            os.kill(pid, 0)
        except ProcessLookupError:
            pass
        else:
            raise AssertionError("still there")
        """,
        tmp_path,
        TMPDIR=str(scratch),
    )
    assert not list(scratch.iterdir())


def test_a_long_path_for_temporary_files_does_not_matter(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    code = "with kernel_in(Path.cwd()) as kernel: print(ask(kernel, 'print(1)'))"
    assert in_a_process_of_its_own(code, tmp_path, TMPDIR=str(deep)) == "1"


@linux
def test_it_holds_no_file_of_its_parent(tmp_path: Path) -> None:
    said = in_a_process_of_its_own(
        """
        import fcntl, os
        lock = open("lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with kernel_in(Path.cwd()) as kernel:
            print([str(one) for one in Path(f"/proc/{kernel.pid}/fd").iterdir() if os.readlink(one).endswith("lock")])
            lock.close()
            fcntl.flock(open("lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        """,
        tmp_path,
    )
    assert said == "[]"


@linux
def test_every_kernel_has_seeds_of_its_own(tmp_path: Path) -> None:
    said = in_a_process_of_its_own(
        """
        import numpy, random
        from dsflow.kernel import fork_is_safe
        assert fork_is_safe()
        random.seed(1)
        numpy.random.seed(1)
        for _ in range(2):
            with kernel_in(Path.cwd()) as kernel:
                print(ask(kernel, "import random, numpy; print(random.random(), numpy.random.random())"))
        """,
        tmp_path,
        OPENBLAS_NUM_THREADS="1",
    )
    numbers = said.split()
    assert len(set(numbers)) == 4


def test_what_the_parent_does_at_its_end_is_done_once_and_by_the_parent(tmp_path: Path) -> None:
    in_a_process_of_its_own(
        """
        import atexit, os, tempfile
        atexit.register(lambda: open("end", "a").write(f"{os.getpid()}\\n"))
        scratch = tempfile.TemporaryDirectory(dir=".")
        buffered = open("buffered", "w")
        buffered.write("once")
        with kernel_in(Path.cwd()):
            pass
        assert os.path.exists(scratch.name)
        Path("parent").write_text(f"{os.getpid()}\\n")
        """,
        tmp_path,
    )
    assert (tmp_path / "end").read_text() == (tmp_path / "parent").read_text()
    assert (tmp_path / "buffered").read_text() == "once"


def test_it_has_none_of_the_parents_handlers_filters_and_variables(tmp_path: Path) -> None:
    said = in_a_process_of_its_own(
        """
        import logging, os, signal, warnings, faulthandler
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        logging.basicConfig(level=0)
        warnings.simplefilter("error")
        os.environ["ONLY_THE_PARENTS"] = "1"
        asked = "import logging, os, signal, warnings, faulthandler\\n" + "\\n".join((
            "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)",
            "print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)",
            "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
            "print(logging.getLogger().level, logging.getLogger().handlers)",
            "print([one for one in warnings.filters if one[0] == 'error'])",
            "print('ONLY_THE_PARENTS' in os.environ)",
        ))
        with kernel_in(Path.cwd()) as kernel:
            print(ask(kernel, asked))
        """,
        tmp_path,
    )
    assert said.splitlines() == ["True", "True", "set()", "30 []", "[]", "False"]


def test_a_ctrl_c_at_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    with kernel_in(tmp_path) as kernel:
        assert os.getpgid(kernel.pid) == kernel.pid != os.getpgrp()
        assert os.getsid(kernel.pid) == kernel.pid


def test_an_interrupt_ends_the_cell_and_not_the_kernel(tmp_path: Path) -> None:
    with kernel_in(tmp_path) as kernel:
        timer = threading.Timer(0.3, kernel.interrupt)
        timer.start()
        assert ask(kernel, "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('interrupted')") == (
            "interrupted"
        )
        timer.join()
        assert ask(kernel, "print('alive')") == "alive"


def test_a_kernel_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    kernel = Kernel.start(tmp_path, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    kernel.connect()
    ask(kernel, "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()")
    kernel.stop(grace=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel.pid, 0)


@pytest.mark.parametrize("launch", ["forked", "new interpreter"])
def test_a_kernel_that_cannot_start_says_why(tmp_path: Path, launch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if launch != "forked":
        monkeypatch.setattr("dsflow.kernel.fork_is_safe", lambda: False)
    profile = tmp_path / ".ipython/profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text("import os\nos.write(2, b'no luck today')\nos._exit(3)\n")
    with pytest.raises(KernelDied, match="exit code 3") as caught, kernel_in(tmp_path):
        pass
    assert "no luck today" in caught.value.traceback


def test_an_unknown_kernel_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="'julia-9'") as caught:
        Kernel.start(tmp_path, {}, "julia-9")
    assert "jupyter kernelspec list" in caught.value.hint
