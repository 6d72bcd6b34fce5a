"""`start_spark`: what counts where, which config is taken, and what a mistake looks like.

One program goes through most situations in one process, so that Java starts once; its tests look at what it saw.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsflow import dotenv
from dsflow.errors import UsageError
from dsflow.spark import ON_A_CLUSTER, configuration
from dsflow.spark.server import Server
from tests.conftest import build_tree
from tests.spark_server import spark_test

PROGRAM = """
    import json
    import os
    import sys
    from pathlib import Path

    from dsflow.errors import DsflowError
    from dsflow.spark import start_spark

    SEEN = {"pyspark was imported": "pyspark" in sys.modules}
    CONFIG = "configs/x_config.json"
    GIVEN = {"master": "local[2]", "spark_config": {"spark.foo": "bar"}}


    def seen(name, **given):
        print(f"--- {name}", file=sys.stderr, flush=True)
        try:
            spark, log, config = start_spark("my_app", **given)
        except DsflowError as error:
            from pyspark.sql import SparkSession

            SEEN[name] = {"error": error.message, "hint": error.hint, "left": str(SparkSession.getActiveSession())}
            return
        log.error("uh")
        context = spark.sparkContext
        SEEN[name] = {
            "name": spark.conf.get("spark.app.name"),
            "master": context.master,
            "foo": spark.conf.get("spark.foo", None),
            "id": context.applicationId,
            "config": config,
            "files": sorted(Path(file).name for file in context.listFiles),
        }
        spark.stop()


    def there_already(**settings):
        from pyspark.sql import SparkSession

        SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()


    seen("plain", **GIVEN)
    for value in ("", "0", "false", "No"):
        os.environ["DEBUG"] = value
        seen(f"DEBUG={value}", **GIVEN, files=[CONFIG])
    YARN = "spark.yarn.dist.files"
    there_already(**{YARN: "/nowhere/w_config.json," + Path("sent/z_config.json").absolute().as_uri()})
    seen("sent to executors only", files=[CONFIG])
    there_already(**{YARN: "file:/other/machine/y_config.json", "spark.submit.deployMode": "cluster"})
    os.chdir("sent")
    seen("the driver on the cluster")
    os.chdir("..")
    seen("named and nowhere", files=["configs/gone_config.json"])
    os.environ["DEBUG"] = "1"
    for name in ("broken", "list"):
        seen(name, files=[f"configs/{name}_config.json"])
    seen("missing", files=["configs/gone_config.json"])
    there_already()
    seen("a session is there", files=["data.txt", CONFIG])
    seen("two", files=["configs/z_config.json", CONFIG], **GIVEN)
    json.dump(SEEN, open("seen.json", "w"))
    start_spark(files=["configs/gone_config.json"])
    """
PROJECT = {
    "jobs/program.py": PROGRAM,
    "configs/x_config.json": '{"steps": 21}',
    "configs/z_config.json": '{"steps": 26}',
    "configs/broken_config.json": '{"steps": 21,}',
    "configs/list_config.json": "[21]",
    "sent/y_config.json": '{"steps": 25}',
    "sent/z_config.json": '{"steps": 27}',
    "sent/a_config.json": '{"steps": 1}',
    "data.txt": "",
}
# The quickest compiler: no program here runs for long.
QUICK = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", "SPARK_LOCAL_IP": "127.0.0.1"}


def started(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a person would, who has set nothing that is about Spark."""
    foreign = ("SPARK_", "PYSPARK_", "DEBUG", "DSFLOW_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **QUICK, "PYSPARK_PYTHON": sys.executable, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Told:
    """What the program saw, and what Spark's log has of each situation."""

    seen: dict[str, Any]
    logs: dict[str, str]
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def told(spark_here: None, tmp_path_factory: pytest.TempPathFactory) -> Told:
    root = tmp_path_factory.mktemp("start") / "a project"
    build_tree(root, PROJECT)
    done = started([sys.executable, "jobs/program.py"], root)
    assert (root / "seen.json").exists(), done.stderr
    parts = re.split(r"^--- (.*)\n", done.stderr, flags=re.MULTILINE)
    return Told(json.loads((root / "seen.json").read_text()), dict(zip(parts[1::2], parts[2::2], strict=True)), done)


@spark_test
class TestContexts:
    def test_importing_it_does_not_import_pyspark(self, told: Told) -> None:
        assert told.seen["pyspark was imported"] is False

    def test_in_a_program_only_the_name_counts(self, told: Told) -> None:
        """7.4.2: the rest is for spark-submit to say."""
        seen = told.seen["plain"]
        assert (seen["name"], seen["master"], seen["foo"]) == ("my_app", "local[*]", None)

    @pytest.mark.parametrize("value", ["", "0", "false", "No"])
    def test_a_false_debug_is_off(self, told: Told, value: str) -> None:
        """7.4.4; the config that a program names is taken from beside it where none was sent."""
        seen = told.seen[f"DEBUG={value}"]
        assert (seen["master"], seen["foo"], seen["config"]) == ("local[*]", None, {"steps": 21})

    def test_debug_has_all_arguments_count(self, told: Told) -> None:
        """7.4.4, 7.4.5."""
        seen = told.seen["two"]
        assert (seen["name"], seen["master"], seen["foo"]) == ("my_app", "local[2]", "bar")
        assert seen["files"] == ["x_config.json", "z_config.json"]

    def test_python_c_is_somebody_typing(self, spark_here: None, tmp_path: Path) -> None:
        """7.4.3."""
        code = (
            "from dsflow.spark import start_spark\n"
            "spark, log, config = start_spark('x', 'local[2]', spark_config={'spark.foo': True})\n"
            "print(spark.sparkContext.master, spark.conf.get('spark.foo'), config)\nspark.stop()"
        )
        done = started([sys.executable, "-c", code], tmp_path)
        assert done.stdout == "local[2] true None\n", done.stderr

    def test_so_is_ipython_and_a_server_that_was_named_is_kept(self, spark_server: Server, tmp_path: Path) -> None:
        """7.4.3; a session of Spark Connect has no `sparkContext`, and its logger writes all the same (7.4.27)."""
        code = (
            "from dsflow.spark import start_spark\n"
            "spark, log, config = start_spark('x', 'local[2]', spark_config={'spark.foo': 'bar'})\n"
            "log.info('hi')\nprint('foo', spark.conf.get('spark.foo'), spark.conf.get('spark.app.id'))\nspark.stop()"
        )
        reached = {"SPARK_REMOTE": spark_server.url, "SPARK_CONNECT_AUTHENTICATE_TOKEN": spark_server.token}
        command = [sys.executable, "-m", "IPython", "--quick", "--colors=NoColor", "-c", code]
        done = started(command, tmp_path, IPYTHONDIR=str(tmp_path / "ipython"), **reached)
        found = re.search(r"^foo bar (\S+)$", done.stdout, re.MULTILINE)
        assert found, done.stdout + done.stderr
        assert f"INFO <x {found[1]}>: hi" in done.stderr


@spark_test
class TestConfig:
    def test_there_may_be_none(self, told: Told) -> None:
        """7.4.6, and 7.4.11: it is said how to pass one."""
        assert told.seen["plain"]["config"] is None
        assert "no config file found; send one with `spark-submit --files" in told.logs["plain"]

    def test_what_was_loaded_is_said(self, told: Told) -> None:
        """7.4.7."""
        assert "loaded config from x_config.json\n" in told.logs["DEBUG=0"]

    def test_of_two_the_first_named_is_taken(self, told: Told) -> None:
        """7.4.8."""
        assert told.seen["two"]["config"] == {"steps": 26}
        assert "loaded config from z_config.json (and not from x_config.json)" in told.logs["two"]

    def test_invalid_json_is_a_sentence_with_the_file(self, told: Told) -> None:
        """7.4.9."""
        seen = told.seen["broken"]
        assert seen["error"].startswith("broken_config.json is not valid JSON: ")
        assert "line 1" in seen["error"]
        assert told.seen["list"]["error"] == "list_config.json has no JSON object in it, but a list"
        # Nobody is left with a session that they did not get.
        assert (seen["left"], told.seen["list"]["left"]) == ("None", "None")

    def test_a_missing_file_is_a_sentence_with_the_path(self, told: Told) -> None:
        """7.4.10: before Spark is started, by hand as well as under spark-submit (7.4.11)."""
        assert told.seen["missing"]["error"] == "the file configs/gone_config.json does not exist"
        seen = told.seen["named and nowhere"]
        assert (
            seen["error"] == "the config configs/gone_config.json was not sent with the job, and is not on this machine"
        )
        assert seen["hint"] == "Add `--files configs/gone_config.json` to spark-submit."
        # Nobody catches it: no traceback, and the exit code of a failure.
        assert told.done.returncode == 1
        assert told.done.stderr.splitlines()[-2].strip() == "Error: the file configs/gone_config.json does not exist"
        assert "Traceback" not in told.done.stderr

    def test_it_is_found_where_files_reach_only_the_executors(self, told: Told) -> None:
        """7.4.26: YARN keeps what it sends in a setting, and the driver's own machine has the file."""
        assert told.seen["sent to executors only"]["config"] == {"steps": 27}

    def test_it_is_found_by_a_driver_on_the_cluster(self, told: Told) -> None:
        """7.4.26: there it lies in the folder that the driver works in; the one that was sent first counts."""
        assert told.seen["the driver on the cluster"]["config"] == {"steps": 25}

    def test_a_session_that_is_there_gets_the_files(self, told: Told) -> None:
        seen = told.seen["a session is there"]
        assert (seen["config"], seen["files"]) == ({"steps": 21}, ["data.txt", "x_config.json"])


@spark_test
class TestLogger:
    def test_lines_start_with_the_application(self, told: Told) -> None:
        """7.4.27."""
        for name, level, text in (("plain", "ERROR", "uh"), ("two", "WARN", "loaded config")):
            assert f"{level} <my_app {told.seen[name]['id']}>: {text}" in told.logs[name]


def test_it_needs_little_on_a_cluster(tmp_path: Path) -> None:
    """What goes along with a job: with nothing else of dsflow there, and nothing but Python."""
    package = Path(__file__).parent.parent / "dsflow"
    build_tree(tmp_path, {f"dsflow/{name}": (package / name).read_bytes() for name in ON_A_CLUSTER})
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom dsflow.spark import start_spark\n"
        "try:\n    start_spark()\nexcept Exception as error:\n    print(error)"
    )
    # Without site-packages there is no pyspark.
    done = started([sys.executable, "-I", "-S", "-c", code, str(tmp_path)], tmp_path)
    assert done.stdout == "Spark cannot be used here: No module named 'pyspark'\n", done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", "1"),
        ("export A = x y ", "x y"),
        ("A='# no comment'  # one", "# no comment"),
        ('A="x=y"', "x=y"),
        ("A=x # comment", "x"),
        ("A=", ""),
        ("#A=1\nB", None),
    ],
)
def test_a_dotenv_file_has_a_variable_per_line(text: str, value: str | None) -> None:
    assert dotenv.variables(text).get("A") == value


def test_dotenv_lets_the_environment_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """7.4.30."""
    monkeypatch.setenv("A_SET", "mine")
    for name in ("A_NEW", "DSFLOW_NEW"):
        monkeypatch.setenv(name, "to be undone")
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("A_SET=theirs\nA_NEW=1\nDSFLOW_NEW=1\n")
    dotenv.load(tmp_path)
    assert (os.environ["A_SET"], os.environ["A_NEW"]) == ("mine", "1")
    assert "DSFLOW_NEW" not in os.environ


def test_a_config_is_a_json_object(tmp_path: Path) -> None:
    path = tmp_path / "a_config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert configuration.read(str(path)) == {"a": 1}
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="a_config.json is not valid JSON"):
        configuration.read(str(path))
