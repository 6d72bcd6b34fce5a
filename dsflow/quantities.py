"""Amounts as people write them: `2g` of memory, `30m` of time."""

from __future__ import annotations

import re

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory_bytes(text: str) -> int:
    """Give the bytes of an amount of memory such as `512m`, `2g` or `1.5GiB`.

    Raises:
        ValueError: it is no such amount.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]?)(?:i?b)?", text.strip().lower(), re.ASCII)
    amount = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not amount:
        raise ValueError(f"{text[:40]!r} is not an amount of memory; write it like 512m or 2g")
    return amount


def seconds(text: str) -> float:
    """Give the seconds of a length of time such as `90s`, `30m`, `1h30m`, `2d` or `90`.

    Raises:
        ValueError: it is no such length of time.
    """
    pattern = r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?"
    match = re.fullmatch(pattern, text.strip().lower(), re.ASCII)
    days, hours, minutes, rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    total = 86_400 * days + 3600 * hours + 60 * minutes + rest
    if not total:
        raise ValueError(f"{text[:40]!r} is not a length of time; write it like 90s, 30m or 2h")
    return float(total)


def show_count(count: int, thing: str) -> str:
    """Give a number of things as `1 row` or `8,120 rows`."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def show_bytes(count: int) -> str:
    """Give a number of bytes as `312 B`, `47.1 kB` or `1.2 GB` (powers of 1000, as disks and downloads have them)."""
    if count < 1000:
        return f"{count} B"
    # 999,950 bytes are 1.0 MB: 1000.0 kB would be the next unit already.
    power = next((power for power in (1, 2, 3) if count < 999.95 * 1000**power), 4)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def show_seconds(length: float) -> str:
    """Give a length of time the way people say it: `0.8s`, `41s`, `3m 05s`, `2h 10m`."""
    if length < 9.95:
        return f"{length:.1f}s"
    total = round(length)
    if total < 60:
        return f"{total}s"
    minutes, rest = divmod(total, 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"
