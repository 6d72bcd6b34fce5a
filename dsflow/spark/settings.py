"""The Spark settings of every session that dsflow makes, and where Spark's own log goes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

LOOPBACK = "127.0.0.1"
_GIB = 1 << 30
_LARGEST_DEFAULT = 8 * _GIB

_LOG = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.own.ref = own
{appender}
appender.own.name = own
appender.own.layout.type = PatternLayout
appender.own.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss}} %p %c{{1}}: %m%n%ex
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.repl.name = org.apache.spark.repl.Main
logger.repl.level = warn
"""
_TO_STDOUT = "appender.own.type = Console\nappender.own.target = SYSTEM_OUT"
_TO_FILE = "appender.own.type = File\nappender.own.createOnDemand = true\nappender.own.fileName = {path}"


# What holds for a session wherever it computes.
SESSION = {
    "spark.sql.session.timeZone": "UTC",
    # A ds is a string for every reader.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # What every other reader of Parquet understands.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


def is_local(master: str) -> bool:
    """Say whether a master computes in the process that names it."""
    return master == "local" or master.startswith("local[")


def address_for(master: str) -> str | None:
    """Give the address of this machine under which the workers of a master find it; None where nobody can tell."""
    if is_local(master):
        return LOOPBACK
    if not master.startswith("spark://"):
        return None
    host, _, port = master.removeprefix("spark://").partition(",")[0].rpartition(":")
    try:
        # Nothing is sent: the system says which of its addresses it would take.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return None


def base_settings(master: str, scratch: Path, cores: int) -> dict[str, str]:
    """Give what holds for every session, unless somebody says otherwise.

    Args:
        master: Where it computes.
        scratch: A folder for tables that nobody gave a place.
        cores: How many Spark computes with.
    """
    alone = {}
    if is_local(master):
        # Nobody else on this machine gets a word in between its parts. Elsewhere that takes a secret to be agreed on.
        alone = {"spark.authenticate": "true", "spark.sql.shuffle.partitions": str(max(4, 2 * cores))}
    address = address_for(master)
    reached = {"spark.driver.bindAddress": address, "spark.driver.host": address} if address else {}
    return {
        **alone,
        "spark.master": master,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **reached,
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.scheduler.mode": "FAIR",
        **SESSION,
    }


def driver_environment(master: str, scratch: Path, given: Mapping[str, str], python: str) -> dict[str, str]:
    """Give the environment of a process in which Spark's driver runs.

    Args:
        master: Where it computes.
        scratch: A folder for what it spills.
        given: The settings of Spark.
        python: The Python of this process, which the workers take where `given` names none.
    """
    address = address_for(master)
    return {
        "PYSPARK_PYTHON": given.get("spark.pyspark.python", python),
        "SPARK_LOCAL_DIRS": str(scratch),
        **({"SPARK_LOCAL_IP": address} if address else {}),
    }


def heap(memory: int | None) -> int:
    """Give the bytes of memory for Java's heap: what was asked for, else a quarter of the machine's, within reason."""
    if memory:
        return memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(_GIB, min(_LARGEST_DEFAULT, total // 4))


def cores_of(master: str) -> int:
    """Give how many cores a local master computes with."""
    inside = master.removeprefix("local").strip("[]").partition(",")[0]
    return int(inside) if inside.isdigit() else os.cpu_count() or 1


def log_to_stdout() -> str:
    """Give the log4j settings of a server, whose output somebody reads."""
    return _LOG.format(appender=_TO_STDOUT)


def log_to_file(path: Path) -> str:
    """Give the log4j settings of a session inside a job: into a file, which is made only if there is something."""
    # Backslashes and `$` mean something in a properties file.
    escaped = str(path).replace("\\", "\\\\").replace("$", "\\u0024")
    return _LOG.format(appender=_TO_FILE.format(path=escaped))


def as_properties(settings: Mapping[str, str]) -> str:
    """Give settings as the text of a Java properties file."""
    lines = []
    for name, value in settings.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{name} = {escaped}\n")
    return "".join(lines)
