"""Runs a DAG once, without a scheduler and in a database of its own: trial.py DAG DS REPORT.

What the tasks do is real. How it ended is written to the file REPORT as JSON: `error`, or the `tasks` with their
states.
"""

import json
import os
import signal
import sys
from pathlib import Path

import parts

# The database of the scheduler may be named in airflow.cfg: whatever is there, this one is used.
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{parts.HOME / 'airflow.db'}"
# There is no page, and so no address of it.
for name in [name for name in os.environ if name.startswith("AIRFLOW__API__") or "API_SERVER" in name]:
    del os.environ[name]


def main(name: str, ds: str, report: str) -> None:
    """Run the DAG of a name for a partition, and write the report."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parts.migrate()
    try:
        result = tried(name, ds)
    except SystemExit as error:
        result = {"error": str(error), "tasks": {}}
    Path(report).write_text(json.dumps(result))


def tried(name: str, ds: str) -> dict:
    """Give how the tasks of a run ended, by name, in order; raise SystemExit where there is no such DAG."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import timezone

    file = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], f"{name}.py")
    bag = DagBag(file if file.exists() else None)
    if bag.import_errors:
        raise SystemExit("\n".join(bag.import_errors.values()))
    if name not in bag.dags:
        raise SystemExit(f"there is no DAG {name!r}; there are: {', '.join(sorted(bag.dags)) or 'none'}")
    dag = bag.dags[name]
    moment = timezone.parse(ds, timezone=dag.timezone)
    run = dag.test(logical_date=moment, run_conf={"ds": ds})
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    return {"error": "", "tasks": {task.task_id: states.get(task.task_id, "None") for task in dag.topological_sort()}}


if __name__ == "__main__":
    main(*sys.argv[1:])
