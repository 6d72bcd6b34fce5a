"""Shell and Python scripts. They get the source and the sink as arguments, as dsflow's predecessor gave them."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from dsflow import highlighting
from dsflow.errors import JobFailed
from dsflow.kinds.contract import Work
from dsflow.model import Task

_REMEMBERED_LINES = 60
_GRACE_SECONDS = 5
# A program that never ends its line must not fill our memory.
_LONGEST_LINE = 1 << 20
_JAVA = re.compile(r": (?:[\w$]+\.)+([\w$]+: )?")


def load(task: Task, job_folder: Path) -> None:
    """Load what colours the script on the page; the script itself runs in a program of its own."""
    highlighting.load(_language(task.main))


def leaves_nothing(task: Task) -> bool:
    """Say no: its code can do anything to its process."""
    return False


def run(work: Work) -> None:
    """Run the script to its end and pass its lines on as they come."""
    path = work.job_folder / work.task.main
    arguments = list(work.source_paths.values())
    if work.staging is not None:
        work.staging.mkdir(parents=True, exist_ok=True)
        arguments.append(str(work.staging))
    started_by = work.launcher if path.suffix == ".py" and work.launcher else _interpreter(path)
    execute(work, [*started_by, str(path), *arguments])


def execute(work: Work, command: Sequence[str]) -> None:
    """Run a command as the job's code: its environment, its folder, its lines into the log.

    It ends when the command ends. What that left running is killed: nobody would wait for it, or see it fail.

    Raises:
        JobFailed: it ended with an exit code other than 0.
    """
    last: collections.deque[str] = collections.deque(maxlen=_REMEMBERED_LINES)
    process = subprocess.Popen(
        command,
        cwd=work.job_folder,
        env=dict(work.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )

    def pass_on() -> None:
        assert process.stdout is not None
        while line := process.stdout.readline(_LONGEST_LINE):
            last.append(line.rstrip("\n"))
            work.say(last[-1])

    # In a thread: what the command leaves running may hold the other end of the pipe for ever.
    reader = threading.Thread(target=pass_on, daemon=True)
    try:
        work.watch(process.pid)
        reader.start()
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        _end_session(process.pid)
        if reader.ident:
            reader.join(_GRACE_SECONDS)
    if code != 0:
        raise _failure(work, code, list(last))


def body(work: Work) -> str:
    """Give the script as it was run; its log follows on the page."""
    try:
        text = (work.job_folder / work.task.main).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return highlighting.source(work.mask(text), _language(work.task.main))


def _language(main: str) -> str:
    return "python" if main.endswith(".py") else "sh"


def _interpreter(path: Path) -> list[str]:
    """Give what runs a script: Python for `.py`, else what its first line names, else `sh`."""
    if path.suffix == ".py":
        return [sys.executable, "-u"]
    with open(path, "rb") as file:
        first = file.readline(200).decode("utf-8", "replace").strip()
    return first.removeprefix("#!").split() if first.startswith("#!") else ["sh"]


def _end(process: subprocess.Popen[str]) -> None:
    """End the script and everything it started: first politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_SECONDS)
        except (ProcessLookupError, PermissionError):
            break
        except subprocess.TimeoutExpired:
            continue


def _end_session(session: int) -> None:
    """Kill what still runs in the session of a command that has ended."""
    import psutil

    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


def _failure(work: Work, code: int, lines: list[str]) -> JobFailed:
    name = work.task.main
    ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if code > 0 and any(line.startswith("Traceback (most recent call last)") for line in lines):
        place, source = _python_place(work, lines)
        return JobFailed(_python_message(lines), place=place, source=source, traceback="\n".join(lines))
    said = _last(lines)
    return JobFailed(f"{name} {ending}" + (f": {said}" if said else ""), traceback="\n".join(lines))


def _last(lines: list[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _python_message(lines: list[str]) -> str:
    """Give the first line of the exception, which comes after the last frame; a message may have more lines."""
    frames = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    after = lines[frames[-1] + 1 :] if frames else []
    said = [line.strip() for line in after if line and not line[0].isspace()]
    # What Spark's Java raised follows the name of what Python raised for it.
    raised = next((line for line in said if _JAVA.match(line)), "") if said and "py4j." in said[0] else ""
    return _JAVA.sub("", raised) or next(iter(said), _last(lines))


def _python_place(work: Work, lines: list[str]) -> tuple[str, str]:
    """Give the last place in the job's own folder that a Python traceback names, and the line there."""
    for index in range(len(lines) - 1, -1, -1):
        match = re.match(r'\s*File "(.+)", line (\d+)', lines[index])
        if match and match.group(1).startswith(str(work.job_folder)):
            name = Path(match.group(1)).relative_to(work.job_folder)
            source = lines[index + 1].strip() if index + 1 < len(lines) else ""
            return f"{name}, line {match.group(2)}", source
    return work.task.main, ""
