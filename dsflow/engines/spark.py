"""Spark: the engine for what outgrows one machine, and for jobs that are written for it.

The session comes from the environment (`dsflow.spark.access`): one on the workspace's warm server, or Spark in this
process. It begins when it is needed and not before. Rows that this process holds already need no Spark, nor does what
is to be known of finished files, expectations included: DuckDB writes and reads them here, with the same types and the
same verdicts for every engine.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsflow.durable import remove_tree
from dsflow.engines import duckdb
from dsflow.engines.contract import Inspection
from dsflow.engines.literals import identifier
from dsflow.errors import DsflowError, EnvironmentMissing, Interrupted, JobFailed, NotShared, UsageError
from dsflow.queries import quoted_raw, sources_of
from dsflow.spark import sessions

_DEFAULTS: dict[str, dict[str, str]] = {
    "parquet": {"mergeSchema": "true"},
    # A row that is not as it should be ends the job, and does not become NULLs that nobody notices.
    "csv": {"header": "true", "inferSchema": "true", "mode": "FAILFAST"},
    "json": {"mode": "FAILFAST"},
    "text": {"wholetext": "true"},
}
# What the readers of the other engine call the same thing.
_RENAMED = {"delim": "sep", "delimiter": "sep", "nullstr": "nullValue", "dateformat": "dateFormat"}
# So much of a JSON file is looked at.
_BEGINNING = 1 << 20
_COARSER = {"TIMESTAMP_NS": "TIMESTAMP", "TIMESTAMPTZ_NS": "TIMESTAMPTZ"}
_WRONG_DS = "dsflow: another ds: "
# What only says that something failed; why is in one of its causes.
_VAGUE = re.compile(r"\[(FAILED_READ_FILE|TASK_WRITE_FAILED)|.*Job aborted")
_GONE = re.compile(r"UNAVAILABLE|Connection refused|Socket closed|Connection reset|on closed channel")


class Spark:
    """One session of Spark, which begins with its first use."""

    def __init__(self, *, threads: float | None = None, memory: int | None = None) -> None:
        self._limits: Any = {"threads": threads, "memory": memory}
        self._session: Any = None
        self._offered: dict[str, tuple[str, Callable[[], Any]]] = {}
        self._files: duckdb.DuckDB | None = None

    @property
    def session(self) -> Any:
        """The SparkSession."""
        if self._session is None:
            self._session = sessions.open_session()
        return self._session

    @property
    def here(self) -> duckdb.DuckDB:
        """Who works on files and rows in this process."""
        if self._files is None:
            self._files = duckdb.open_engine(**self._limits)
        return self._files

    def read(
        self,
        files: Sequence[Path | str],
        format: str,
        *,
        with_ds: bool,
        options: Mapping[str, Any],
        alike: bool = False,
    ) -> Any:
        """Give the rows of some files as a DataFrame."""
        if not files:
            raise JobFailed("there is no file to read")
        names = [str(file) for file in files]
        given = {_RENAMED.get(name, name): _text(value) for name, value in options.items()}
        first = _first_record(names[0]) if format == "json" and "multiLine" not in given else None
        chosen = {**_DEFAULTS[format], **({} if first is None else {"multiLine": _text(first.several_lines)})}
        if alike:
            # To merge the columns of many files Spark opens each of them.
            chosen["mergeSchema"] = "false"
        if with_ds and (above := _above_ds(names[0])):
            chosen["basePath"] = above
        with _explained(f"reading {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")):
            paths = [_exactly(name) for name in names]
            reader = self.session.read.format(format).options(**(chosen | given))
            if first and first.several_lines and paths != names:
                # To find the columns of such files Spark would look for others once more.
                texts = self.session.read.text(paths, wholetext=True)
                reader = reader.schema(self.session.read.options(**given).json(texts).schema)
            rows = reader.load(paths)
            wanted = _in_order(rows.columns, first.names if first else ())
            return _texts(rows) if format == "text" else rows.select(*map(_column, wanted))

    def view(self, name: str, rows: Any) -> None:
        """Make a DataFrame known under a name; `raw.x` is a view with a dot in its name."""
        with _explained(f"the view {name}"):
            rows.createOrReplaceTempView(_column(name))

    def offer(self, name: str, rows: Callable[[], Any]) -> None:
        """Make a DataFrame known under a name when a query first names it: looking into the files takes Spark a while.

        The session's own `sql` and `table` count as queries too.
        """
        if not self._offered:
            self._listen()
        self._offered[name.casefold()] = (name, rows)

    def _listen(self) -> None:
        session = self.session
        ask, table = session.sql, session.table

        def sql(query: str, *arguments: Any, **more: Any) -> Any:
            self._settle(_named(query))
            return ask(query, *arguments, **more)

        def table_of(name: str) -> Any:
            self._settle([name])
            return table(name)

        session.sql, session.table = sql, table_of

    def _settle(self, names: Iterable[str]) -> None:
        """Make views of the tables on offer that a query names."""
        for wanted in names:
            if offered := self._offered.pop(wanted.casefold(), None):
                name, rows = offered
                self.view(name, rows())

    def sql(self, query: str) -> Any:
        """Run a query over the views."""
        with _explained("the query", query):
            return self.session.sql(quoted_raw(query, "spark"))

    def write(self, data: Any, path: Path, ds: str) -> None:
        """Write rows of any known kind; Spark's own into a file for each of its partitions."""
        if type(data).__module__.startswith("pyspark.pandas"):
            data = data.to_spark()
        if not type(data).__module__.startswith("pyspark.sql"):
            self.here.write(_in_microseconds(self.here.relation(data)), path, ds)
            return
        with _explained("computing the rows to write", ds=ds):
            found = next((name for name in data.columns if name.lower() == "ds"), None)
            if found is not None:
                data = data.where(_only(found, ds)).drop(found)
            if not data.columns:
                raise JobFailed("the data to write has no columns")
            _write(data, path)

    def inspect(self, files: Sequence[Path], first: int = 0) -> Inspection:
        """Count and describe Parquet files, and show some rows."""
        return self.here.inspect(files, first)

    def ask(self, query: str, tables: Mapping[str, Sequence[Path]], *, calls: bool = True) -> list[tuple[Any, ...]]:
        """Run a SELECT over Parquet files: one condition means the same whatever computed the rows."""
        return self.here.ask(query, tables, calls=calls)

    def extract(self, query: str, tables: Mapping[str, Sequence[Path]], path: Path) -> None:
        """Write the rows of a SELECT over Parquet files into another one."""
        self.here.extract(query, tables, path)

    def interrupt(self) -> None:
        """End what the session computes, and what is computed here."""
        if self._session is not None:
            sessions.interrupt(self._session)
        if self._files is not None:
            self._files.interrupt()

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            sessions.close_session(self._session)
            self._session = None
        if self._files is not None:
            self._files.close()
            self._files = None


def prepare() -> None:
    """Load pyspark, and what works on files here."""
    duckdb.prepare()
    sessions.load()


def open_engine(*, threads: float | None = None, memory: int | None = None) -> Spark:
    """Give a session that has not begun; the limits are those of this process, not of Spark."""
    return Spark(threads=threads, memory=memory)


def only_reads(query: str) -> bool:
    """Say no: a channel to the server is not to be used by two tasks."""
    return False


def _named(query: str) -> tuple[str, ...]:
    try:
        return sources_of(query, "spark")
    except UsageError:
        # Spark has the better words for what is wrong with it.
        return ()


class _Record:
    """What the beginning of a JSON file tells: whether a record has several lines, and the names in the first one."""

    def __init__(self, several_lines: bool, names: Sequence[str]) -> None:
        self.several_lines = several_lines
        self.names = names


def _first_record(file: str) -> _Record | None:
    """Look into a JSON file; None where it cannot be seen from here, or says nothing."""
    opened = gzip.open if file.endswith(".gz") else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", errors="replace") as stream:
            text = stream.read(_BEGINNING).lstrip()
    except OSError:
        return None
    inside = text[1:].lstrip() if text.startswith("[") else text
    try:
        record, end = json.JSONDecoder().raw_decode(inside)
    except ValueError:
        return None
    several = inside is not text or "\n" in inside[:end]
    return _Record(several, list(record) if isinstance(record, dict) else ())


def _in_microseconds(rows: Any) -> Any:
    """Give rows with moments as Spark can read them; pandas counts nanoseconds."""
    types = zip(rows.columns, map(str, rows.types), strict=True)
    finer = {identifier(name): _COARSER[type_] for name, type_ in types if type_ in _COARSER}
    casts = ", ".join(f"CAST({name} AS {type_}) AS {name}" for name, type_ in finer.items())
    return rows.project(f"* REPLACE ({casts})") if finer else rows


def _in_order(columns: Sequence[str], first: Sequence[str]) -> list[str]:
    """Give columns as the first record has them, which Spark sorts; folders above the datastore name none."""
    known = [name for name in first if name in columns]
    return [*known, *(name for name in columns if name not in known)]


def _texts(rows: Any) -> Any:
    """Give one row per file: its name, content, size and time."""
    from pyspark.sql import functions as f

    name = f.regexp_replace("_metadata.file_path", "^file:(//)?", "")
    own = [column for column in rows.columns if column != "value"]
    return rows.select(
        name.alias("filename"),
        f.col("value").alias("content"),
        f.col("_metadata.file_size").alias("size"),
        f.col("_metadata.file_modification_time").alias("last_modified"),
        *own,
    )


def _only(column: str, ds: str) -> Any:
    """Give a condition that every row of this ds meets, and that ends the query at any other: one pass does both."""
    from pyspark.sql import functions as f

    value = f.col(_column(column)).cast("string")
    wrong = f.concat(f.lit(_WRONG_DS), f.coalesce(value, f.lit("NULL")))
    return f.when(value.eqNullSafe(f.lit(ds)), f.lit(True)).otherwise(f.raise_error(wrong).cast("boolean"))


def _write(rows: Any, path: Path) -> None:
    """Have Spark write into a folder of its own, and bring the files out: `path`, and more beside it."""
    folder = path.with_name(f".{path.stem}")
    rows.write.option("compression", "zstd").parquet(str(folder))
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise NotShared(path.parent)
    for number, part in enumerate(parts):
        part.rename(path.with_name(f"{path.stem}.{number}.parquet") if number else path)
    remove_tree(folder)


def _column(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _exactly(path: str) -> str:
    """Give a path in which nothing stands for other names."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def _above_ds(file: str) -> str | None:
    """Give the folder that holds the `ds=` folder of a file."""
    found = next((parent for parent in Path(file).parents if parent.name.startswith("ds=")), None)
    return str(found.parent) if found else None


@contextmanager
def _explained(what: str, query: str = "", ds: str = "") -> Iterator[None]:
    """Turn Spark's errors into ours, with the line of the query they are about."""
    try:
        yield
    except DsflowError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark", "grpc", "py4j")):
            raise
        raise _failure(error, what, query, ds) from error


def _failure(error: Exception, what: str, query: str, ds: str) -> DsflowError:
    text = str(error).strip()
    if _WRONG_DS in text:
        value = text.partition(_WRONG_DS)[2].split(" SQLSTATE")[0].splitlines()[0].strip().rstrip("'\".")
        shown = value if value == "NULL" else repr(value)
        return JobFailed(
            f"the data has a column ds with the value {shown}, but this run writes ds={ds}",
            "Leave the column out, or keep the rows of this ds only.",
        )
    if "OPERATION_CANCELED" in text or "cancelled" in text.lower():
        return Interrupted("interrupted")
    if "No space left on device" in text:
        return EnvironmentMissing("the disk is full where Spark writes", "Free some space and run again.")
    if _GONE.search(text):
        return EnvironmentMissing("the Spark server is gone", "Run again: it is started anew.")
    if "TIMESTAMP(NANOS" in text:
        return JobFailed(
            f"{what}: it holds moments in nanoseconds, which Spark cannot read",
            "Cast them to TIMESTAMP in the job that writes them, and run it again.",
        )
    message, line = _sentence(text)
    lines = query.splitlines()
    source = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    where = f"line {line}" if line and query else ("" if query else what)
    return JobFailed(message if query else f"{what}: {message}", place=where, source=source)


def _sentence(text: str) -> tuple[str, int]:
    """Give the sentence of Spark's message, and the line of the query it names, or 0."""
    found = re.search(r"line (\d+),? pos", text)
    raised = re.search(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+(\S.*)", text, re.MULTILINE)
    if raised:
        return f"a function in Python failed: {raised[1].strip()}", 0
    message = _plain(text)
    if _VAGUE.match(text):
        causes = re.findall(r"^Caused by: [\w.$]+: (\[.*)", text, re.MULTILINE)
        message = f"{message.rstrip('.')}: {_plain(causes[-1])}" if causes else message
    return message, int(found[1]) if found else 0


def _plain(text: str) -> str:
    message = re.split(r"\s*SQLSTATE|\n\n|;? line \d+,? pos|\n== |\nJVM stacktrace", text, maxsplit=1)[0]
    message = re.sub(r"^\([\w.]+\)\s*", "", " ".join(message.split()))
    return re.sub(r"^\[[A-Z0-9_.]+\]\s*", "", message)
