"""Spark's driver in a process of the job: in the job's own, or in one that `spark-submit` starts.

Both read the same folder of settings, so that nothing of them is on a command line.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dsflow.durable import make_folder, write_text
from dsflow.errors import UsageError
from dsflow.model import Spark
from dsflow.spark import java as javas
from dsflow.spark import settings

HERE = "local[*]"
# What a package has: `dsflow.packaging.bundle` makes it.
ZIP = "packages.zip"
_PACKAGE = Path(__file__).resolve().parent.parent
_PYTHON = """\
#!/bin/sh
PYTHONPATH={first}${{PYTHONPATH:+:$PYTHONPATH}} exec {python} "$@"
"""


def environment(wanted: Spark, scratch: Path, log: Path, package: Path | None) -> dict[str, str]:
    """Give the environment in which Spark starts for one run, and write its settings into a folder of that run.

    Args:
        wanted: How it is to run.
        scratch: The run's own folder.
        log: Where Spark's log goes.
        package: What is to be sent to the executors, or None.

    Raises:
        EnvironmentMissing: there is no Java or no Spark.
        UsageError: the driver is to run where that master runs none.
    """
    java, home = javas.find_java(), javas.spark_home()
    given = {**wanted.settings, **(_sent(wanted.settings, package) if package else {})}
    own = given.pop("spark.driver.extraJavaOptions", "")
    master = given.get("spark.master", HERE)
    _check_mode(master, given)
    cores = settings.cores_of(master)
    configuration = scratch / "conf"
    make_folder(configuration)
    log_settings = configuration / "log4j2.properties"
    write_text(log_settings, settings.log_to_file(log))
    archive = javas.Archive.of(java, home).use() if wanted.archive else []
    flags = javas.flags(java, scratch, cores)
    options = [*flags, *archive, own, f"-Dlog4j2.configurationFile={log_settings.as_uri()}"]
    every = {
        **settings.base_settings(master, scratch, cores),
        "spark.driver.memory": f"{settings.heap(wanted.memory) >> 20}m",
        "spark.driver.extraJavaOptions": " ".join(f'"{option}"' for option in options if option),
        **given,
    }
    write_text(configuration / "spark-defaults.conf", settings.as_properties(every))
    return {
        "JAVA_HOME": str(javas.quiet_home(java)),
        **settings.driver_environment(master, scratch, given, sys.executable),
        "PYSPARK_DRIVER_PYTHON": str(_python(scratch)) if package else sys.executable,
        "SPARK_CONF_DIR": str(configuration),
        "SPARK_HOME": str(home),
    }


def launcher(environment: Mapping[str, str]) -> Sequence[str]:
    """Give what starts a program in that environment; all else it finds in the folder of settings."""
    return [f"{environment['SPARK_HOME']}/bin/spark-submit"]


def options(wanted: Spark, package: Path) -> list[str]:
    """Give what a person would type for it, without what is nobody's business."""
    sent = _sent({}, package)
    told = {
        "--master": wanted.settings.get("spark.master", HERE),
        "--py-files": Path(sent["spark.submit.pyFiles"]).name,
        "--files": Path(sent["spark.files"]).name if "spark.files" in sent else "",
    }
    return [word for name, value in told.items() if value for word in (name, value)]


def _sent(given: Mapping[str, str], package: Path) -> dict[str, str]:
    """Give the settings that send a package, beside what is sent already."""
    config = next((path for path in sorted(package.glob("*config.json"))), None)
    files = {"spark.submit.pyFiles": package / ZIP, **({"spark.files": config} if config else {})}
    return {name: ",".join(filter(None, [given.get(name, ""), str(path)])) for name, path in files.items()}


def _check_mode(master: str, given: Mapping[str, str]) -> None:
    if given.get("spark.submit.deployMode") == "cluster" and master.startswith(("local", "spark:")):
        raise UsageError(
            f"{master} cannot run the driver of a Python program on the cluster; yarn and k8s can",
            "Leave `--deploy-mode cluster` out: the driver runs here, the work is done there.",
        )


def _python(scratch: Path) -> Path:
    """Give a Python that takes this package from here, and not the part of it that goes to the executors."""
    first = scratch / "path"
    make_folder(first)
    (first / _PACKAGE.name).symlink_to(_PACKAGE, target_is_directory=True)
    program = scratch / "python"
    write_text(program, _PYTHON.format(first=shlex.quote(str(first)), python=shlex.quote(sys.executable)))
    program.chmod(0o700)
    return program
