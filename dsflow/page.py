"""The page of a run: one HTML file that shows what went in, what came out, and what happened in between.

It asks the network for nothing. Everything but the body, which a kind of job made, is escaped here.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dsflow.durable import write_text
from dsflow.masking import MASK, is_secret
from dsflow.model import Check, InputUsed, Outcome, Task
from dsflow.quantities import show_bytes, show_seconds

_LOG_BYTES = 2_000_000
_ALWAYS_THERE = ("task.json", "outcome.json")
_DOCUMENTS = (*_ALWAYS_THERE, "log.txt", "notebook.ipynb")
# Colours and cursor movements of programs that thought they were writing to a terminal.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_CHANGES = {"+": "added", "-": "removed", "~": "changed"}


def write(run_folder: Path, task: Task, outcome: Outcome, body: str) -> None:
    """Write `index.html` into a run folder, with the log that is there.

    Args:
        run_folder: Where it goes.
        task: What was run.
        outcome: How it ended.
        body: Trusted HTML, made by the kind of job; secrets are masked already. May be empty.

    Raises:
        OSError: the folder cannot be written.
    """
    there = [name for name in _DOCUMENTS if name in _ALWAYS_THERE or (run_folder / name).exists()]
    text = render(task, outcome, body, _end_of_log(run_folder / "log.txt"), documents=there)
    write_text(run_folder / "index.html", text.encode("utf-8", "replace").decode(), wait=False)


def render(task: Task, outcome: Outcome, body: str, log: str, *, documents: Sequence[str] = _ALWAYS_THERE) -> str:
    """Give the page as text.

    Args:
        task: What was run.
        outcome: How it ended.
        body: Trusted HTML, made by the kind of job.
        log: What the run printed.
        documents: The names of the files beside the page that it links to.
    """
    return load()(
        task=task,
        outcome=outcome,
        facts=_facts(task),
        parameters=_parameters(task),
        body=body,
        # Charts bring scripts of their own. A page without such a body runs none at all.
        scripts="'unsafe-inline'" if "<script" in body.lower() else "'none'",
        log=plain(log),
        documents=documents,
    )


@functools.cache
def load() -> Callable[..., str]:
    """Give what fills in the page, compiled once per process."""
    from dsflow.rendering import trusted

    filters: dict[str, Callable[..., Any]] = {
        "size": show_bytes,
        "duration": show_seconds,
        "moment": _moment,
        "count": _count,
        "change": _change,
        "verdict": _verdict,
        "origin": _origin,
        "plain": plain,
    }
    return trusted(Path(__file__).with_name("page.html"), filters)


def preview_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give the first rows of a result as an HTML fragment for a body."""
    from html import escape

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    title = f"First rows ({len(rows)})" if rows else "No rows"
    return (
        f'<div class="preview"><h3>{title}</h3><div class="wide"><table class="dataframe">'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></div>"
    )


def plain(log: str) -> str:
    """Give the text a person would have seen: no colour codes, and of a line that was overwritten its last state."""
    text = _ESCAPES.sub("", log).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(_CONTROLS.sub("�", line) for line in lines).strip("\n")


def _end_of_log(path: Path) -> str:
    try:
        with path.open("rb") as file:
            skipped = max(0, file.seek(0, 2) - _LOG_BYTES)
            file.seek(skipped)
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    if not skipped:
        return text
    return f"[the first {show_bytes(skipped)} are in log.txt only]\n" + text.partition("\n")[2]


def _facts(task: Task) -> list[tuple[str, str]]:
    facts = task.facts
    named = [
        ("Runtime", facts.runtime + (f" ({facts.runtime_reason})" if facts.runtime_reason else "")),
        ("Engine", task.engine),
        ("Image", facts.image),
        ("Image digest", facts.image_id),
        ("Environment", (facts.lock_hash or "")[:16]),
        ("Git revision", facts.git_revision),
        ("dsflow", facts.dsflow_version),
        ("Host", f"{facts.user}@{facts.host}" if facts.user and facts.host else facts.host),
        ("Interval", f"{task.start} to {task.end}".replace("T", " ")),
    ]
    return [(name, value) for name, value in named if value]


def _parameters(task: Task) -> list[tuple[str, str]]:
    names = dict.fromkeys([*task.parameters, *task.secret_parameters])
    return [(name, _shown(task, name)) for name in names]


def _shown(task: Task, name: str) -> str:
    value: Any = task.parameters.get(name)
    if name in task.secret_parameters or is_secret(name):
        return MASK
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _moment(text: str) -> str:
    """Give an ISO 8601 moment in UTC to the second."""
    return text[:19].replace("T", " ") + " UTC"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _change(text: str) -> dict[str, str]:
    sign, _, what = text.partition(" ")
    return {"sort": _CHANGES.get(sign, "changed"), "what": what if sign in _CHANGES else text}


def _origin(used: InputUsed) -> str:
    folder = {"table": "tables/", "raw": "raw/"}.get(used.kind, "")
    return folder + used.target


def _verdict(check: Check) -> dict[str, str]:
    what = {"tolerated": "within its limit", "allowed": "rows allowed", "dropped": "rows dropped"}
    sorts = {"passed": "passed", "failed": "failed"}
    told = what.get(check.verdict, check.verdict)
    # Of a partition as a whole no rows are allowed or dropped.
    told = "allowed" if check.per == "partition" and check.verdict == "allowed" else told
    noted = "" if check.severity == "info" else "warned"
    return {"sort": sorts.get(check.verdict, noted), "what": told}
