"""Amounts of memory and lengths of time."""

from __future__ import annotations

import pytest

from dsflow.quantities import memory_bytes, seconds


@pytest.mark.parametrize(
    ("text", "amount"),
    [("512", 512), ("2g", 2 * 2**30), ("512m", 512 * 2**20), ("1.5GiB", 3 * 2**29), ("10 kb", 10240), ("1T", 2**40)],
)
def test_memory_is_read_as_people_write_it(text: str, amount: int) -> None:
    assert memory_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "length"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1H30M5S", 5405)]
)
def test_time_is_read_as_people_write_it(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "2x", "2 2g", "9" * 40, "1.2.3g", "٣g", "nan", "g"])
def test_anything_else_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of memory; write it like 512m or 2g"):
        memory_bytes(text)


@pytest.mark.parametrize("text", ["", "0s", "-1s", "soon", "1w", "30m1h", "9" * 40, "1.5h", "٣s"])
def test_anything_else_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a length of time; write it like 90s, 30m or 2h"):
        seconds(text)
