"""Kernels by fork without dsflow's own machinery: nbclient and papermill find the provisioner by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import notebook

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


def kernel_spec(folder: Path) -> Path:
    """Make a kernel spec that asks for the provisioner; give what JUPYTER_PATH must be."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 by fork",
        "language": "python",
        "metadata": {"kernel_provisioner": {"provisioner_name": "dsflow-fork"}},
    }
    place = folder / "kernels" / "by-fork"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec))
    return folder


def run(folder: Path, code: str) -> str:
    """Run code in a new interpreter that finds the kernel spec, and give what it printed."""
    environment = {**os.environ, "JUPYTER_PATH": str(kernel_spec(folder / "jupyter")), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux
def test_nbclient_alone_executes_notebooks_in_forks_of_its_process(tmp_path: Path) -> None:
    (tmp_path / "in.ipynb").write_text(notebook("import os", "print(os.path.exists('/proc'), 6 * 7)", "1 / 0"))
    said = run(
        tmp_path,
        """
        import nbclient, nbformat, os, pathlib
        for number in range(2):
            content = nbformat.read("in.ipynb", as_version=4)
            client = nbclient.NotebookClient(content, kernel_name="by-fork", allow_errors=True)
            with client.setup_kernel():
                own = pathlib.Path("/proc/self/cmdline").read_bytes()
                kernel = pathlib.Path(f"/proc/{client.km.provisioner.pid}/cmdline").read_bytes()
                assert kernel == own, kernel
                for index, cell in enumerate(content.cells):
                    client.execute_cell(cell, index)
            print(content.cells[1].outputs[0].text.strip(), content.cells[2].outputs[0].ename)
        """,
    )
    assert said.splitlines() == ["True 42 ZeroDivisionError"] * 2


@linux
def test_papermill_alone_does_so_too(tmp_path: Path) -> None:
    (tmp_path / "in.ipynb").write_text(notebook("print(city)", parameters="city = 'paris'"))
    said = run(
        tmp_path,
        """
        import papermill
        done = papermill.execute_notebook(
            "in.ipynb", "out.ipynb", {"city": "lyon"}, kernel_name="by-fork", language="python", progress_bar=False
        )
        print(done.cells[-1].outputs[0].text)
        """,
    )
    assert said.strip() == "lyon"


@linux
def test_a_process_with_threads_gets_a_new_interpreter(tmp_path: Path) -> None:
    (tmp_path / "in.ipynb").write_text(notebook("print(1)"))
    said = run(
        tmp_path,
        """
        import nbclient, nbformat, pathlib, threading, time
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        content = nbformat.read("in.ipynb", as_version=4)
        client = nbclient.NotebookClient(content, kernel_name="by-fork")
        with client.setup_kernel():
            print("ipykernel_launcher" in pathlib.Path(f"/proc/{client.km.provisioner.pid}/cmdline").read_text())
            client.execute_cell(content.cells[0], 0)
        print(content.cells[0].outputs[0].text)
        """,
    )
    assert said.split() == ["True", "1"]
