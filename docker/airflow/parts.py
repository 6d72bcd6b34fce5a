"""Starts the parts of Airflow together, and ends them together: parts.py api-server scheduler dag-processor.

In place of `airflow standalone`, which leaves its parts behind when it is asked to end. When one part ends, so do the
others, and whoever runs this sees it.
"""

import configparser
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HOME = Path(os.environ["AIRFLOW_HOME"])
OWN_DATABASE = HOME / "airflow.db"
PATIENCE_SECONDS = 10.0
# What Airflow's parts take by themselves, and each running task on top: measured as 620 MB and 60 MB.
OWN_BYTES, TASK_BYTES = 800 << 20, 100 << 20
GONE = "UPDATE job SET state = 'failed' WHERE state = 'running' AND job_type = 'SchedulerJob'"
# These start tasks, or wake them up, which begin by asking the API server; and their options.
LATER = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}


def main(parts: list[str]) -> int:
    """Run the parts until one of them ends or somebody asks for the end; give the exit code."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    os.environ.setdefault("AIRFLOW__CORE__PARALLELISM", str(tasks_at_once()))
    migrate()
    forget_schedulers()
    running: dict[str, subprocess.Popen] = {}
    waiting, ended = sorted(parts, key=lambda part: part in LATER), []
    while not stopping and not ended:
        if waiting and (waiting[0] not in LATER or answers()):
            part = waiting.pop(0)
            running[part] = subprocess.Popen([sys.executable, "-m", "airflow", part, *LATER.get(part, [])])
            continue
        time.sleep(0.2)
        ended = [part for part, process in running.items() if process.poll() is not None]
    for part in ended:
        sys.stderr.write(f"airflow {part} has ended with {running[part].returncode}\n")
    stop(running)
    return 1 if ended and not stopping else 0


def answers() -> bool:
    """Whether the API server is there."""
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", int(os.environ["AIRFLOW__API__PORT"]))) == 0


def tasks_at_once() -> int:
    """As many tasks as there are processors, two at least, as far as the memory of the container reaches."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return max(1, min(max(2, cores), (int(Path(limit).read_text()) - OWN_BYTES) // TASK_BYTES))
    return max(2, cores)


def migrate() -> None:
    """Make the database, or bring it to this version; where that was done already it costs nothing."""
    key = hashlib.sha256(f"{version('apache-airflow-core')} {database()}".encode()).hexdigest()
    mark = HOME / "database-version"
    with contextlib.suppress(OSError):
        if mark.read_text() == key and (OWN_DATABASE.is_file() or database() != f"sqlite:///{OWN_DATABASE}"):
            return
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
    mark.write_text(key)


def forget_schedulers() -> None:
    """Tell the database that schedulers of earlier starts are gone, so that their tasks are taken up at once.

    Without this, the new scheduler waits minutes for a sign of life of the old one.
    """
    import sqlalchemy as sa

    with sa.create_engine(database()).begin() as connection:
        connection.execute(
            sa.text("UPDATE job SET state = 'failed' WHERE state = 'running' AND job_type = 'SchedulerJob'")
        )


def database() -> str:
    """Give the URL of the database: what airflow.cfg names, which dsflow writes, else a file beside it."""
    config = configparser.ConfigParser()
    config.read(HOME / "airflow.cfg", encoding="utf-8")
    usual = f"sqlite:///{OWN_DATABASE}"
    named = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    return named or config.get("database", "sql_alchemy_conn", fallback=usual)


def stop(running: dict[str, subprocess.Popen]) -> None:
    """End all parts, the scheduler and its tasks at once: their jobs go on, and the next start takes them up."""
    import psutil

    for part, process in running.items():
        with contextlib.suppress(psutil.Error):
            below = psutil.Process(process.pid).children(recursive=True)
            if part == "scheduler":
                for each in (psutil.Process(process.pid), *below):
                    with contextlib.suppress(psutil.Error):
                        each.kill()
            else:
                process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in running.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
