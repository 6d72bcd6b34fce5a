"""Finds out what a data file holds: its columns with their types, and the delimiter of a csv file."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dsflow.errors import UsageError, did_you_mean

DELIMITERS = (",", ";", "\t", "|")
# in the order in which a folder with several kinds of files is looked at
FORMATS = {
    "parquet": (".parquet",),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "json": (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz"),
}
_READERS = {
    "parquet": "read_parquet($files, union_by_name=true, hive_partitioning=false)",
    "json": "read_json($files, union_by_name=true, hive_partitioning=false, sample_size=-1)",
    "csv": "read_csv($files, union_by_name=true, hive_partitioning=false, sample_size=-1,"
    " delim=$delimiter, header=$header)",
}


@dataclass(frozen=True)
class Field:
    """A column, or a part of a nested one; `fields` are its own parts."""

    name: str
    type: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """What some files hold. `delimiter` and `header` are those of csv files."""

    files: tuple[Path, ...]
    format: str
    columns: tuple[Field, ...]
    delimiter: str | None = None
    header: bool | None = None

    def document(self) -> dict[str, Any]:
        """Give the schema as plain data: format, delimiter and header where they apply, type by column."""
        csv_only = {"delimiter": self.delimiter, "header": self.header} if self.format == "csv" else {}
        return {"format": self.format, **csv_only, "columns": {field.name: field.type for field in self.columns}}


def infer_schema(path: Path, file_format: str | None = None) -> Inferred:
    """Read the schema from a file, or from all files of a folder.

    Args:
        path: A file or a folder.
        file_format: `csv`, `json` or `parquet`; taken from the name of the file if not given.

    Raises:
        UsageError: there is no such file, or it cannot be read in that format.
    """
    if file_format is not None and file_format not in FORMATS:
        guess = did_you_mean(file_format, FORMATS)
        raise UsageError(f"no format {file_format!r}{guess}", f"There are {', '.join(FORMATS)}.")
    files = list(_files(path, file_format))
    if not files:
        wanted = f"no {file_format} file" if file_format else "no csv, json or parquet file"
        raise UsageError(f"{path}: {wanted} there" if path.exists() else f"{path}: there is no such file")
    file_format = file_format or format_of(files[0])
    if file_format is None:
        raise UsageError(f"{path}: its name does not tell the format", f"Name it after the path: {', '.join(FORMATS)}.")
    options: dict[str, Any] = {}
    try:
        if file_format == "csv":
            options = _csv_options(files[0])
        columns = _columns(files, file_format, options)
        return Inferred(files=tuple(files), format=file_format, columns=columns, **options)
    except (OSError, EOFError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as {file_format}: {error}") from error


def as_yaml(found: Inferred) -> str:
    """Give a schema as the text of a YAML file, columns in their order."""
    document = found.document()
    columns = document.pop("columns")
    # JSON texts and words are YAML too
    lines = [f"{key}: {json.dumps(value)}" for key, value in document.items()]
    named = [f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(type_)}" for name, type_ in columns.items()]
    return "\n".join([*lines, "columns:", *named, ""])


def format_of(path: Path) -> str | None:
    """Give the format that the name of a file stands for, or None."""
    name = path.name.lower()
    return next((known for known, endings in FORMATS.items() if name.endswith(endings)), None)


def _files(path: Path, file_format: str | None) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    found = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    wanted = file_format or next((known for known in FORMATS if any(format_of(file) == known for file in found)), None)
    yield from (file for file in found if wanted and format_of(file) == wanted)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _csv_options(path: Path) -> dict[str, Any]:
    with _text(path) as stream:
        first = stream.readline()
    if not first:
        raise UsageError(f"{path}: the file is empty", "Take a file with a header line and a few rows.")
    # of two delimiters that give as many columns, max() takes the first, which is the more usual one
    delimiter = max(DELIMITERS, key=lambda candidate: len(next(csv.reader([first], delimiter=candidate), [])))
    return {"delimiter": delimiter, "header": _has_header(path, delimiter)}


def _has_header(path: Path, delimiter: str) -> bool:
    query = "SELECT HasHeader, Columns FROM sniff_csv($file, delim=$delimiter)"
    found = _query(query, path, {"file": _exact(path), "delimiter": delimiter}).fetchone()
    has_header, columns = found or (True, [])
    # where every column is text nothing tells a header from a row, and files with headers are the rule
    return bool(has_header) or all(column["type"] == "VARCHAR" for column in columns)


def _text(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _columns(files: list[Path], file_format: str, options: dict[str, Any]) -> tuple[Field, ...]:
    values = {"files": [_exact(file) for file in files], **options}
    found = _query(f"SELECT * FROM {_READERS[file_format]} LIMIT 0", files[0], values)
    return tuple(_field(name, kind) for name, kind, *_ in found.description)


def _exact(path: Path) -> str:
    # DuckDB takes *, ? and [ for a pattern unless they stand in brackets
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def _query(query: str, file: Path, values: dict[str, Any]) -> Any:
    import duckdb

    try:
        return duckdb.connect(config={"autoinstall_known_extensions": False}).execute(query, values)
    except duckdb.Error as error:
        # What follows the first paragraph is about our query.
        reason = " ".join(str(error).strip().split("\n\n")[0].split())
        raise UsageError(f"{file}: cannot be read: {reason}", "Name the format, or look at the first lines.") from error


def _field(name: str, column_type: Any) -> Field:
    inner = column_type
    while inner.id in ("list", "array"):
        inner = inner.children[0][1]
    parts = inner.children if inner.id == "struct" else []
    return Field(name, str(column_type), tuple(_field(*part) for part in parts))
