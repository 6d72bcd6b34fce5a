"""The requirements of a job that is sent elsewhere, as a lock file names them: every package, with its version."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsflow.errors import PackageFailed

# What a lock is called, and how it is made from what it locks. The first that is there counts.
_LOCKS = {
    "Pipfile.lock": ("Pipfile", "pipenv lock"),
    "pylock.toml": ("", ""),
    "requirements.lock": (
        "requirements.txt",
        "uv pip compile --generate-hashes requirements.txt -o requirements.lock",
    ),
}
# Spark brings these, in its own version.
OF_SPARK = ("pyspark", "pyspark-client", "py4j")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*===?\s*[^\s*;]+(\s*;.*)?")


@dataclass(frozen=True)
class Lock:
    """Locked requirements.

    Attributes:
        path: The file.
        lines: A line for each package, in pip's words, without those that come with Spark.
    """

    path: Path
    lines: tuple[str, ...] = ()


def find(folders: Sequence[Path], requirements: Sequence[str], job: str) -> Lock | None:
    """Give the lock of a job: that of the first folder that has one; None where there is nothing to lock.

    Args:
        folders: Where it may be.
        requirements: What the job's spec says it needs.
        job: The job's name, for messages.

    Raises:
        PackageFailed: there are requirements and no lock, or it cannot be used.
    """
    for folder in folders:
        for name, (loose, command) in _LOCKS.items():
            if (folder / name).is_file():
                return Lock(folder / name, tuple(_lines(folder / name)))
            if loose and (folder / loose).is_file() and not any((folder / lock).is_file() for lock in _LOCKS):
                raise PackageFailed(f"{folder.name}/{loose} is there, and no {name}", f"Make it: `{command}`.")
    if requirements:
        raise PackageFailed(
            f"{job} needs {', '.join(requirements)} (`run.requirements`), and no lock says which versions are sent",
            f"Make one of {', '.join(_LOCKS)} beside its spec or beside dsflow.yml: "
            "`uv pip compile --generate-hashes requirements.txt -o requirements.lock`.",
        )
    return None


def _lines(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        if path.suffix == ".toml":
            found = list(_of_pylock(tomllib.loads(text)))
        elif path.name == "Pipfile.lock":
            found = list(_of_pipfile(json.loads(text)))
        else:
            found = list(_of_requirements(text))
    except PackageFailed:
        raise
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise PackageFailed(f"{path.name} cannot be read: {error}", f"Make {path} again.") from None
    return (line for line in found if _normal(_name_of(line)) not in OF_SPARK)


def _of_pipfile(data: Mapping[str, Any]) -> Iterator[str]:
    for name, entry in data.get("default", {}).items():
        version = entry.get("version", "")
        if not version.startswith("=="):
            raise PackageFailed(
                f"Pipfile.lock: {name} does not come from a package index", "Only released packages can be sent."
            )
        yield _line(name, version, entry.get("markers", ""), entry.get("hashes", ()))


def _of_pylock(data: Mapping[str, Any]) -> Iterator[str]:
    for entry in data.get("packages", ()):
        name, files = entry["name"], [*entry.get("wheels", ()), *([entry["sdist"]] if "sdist" in entry else [])]
        if "version" not in entry or not files:
            raise PackageFailed(
                f"pylock.toml: {name} does not come from a package index", "Only released packages can be sent."
            )
        hashes = [f"{kind}:{value}" for file in files for kind, value in file.get("hashes", {}).items()]
        yield _line(name, f"=={entry['version']}", entry.get("marker", ""), hashes)


def _of_requirements(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\n", " ", text).splitlines():
        wanted = re.sub(r"(^|\s)#.*", "", line).strip()
        if not wanted or wanted.startswith("--"):
            continue
        requirement, *hashes = re.split(r"\s+--hash[= ]", wanted)
        if not _PINNED.fullmatch(requirement.strip()):
            raise PackageFailed(
                f"requirements.lock: {requirement.strip()[:60]!r} does not say which version exactly",
                "`uv pip compile --generate-hashes requirements.txt -o requirements.lock` writes it.",
            )
        yield _line(requirement.strip(), "", "", [each.strip() for each in hashes])


def _line(name: str, version: str, marker: str, hashes: Sequence[str]) -> str:
    told = f"{name}{version}" + (f" ; {marker}" if marker else "")
    return " ".join([told, *(f"--hash={value}" for value in hashes)])


def _name_of(line: str) -> str:
    found = _NAME.match(line)
    return found[0] if found else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
