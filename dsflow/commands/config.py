"""`dsflow config`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsflow.commands.context import Context

if TYPE_CHECKING:
    from dsflow.specs.load import Setting

# what holds where a setting has no value of its own
_ABSENT = {"image": "dsflow/python", "base_image": "Debian's", "ca_bundle": "that of SSL_CERT_FILE and its like"}
_GIVEN = "spark.settings."


@click.command()
@click.option("--runtime", type=click.Choice(["auto", "process", "docker", "submit"]), help="As with `dsflow run`.")
@click.option("--spark", is_flag=True, help="The settings that Spark itself gets, dsflow's own among them.")
@click.pass_obj
def config(context: Context, runtime: str | None, spark: bool) -> None:
    """Show every setting and where it came from: command line, environment, dsflow.yml, or default."""
    from dsflow.specs.load import settings_of

    settings = settings_of(context.found, {"runtime": runtime, "environment": context.environment})
    settings = _of_spark(settings) if spark else settings
    if context.json:
        context.console.document({s.name: {"value": s.safe_value, "origin": s.origin} for s in settings})
    else:
        rows = [[s.name, s.shown or _ABSENT.get(s.name, "none"), s.origin] for s in settings]
        context.console.table(["setting", "value", "origin"], rows)


def _of_spark(settings: Sequence[Setting]) -> list[Setting]:
    """Give what Spark gets: dsflow's own, and over them what somebody set."""
    from dsflow.spark.settings import SESSION, base_settings, cores_of
    from dsflow.specs.load import Setting

    named = {setting.name: setting for setting in settings}
    given = {
        name.removeprefix(_GIVEN): Setting(name.removeprefix(_GIVEN), setting.value, setting.origin)
        for name, setting in named.items()
        if name.startswith(_GIVEN)
    }
    master, remote = named["spark.master"], named["spark.remote"]
    if remote.value:
        # A server that is there already lets a session say no more than this.
        own = SESSION
        given = {name: setting for name, setting in given.items() if name.startswith("spark.sql.")}
        given["spark.remote"] = remote
    else:
        where = str(master.value or given.get("spark.master", Setting("", "local[*]", "")).value)
        own = base_settings(where, Path("SCRATCH"), cores_of(where))
        if master.value:
            given["spark.master"] = master
    found = {name: Setting(name, value, "dsflow") for name, value in own.items()} | given
    return [found[name] for name in sorted(found)]
