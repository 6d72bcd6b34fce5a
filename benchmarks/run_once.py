"""What one run costs, as ratios measured side by side: `python benchmarks/run_once.py [-n 7] [--check]`.

Every measurement alternates with the one it is compared to, so that a busy machine slows both. With `--check` the
exit code is 1 when a ratio misses its bar; without it the numbers are printed and nothing else happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

DS = "2026-11-20"
IMAGE = "dsflow/python"
MEMORY_BAR_MB = 80.0
DSFLOW = [sys.executable, "-m", "dsflow"]
LIBRARIES = ("papermill", "nbclient", "nbconvert", "ipykernel", "jupyter_client")
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "only",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": f"ds = '{DS}'\nprint('hello', ds)",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@dataclass(frozen=True)
class Result:
    """One line of the report; `value` is a ratio or megabytes."""

    what: str
    value: float | None
    bar: float
    details: str

    @property
    def verdict(self) -> str:
        """Say whether the bar is kept."""
        if self.value is None:
            return "SKIPPED"
        return "PASS" if self.value <= self.bar else "FAIL"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", type=int, default=7, help="measurements of each kind (default 7, at least 5)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args()
    n = max(given.n, 5)
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, n = {n}, medians"
    )
    print(f"Python {platform.python_version()}, dsflow {version('dsflow')}, {versions}\n")
    results = []
    with workspace() as root:
        for measure in (start, process, memory, container):
            result = measure(root, n)
            results.append(result)
            value = "      -" if result.value is None else f"{result.value:7.2f}"
            print(f"{result.verdict:8}{value}  bar {result.bar:<5} {result.what}\n{'':27}{result.details}", flush=True)
    return 1 if given.check and any(result.verdict == "FAIL" for result in results) else 0


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Make a workspace with the job `one`; its notebook is at the top as well."""
    with tempfile.TemporaryDirectory(prefix="dsflow-benchmark-") as folder:
        root = Path(folder)
        (root / "jobs/one").mkdir(parents=True)
        (root / "dsflow.yml").write_text("version: 1\nname: benchmark\n")
        (root / "jobs/one/job_specs.yaml").write_text("version: 1\nkind: notebook\nmain: one.ipynb\n")
        for path in (root / "jobs/one/one.ipynb", root / "one.ipynb"):
            path.write_text(json.dumps(NOTEBOOK))
        yield root


def start(root: Path, n: int) -> Result:
    ours, theirs = side_by_side(root, n, [[*DSFLOW, "--help"]], [[sys.executable, "-c", "pass"]])
    return Result("`dsflow --help` / `python -c pass`", ours / theirs, 12, f"{ours:.3f} s / {theirs:.3f} s")


def process(root: Path, n: int) -> Result:
    run = [*DSFLOW, "run", "one", DS, "--runtime", "process"]
    papermill = [sys.executable, "-m", "papermill", "one.ipynb", "out.ipynb", "-p", "ds", DS]
    page = [sys.executable, "-m", "nbconvert", "--to", "html", "out.ipynb"]
    ours, theirs = side_by_side(root, n, [run], [papermill, page])
    what = "`dsflow run` in a process, page included / `papermill` and `nbconvert --to html`"
    return Result(what, ours / theirs, 0.5, f"{ours:.2f} s / {theirs:.2f} s")


def container(root: Path, n: int) -> Result:
    what = "`dsflow run` in a container, page included / `docker run` of papermill alone in the same image"
    reason = without_docker()
    if reason:
        return Result(what, None, 0.8, reason)
    run = [*DSFLOW, "run", "one", DS, "--runtime", "docker"]
    user = f"{os.getuid()}:{os.getgid()}"
    mount = ["--init", "--user", user, "--env", "HOME=/tmp", "--volume", f"{root}:/work", "--workdir", "/work"]
    papermill = ["python3", "-m", "papermill", "one.ipynb", "out.ipynb", "-p", "ds", DS]
    ours, theirs = side_by_side(root, n, [run], [["docker", "run", "--rm", *mount, IMAGE, *papermill]])
    return Result(what, ours / theirs, 0.8, f"{ours:.2f} s / {theirs:.2f} s")


def memory(root: Path, n: int) -> Result:
    what = "MB at most in the process of `dsflow run`, without its children"
    if not Path("/proc/self/status").exists():
        return Result(what, None, MEMORY_BAR_MB, "needs /proc")
    peaks = [peak_of([*DSFLOW, "run", "one", DS, "--runtime", "process"], root) for _ in range(3)]
    return Result(what, max(peaks), MEMORY_BAR_MB, "the highest of 3 runs")


def side_by_side(
    root: Path, n: int, ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """Give the median seconds of two sequences of commands, run in turns; the first turn only warms up."""
    seconds = [(timed(root, ours), timed(root, theirs)) for _ in range(n + 1)][1:]
    return statistics.median(one for one, _ in seconds), statistics.median(other for _, other in seconds)


def timed(root: Path, commands: Sequence[Sequence[str]]) -> float:
    begin = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\nfailed with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begin


def peak_of(command: Sequence[str], root: Path) -> float:
    """Give the megabytes a process held at its peak; the system's own record is read until the process ends."""
    peak = 0
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while running.poll() is None:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{running.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        peak = max(peak, int(line.split()[1]))
            time.sleep(0.005)
    return peak / 1024


def without_docker() -> str:
    """Say why nothing can be measured in containers; empty when it can."""
    if shutil.which("docker") is None:
        return "there is no `docker` command"
    for question, answer in ((["version"], "no Docker engine answers"), (["image", "inspect", IMAGE], f"no {IMAGE}")):
        if subprocess.run(["docker", *question], capture_output=True, check=False).returncode:
            return f"{answer}; `dsflow build-images` makes the image"
    return ""


if __name__ == "__main__":
    sys.exit(main())
