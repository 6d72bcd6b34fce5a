"""The programs that `backfill.py` measures dsflow against: where they are installed, and a small project for each.

Each one is installed from PyPI into an environment of its own, once; the environments stay in a cache folder. Each
project is what a careful user of that program would write for the job, in as few files as it allows. In these files
$ORDERS is the folder of the orders, $FIRST the first date, $VERSION the version of the program.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

# Nobody's usage statistics are part of what is measured.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
}
DUCKDB = f"duckdb=={version('duckdb')}"
FIRST = "2025-01-01"


@dataclass(frozen=True, eq=False)
class Peer:
    """A program, what to install for it, its command, and the files of its project."""

    name: str
    requirements: tuple[str, ...]
    command: str
    versions: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)


class CannotInstall(Exception):
    """The packages of a peer cannot be installed here; the text says why."""


PAPERMILL = Peer("papermill", ("papermill>=2.6", "ipykernel>=6.29"), "papermill", ("papermill",))

DAGSTER = Peer(
    "dagster",
    ("dagster>=1.12,<2",),
    "dagster",
    ("dagster",),
    {
        "home/dagster.yaml": "telemetry:\n  enabled: false\n",
        "defs.py": """\
import dagster as dg


@dg.asset(partitions_def=dg.DailyPartitionsDefinition(start_date="$FIRST"))
def one(context: dg.AssetExecutionContext) -> None:
    print("hello", context.partition_key)


defs = dg.Definitions(assets=[one])
""",
    },
)

# Kedro has no notebooks of its own: a node runs one with papermill, or does without and prints.
KEDRO = Peer(
    "kedro",
    ("kedro>=1.0,<2", "papermill>=2.6", "ipykernel>=6.29"),
    "kedro",
    ("kedro", "papermill"),
    {
        "pyproject.toml": """\
[tool.kedro]
package_name = "one"
project_name = "one"
kedro_init_version = "$VERSION"
source_dir = "src"
""",
        "conf/base/parameters.yml": 'ds: "$FIRST"\n',
        "conf/base/catalog.yml": "",
        "conf/local/.gitkeep": "",
        "src/one/__init__.py": "",
        "src/one/settings.py": "",
        "src/one/pipeline_registry.py": """\
from kedro.pipeline import Pipeline, node


def hello(ds: str) -> None:
    print("hello", ds)


def notebook(ds: str) -> None:
    import papermill

    papermill.execute_notebook("../one.ipynb", f"{ds}.ipynb", {"ds": ds}, progress_bar=False)


def register_pipelines() -> dict[str, Pipeline]:
    return {
        "notebook": Pipeline([node(notebook, "params:ds", None)]),
        "prints": Pipeline([node(hello, "params:ds", None)]),
        "__default__": Pipeline([]),
    }
""",
    },
)

DBT = Peer(
    "dbt",
    # From 1.12 on dbt-core fetches a program from elsewhere than PyPI while it is installed.
    ("dbt-core>=1.10,<1.12", "dbt-duckdb>=1.10,<2", DUCKDB),
    "dbt",
    ("dbt-core", "dbt-duckdb", "duckdb"),
    {
        "dbt_project.yml": "name: one\nversion: '1.0'\nprofile: one\n",
        "profiles.yml": """\
one:
  target: dev
  outputs:
    dev: {type: duckdb, path: warehouse.duckdb, threads: 2}
""",
        "models/sources.yml": """\
version: 2
sources:
  - name: lake
    tables:
      - name: orders
        config:
          event_time: ds
          external_location: "read_parquet('$ORDERS/*/*.parquet', hive_partitioning = true)"
""",
        # dbt's own way through dates: one `dbt run`, a batch a day, each replaced in a table of a DuckDB file.
        "models/microbatch.sql": """\
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='ds', batch_size='day',
           begin='$FIRST') }}
SELECT ds, shop, count(*) AS orders, sum(amount) AS amount FROM {{ source('lake', 'orders') }} GROUP BY ds, shop
""",
        # dbt-duckdb's own way to a Parquet file per date: one `dbt run` a day.
        "models/parquet.sql": """\
{{ config(materialized='external', options={'compression': 'zstd'},
          location=var('sink', 'none') ~ '/part-0.parquet') }}
SELECT shop, count(*) AS orders, sum(amount) AS amount
FROM read_parquet('$ORDERS/ds={{ var('ds', '') }}/*.parquet') GROUP BY shop ORDER BY shop
""",
    },
)

SQLMESH = Peer(
    "sqlmesh",
    ("sqlmesh>=0.200",),
    "sqlmesh",
    ("sqlmesh", "duckdb"),
    {
        "config.yaml": """\
gateways:
  local:
    connection: {type: duckdb, database: warehouse.duckdb}
default_gateway: local
model_defaults: {dialect: duckdb, start: $FIRST}
""",
        # One interval at a time, as every other program here does it.
        "models/daily.sql": """\
MODEL (
  name main.daily,
  kind INCREMENTAL_BY_TIME_RANGE (time_column ds, batch_size 1),
  start '$FIRST',
  cron '@daily'
);
SELECT ds::DATE AS ds, shop::BIGINT AS shop, count(*)::BIGINT AS orders, sum(amount)::DOUBLE AS amount
FROM read_parquet('$ORDERS/*/*.parquet', hive_partitioning = true)
WHERE ds BETWEEN @start_date AND @end_date
GROUP BY ds, shop
""",
    },
)


@dataclass(frozen=True, eq=False)
class Project:
    """A peer with its environment and its project's folder, ready to run."""

    peer: Peer
    environment: Path
    folder: Path

    @property
    def program(self) -> str:
        """The peer's command, whole path."""
        return str(self.environment / "bin" / self.peer.command)

    @property
    def variables(self) -> dict[str, str]:
        """The environment to run it in: its own home, nobody's telemetry."""
        home = self.folder / "home"
        return {
            **os.environ,
            **QUIET,
            "HOME": str(home),
            "DAGSTER_HOME": str(home),
            "DBT_PROFILES_DIR": str(self.folder),
        }

    @property
    def versions(self) -> str:
        """What was installed: `dbt-core 1.11.16, dbt-duckdb 1.11.1`."""
        code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
        command = [self.environment / "bin/python", "-c", code, *self.peer.versions]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def prepare(peer: Peer, cache: Path, folder: Path, orders: Path) -> Project:
    """Install a peer, unless that was done before, and write its project into a folder.

    Raises:
        CannotInstall: with the last lines of what went wrong.
    """
    environment = _installed(peer, cache)
    project = Project(peer, environment, folder)
    (folder / "home").mkdir(parents=True)
    own = project.versions.split(", ")[0].split()[-1]
    for name, text in peer.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("$ORDERS", str(orders)).replace("$FIRST", FIRST).replace("$VERSION", own))
    return project


def _installed(peer: Peer, cache: Path) -> Path:
    key = hashlib.sha256(repr((sys.version, peer.requirements)).encode()).hexdigest()[:12]
    environment = cache / f"{peer.name}-{key}"
    if (environment / "done").exists():
        return environment
    shutil.rmtree(environment, ignore_errors=True)
    print(f"installing {' '.join(peer.requirements)} into {environment}", file=sys.stderr, flush=True)
    uv, python = shutil.which("uv"), str(environment / "bin" / "python")
    install = (
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        if uv
        else [python, "-m", "pip", "install", "--quiet"]
    )
    make = [uv, "venv", "--quiet", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    for command in ([*make, str(environment)], [*install, *peer.requirements]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotInstall(" / ".join(done.stderr.strip().splitlines()[-2:]))
    (environment / "done").touch()
    return environment
