"""Moves a sql job to the other engine: the query translated, proven on a sample, and written only then.

The query and the spec are two files. Between them stands a spec that says the query is not yet in its engine's SQL:
whatever ends dsflow there, the job is refused until it is ported, and never computed by the wrong engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow.dialects import dialect_of, dialects_of, shown
from dsflow.durable import write_text
from dsflow.engines.duckdb import open_engine
from dsflow.errors import DsflowError, UsageError
from dsflow.inputs import partitions_of, rows_of
from dsflow.jobfiles import main_file
from dsflow.model import Input
from dsflow.parity.apart import Apart
from dsflow.parity.judge import Verdict, judge
from dsflow.parity.sides import Asked, Side, run_on, task_on
from dsflow.parity.targets import target
from dsflow.parity.translation import translated
from dsflow.prepare import task_of
from dsflow.specs.load import JobSpec
from dsflow.specs.yaml import read_mapping, read_text
from dsflow.store.datastore import Datastore, Partition
from dsflow.workspace import JOB_SPECS, Workspace

_WHERE = {"duckdb": "process:duckdb", "spark": "process:spark"}
# So many dates are tried to find one for which everything is there.
_MOST_DATES = 50


@dataclass(frozen=True, kw_only=True)
class Port:
    """A job on its way to the other engine.

    Attributes:
        job: Its spec.
        dialect: What its query is written in.
        into: What it is to be written in.
        path: The file of the query.
        query: What is in it, before and after.
        spec: What is in job_specs.yaml, before and after.
    """

    job: JobSpec
    dialect: str
    into: str
    path: Path
    query: tuple[str, str]
    spec: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What both queries made of a sample.

    Attributes:
        ds: The date.
        sides: The runs.
        verdicts: What came out, the query as it was first.
        limited: The inputs of which not all rows were taken.
    """

    ds: str
    sides: Sequence[Side]
    verdicts: Sequence[Verdict]
    limited: Sequence[str]

    @property
    def problem(self) -> str:
        """Why it proves nothing; empty where both made the same rows."""
        if not all(verdict.same for verdict in self.verdicts):
            return "the two queries do not make the same"
        return "" if self.verdicts[0].rows else "both made no rows at all, which proves nothing"


def check_portable(job: JobSpec) -> None:
    """Refuse what is no query.

    Raises:
        UsageError: it is none.
    """
    if job.kind != "sql":
        raise UsageError(
            f"{job.name} is a {job.kind}: only the query of a sql job can be ported. Its code calls the engine's own "
            "functions on the engine's own tables, and no program knows what it means by them",
            "Its inputs, output and expectations stay as they are: change `engine:` in job_specs.yaml and the code by "
            f"hand, and look with `dsflow parity {job.name}`.",
        )


def plan_port(asked: Asked, into: str, ds: str | None) -> Port:
    """Translate the query of a job, and write nothing.

    Args:
        asked: The job.
        into: The engine it is to be ported to.
        ds: A date for which its inputs are there, for the types of their columns; None where there is none.

    Raises:
        UsageError: it is in that SQL already, or cannot be ported safely; each place is named.
    """
    job, workspace = asked.job, asked.workspace
    dialect = _written_in(asked, into)
    path = workspace.job_folder(job.name) / main_file(workspace, job)
    where = workspace.shown(path)
    text = read_text(path, where)
    spec = workspace.job_folder(job.name) / JOB_SPECS
    before = read_text(spec, workspace.shown(spec))
    return Port(
        job=job,
        dialect=dialect,
        into=into,
        path=path,
        query=(text, translated(text, dialect, into, _columns(asked, dialect, ds) if ds else {}, where)),
        spec=(before, spec_for(before, into, into, workspace.shown(spec))),
    )


def prove(port: Port, asked: Asked, ds: str, rows: int, apart: Apart) -> Proof:
    """Run the query as it was and as it will be on the same sample, each by its engine, and compare.

    Args:
        port: The job.
        asked: The same job, as for `plan_port`.
        ds: The date.
        rows: At most so many rows of each table that is read.
        apart: Where that happens.

    Raises:
        JobFailed: an input is not there.
    """
    datastore = Datastore(asked.workspace.datastore.resolve())
    limited: dict[str, Input] = {}

    def less(source: Input) -> Input:
        if source.name not in limited and _counted(partitions_of(source, datastore)) > rows:
            limited[source.name] = _limited(source, datastore, rows, apart)
        return limited.get(source.name, source)

    now = dataclasses.replace(asked, arguments=(ds,), inputs=less)
    then = dataclasses.replace(now, query=port.query[1])
    sides = []
    for dialect, each in ((port.dialect, now), (port.into, then)):
        place = target(_WHERE[dialect])
        stated = port.job.model_copy(update={"dialect": (dialect,)})
        look = dataclasses.replace(each, job=stated)
        asked.notify(f"Running {port.job.name} ds={ds} on {place.name}")
        sides.append(run_on(place, task_on(place, look, apart), look))
    keys = port.job.output.keys if port.job.output else ()
    return Proof(ds=ds, sides=sides, verdicts=judge(sides, keys), limited=tuple(limited))


def write(port: Port, workspace: Workspace) -> None:
    """Put the query and the spec into place, both or neither.

    Raises:
        UsageError: somebody changed one of them meanwhile.
    """
    spec = workspace.job_folder(port.job.name) / JOB_SPECS
    for path, before in ((port.path, port.query[0]), (spec, port.spec[0])):
        if read_text(path, workspace.shown(path)) != before:
            raise UsageError(f"{workspace.shown(path)} was changed meanwhile", "Port it again.")
    unfinished = spec_for(port.spec[0], port.into, port.dialect, workspace.shown(spec), always=True)
    try:
        write_text(spec, unfinished)
        write_text(port.path, port.query[1])
        write_text(spec, port.spec[1])
    except BaseException:
        with contextlib.suppress(OSError):
            write_text(port.path, port.query[0])
            write_text(spec, port.spec[0])
        raise


def find_date(asked: Asked) -> str | None:
    """Give the newest date for which everything is there that a job reads; None where there is none."""
    dialect = dialect_of(asked.job, asked.settings)
    datastore = Datastore(asked.workspace.datastore.resolve())
    job = asked.job.model_copy(update={"engine": dialect, "dialect": (dialect,)})
    for ds in list(_dates(job, datastore))[:_MOST_DATES]:
        with contextlib.suppress(DsflowError):
            task = task_of(asked.workspace, asked.settings, job, (ds,), asked.params)[0]
            for source in task.inputs:
                partitions_of(source, datastore)
            return ds
    return None


def _written_in(asked: Asked, into: str) -> str:
    if into in dialects_of(asked.job, asked.settings):
        raise UsageError(
            f"the query of {asked.job.name} is in the SQL of {shown([into])} already",
            f"To let {shown([into])} compute it, write `engine: {into}` into job_specs.yaml.",
        )
    return dialect_of(asked.job, asked.settings)


def _dates(job: JobSpec, datastore: Datastore) -> Iterator[str]:
    """Give dates that may do, the likeliest first."""
    found: dict[str, None] = {}
    if job.output is not None:
        store, name = ("table", job.output.table) if job.output.table else ("raw", job.output.raw)
        found |= dict.fromkeys(reversed(datastore.partitions("raw" if store == "raw" else "table", str(name))))
    for source in job.inputs.values():
        if source.table or source.raw:
            every = datastore.partitions("table" if source.table else "raw", str(source.table or source.raw))
            found |= dict.fromkeys(reversed(every))
    for name in datastore.names("table") if not found else ():
        found |= dict.fromkeys(reversed(datastore.partitions("table", name)))
    yield from found or ("yesterday",)


def _columns(asked: Asked, dialect: str, ds: str) -> Mapping[str, str]:
    """Give the types of the columns that a job reads; of names with several types none."""
    datastore = Datastore(asked.workspace.datastore.resolve())
    job = asked.job.model_copy(update={"engine": dialect, "dialect": (dialect,)})
    types: dict[str, set[str]] = {"ds": {"VARCHAR"}}
    for source in task_of(asked.workspace, asked.settings, job, (ds,), asked.params)[0].inputs:
        for partition in partitions_of(source, datastore)[-1:]:
            for column in partition.manifest.columns if partition.manifest else ():
                types.setdefault(column.name, set()).add(column.type)
    return {name: found.pop() for name, found in types.items() if len(found) == 1}


def _counted(partitions: Sequence[Partition]) -> int:
    return sum((partition.manifest.rows or 0) if partition.manifest else 0 for partition in partitions)


def _limited(source: Input, datastore: Datastore, rows: int, apart: Apart) -> Input:
    """Give an input as a file with the first rows of each of its partitions, their ds among them."""
    partitions = partitions_of(source, datastore)
    share = max(1, rows // len(partitions))
    path = apart.folder / f"{source.name}.parquet"
    with contextlib.closing(open_engine()) as engine:
        parts = [rows_of(source, [one], engine, datastore.root).limit(share) for one in partitions]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.union(part)
        whole.write_parquet(str(path))
    return Input(name=source.name, kind="path", target=f"/data/{apart.name}/{path.name}", format="parquet")


def spec_for(text: str, engine: str, dialect: str, where: str, *, always: bool = False) -> str:
    """Give the text of a spec that names the engine, and the dialect if it did before.

    Args:
        text: What is in the file.
        engine: The engine to name.
        dialect: The dialect to name.
        where: How messages call the file.
        always: Name the dialect in any case.

    Raises:
        UsageError: it is written in a way that this cannot change safely.
    """
    changes = {"engine": engine} | (
        {"dialect": dialect} if always or re.search(r"^dialect\s*:", text, re.MULTILINE) else {}
    )
    found = text
    for key, value in changes.items():
        found = _with_key(found, key, value)
    expected = {**_mapping(text, where), **changes}
    if _mapping(found, where) != expected:
        told = ", ".join(f"`{key}: {value}`" for key, value in changes.items())
        raise UsageError(f"{where} is written in a way that dsflow does not change", f"Write {told} into it by hand.")
    return found


def _with_key(text: str, key: str, value: str) -> str:
    line = f"{key}: {value}"
    there = re.compile(rf"^{key}\s*:[^#\n]*?(\s*#.*)?$", re.MULTILINE)
    if there.search(text):
        return there.sub(lambda found: line + (found[1] or ""), text, count=1)
    return re.sub(r"^kind\s*:.*$", lambda found: f"{found[0]}\n{line}", text, count=1, flags=re.MULTILINE)


def _mapping(text: str, where: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, JOB_SPECS)
        path.write_text(text, encoding="utf-8")
        return dict(read_mapping(path, where))
