"""What YAML gives, and the sentence for what it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dsflow.specs.yaml import SpecError, read_mapping


def read(tmp_path: Path, content: str | bytes) -> dict[str, Any]:
    path = tmp_path / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_mapping(path, "jobs/x/job_specs.yaml")


def mistake(tmp_path: Path, content: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, content)
    assert len(caught.value.mistakes) == 1
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2
    return caught.value.message.removeprefix("jobs/x/job_specs.yaml: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-20", "2026-11-20"),
        ("2026-11-20T05:00:00", "2026-11-20T05:00:00"),
        ("2026-11", "2026-11"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("9" * 30, "9" * 30),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("'12'", "12"),
        ("[1, 2]", [1, 2]),
        ("{a: b}", {"a": "b"}),
        ("http://h/x#y", "http://h/x#y"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_7_1_22_values_are_what_was_written(tmp_path: Path, text: str, value: Any) -> None:
    assert read(tmp_path, f"key: {text}\n")["key"] == value


def test_an_alias_gives_the_value_again(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &x [1]\nb: *x\n") == {"a": [1], "b": [1]}


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    assert read(tmp_path, "") == read(tmp_path, "# nothing\n") == {}


def test_a_byte_order_mark_is_not_content(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed in this context"),
        ("\ta: 1", "line 1, column 1: not valid YAML: found character that cannot start any token"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: key 'a' is there twice"),
        ("a: {b: 1, b: 2}", "line 1, column 11: key 'b' is there twice"),
        ("1: x", "line 1, column 1: a key must be text; write '1'"),
        ("? [a]\n: 1", "line 1, column 3: a key must be text"),
        ("- a\n", "line 1, column 1: expected keys and values, such as `version: 1`"),
        ("just text", "line 1, column 1: expected keys and values, such as `version: 1`"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: the tag 'python/object/apply:os.system'"),
        ("a: !!int x", "line 1, column 4: 'x' is not a number"),
        ("a: !!bool maybe", "line 1, column 4: 'maybe' is not true or false"),
        ("a: *x", "line 1, column 4: not valid YAML: found undefined alias"),
        ("a: &x [*x]", "line 1, column 4: refers to itself"),
        ("a: 1\n---\nb: 1", "line 2, column 1: not valid YAML: found another document"),
        ("a: \x01", "not valid YAML: control characters are not allowed"),
        (b"a: \xff", "not UTF-8 text (byte 4)"),
        ("a: " + "[" * 60 + "]" * 60, "line 1, column 53: nested more than 50 levels deep"),
        ("a: " + "x" * 1_000_000, "larger than 1 MB"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    assert mistake(tmp_path, content).startswith(sentence)


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    assert "stands for more than 100,000 values" in mistake(tmp_path, bomb)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("none", "there is no such file"), ("pipe", "is not a file"), (".", "is not a file")):
        with pytest.raises(SpecError, match=reason):
            read_mapping(tmp_path / name, "x")
