"""How long services take to answer: `python benchmarks/services.py [-n 5] [--check]`.

A start of Jupyter Lab is the whole command, from the prompt to the prompt: the page answers when it returns. It
alternates with `docker run` of a program that does nothing in the same image, so that a busy machine slows both. With
`--check` the exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

DSFLOW = [sys.executable, "-m", "dsflow"]
IMAGE = "dsflow/jupyter"
# Over the start of a container that does nothing.
BAR_SECONDS = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", type=int, default=5, help="measurements of each kind (default 5)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f} at the start, n = {given.n}, medians\n")
    missed = False
    with tempfile.TemporaryDirectory(prefix="dsflow-benchmark-") as folder:
        root = Path(folder)
        subprocess.run([*DSFLOW, "init", str(root / "ws")], check=True, capture_output=True)
        try:
            starts, bare = measured(root / "ws", "container", given.n)
            over = statistics.median(starts) - statistics.median(bare)
            missed = over > BAR_SECONDS
            verdict = "FAIL" if missed else "PASS"
            print(
                f"{verdict}  {over:5.2f} s over the bare container, bar {BAR_SECONDS} s: start-jupyter {shown(starts)},"
            )
            print(f"      docker run {shown(bare)}")
            starts, _ = measured(root / "ws", "process", given.n)
            print(f"      {statistics.median(starts):5.2f} s as a process: {shown(starts)}")
        finally:
            subprocess.run([*DSFLOW, "-C", str(root / "ws"), "stop-all"], check=False, capture_output=True)
    return 1 if given.check and missed else 0


def measured(root: Path, form: str, n: int) -> tuple[list[float], list[float]]:
    """Give the seconds of so many starts of Jupyter, and of bare containers between them."""
    start = [*DSFLOW, "-C", str(root), "start-jupyter", "--form", form, "--port", str(free_port())]
    stop = [*DSFLOW, "-C", str(root), "stop", "jupyter"]
    # The image, or the environment, is made once.
    seconds(start)
    seconds(stop)
    starts, bare = [], []
    for _ in range(n):
        if form == "container":
            bare.append(seconds(["docker", "run", "--rm", "--init", IMAGE, "true"]))
        starts.append(seconds(start))
        with urllib.request.urlopen(f"http://127.0.0.1:{start[-1]}/login", timeout=60) as page:
            assert page.status == 200
        seconds(stop)
    return starts, bare


def seconds(command: Sequence[str]) -> float:
    """Run a command and give how long it took."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return time.monotonic() - began


def free_port() -> int:
    """Give a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shown(values: Sequence[float]) -> str:
    """Give the median and the range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
