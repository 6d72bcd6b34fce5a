"""Starts Spark for a program, wherever that runs: by hand, under spark-submit, or as a job of dsflow.

On a cluster this comes along without the rest of dsflow: it needs Python, pyspark and `dsflow.errors`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from dsflow import dotenv
from dsflow.errors import DsflowError, EnvironmentMissing
from dsflow.spark import configuration

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A variable with one of these says no.
_NO = ("", "0", "false", "no", "off", "n", "f")
_MISSING_MODULE = "No module named '"


class Logger:
    """Writes lines that start with `<app_name app_id>`: into Spark's own log, or else to stderr.

    Args:
        prefix: How they start.
        log4j: The logger of Spark's Java; None where there is none, or its log is not what people look at.
    """

    def __init__(self, prefix: str, log4j: Any = None) -> None:
        self.prefix = prefix
        self._log4j = log4j

    def error(self, message: object) -> None:
        """Log what went wrong."""
        self._log("error", message)

    def warn(self, message: object) -> None:
        """Log what somebody should know."""
        self._log("warn", message)

    def info(self, message: object) -> None:
        """Log what happens."""
        self._log("info", message)

    def _log(self, level: str, message: object) -> None:
        if self._log4j is not None:
            getattr(self._log4j, level)(str(message))
        else:
            sys.stderr.write(f"{level.upper()} {self.prefix}: {message}\n")
            sys.stderr.flush()


def start_spark(
    app_name: str = "my_spark_app",
    master: str = "local[*]",
    jar_packages: Sequence[str] = (),
    files: Sequence[str | os.PathLike[str]] = (),
    spark_config: Mapping[str, Any] | None = None,
) -> tuple[SparkSession, Logger, dict[str, Any] | None]:
    """Start Spark, and give the session, a logger and the program's config.

    In a Python shell, `python -c`, IPython or Jupyter, or with the environment variable DEBUG (and not `0`, `false`,
    `no`, `off` or nothing in it), all arguments count. In a program that `python` or `spark-submit` runs only the name
    does: where and with what it runs is for spark-submit to say. A job of dsflow gets the session of its run.

    The config is the JSON object in a file whose name ends in `config.json`: one sent with `spark-submit --files`, else
    one of `files`, in a job of dsflow else one in its folder `configs`. Of several it is the first that `files` names,
    else the first that was sent. A file of `files` is looked for from the current folder, the program's, and the
    two above that.

    Args:
        app_name: What the application is called.
        master: Where it computes.
        jar_packages: Maven coordinates of Java packages it needs.
        files: Files for the driver and the executors; a config among them is needed.
        spark_config: Further settings of Spark.

    Returns:
        The session, which `with session:` stops at the end in any case; the logger; the config, None where there is no
        such file.

    Raises:
        UsageError: a file that is needed is not there, or the config is not a JSON object.
        EnvironmentMissing: pyspark is not installed, or Spark does not start.
    """
    named = [os.fspath(file) for file in files]
    run_by_dsflow = "DSFLOW_RUN_ID" in os.environ
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        # What a `.env` says for the work at the desk does not turn what is sent elsewhere into that.
        os.environ.setdefault("DEBUG", "")
    if not run_by_dsflow:
        _load_variables()
        _explain_endings()
    if run_by_dsflow and not submitted:
        return _of_the_run(app_name, named)
    if not submitted:
        _have_java()
    if not run_by_dsflow and _is_by_hand():
        return _by_hand(app_name, master, jar_packages, named, spark_config or {})
    session = _session({"spark.app.name": app_name})
    with _or_stopped(session):
        # The log of a run is what people look at; that of Spark is elsewhere.
        log = Logger(_prefix(session, app_name)) if run_by_dsflow else _logger(session, app_name)
        return session, log, _config(configuration.sent(session, named), log, session)


def _of_the_run(app_name: str, named: Sequence[str]) -> tuple[SparkSession, Logger, dict[str, Any] | None]:
    """Give the session of a run of dsflow, whose settings say the rest."""
    from dsflow.spark import sessions

    places = configuration.beside(named)
    session = sessions.open_session()
    with _or_stopped(session):
        session.conf.set("spark.app.name", app_name)
        log = Logger(_prefix(session, app_name))
        return session, log, _config(places, log, session)


def _by_hand(
    app_name: str, master: str, packages: Sequence[str], named: Sequence[str], more: Mapping[str, Any]
) -> tuple[SparkSession, Logger, dict[str, Any] | None]:
    found = [configuration.located(file) for file in named]
    wanted: dict[str, Any] = {"spark.app.name": app_name}
    # A server that somebody named computes where it is.
    if "SPARK_REMOTE" not in os.environ:
        wanted["spark.master"] = master
        wanted |= {"spark.jars.packages": ",".join(packages)} if packages else {}
        wanted |= {"spark.files": ",".join(found)} if found else {}
    session = _session(wanted | dict(more))
    with _or_stopped(session):
        _add_files(session, found)
        log = _logger(session, app_name)
        return session, log, _config([place for place in found if configuration.is_config(place)], log, session)


def _session(settings: Mapping[str, Any]) -> SparkSession:
    """Give the session with these settings; what is not said comes from Spark's own files and from spark-submit."""
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EnvironmentMissing(f"Spark cannot be used here: {error}", "`pip install 'dsflow[spark]'`") from None
    try:
        session = SparkSession.builder.config(map=dict(settings)).getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() == "JAVA_GATEWAY_EXITED":
            raise EnvironmentMissing(
                "Java ended while Spark was starting; what it said is above", "`dsflow doctor` says which Java is used."
            ) from None
        raise
    atexit.register(_stop, session)
    return session


def _stop(session: Any) -> None:
    with contextlib.suppress(Exception):
        session.stop()


@contextlib.contextmanager
def _or_stopped(session: Any) -> Any:
    """Leave no session behind where the caller does not get one."""
    try:
        yield
    except BaseException:
        _stop(session)
        raise


def _add_files(session: Any, places: Sequence[str]) -> None:
    """Send files with a session that was there already, and knows nothing of them."""
    if not places or "SPARK_REMOTE" in os.environ:
        return
    context = session.sparkContext
    known = {unquote(PurePosixPath(address).name) for address in context.listFiles}
    for place in places:
        if Path(place).name not in known:
            context.addFile(place)


def _config(places: Sequence[str], journal: Logger, session: Any) -> dict[str, Any] | None:
    if not places:
        journal.warn(
            "no config file found; send one with `spark-submit --files configs/NAME_config.json`, "
            'or name it: start_spark(files=["configs/NAME_config.json"])'
        )
        return None
    config = configuration.read(places[0], session)
    first, *others = (PurePosixPath(place).name for place in places)
    passed_over = f" (and not from {', '.join(others)})" if others else ""
    journal.warn(f"loaded config from {first}{passed_over}")
    return config


def _logger(session: Any, app_name: str) -> Logger:
    prefix = _prefix(session, app_name)
    try:
        java = session.sparkContext._jvm
    except AttributeError:
        # A session on a server has no Java here.
        return Logger(prefix)
    # Its pattern shows of a name what follows the last dot.
    return Logger(prefix, java.org.apache.log4j.LogManager.getLogger(prefix.replace(".", "_")))


def _prefix(session: Any, app_name: str) -> str:
    return f"<{app_name} {session.conf.get('spark.app.id', '')}>"


def _is_by_hand() -> bool:
    """Say whether somebody types this, or debugs it."""
    typed = not hasattr(sys.modules.get("__main__"), "__file__")
    return typed or os.environ.get("DEBUG", "").strip().lower() not in _NO


def _load_variables() -> None:
    """Take over the `.env` of the project: of the current folder, else of the nearest one above the program."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    here = Path.cwd()
    above = Path(main).resolve().parents if main else ()
    found = next((folder for folder in (here, *above) if (folder / dotenv.NAME).is_file()), None)
    if found is not None:
        dotenv.load(found)


def _have_java() -> None:
    """Take the Java that came with `dsflow[spark]` where the system has none."""
    if "JAVA_HOME" in os.environ or shutil.which("java") or importlib.util.find_spec("dsflow.spark.java") is None:
        return
    from dsflow.spark import java

    os.environ["JAVA_HOME"] = str(java.quiet_home(java.find_java()))


def _explain_endings() -> None:
    """Show what ends this program in a sentence where it is a mistake of its user."""
    usual = sys.excepthook
    if getattr(usual, "__module__", "") == __name__:
        return

    def explained(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, DsflowError):
            sys.stderr.write("\n  ".join(filter(None, [f"Error: {error.message}", error.hint])) + "\n")
            return
        usual(kind, error, trace)
        missing = str(error).partition(_MISSING_MODULE)[2].partition("'")[0].partition(".")[0]
        if missing and configuration.is_of_the_program(missing):
            sys.stderr.write(
                f"Error: {missing} is part of this project and was not sent to Spark\n"
                "  Add `--py-files packages.zip` to spark-submit; `dsflow package JOB` makes that file.\n"
            )

    sys.excepthook = explained
