"""What it costs to plan many partitions: `python benchmarks/plan.py [-n 5] [--check] [--picture FILE]`.

It makes a workspace of 50 jobs whose partitions are all published and fresh, and measures whole commands, start of the
interpreter included: `dsflow backfill --dry-run` over 100 to 1,000 dates, and `dsflow status` on one table of 10,000
partitions. The first look at a table opens every manifest; it is measured once and shown apart. With `--check` the exit
code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from dsflow import partitions, pipeline
from dsflow.freshness import standing
from dsflow.history import History
from dsflow.model import Column, File, Fingerprint, InputUsed, Manifest, to_json
from dsflow.pipeline import Node
from dsflow.specs.load import load_workspace
from dsflow.store.layout import Layout
from dsflow.workspace import Workspace

FIRST = "1999-01-01"
JOBS = 50
WIDTH = 10  # jobs beside each other; each of those in the layers above reads two of the layer below
DATES = (100, 200, 400, 1_000)
LONG = 10_000
DSFLOW = [sys.executable, "-m", "dsflow"]
SPEC = "version: 1\nkind: sql\noutput: {{table: {table}}}\n"


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds by the clock, seconds of the processor, and megabytes at most."""

    seconds: float
    busy: float
    megabytes: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", type=int, default=5, help="measurements of each kind (default 5)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    parser.add_argument("--picture", type=Path, help="write the curve into this SVG file")
    given = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at the start, medians of {given.n}\n")
    with tempfile.TemporaryDirectory(prefix="dsflow-benchmark-", ignore_cleanup_errors=True) as folder:
        many = Path(folder) / "many"
        make_jobs(many)
        publish(many, max(DATES))
        first_plan = timed(many, plan(max(DATES)))
        curve = {dates: measured(many, given.n, plan(dates)) for dates in DATES}
        one = Path(folder) / "one"
        write_job(one, "big", "SELECT 1 AS x")
        publish(one, LONG)
        first_status = timed(one, status(LONG))
        later_status = measured(one, given.n, status(LONG))
    for dates, cost in curve.items():
        costs = f"{cost.seconds:6.2f} s, {cost.busy:6.2f} s of the processor, {cost.megabytes:4.0f} MB"
        print(f"{dates * JOBS:>14,} tasks: {costs}")
    print(f"{max(DATES) * JOBS:>14,} tasks: {first_plan.seconds:6.2f} s the first time\n")
    whole = curve[max(DATES)]
    kept = [
        told(whole.seconds, 5, f"s: `dsflow backfill --dry-run` of {max(DATES) * JOBS:,} fresh tasks"),
        told(whole.megabytes, 300, "MB at most in its process"),
        told(growth(curve), 1.5, "times as much for one more task at the end of the curve as at its beginning"),
        told(
            later_status.seconds,
            1,
            f"s: `dsflow status` of {LONG:,} partitions; {first_status.seconds:.2f} the first time",
        ),
    ]
    if given.picture:
        given.picture.write_text(picture(curve), encoding="utf-8")
    return 1 if given.check and not all(kept) else 0


def told(value: float, bar: float, what: str) -> bool:
    """Print one line of the report; give whether the bar is kept."""
    print(f"{'PASS' if value <= bar else 'FAIL':8}{value:7.2f}  bar {bar:<5} {what}", flush=True)
    return value <= bar


def growth(curve: dict[int, Cost]) -> float:
    """Give how much steeper the last part of the curve is than the rest; 1 is a straight line.

    It goes by the time of the processor, which other programs hardly change.
    """
    first, *_, last_but_one, last = sorted(curve)

    def slope(one: int, other: int) -> float:
        return (curve[other].busy - curve[one].busy) / (other - one)

    return slope(last_but_one, last) / slope(first, last_but_one)


def plan(dates: int) -> list[str]:
    return [*DSFLOW, "backfill", f"{FIRST}..{partitions.shift(FIRST, dates - 1)}", "--dry-run"]


def status(dates: int) -> list[str]:
    return [*DSFLOW, "status", "big", f"{FIRST}..{partitions.shift(FIRST, dates - 1)}"]


def measured(root: Path, n: int, command: Sequence[str]) -> Cost:
    """Give the medians of what a command costs."""
    costs = [timed(root, command) for _ in range(n)]
    seconds, busy, megabytes = (statistics.median(values) for values in zip(*map(astuple, costs), strict=True))
    return Cost(seconds, busy, megabytes)


def timed(root: Path, command: Sequence[str]) -> Cost:
    """Run a command, which must find everything fresh."""
    with open(root / "screen.txt", "w+b") as screen:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=root, env={**os.environ, "DSFLOW_RUNTIME": "process"}, stdout=screen, stderr=subprocess.STDOUT
        )
        _, ended, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(ended)
        screen.seek(0)
        said = screen.read().decode()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{said[-2000:]}")
    return Cost(
        seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )


def make_jobs(root: Path) -> None:
    """Write 50 SQL jobs in layers."""
    for number in range(JOBS):
        layer, place = divmod(number, WIDTH)
        if layer == 0:
            write_job(root, f"job-{number:02}", f"SELECT {number} AS x")
            continue
        below = [f"table_{(layer - 1) * WIDTH + other:02}" for other in (place, (place + 1) % WIDTH)]
        write_job(root, f"job-{number:02}", f"SELECT a.x + b.x AS x FROM {below[0]} AS a, {below[1]} AS b")


def write_job(root: Path, name: str, query: str) -> None:
    """Write a SQL job; the first one makes the workspace."""
    folder = root / "jobs" / name
    folder.mkdir(parents=True)
    (root / "datastore").mkdir(exist_ok=True)
    (root / "dsflow.yml").write_text("version: 1\n")
    (folder / "job_specs.yaml").write_text(SPEC.format(table=name.replace("job-", "table_")))
    (folder / "query.sql").write_text(query + "\n")


def publish(root: Path, dates: int) -> None:
    """Put in place what runs of all jobs would have published."""
    workspace = Workspace(root)
    settings = load_workspace(workspace)
    whole = pipeline.load(workspace, settings)
    stand = standing(workspace, settings, whole, History.open(workspace, settings), "process")
    days = partitions.between(FIRST, partitions.shift(FIRST, dates - 1), "day")
    layout = Layout(workspace.datastore)
    for name, node in whole.nodes.items():
        for ds in days:
            put(layout, node, ds, stand.current(name, ds)[0])
    # The index trusts no manifest of this very moment.
    time.sleep(0.1)


def put(layout: Layout, node: Node, ds: str, made_with: Fingerprint) -> None:
    """Publish one partition as a run would leave it, without the care that a run takes."""
    store, table = node.writes or ("table", "")
    run_id = "20260101T000000-000000"
    data = File(name=f"{run_id}-part-0.parquet", bytes=4, sha256=digest(table, ds), rows=1)
    manifest = Manifest(
        run_id=run_id,
        job=node.job.name,
        store=store,
        name=table,
        ds=ds,
        published="2026-01-01T00:00:00+00:00",
        files=(data,),
        columns=(Column(name="x", type="INTEGER"),),
        inputs=tuple(
            InputUsed(name=r.name, kind=r.store, target=r.dataset, ds=ds, hash=digest(r.dataset, ds), rows=1, bytes=4)
            for r in node.reads
        ),
        fingerprint=made_with,
        hash=digest(table, ds),
    )
    folder, path = layout.target(store, table, ds), layout.manifest(store, table, ds)
    folder.mkdir(parents=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / data.name).write_bytes(b"data")
    path.write_text(to_json(manifest))


def digest(table: str, ds: str) -> str:
    return hashlib.sha256(f"{table} {ds}".encode()).hexdigest()


def picture(curve: dict[int, Cost]) -> str:
    """Draw the curve: tasks to the right, seconds upwards."""
    width, height, left, bottom = 640, 320, 56, 40
    most, longest = max(curve) * JOBS, max(cost.seconds for cost in curve.values())
    top = max(1, round(longest + 0.5))

    def at(tasks: float, seconds: float) -> tuple[float, float]:
        right, up = tasks / most * (width - left - 24), seconds / top * (height - bottom - 24)
        return round(left + right, 1), round(height - bottom - up, 1)

    def text(x: float, y: float, anchor: str, words: str) -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'

    points = {dates * JOBS: at(dates * JOBS, cost.seconds) for dates, cost in sorted(curve.items())}
    lines = [f'<line x1="{left}" y1="{at(0, s)[1]}" x2="{width - 24}" y2="{at(0, s)[1]}"/>' for s in range(top + 1)]
    marks = [f'<circle cx="{x}" cy="{y}" r="4"/>' for x, y in points.values()]
    words = [text(x, height - bottom + 20, "middle", f"{tasks:,}") for tasks, (x, _) in points.items()]
    words += [text(left - 8, at(0, s)[1] + 4, "end", f"{s} s") for s in range(top + 1)]
    words += [text(x - 6, y - 10, "end", f"{curve[tasks // JOBS].seconds:.2f} s") for tasks, (x, y) in points.items()]
    words.append(text(width / 2, height - 4, "middle", "tasks of a plan, all of them fresh"))
    path = " ".join(f"{x},{y}" for x, y in points.values())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n<g stroke="#dddddd">{"".join(lines)}</g>\n'
        f'<polyline points="{path}" fill="none" stroke="#1f6feb" stroke-width="2"/>\n'
        f'<g fill="#1f6feb">{"".join(marks)}</g>\n<g fill="#333333">{"".join(words)}</g>\n</svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
