"""What is found out about a data file."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dsflow.engines.inference import Inferred, as_yaml, infer_schema
from dsflow.errors import UsageError


def _columns(found: Inferred) -> dict[str, str]:
    return {field.name: field.type for field in found.columns}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_7_1_30_the_delimiter_with_most_columns_is_taken(tmp_path: Path, delimiter: str) -> None:
    rows = [["city", "name, long", "rain"], ["Paris", '"a;b|c"', "1.5"], ["Orly", "x", "0"]]
    path = tmp_path / "rain.csv"
    header = [f'"{name}"' for name in rows[0]]
    path.write_text("\n".join(delimiter.join(row) for row in [header, *rows[1:]]) + "\n")
    found = infer_schema(path)
    assert (found.delimiter, found.header) == (delimiter, True)
    assert _columns(found) == {"city": "VARCHAR", "name, long": "VARCHAR", "rain": "DOUBLE"}


def test_a_file_of_text_columns_only_has_a_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("city,country\nParis,FR\n")
    assert infer_schema(tmp_path / "x.csv").header is True


def test_a_file_without_header_gets_numbered_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,Paris\n2,Orly\n")
    found = infer_schema(tmp_path / "x.csv")
    assert found.header is False
    assert _columns(found) == {"column0": "BIGINT", "column1": "VARCHAR"}


def test_types_come_from_the_whole_file_and_from_compressed_ones_too(tmp_path: Path) -> None:
    lines = ["n", *(str(number) for number in range(30_000)), "0.5"]
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert _columns(infer_schema(tmp_path / "x.csv.gz")) == {"n": "DOUBLE"}


def test_nested_columns_keep_their_parts(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"at": {"lat": 1.5, "tags": [{"k": "v"}]}}\n')
    (at,) = infer_schema(tmp_path / "x.json").columns
    assert [(part.name, part.type) for part in at.fields] == [("lat", "DOUBLE"), ("tags", "STRUCT(k VARCHAR)[]")]
    assert [part.name for part in at.fields[1].fields] == ["k"]


def test_a_folder_is_read_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "ds=2026-11-20"
    folder.mkdir()
    (folder / "a.json").write_text('{"a": 1}\n')
    (folder / "b.json").write_text('{"b": true}\n')
    (folder / ".part.json").write_text("{")
    assert _columns(infer_schema(tmp_path)) == {"a": "BIGINT", "b": "BOOLEAN"}


def test_signs_in_a_file_name_are_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "x[1]*.csv").write_text("a\n1\n")
    assert _columns(infer_schema(tmp_path / "x[1]*.csv")) == {"a": "BIGINT"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"", "empty"),
        ("x.json", b"{nope", "cannot be read"),
        ("x.parquet", b"nope", "cannot be read"),
        ("x.csv.gz", b"nope", "cannot be read"),
        ("x.csv", b"\xff\xfe\x00b,c\n", "cannot be read"),
        ("y.csv", b"a\n", "no such file"),
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / f"x{name[1:]}").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        infer_schema(tmp_path / name)


def test_an_unknown_format_gets_a_guess(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        infer_schema(tmp_path, "parket")


def test_the_schema_file_is_yaml_in_the_order_of_the_columns(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "x.csv").write_text('z: "1";a\n1;2\n')
    text = as_yaml(infer_schema(tmp_path / "x.csv"))
    assert yaml.safe_load(text) == infer_schema(tmp_path / "x.csv").document()
    assert list(yaml.safe_load(text)["columns"].values()) == ["BIGINT", "BIGINT"]


def test_a_name_that_does_not_tell_the_format_is_refused_with_the_formats(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="its name does not tell the format") as refused:
        infer_schema(tmp_path / "x.txt")
    assert "csv" in refused.value.hint


def test_the_reason_has_nothing_of_our_query(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"{nope")
    with pytest.raises(UsageError, match="cannot be read") as refused:
        infer_schema(tmp_path / "x.json")
    assert "read_json" not in refused.value.message
